//! Receive times that the XDP program left in front of frames.

/// How much older than the newest one before it a stamp may be, in ns: CPUs that serve one queue in turn may overtake
/// each other by this much.
const OVERTAKEN: u64 = 100_000;

/// Tells stamps from what else may lie in front of a frame.
///
/// A driver without a metadata area makes no room for the stamp, and the place keeps what it held: the zeros of a fresh
/// UMEM, or the stamp of an earlier frame in the same chunk. Both are older than frames that came since. Nothing is
/// written there to tell them apart: a line that the worker writes to costs the kernel's core several times what one
/// costs that was only read, when it puts the next frame there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stamps {
    /// What to add to CLOCK_MONOTONIC to have CLOCK_REALTIME, in ns.
    pub(crate) realtime_offset: i64,
    /// Frames without a stamp.
    pub(crate) missing: u64,
    /// CLOCK_MONOTONIC in ns.
    newest: u64,
}

impl Stamps {
    /// Before the first frame; `now` is CLOCK_MONOTONIC in ns, as all times here.
    pub(crate) fn new(now: u64, realtime_offset: i64) -> Self {
        Self { realtime_offset, missing: 0, newest: now }
    }

    /// The receive time by what stood in front of a frame that was in the ring at `now`, CLOCK_REALTIME in ns; `None`,
    /// and counted, where that is no stamp.
    pub(super) fn take(&mut self, stamp: u64, now: u64) -> Option<u64> {
        if stamp > now || stamp.saturating_add(OVERTAKEN) < self.newest {
            self.missing += 1;
            return None;
        }
        self.newest = self.newest.max(stamp);
        Some(stamp.wrapping_add_signed(self.realtime_offset))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: u64 = 1_000_000_000;

    #[test]
    fn stamps_in_order_and_a_little_out_of_it_are_taken() {
        let mut stamps = Stamps::new(START, 5);
        for stamp in [START + 10, START + 30, START + 20] {
            assert_eq!(stamps.take(stamp, START + 100), Some(stamp + 5));
        }
        assert_eq!(stamps.missing, 0);
    }

    #[test]
    fn zeros_of_a_fresh_umem_and_whatever_lies_in_the_future_are_no_stamps() {
        let mut stamps = Stamps::new(START, 0);
        for garbage in [0, START - OVERTAKEN - 1, START + 101, u64::MAX] {
            assert_eq!(stamps.take(garbage, START + 100), None, "{garbage}");
        }
        assert_eq!(stamps.missing, 4);
        assert_eq!(stamps.take(START + 1, START + 100), Some(START + 1));
    }

    #[test]
    fn the_stamp_of_the_frame_before_in_the_same_chunk_is_not_taken_twice() {
        let mut stamps = Stamps::new(START, 0);
        assert!(stamps.take(START + 1, START + 1).is_some());
        assert!(stamps.take(START + 1_000_000, START + 1_000_000).is_some());
        assert_eq!(stamps.take(START + 1, START + 2_000_000), None);
    }
}
