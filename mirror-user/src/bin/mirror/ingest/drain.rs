//! `--drain-max`: a run that is asked to stop takes packets until no more come.
//!
//! A load balancer sends packets to a target for a while after that target's health check has failed. Whoever
//! stops at once loses them.

use std::time::{Duration, Instant};

use mirror_user::{account::Drain, settings::Settings};
use serde::{Deserialize, Serialize};

/// How long a drain takes.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct DrainLimits {
    /// At most.
    pub(crate) max: Duration,
    /// It ends when no packet has come for so long.
    pub(crate) quiet: Duration,
}

impl DrainLimits {
    /// `None` if the run stops at once.
    pub(super) fn of(settings: &Settings) -> Option<Self> {
        let max = settings.drain_max.as_deref().copied().unwrap_or_default().0;
        let quiet = settings.drain_quiet.as_deref().copied().unwrap_or_default().0;
        (!max.is_zero()).then_some(Self { max, quiet })
    }
}

/// A drain that has begun.
#[derive(Debug)]
pub(super) struct Draining {
    limits: DrainLimits,
    begun: Instant,
    /// Packets taken, if known, and when the number last changed.
    taken: Option<u64>,
    changed: Instant,
}

impl Draining {
    pub(super) fn begin(limits: DrainLimits, now: Instant, taken: Option<u64>) -> Self {
        Self { limits, begun: now, taken, changed: now }
    }

    /// Notes how many packets were taken until now. Returns whether the drain is over.
    pub(super) fn follow(&mut self, now: Instant, taken: Option<u64>) -> bool {
        // A number that is not known may have changed.
        if taken.is_none() || taken != self.taken {
            (self.taken, self.changed) = (taken, now);
        }
        self.is_quiet(now) || now.duration_since(self.begun) >= self.limits.max
    }

    /// For the report.
    pub(super) fn end(&self, now: Instant) -> Drain {
        Drain::new(self.is_quiet(now), now.duration_since(self.begun).as_secs_f64())
    }

    /// A drain that is shorter than the time without packets was quiet if none came in all of it.
    fn is_quiet(&self, now: Instant) -> bool {
        now.duration_since(self.changed) >= self.limits.quiet.min(self.limits.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    /// Follows a drain of at most 60 s with a number of packets for each second; returns how it ended.
    fn drained(quiet: Duration, taken: impl Fn(u32) -> Option<u64>) -> Drain {
        let start = Instant::now();
        let mut draining = Draining::begin(DrainLimits { max: 60 * S, quiet }, start, taken(0));
        let end = (1..).find(|second| draining.follow(start + *second * S, taken(*second))).unwrap();
        draining.end(start + end * S)
    }

    #[test]
    fn a_drain_ends_when_no_packet_has_come_for_so_long() {
        assert_eq!(drained(10 * S, |_| Some(7)), Drain::new(true, 10.0));
        assert_eq!(drained(10 * S, |second| Some(u64::from(second.min(25)))), Drain::new(true, 35.0));
        // A packet each 9 s.
        assert_eq!(drained(10 * S, |second| Some(u64::from(second / 9))), Drain::new(false, 60.0));
    }

    #[test]
    fn a_drain_ends_at_its_maximum_while_packets_come_or_may_come() {
        assert_eq!(drained(10 * S, |second| Some(u64::from(second))), Drain::new(false, 60.0));
        assert_eq!(drained(10 * S, |_| None), Drain::new(false, 60.0));
    }

    #[test]
    fn a_drain_shorter_than_the_time_without_packets_is_quiet_if_none_came() {
        assert_eq!(drained(100 * S, |_| Some(7)), Drain::new(true, 60.0));
        assert_eq!(drained(100 * S, |second| Some(u64::from(second.min(1)))), Drain::new(false, 60.0));
    }

    #[test]
    fn a_drain_that_is_cut_short_was_not_quiet() {
        let start = Instant::now();
        let draining = Draining::begin(DrainLimits { max: 60 * S, quiet: 10 * S }, start, Some(0));
        assert_eq!(draining.end(start + S), Drain::new(false, 1.0));
    }

    #[test]
    fn without_a_maximum_there_is_no_drain() {
        let of = |text: &str| DrainLimits::of(&toml::from_str::<Settings>(text).unwrap().resolve());
        assert_eq!(of("drain-quiet = 5"), None);
        assert_eq!(of("drain-max = 0"), None);
        assert_eq!(of("drain-max = '3m'"), Some(DrainLimits { max: 180 * S, quiet: 10 * S }));
    }
}
