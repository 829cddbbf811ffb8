//! Receive times that the XDP program left in front of frames.

use mirror_ebpf::mirror::STAMP_EVERY;

/// How much older than the newest one before it a stamp may be, in ns: CPUs that serve one queue in turn may
/// overtake each other by this much.
const OVERTAKEN: u64 = 100_000;
/// A frame that came between a stamp and now may have that stamp's time unread where this is no more apart,
/// in ns.
const NEAR: u64 = 100_000;
/// The most frames in a row without a stamp. One in [`STAMP_EVERY`] has one, and rings may lose some of
/// those.
const LEFT_OUT: u64 = 4 * STAMP_EVERY;
/// The greatest age of the stamp before them, in ns: the time in which the largest ring fills at the lowest
/// rate at which frames are left out, 1024 in 10 ms with the longest ticks.
const LATE: u64 = 320_000_000;
/// Frames without a stamp between two with one.
const LAST: u64 = STAMP_EVERY - 1;

/// Distinguishes stamps from other bytes in front of a frame.
///
/// At high rates the program stamps one frame in [`STAMP_EVERY`], and a driver without a metadata area makes
/// no room for any. Where there is no stamp the place keeps its old content: the zeros of a fresh UMEM, or
/// the stamp of an earlier frame in the same chunk. Both are older than frames that came since. Nothing is
/// written there to distinguish them: a line that the worker writes to costs the kernel's core several times
/// what one costs that was only read, when it puts the next frame there. For the same reason nothing is read
/// where no stamp is expected.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stamps {
    /// CLOCK_REALTIME less CLOCK_MONOTONIC, in ns.
    pub(crate) realtime_offset: i64,
    /// Frames without a stamp on them or shortly before them.
    pub(crate) missing: u64,
    /// CLOCK_MONOTONIC in ns.
    newest: u64,
    /// Frames since the last stamp that was read.
    since: u64,
}

impl Stamps {
    /// Before the first frame; `now` is CLOCK_MONOTONIC in ns, as all times here.
    pub(crate) fn new(now: u64, realtime_offset: i64) -> Self {
        Self { realtime_offset, missing: 0, newest: now, since: LEFT_OUT }
    }

    /// The receive time of the next frame, which was in the ring at `now`, CLOCK_REALTIME in ns; `read` gives
    /// what is in front of it. `None`, and counted, where neither it nor a frame shortly before it has a
    /// stamp.
    pub(super) fn take(&mut self, now: u64, read: impl FnOnce() -> u64) -> Option<u64> {
        if self.reads(now) {
            let stamp = read();
            if stamp <= now && stamp.saturating_add(OVERTAKEN) >= self.newest {
                self.newest = self.newest.max(stamp);
                self.since = 0;
                return Some(self.realtime(stamp));
            }
        }
        if self.since >= LEFT_OUT || now.saturating_sub(self.newest) > LATE {
            self.missing += 1;
            return None;
        }
        self.since += 1;
        Some(self.realtime(self.newest))
    }

    /// Whether the area in front of the next frame is read: right after a stamp, because then each may have
    /// one; where a stamp is due, and from there on until one is found; and where the last one is too long
    /// ago.
    fn reads(&self, now: u64) -> bool {
        self.since == 0 || self.since >= LAST || !self.is_near(now)
    }

    /// Whether it is likely to be read `ahead` frames after the next one.
    pub(super) fn expects(&self, ahead: u64, now: u64) -> bool {
        let in_step = (1..=LAST).contains(&self.since) && self.is_near(now);
        !in_step || matches!(self.since + ahead, LAST | STAMP_EVERY)
    }

    /// Whether the newest stamp is recent enough for all frames since.
    fn is_near(&self, now: u64) -> bool {
        now.saturating_sub(self.newest) <= NEAR
    }

