//! When a file ends and the next one starts.

use std::time::Duration;

/// When files are rotated, besides on request.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Rotation {
    /// A larger file gets no more packets; in bytes before compression.
    pub(super) size: Option<u64>,
    pub(super) every: Option<Duration>,
    /// Whether intervals are by packet times.
    pub(super) by_packets: bool,
    /// With a size: files in the ring. With an interval alone: number of intervals.
    pub(super) files: Option<u32>,
}

impl Rotation {
    /// Number of files in the ring.
    pub(super) fn ring(&self) -> Option<u32> {
        self.files.filter(|_| self.size.is_some())
    }

    /// Number of intervals of the capture.
    pub(super) fn periods(&self) -> Option<u32> {
        self.files.filter(|_| self.size.is_none() && self.every.is_some())
    }
}

/// Maps packet times to intervals, for rotation by packet times. Interval 0 begins with the first packet.
#[derive(Debug)]
pub(super) struct PacketClock {
    every_ns: u64,
    /// The most intervals with packets.
    limit: Option<u32>,
    anchor: Option<u64>,
    /// The latest interval so far, and the number of intervals with packets.
    latest: u64,
    begun: u32,
}

/// Which file a packet goes to, by its time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Turn {
    /// The current one.
    Stay,
    /// The next one.
    Next,
    /// None: the last interval is over.
    Over,
}

impl PacketClock {
    /// `None` if files rotate by wall-clock time, or not by time.
    pub(super) fn new(rotation: &Rotation) -> Option<Self> {
        let every = rotation.every.filter(|_| rotation.by_packets)?;
        let every_ns = u64::try_from(every.as_nanos()).unwrap_or(u64::MAX).max(1);
        Some(Self { every_ns, limit: rotation.periods(), anchor: None, latest: 0, begun: 0 })
    }

    /// The interval of a time, in ns since the epoch. Times before the first packet's are in interval 0.
    pub(super) fn period(&self, time: u64) -> u64 {
        time.saturating_sub(self.anchor.unwrap_or(time)) / self.every_ns
    }

    /// Which file a packet of this time goes to, for a series whose latest interval is `last`. Advances
    /// `last`; times that go back do not.
    pub(super) fn turn(&mut self, last: &mut Option<u64>, time: u64) -> Turn {
        self.anchor.get_or_insert(time);
        let period = self.period(time);
        if last.is_some_and(|last| period <= last) {
            return Turn::Stay;
        }
        if self.begun == 0 || period > self.latest {
            if self.limit.is_some_and(|limit| self.begun >= limit) {
                return Turn::Over;
            }
            self.begun += 1;
            self.latest = period;
        }
        if last.replace(period).is_some() { Turn::Next } else { Turn::Stay }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clock(limit: Option<u32>) -> PacketClock {
        let every = Some(Duration::from_nanos(10));
        PacketClock::new(&Rotation { size: None, every, by_packets: true, files: limit }).unwrap()
    }

    #[test]
    fn intervals_begin_with_the_first_packet_and_times_that_go_back_stay() {
        let (mut clock, mut last) = (clock(None), None);
        let turns = [105, 114, 115, 90, 114, 155, 125, u64::MAX].map(|time| clock.turn(&mut last, time));
        let [stay, next] = [Turn::Stay, Turn::Next];
        assert_eq!(turns, [stay, stay, next, stay, stay, next, stay, next]);
        assert_eq!(clock.begun, 4);
    }

    #[test]
    fn a_limit_counts_intervals_with_packets_over_all_series() {
        let mut clock = clock(Some(2));
        let (mut one, mut other) = (None, None);
        assert_eq!([0, 55].map(|time| clock.turn(&mut one, time)), [Turn::Stay, Turn::Next]);
        // The other series has had packets in the same intervals.
        assert_eq!([5, 58].map(|time| clock.turn(&mut other, time)), [Turn::Stay, Turn::Next]);
        assert_eq!([60, 59].map(|time| clock.turn(&mut one, time)), [Turn::Over, Turn::Stay]);
    }

    #[test]
    fn wall_clock_rotation_ignores_packet_times() {
        let rotation = Rotation { every: Some(Duration::from_secs(1)), ..Rotation::default() };
        assert!(PacketClock::new(&rotation).is_none());
    }
}
