//! What `mirror ingest` would do with an interface when left to itself.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{
    facts::{Facts, InterfaceFacts},
    judge::native,
};
use crate::{
    engine::{EngineBuilder, LINK_OVERHEAD, SINGLE_BUFFER_MTU},
    host::limits::HugePages,
    xsk::HEADROOM,
};

/// Frames of the UMEM of one queue.
pub(super) const FRAMES: u64 = EngineBuilder::DEFAULT_UMEM_FRAMES as u64;

/// Where the program runs.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Mode {
    /// In the driver.
    Native,
    /// In the stack, after the driver has made a socket buffer of the frame.
    Generic,
}

/// How frames get to the UMEM.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Bind {
    /// The kernel copies them.
    Copy,
    /// The NIC writes them there.
    Zerocopy,
}

/// How `mirror ingest` would run.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Plan {
    /// The interface.
    pub interface: String,
    /// Where the program would run.
    pub mode: Mode,
    /// How frames would get to the UMEM.
    pub bind: Bind,
    /// How many queues, each with a worker.
    pub queues: u32,
    /// Bytes of a UMEM chunk.
    pub chunk: u32,
    /// Whether the program for frames of several buffers would be loaded.
    pub frags: bool,
    /// Whether all UMEMs find room in huge pages.
    pub huge_pages: bool,
}

/// The chunk that holds a whole frame at this MTU (in bytes), as far as one can: 2048, or 4096, the most the kernel
/// takes. A chunk holds 312 bytes less than its size.
#[must_use]
pub const fn chunk_size(mtu: u32) -> u32 {
    if mtu.saturating_add(LINK_OVERHEAD + HEADROOM) <= 2048 { 2048 } else { 4096 }
}

/// Whether the engine loads the program for frames of several buffers at this MTU.
pub(super) const fn wants_frags(mtu: u32) -> bool {
    mtu > SINGLE_BUFFER_MTU
}

/// Bytes of all UMEMs of an interface.
pub(super) fn umem_bytes(interface: &InterfaceFacts) -> u64 {
    let queues = interface.rx_queues.known().copied().unwrap_or(1);
    u64::from(queues) * FRAMES * u64::from(chunk_size(interface.mtu))
}

/// Huge pages that all UMEMs of an interface lie in, each of them in whole ones.
pub(super) fn umem_pages(interface: &InterfaceFacts) -> u64 {
    let queues = interface.rx_queues.known().copied().unwrap_or(1);
    u64::from(queues) * pages(chunk_size(interface.mtu))
}

/// Huge pages that a UMEM of such chunks lies in.
pub(super) const fn pages(chunk: u32) -> u64 {
    (FRAMES * chunk as u64).div_ceil(HugePages::SIZE)
}

/// The plan for one interface, which holds if nothing judged an error stands in its way.
#[must_use]
pub fn plan(facts: &Facts, interface: &InterfaceFacts) -> Plan {
    let native = native::verdict(facts, interface);
    let free_pages = facts.huge_pages.known().map_or(0, |pages| pages.free);
    Plan {
        interface: interface.name.clone(),
        mode: if native.possible() { Mode::Native } else { Mode::Generic },
        bind: Bind::Copy,
        queues: interface.rx_queues.known().copied().unwrap_or(1),
        chunk: chunk_size(interface.mtu),
        frags: native.possible() && wants_frags(interface.mtu),
        huge_pages: umem_pages(interface) <= free_pages,
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mode = match self.mode {
            Mode::Native => "native",
            Mode::Generic => "generic",
        };
        let bind = match self.bind {
            Bind::Copy => "copy",
            Bind::Zerocopy => "zero-copy",
        };
        let queues = if self.queues == 1 { "queue" } else { "queues" };
        write!(f, "{mode}, {bind}, {} {queues}, chunk {}", self.queues, self.chunk)?;
        if self.frags {
            write!(f, ", multi-buffer program")?;
        }
        let pages = if self.huge_pages { "huge" } else { "small" };
        write!(f, ", {pages} pages")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_holds_frame_tags_and_headroom() {
        assert_eq!(chunk_size(1500), 2048);
        assert_eq!(chunk_size(1714), 2048);
        assert_eq!(chunk_size(1715), 4096);
        assert_eq!(chunk_size(9001), 4096);
        assert_eq!(chunk_size(u32::MAX), 4096);
    }
}