    fn realtime(&self, monotonic: u64) -> u64 {
        monotonic.wrapping_add_signed(self.realtime_offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: u64 = 1_000_000_000;

    impl Stamps {
        fn read(&mut self, stamp: u64, now: u64) -> Option<u64> {
            self.take(now, || stamp)
        }
    }

    #[test]
    fn stamps_in_order_and_a_little_out_of_it_are_taken() {
        let mut stamps = Stamps::new(START, 5);
        for stamp in [START + 10, START + 30, START + 20] {
            assert_eq!(stamps.read(stamp, START + 100), Some(stamp + 5));
        }
        assert_eq!(stamps.missing, 0);
    }

    #[test]
    fn zeros_of_a_fresh_umem_and_whatever_lies_in_the_future_are_no_stamps() {
        let mut stamps = Stamps::new(START, 0);
        for garbage in [0, START - OVERTAKEN - 1, START + 101, u64::MAX] {
            assert_eq!(stamps.read(garbage, START + 100), None, "{garbage}");
        }
        assert_eq!(stamps.missing, 4);
        assert_eq!(stamps.read(START + 1, START + 100), Some(START + 1));
    }

    #[test]
    fn the_stamp_of_the_frame_before_in_the_same_chunk_is_not_taken_twice() {
        let mut stamps = Stamps::new(START, 0);
        assert!(stamps.read(START + 1, START + 1).is_some());
        assert!(stamps.read(START + 1_000_000, START + 1_000_000).is_some());
        // One that the program left out has the time of the one before.
        assert_eq!(stamps.read(START + 1, START + 1_100_000), Some(START + 1_000_000));
    }

    /// Frames 1 us apart, of which one in 16 has a stamp and the others what was there before; `keeps` says
    /// which the ring did not lose, `behind` how many frames the worker is late. Gives how often it looked
    /// for a stamp.
    fn one_in_sixteen(frames: u64, behind: u64, keeps: impl Fn(u64) -> bool) -> u64 {
        let (mut stamps, mut looks) = (Stamps::new(START, 0), 0);
        for frame in (0..frames).filter(|frame| keeps(*frame)) {
            let came = START + 1_000 * (frame + 1);
            let stamp = if frame % STAMP_EVERY == 0 { came } else { START - 1_000_000_000 };
            let read = || {
                looks += 1;
                stamp
            };
            let time = stamps.take(came + 1_000 * behind, read).unwrap();
            assert!(time <= came, "frame {frame} has a time after its own");
            assert!(came - time < 1_000 * LEFT_OUT, "frame {frame} is {} ns off", came - time);
        }
        assert_eq!(stamps.missing, 0);
        looks
    }

    #[test]
    fn sparse_stamps_are_read_twice_per_period() {
        // The one that has a stamp and the one after it.
        assert_eq!(one_in_sixteen(16_000, 0, |_| true), 2_000);
    }

    #[test]
    fn a_late_worker_reads_the_stamp_of_each_frame() {
        assert_eq!(one_in_sixteen(16_000, 30_000, |_| true), 16_000);
    }

    #[test]
    fn frames_that_the_ring_lost_leave_the_others_their_times() {
        for lost in 1..48 {
            one_in_sixteen(16_000, 0, |frame| !(500..500 + lost).contains(&(frame % 1_000)));
        }
    }

    #[test]
    fn where_each_frame_has_a_stamp_each_is_read() {
        let mut stamps = Stamps::new(START, 0);
        // From a high rate to a low one: what follows a stamp is always looked at.
        for frame in 0..40 {
            let stamp = if frame % STAMP_EVERY == 0 { START + frame } else { 0 };
            assert!(stamps.read(stamp, START + frame).is_some());
        }
        let exact =
            (40..140).filter(|frame| stamps.read(START + frame, START + frame) == Some(START + frame));
        assert!(exact.count() >= 100 - 16, "the first of them may be taken for one that is left out");
    }

    #[test]
    fn an_old_stamp_is_not_the_time_of_a_frame() {
        let mut stamps = Stamps::new(START, 0);
        assert!(stamps.read(START, START).is_some());
        assert_eq!(stamps.read(0, START + LATE + 1), None);
        assert_eq!(stamps.missing, 1);
    }
}
