//! What a worker counts, each on its own, on its own thread.

use super::stats::{Reasons, SinkHalt, SinkStats};
use crate::frame::Frame;

/// Why a received frame was not decapsulated.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Reject {
    /// The frame ends before its VXLAN header or its inner Ethernet header does, and had no more on the wire.
    Short,
    /// The same, because who captured it kept fewer bytes than it had on the wire.
    Snapped,
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
    /// GENEVE (RFC 8926), which is not decapsulated. On a live interface the XDP program passes such frames to the kernel.
    Geneve,
    /// An IPv6 extension header before UDP. On a live interface the XDP program passes such frames to the kernel.
    Extension,
    /// VXLAN-GPE (draft-ietf-nvo3-vxlan-gpe) of something else than Ethernet.
    NotEthernet,
    /// Of a link type that is not read, in a capture file.
    LinkType,
    /// A fragment of a UDP datagram, and fragments are not reassembled. On a live interface the XDP program passes such
    /// frames to the kernel.
    Fragment,
    /// A fragment whose datagram did not become whole in time, or before the run ended.
    FragmentTimeout,
    /// A fragment of a datagram of which two overlap, or contradict its length (RFC 5722).
    Overlap,
    /// A fragment that may belong to more than one datagram, because the id does not tell them apart, or what was joined
    /// is not what its UDP header says. See [`reassembly`](crate::reassembly).
    Ambiguous,
    /// A fragment that was given up because the memory for fragments was full.
    TableFull,
}

impl Reject {
    pub(crate) const COUNT: usize = Self::TableFull as usize + 1;
}

/// Frames rejected, by [`Reject`].
pub(crate) type Rejections = [u64; Reject::COUNT];

/// Frames by what became of them before any sink saw them.
#[derive(Clone, Debug, Default)]
pub(crate) struct FrameCounters {
    pub(crate) received: u64,
    pub(crate) decapsulated: u64,
    pub(crate) abandoned: u64,
    /// Of a completed datagram of n fragments, n − 1: the frame it became is the one that is left.
    pub(crate) fragments_consumed: u64,
    /// Datagrams completed, which are no frames received: outside the sum.
    pub(crate) reassembled: u64,
    pub(crate) outer_bytes: u64,
    pub(crate) inner_bytes: u64,
    pub(crate) multi_descriptor: u64,
    pub(crate) rejected: Rejections,
    pub(crate) reserved_bits: u64,
    pub(crate) truncated_inner: u64,
    pub(crate) impossible_length: u64,
}

impl FrameCounters {
    /// Counts a frame without an inner one that goes on.
    pub(crate) fn reject(&mut self, reason: Reject) {
        self.rejected[reason as usize] += 1;
    }

    /// Counts a frame that goes on, and judges its length.
    #[inline]
    pub(crate) fn decapsulated(&mut self, frame: &mut Frame<'_>) {
        self.decapsulated += 1;
        self.inner_bytes += frame.inner_len() as u64;
        self.reserved_bits += u64::from(frame.has_reserved_bits());
        if frame.is_truncated() {
            match frame.disbelieve_impossible_len() {
                true => self.impossible_length += 1,
                false => self.truncated_inner += 1,
            }
        }
    }

    /// Adds what another has counted.
    pub(crate) fn add(&mut self, other: &Self) {
        let Self {
            received,
            decapsulated,
            abandoned,
            fragments_consumed,
            reassembled,
            outer_bytes,
            inner_bytes,
            multi_descriptor,
            rejected,
            reserved_bits,
            truncated_inner,
            impossible_length,
        } = self;
        *received += other.received;
        *decapsulated += other.decapsulated;
        *abandoned += other.abandoned;
        *fragments_consumed += other.fragments_consumed;
        *reassembled += other.reassembled;
        *outer_bytes += other.outer_bytes;
        *inner_bytes += other.inner_bytes;
        *multi_descriptor += other.multi_descriptor;
        add_rejections(rejected, &other.rejected);
        *reserved_bits += other.reserved_bits;
        *truncated_inner += other.truncated_inner;
        *impossible_length += other.impossible_length;
    }

    /// Counts what reassembly has given up.
    pub(crate) fn add_rejected(&mut self, rejected: &Rejections) {
        add_rejections(&mut self.rejected, rejected);
    }
}

fn add_rejections(all: &mut Rejections, more: &Rejections) {
    for (reason, count) in all.iter_mut().zip(more) {
        *reason += count;
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
    /// Why it ended before its run did.
    pub(crate) end: Option<SinkHalt>,
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
