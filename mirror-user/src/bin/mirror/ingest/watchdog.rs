//! The watchdog of systemd, which restarts a service that it has not heard of for `WatchdogSec=`:
//! `sd_watchdog_enabled(3)`.

use std::{
    env,
    time::{Duration, Instant},
};

use mirror_user::engine::Running;

use super::notify::Notifier;

/// A worker without a tick for so long hangs: it has one every 50 ms, loaded or idle.
const HANGS: Duration = Duration::from_secs(2);
/// How often within the watchdog's time a service that is well says so: one time that a worker is late, for
/// want of its CPU, is no reason to restart.
const TIMES: u32 = 4;

/// Tells systemd that the run goes on.
#[derive(Debug)]
pub(super) struct Watchdog {
    /// `None` without a watchdog.
    interval: Option<Duration>,
    next: Instant,
}

impl Watchdog {
    /// As systemd asks for it. `$WATCHDOG_PID` is not looked at: a process that has taken over from another
    /// has the other's.
    pub(super) fn of_environment() -> Self {
        Self::of(env::var("WATCHDOG_USEC").ok().as_deref())
    }

    fn of(microseconds: Option<&str>) -> Self {
        let time = microseconds.and_then(|text| text.parse().ok()).filter(|time| *time > 0);
        Self { interval: time.map(|time| Duration::from_micros(time) / TIMES), next: Instant::now() }
    }

    /// Notifies if it is time, and no worker hangs.
    pub(super) fn turn(&mut self, now: Instant, running: &Running, notifier: &Notifier) {
        if self.is_due(now) && !hangs(running) {
            notifier.notify("WATCHDOG=1");
        }
    }

    fn is_due(&mut self, now: Instant) -> bool {
        let Some(interval) = self.interval.filter(|_| now >= self.next) else { return false };
        self.next = now + interval;
        true
    }
}

/// Whether a worker of an interface that there still is hangs.
fn hangs(running: &Running) -> bool {
    let interfaces = running.vitals().interfaces.into_iter().filter(|interface| !interface.lost);
    interfaces.flat_map(|interface| interface.queues).any(|queue| queue.since_tick >= HANGS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_watchdog_hears_four_times_within_its_time() {
        let mut watchdog = Watchdog::of(Some("30000000"));
        let start = watchdog.next;
        let due = (0..61).filter(|half| watchdog.is_due(start + *half * Duration::from_millis(500)));
        assert_eq!(due.collect::<Vec<_>>(), [0, 15, 30, 45, 60]);
    }

    #[test]
    fn without_a_watchdog_nothing_is_sent() {
        for none in [None, Some("0"), Some(""), Some("x")] {
            let mut watchdog = Watchdog::of(none);
            assert!(!watchdog.is_due(watchdog.next + Duration::from_secs(3600)), "{none:?}");
        }
    }
}
