//! What a worker counts, each on its own, on its own thread.

use crate::sink::{Reasons, SinkStats};

/// Why a received frame was not decapsulated.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Reject {
    /// The frame ends before its VXLAN header or its inner Ethernet header does.
    Short,
    /// The outer Ethernet, IP or UDP header contradicts itself or the frame's length.
    BadOuter,
    /// The VXLAN header has no valid VNI: the I flag is missing (RFC 7348 section 5).
    NoVniFlag,
    /// The VNI is not among those asked for.
    Vni,
    /// The outer source is not among those asked for.
    Source,
    /// The frame came in more descriptors than a batch has.
    MultiDescriptor,
    /// Not UDP to a tunnel port. On a live interface the XDP program passes such frames to the kernel.
    NotTunnel,
    /// A fragment of a UDP datagram. On a live interface the XDP program passes such frames to the kernel.
    Fragment,
}

impl Reject {
    pub(crate) const COUNT: usize = Self::Fragment as usize + 1;
}

/// Frames by what became of them before any sink saw them.
#[derive(Clone, Debug, Default)]
pub(crate) struct FrameCounters {
    pub(crate) received: u64,
    pub(crate) decapsulated: u64,
    pub(crate) abandoned: u64,
    pub(crate) outer_bytes: u64,
    pub(crate) inner_bytes: u64,
    pub(crate) multi_descriptor: u64,
    pub(crate) rejected: [u64; Reject::COUNT],
    pub(crate) reserved_bits: u64,
    pub(crate) truncated_inner: u64,
}

impl FrameCounters {
    /// Counts a frame without an inner one that goes on.
    pub(crate) fn reject(&mut self, reason: Reject) {
        self.rejected[reason as usize] += 1;
    }

    /// Adds what another has counted.
    pub(crate) fn add(&mut self, other: &Self) {
        let Self {
            received,
            decapsulated,
            abandoned,
            outer_bytes,
            inner_bytes,
            multi_descriptor,
            rejected,
            reserved_bits,
            truncated_inner,
        } = self;
        *received += other.received;
        *decapsulated += other.decapsulated;
        *abandoned += other.abandoned;
        *outer_bytes += other.outer_bytes;
        *inner_bytes += other.inner_bytes;
        *multi_descriptor += other.multi_descriptor;
        for (reason, count) in rejected.iter_mut().zip(&other.rejected) {
            *reason += count;
        }
        *reserved_bits += other.reserved_bits;
        *truncated_inner += other.truncated_inner;
    }
}

/// A sink's frames, as the worker counts them beside the sink's own account.
#[derive(Clone, Debug, Default)]
pub(crate) struct SinkCounters {
    pub(crate) deselected: u64,
    pub(crate) offered: u64,
    /// Frames offered after the sink had ended, and those of the batch that ended it that it does not know of.
    pub(crate) failed: Reasons,
    /// The sink's own account.
    pub(crate) stats: SinkStats,
}

/// All that one worker counts.
#[cfg(feature = "af-xdp")]
#[derive(Clone, Debug, Default)]
pub(crate) struct WorkerCounters {
    pub(crate) frames: FrameCounters,
    /// By position of the sink's factory.
    pub(crate) sinks: Vec<SinkCounters>,
    /// Time spent on non-empty batches, in ns.
    pub(crate) busy_ns: u64,
    /// Time since the worker's first poll, in ns.
    pub(crate) elapsed_ns: u64,
}
