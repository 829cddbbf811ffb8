//! The maps of a program that stays attached after its process has ended.

use std::os::fd::OwnedFd;

use aya::maps::{Map, MapData, MapError, PerCpuArray, XskMap};
use mirror_ebpf::mirror as abi;

use super::{ProgramSetupError, counted};
use crate::account::XdpReport;

/// Descriptors of the maps that are needed once another program is in the place of theirs.
#[derive(Debug)]
pub(crate) struct MapParts {
    pub(crate) counters: OwnedFd,
    pub(crate) xsks: OwnedFd,
}

/// The maps themselves.
pub(crate) struct LeftMaps {
    counters: PerCpuArray<MapData, abi::PerCpu>,
    xsks: XskMap<MapData>,
}

impl LeftMaps {
    /// Minimum kernel version: 4.18.
    pub(crate) fn of(MapParts { counters, xsks }: MapParts) -> Result<Self, ProgramSetupError> {
        let counters = map(abi::MAP_COUNTERS, counters, Map::PerCpuArray)?;
        Ok(Self { counters, xsks: map(abi::MAP_XSKS, xsks, Map::XskMap)? })
    }

    /// What the program has counted, but for redirects that failed: their counter is another program's.
    pub(crate) fn report(&self) -> Result<XdpReport, ProgramSetupError> {
        counted(&self.counters)
    }

    /// Takes the socket of a queue out of the map: each socket keeps a map in the kernel for as long as it is
    /// in it.
    pub(crate) fn unset_socket(&mut self, queue: u32) -> Result<(), ProgramSetupError> {
        self.xsks.unset(queue).map_err(ProgramSetupError::map(abi::MAP_XSKS))
    }
}

fn map<M: TryFrom<Map, Error = MapError>>(
    name: &'static str,
    descriptor: OwnedFd,
    kind: impl FnOnce(MapData) -> Map,
) -> Result<M, ProgramSetupError> {
    let opened = MapData::from_fd(descriptor).and_then(|data| M::try_from(kind(data)));
    opened.map_err(ProgramSetupError::map(name))
}
