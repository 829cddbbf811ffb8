//! The counters of a worker, on its own thread.

use super::{
    reasons::{Reject, Rejections},
    stats::{Reasons, SinkHalt, SinkStats},
};

/// Frames before the sinks, by verdict.
#[derive(Clone, Debug, Default)]
pub(crate) struct FrameCounters {
    pub(crate) received: u64,
    pub(crate) decapsulated: u64,
    /// Of these, those within the run's selection and budget.
    pub(crate) selected: u64,
    pub(crate) abandoned: u64,
    /// n − 1 for a completed datagram of n fragments, which becomes one frame.
    pub(crate) fragments_consumed: u64,
    /// Datagrams completed. They are not frames received, so outside the sum.
    pub(crate) reassembled: u64,
    pub(crate) outer_bytes: u64,
    pub(crate) inner_bytes: u64,
    pub(crate) multi_descriptor: u64,
    pub(crate) rejected: Rejections,
    pub(crate) reserved_bits: u64,
    pub(crate) critical_options: u64,
    pub(crate) truncated_inner: u64,
    pub(crate) impossible_length: u64,
}

impl FrameCounters {
    /// Counts a rejected frame.
    pub(crate) fn reject(&mut self, reason: Reject) {
        self.rejected[reason as usize] += 1;
    }

    /// Adds other counters.
    pub(crate) fn add(&mut self, other: &Self) {
        let Self {
            received,
            decapsulated,
            selected,
            abandoned,
            fragments_consumed,
            reassembled,
            outer_bytes,
            inner_bytes,
            multi_descriptor,
            rejected,
            reserved_bits,
            critical_options,
            truncated_inner,
            impossible_length,
        } = self;
        *received += other.received;
        *decapsulated += other.decapsulated;
        *selected += other.selected;
        *abandoned += other.abandoned;
        *fragments_consumed += other.fragments_consumed;
        *reassembled += other.reassembled;
        *outer_bytes += other.outer_bytes;
        *inner_bytes += other.inner_bytes;
        *multi_descriptor += other.multi_descriptor;
        add_rejections(rejected, &other.rejected);
        *reserved_bits += other.reserved_bits;
        *critical_options += other.critical_options;
        *truncated_inner += other.truncated_inner;
        *impossible_length += other.impossible_length;
    }

    /// Counts frames that reassembly rejected.
    pub(crate) fn add_rejected(&mut self, rejected: &Rejections) {
        add_rejections(&mut self.rejected, rejected);
    }
}

fn add_rejections(all: &mut Rejections, more: &Rejections) {
    for (reason, count) in all.iter_mut().zip(more) {
        *reason += count;
    }
}

/// A sink's frames, as the worker counts them, and the sink's own statistics.
#[derive(Clone, Debug, Default)]
pub(crate) struct SinkCounters {
    /// Decapsulated frames that came while the run did not have the sink.
    pub(crate) absent: u64,
    pub(crate) deselected: u64,
    pub(crate) offered: u64,
    /// Frames offered after the sink had ended, and those of its last batch that it does not account for.
    pub(crate) failed: Reasons,
    /// The sink's own statistics.
    pub(crate) stats: SinkStats,
    /// Why it ended before its run did.
    pub(crate) end: Option<SinkHalt>,
}

impl SinkCounters {
    /// Adds those of another sink of the same name.
    pub(crate) fn add(&mut self, other: &Self) {
        let Self { absent, deselected, offered, failed, stats, end } = other;
        self.absent += absent;
        self.deselected += deselected;
        self.offered += offered;
        failed.iter().for_each(|(reason, frames)| self.failed.add(reason, frames));
        self.stats.add(stats);
        if self.end.is_none() {
            self.end.clone_from(end);
        }
    }
}

/// All counters of a worker.
#[cfg(feature = "af-xdp")]
#[derive(Clone, Debug, Default)]
pub(crate) struct WorkerCounters {
    pub(crate) frames: FrameCounters,
    /// In the order of the sinks' factories.
    pub(crate) sinks: Vec<SinkCounters>,
    /// Time spent on non-empty batches, in ns.
    pub(crate) busy_ns: u64,
    /// Time since the worker's first poll, in ns.
    pub(crate) elapsed_ns: u64,
    /// How often the worker took frames for 10 ms without finding its ring empty.
    pub(crate) saturated: u64,
}
