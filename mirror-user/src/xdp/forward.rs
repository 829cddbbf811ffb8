//! Forwarding in the kernel: the target's map, and the two tracepoints that count what became of frames.

use std::{fs, os::unix::fs::MetadataExt as _};

use aya::{
    Ebpf,
    maps::{Array, Map, MapData, PerCpuArray, xdp::DevMap},
    programs::RawTracePoint,
};
use mirror_ebpf::mirror::{self as abi, Fate};

use super::{ProgramSetupError, btf::Btf, kernel_before, take};
use crate::{account::NotSent, error::with_causes, host::kernel::since};

/// The fields by which devices are recognised, in the sequence of [`abi::Path`].
pub(super) const FIELDS: [(&str, &[&str]); 3] =
    [("net_device", &["ifindex"]), ("net_device", &["nd_net", "net"]), ("net", &["ns", "inum"])];

/// From which interface to which.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct ForwardTo {
    /// Index of the interface that is read.
    pub(crate) from: u32,
    /// Index of the target.
    pub(crate) to: u32,
}

impl ForwardTo {
    /// By what the tracepoint recognises frames of ours.
    pub(super) fn path(self) -> Result<abi::Path, ProgramSetupError> {
        const TYPES: &str = "/sys/kernel/btf/vmlinux";
        const NAMESPACE: &str = "/proc/thread-self/ns/net";
        let failed = |path: &'static str| move |source| ProgramSetupError::Kernel { path, source };
        let bytes = fs::read(TYPES).map_err(failed(TYPES))?;
        let btf = Btf::parse(&bytes).ok_or(ProgramSetupError::Types)?;
        let namespace = fs::metadata(NAMESPACE).map_err(failed(NAMESPACE))?.ino();
        let mut path = abi::Path::default();
        for (place, (structure, field)) in path.iter_mut().zip(FIELDS) {
            *place = btf.offset_of(structure, field).ok_or(ProgramSetupError::Types)?;
        }
        path[abi::PATH_NAMESPACE] = u32::try_from(namespace).map_err(|_| ProgramSetupError::Types)?;
        (path[abi::PATH_FROM], path[abi::PATH_TO]) = (self.from, self.to);
        Ok(path)
    }
}

/// The target's map and the counts of its frames.
pub(super) struct Forwarding {
    /// Held so that frames are forwarded.
    _targets: DevMap<MapData>,
    /// Why the kernel does not say what becomes of frames where it does not: before 5.13, or without BTF.
    fates: Result<PerCpuArray<MapData, abi::FateCounts>, String>,
}

/// Frames given to a target.
pub(crate) struct Sent {
    pub(crate) sent: u64,
    pub(crate) not_sent: NotSent,
}

impl Forwarding {
    /// After the XDP program was loaded, which refers to the maps.
    pub(super) fn open(
        ebpf: &mut Ebpf,
        to: ForwardTo,
        path: Result<abi::Path, ProgramSetupError>,
    ) -> Result<Self, ProgramSetupError> {
        let fates = path.and_then(|_| watch(ebpf)).map_err(|error| with_causes(&error));
        let name = abi::MAP_TARGETS;
        let mut targets: DevMap<MapData> = take(ebpf, name)?;
        targets
            .set(0, to.to, None, 0)
            .map_err(|source| ProgramSetupError::Target { source: source.into() })?;
        Ok(Self { _targets: targets, fates })
    }

    /// Why it is not known what becomes of frames, if so.
    pub(super) fn unknown(&self) -> Option<&str> {
        self.fates.as_ref().err().map(String::as_str)
    }

    /// What the tracepoints have counted; `None` without them.
    pub(super) fn sent(&self) -> Result<Option<Sent>, ProgramSetupError> {
        let Ok(fates) = &self.fates else { return Ok(None) };
        let values = fates.get(&0, 0).map_err(ProgramSetupError::map(abi::MAP_FATES))?;
        let of = |fate: Fate| values.iter().map(|cpu| cpu[fate as usize]).sum();
        let not_sent = NotSent {
            refused: of(Fate::Refused),
            down: of(Fate::Down),
            no_program: of(Fate::NoProgram),
            too_large: of(Fate::TooLarge),
            other: of(Fate::Other),
        };
        Ok(Some(Sent { sent: of(Fate::Sent), not_sent }))
    }
}

/// Attaches both tracepoints. Minimum kernel version: 5.13.
fn watch(ebpf: &mut Ebpf) -> Result<PerCpuArray<MapData, abi::FateCounts>, ProgramSetupError> {
    if kernel_before(since::MAP_ID_IN_TRACEPOINT) {
        return Err(ProgramSetupError::NoMapId);
    }
    let name = abi::MAP_TARGETS;
    let Some(Map::DevMap(targets)) = ebpf.map(name) else {
        return Err(ProgramSetupError::Missing { kind: "map", name });
    };
    let id = targets.info().map_err(ProgramSetupError::map(name))?.id();
    let points = [
        (abi::PROGRAM_FORWARD_ERR, abi::TRACEPOINT_REDIRECT_ERR),
        (abi::PROGRAM_FORWARD_SENT, abi::TRACEPOINT_DEVMAP_XMIT),
    ];
    for (name, _) in points {
        tracepoint(ebpf, name)?.load().map_err(ProgramSetupError::verify)?;
    }
    let name = abi::MAP_TARGETS_ID;
    let mut place: Array<MapData, u32> = take(ebpf, name)?;
    place.set(0, id, 0).map_err(ProgramSetupError::map(name))?;
    for (name, tracepoint_name) in points {
        tracepoint(ebpf, name)?.attach(tracepoint_name).map_err(ProgramSetupError::verify)?;
    }
    take(ebpf, abi::MAP_FATES)
}

pub(super) fn tracepoint<'a>(
    ebpf: &'a mut Ebpf,
    name: &'static str,
) -> Result<&'a mut RawTracePoint, ProgramSetupError> {
    ebpf.program_mut(name)
        .ok_or(ProgramSetupError::Missing { kind: "program", name })?
        .try_into()
        .map_err(ProgramSetupError::verify)
}

#[cfg(test)]
mod tests;
