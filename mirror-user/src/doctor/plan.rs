//! What `mirror ingest` without options would do with an interface.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::facts::{Facts, InterfaceFacts};
use crate::{
    engine::{
        Bind, EngineBuilder, XdpMode,
        layout::{Host, Layout, Wanted, layout},
    },
    host::limits::HugePages,
};

/// Frames of the UMEM of one queue.
pub(super) const FRAMES: u64 = EngineBuilder::DEFAULT_UMEM_FRAMES as u64;

/// How `mirror ingest` would run.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Plan {
    /// The interface.
    pub interface: String,
    /// Where the program would run.
    pub mode: XdpMode,
    /// How frames would get to the UMEM.
    pub bind: Bind,
    /// How many queues, each with a worker, once the program is attached.
    pub queues: u32,
    /// Bytes of a UMEM chunk.
    pub chunk: u32,
    /// Whether the program for frames of several buffers would be loaded.
    pub frags: bool,
    /// Whether sockets would receive frames in several descriptors.
    #[serde(default)]
    pub scatter_gather: bool,
    /// Whether all UMEMs fit in huge pages.
    pub huge_pages: bool,
}

/// The facts that a start depends on.
pub(super) fn host(facts: &Facts, interface: &InterfaceFacts) -> Host {
    Host {
        kernel: facts.kernel_version(),
        page_size: facts.page_size,
        cpus: facts.possible_cpus.or(facts.cpus.known().copied()),
        interface: interface.name.clone(),
        mtu: interface.mtu,
        driver: interface.driver.clone(),
        peer: interface.peer.clone(),
        rx_queues: interface.rx_queues.known().copied().unwrap_or(1),
        channels: interface.channels.known().copied(),
        xdp_features: interface.xdp_features.known().copied().flatten(),
        virtio_features: interface.virtio_features.clone(),
    }
}

/// The layout of a start without options; `None` if it would be refused.
pub(super) fn default_layout(facts: &Facts, interface: &InterfaceFacts) -> Option<Layout> {
    layout(&host(facts, interface), &Wanted::DEFAULT).ok()
}

/// Bytes of all UMEMs of an interface.
pub(super) fn umem_bytes(facts: &Facts, interface: &InterfaceFacts) -> u64 {
    default_layout(facts, interface).map_or(0, |layout| layout.umem_bytes(EngineBuilder::DEFAULT_UMEM_FRAMES))
}

/// Huge pages that all UMEMs of an interface take; none is shared by two.
pub(super) fn umem_pages(facts: &Facts, interface: &InterfaceFacts) -> u64 {
    default_layout(facts, interface)
        .map_or(0, |layout| u64::from(layout.rx_queues) * pages(layout.chunk_size))
}

/// Huge pages that a UMEM with chunks of this size takes.
pub(super) const fn pages(chunk: u32) -> u64 {
    (FRAMES * chunk as u64).div_ceil(HugePages::SIZE)
}

/// The plan for one interface, which holds if no finding is an error; `None` if a start would be refused.
#[must_use]
pub fn plan(facts: &Facts, interface: &InterfaceFacts) -> Option<Plan> {
    let layout = default_layout(facts, interface)?;
    let free_pages = facts.huge_pages.known().map_or(0, |pages| pages.free);
    let native = layout.mode == XdpMode::Native;
    Some(Plan {
        interface: interface.name.clone(),
        mode: layout.mode,
        bind: layout.bind,
        queues: layout.rx_queues,
        chunk: layout.chunk_size,
        frags: native && layout.frags,
        scatter_gather: layout.scatter_gather,
        huge_pages: umem_pages(facts, interface) <= free_pages,
    })
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mode = self.mode.name();
        let bind = match self.bind {
            Bind::Copy => "copy",
            Bind::ZeroCopy => "zero-copy",
        };
        let queues = if self.queues == 1 { "queue" } else { "queues" };
        write!(f, "{mode}, {bind}, {} {queues}, chunk {}", self.queues, self.chunk)?;
        if self.frags {
            write!(f, ", multi-buffer program")?;
        }
        if self.scatter_gather {
            write!(f, ", several descriptors a frame")?;
        }
        let pages = if self.huge_pages { "huge" } else { "small" };
        write!(f, ", {pages} pages")
    }
}
