//! When a file ends and the next one begins.

use std::time::Duration;

/// What ends a file, besides being asked to.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Rotation {
    /// No packet is added to a file that is larger, in bytes before compression.
    pub(super) size: Option<u64>,
    pub(super) every: Option<Duration>,
    /// The time is that of the packets.
    pub(super) by_packets: bool,
    /// With a size: how many files there are before the first is replaced. With a time alone: how many times
    /// there are.
    pub(super) files: Option<u32>,
}

impl Rotation {
    /// How many numbers there are before the first comes again.
    pub(super) fn ring(&self) -> Option<u32> {
        self.files.filter(|_| self.size.is_some())
    }

    /// How many times there are before the capture is complete.
    pub(super) fn periods(&self) -> Option<u32> {
        self.files.filter(|_| self.size.is_none() && self.every.is_some())
    }
}

/// Where packets are in time, if files rotate by the times of packets: period 0 begins with the first packet.
#[derive(Debug)]
pub(super) struct PacketClock {
    every_ns: u64,
    /// How many periods with packets there may be.
    limit: Option<u32>,
    anchor: Option<u64>,
    /// The latest period so far, and how many there were.
    latest: u64,
    begun: u32,
}

/// What a packet's time means for the file that it would go to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Turn {
    /// It goes there.
    Stay,
    /// It goes to the next one.
    Next,
    /// It goes nowhere: there are as many periods as are wanted.
    Over,
}

impl PacketClock {
    /// `None` where files rotate by the clock on the wall, or not by time.
    pub(super) fn new(rotation: &Rotation) -> Option<Self> {
        let every = rotation.every.filter(|_| rotation.by_packets)?;
        let every_ns = u64::try_from(every.as_nanos()).unwrap_or(u64::MAX).max(1);
        Some(Self { every_ns, limit: rotation.periods(), anchor: None, latest: 0, begun: 0 })
    }

    /// The period of a time, ns since the epoch. Times that go back before the first packet's are of period
    /// 0.
    pub(super) fn period(&self, time: u64) -> u64 {
        time.saturating_sub(self.anchor.unwrap_or(time)) / self.every_ns
    }

    /// Judges a packet of this time for a series of files whose last packet was of period `last`, and moves
    /// that on. Times that go back do not.
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
    fn periods_begin_with_the_first_packet_and_times_that_go_back_stay() {
        let (mut clock, mut last) = (clock(None), None);
        let turns = [105, 114, 115, 90, 114, 155, 125, u64::MAX].map(|time| clock.turn(&mut last, time));
        let [stay, next] = [Turn::Stay, Turn::Next];
        assert_eq!(turns, [stay, stay, next, stay, stay, next, stay, next]);
        assert_eq!(clock.begun, 4);
    }

    #[test]
    fn a_limit_is_on_periods_with_packets_over_all_series() {
        let mut clock = clock(Some(2));
        let (mut one, mut other) = (None, None);
        assert_eq!([0, 55].map(|time| clock.turn(&mut one, time)), [Turn::Stay, Turn::Next]);
        // Of the other series all that came meanwhile.
        assert_eq!([5, 58].map(|time| clock.turn(&mut other, time)), [Turn::Stay, Turn::Next]);
        assert_eq!([60, 59].map(|time| clock.turn(&mut one, time)), [Turn::Over, Turn::Stay]);
    }

    #[test]
    fn by_the_clock_on_the_wall_packets_do_not_matter() {
        let rotation = Rotation { every: Some(Duration::from_secs(1)), ..Rotation::default() };
        assert!(PacketClock::new(&rotation).is_none());
    }
}
