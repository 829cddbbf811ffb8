//! The minimal XDP programs, on an interface.

use std::os::fd::BorrowedFd;

use anyhow::{Context as _, Result};
use aya::{
    Ebpf,
    maps::XskMap,
    programs::{Xdp, XdpMode},
};
use mirror_ebpf::{BENCH_OBJECT, bench as abi};

use crate::bed::RECEIVING;

/// One of the two, attached natively for as long as this lives.
#[derive(Debug)]
pub(crate) struct Floor {
    _ebpf: Ebpf,
}

impl Floor {
    /// Drops all frames. Call it in the receiver's namespace.
    ///
    /// # Errors
    ///
    /// If the kernel refuses the program, or the driver its attachment.
    pub(super) fn drop_all() -> Result<Self> {
        Self::attach(abi::PROGRAM_DROP, &[])
    }

    /// Redirects all frames to the sockets, one per queue. Call it in the receiver's namespace.
    ///
    /// # Errors
    ///
    /// As above.
    pub(super) fn redirect_to(sockets: &[BorrowedFd<'_>]) -> Result<Self> {
        Self::attach(abi::PROGRAM_REDIRECT, sockets)
    }

    /// Passes all frames to the kernel, because there is no socket. Call it in the receiver's namespace.
    ///
    /// # Errors
    ///
    /// As above.
    pub(crate) fn pass_all() -> Result<Self> {
        Self::attach(abi::PROGRAM_REDIRECT, &[])
    }

    fn attach(name: &str, sockets: &[BorrowedFd<'_>]) -> Result<Self> {
        let mut ebpf = Ebpf::load(BENCH_OBJECT).context("the benchmarks' object")?;
        let map = ebpf.map_mut(abi::MAP_XSKS).context("no XSKMAP in the benchmarks' object")?;
        let mut map = XskMap::try_from(map)?;
        for (queue, socket) in (0..).zip(sockets) {
            map.set(queue, *socket, 0).context("XSKMAP")?;
        }
        let program: &mut Xdp =
            ebpf.program_mut(name).with_context(|| format!("no program {name}"))?.try_into()?;
        program.load().with_context(|| format!("loading {name}"))?;
        program.attach(RECEIVING, XdpMode::Driver).with_context(|| format!("attaching {name}"))?;
        Ok(Self { _ebpf: ebpf })
    }
}
