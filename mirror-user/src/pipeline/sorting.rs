//! The account of a batch while its frames are decapsulated.

use crate::{account::FrameCounters, frame::Frame};

/// A batch being processed: counted apart, so that a worker that panics within it abandons the whole batch.
pub(super) struct Sorting<'a> {
    pub(super) counters: &'a mut FrameCounters,
    pub(super) batch: FrameCounters,
    /// Frames that the reassembler accounts for.
    pub(super) handed_over: u64,
    pub(super) sorted: bool,
}

impl Drop for Sorting<'_> {
    fn drop(&mut self) {
        if self.sorted {
            self.counters.add(&self.batch);
        } else {
            self.counters.received += self.batch.received;
            self.counters.abandoned += self.batch.received - self.handed_over;
        }
    }
}

/// Counts a decapsulated frame, and checks its length.
#[inline]
pub(super) fn count_decapsulated(counters: &mut FrameCounters, frame: &mut Frame<'_>) {
    counters.decapsulated += 1;
    counters.inner_bytes += frame.inner_len() as u64;
    if frame.is_odd() {
        counters.reserved_bits += u64::from(frame.has_reserved_bits());
        counters.critical_options += u64::from(frame.has_unknown_critical_option());
    }
    if frame.is_truncated() {
        match frame.ignore_impossible_len() {
            true => counters.impossible_length += 1,
            false => counters.truncated_inner += 1,
        }
    }
}
