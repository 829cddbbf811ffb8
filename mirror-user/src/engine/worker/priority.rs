//! The priority of a worker's thread, and how it is lowered while the worker is saturated.

use std::{
    io,
    time::{Duration, Instant},
};

use crate::{
    engine::{Priority, Wait, Warning},
    host::scheduling::Scheduling,
};

const REALTIME: Scheduling = Scheduling::LOWEST_REALTIME;
/// The nice level that gets the largest share.
const NICE: Scheduling = Scheduling::Ordinary { nice: -20 };
/// For so long a worker may take frames without finding its ring empty, before it is saturated: several times
/// what the default ring holds, so that frames are lost by then.
const SATURATED: Duration = Duration::from_millis(10);

/// What a worker's thread got.
#[derive(Clone, Debug)]
pub(super) struct Granted {
    pub(super) level: Priority,
    /// Why that is less than it should be.
    pub(super) warning: Option<Warning>,
}

/// Sets the priority of the calling thread, a worker's.
///
/// # Errors
///
/// What the kernel said of a priority that was asked for by name.
pub(super) fn set(wanted: Priority, wait: Wait) -> io::Result<Granted> {
    let granted = |level| Granted { level, warning: None };
    match wanted {
        Priority::Realtime => REALTIME.set_own().map(|()| granted(Priority::Realtime)),
        Priority::Nice => NICE.set_own().map(|()| granted(Priority::Nice)),
        Priority::Normal => Ok(granted(Priority::Normal)),
        // One that never sleeps would take its CPU from everybody.
        Priority::Auto if wait != Wait::Poll => Ok(granted(Priority::Normal)),
        // The process was started with a policy of its own (chrt(1)).
        Priority::Auto if !matches!(Scheduling::own()?, Scheduling::Ordinary { .. }) => {
            Ok(granted(Priority::Normal))
        }
        Priority::Auto => Ok(match REALTIME.set_own() {
            Ok(()) => granted(Priority::Realtime),
            Err(refused) => {
                let nice = NICE.set_own().is_ok();
                let warning = Warning::NotRealtime { error: refused.to_string(), nice };
                let level = if nice { Priority::Nice } else { Priority::Normal };
                Granted { level, warning: Some(warning) }
            }
        }),
    }
}

/// What a saturated worker does so that capture writers and the kernel's own threads get their share of its
/// CPU.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Relief {
    /// Nothing: it is not real-time, or spins because that was asked for.
    None,
    /// It continues at ordinary priority until it finds its ring empty again.
    Lower,
    /// It rests now and then, because it could not return to real-time priority.
    Rest,
}

/// Notices when a worker is saturated.
pub(super) struct Saturation {
    relief: Relief,
    /// What the thread had before.
    ordinary: Scheduling,
    /// When the first batch was taken since the ring was found empty, or the worker had to rest.
    busy_since: Option<Instant>,
    saturated: bool,
    /// How often that has begun.
    times: u64,
}

impl Saturation {
    /// `ordinary` is what the thread had before [`set`]; `can_return`, whether it may have what [`set`] gave
    /// it once more.
    pub(super) fn new(level: Priority, wait: Wait, ordinary: Scheduling, can_return: bool) -> Self {
        // One that never sleeps has real-time priority only because that was asked for.
        let relief = match (level, wait) {
            (Priority::Realtime, Wait::Poll) if can_return => Relief::Lower,
            (Priority::Realtime, Wait::Poll) => Relief::Rest,
            _ => Relief::None,
        };
        Self { relief, ordinary, busy_since: None, saturated: false, times: 0 }
    }

    /// The ring was found empty.
    #[inline]
    pub(super) fn rest(&mut self) {
        self.busy_since = None;
        if self.saturated {
            self.end();
        }
    }

    /// A batch was taken, at this time. Returns whether the worker must rest when it has processed it.
    #[inline]
    #[must_use]
    pub(super) fn work(&mut self, now: Instant) -> bool {
        let since = *self.busy_since.get_or_insert(now);
        if now.saturating_duration_since(since) < SATURATED {
            return false;
        }
        if !self.saturated {
            self.begin();
        }
        if self.relief != Relief::Rest {
            return false;
        }
        self.busy_since = Some(now);
        true
    }

    /// The worker takes no more frames: it gives up what priority it has over other threads.
    pub(super) fn retire(&mut self) {
        self.relief = Relief::None;
        if let Err(error) = self.ordinary.set_own() {
            tracing::debug!(%error, "a worker that has handed over keeps its priority");
        }
    }

    /// How often the worker was saturated.
    pub(super) fn times(&self) -> u64 {
        self.times
    }

    #[cold]
    fn begin(&mut self) {
        self.saturated = true;
        self.times += 1;
        if self.relief == Relief::Lower
            && let Err(error) = self.ordinary.set_own()
        {
            tracing::warn!(%error, "a saturated worker keeps its real-time priority");
            self.relief = Relief::Rest;
        }
    }

    #[cold]
    fn end(&mut self) {
        self.saturated = false;
        if self.relief == Relief::Lower
            && let Err(error) = REALTIME.set_own()
        {
            tracing::warn!(%error, "a worker that was saturated stays at ordinary priority");
            self.relief = Relief::None;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::OnceLock;

    use super::*;

    fn at(ms: u64) -> Instant {
        static START: OnceLock<Instant> = OnceLock::new();
        *START.get_or_init(Instant::now) + Duration::from_millis(ms)
    }

    const ORDINARY: Scheduling = Scheduling::Ordinary { nice: 0 };

    #[test]
    fn a_worker_is_saturated_when_its_ring_is_never_empty() {
        let mut saturation = Saturation::new(Priority::Normal, Wait::Poll, ORDINARY, true);
        // However long the worker slept before its first batch.
        for ms in (0..100).step_by(20) {
            assert!(!saturation.work(at(ms)) && !saturation.work(at(ms + 9)));
            saturation.rest();
        }
        assert_eq!(saturation.times(), 0);
        for ms in 100..130 {
            assert!(!saturation.work(at(ms)), "an ordinary worker rested after {ms} ms");
        }
        assert_eq!(saturation.times(), 1);
        saturation.rest();
        assert!(!saturation.work(at(130)) && !saturation.work(at(139)));
        assert_eq!(saturation.times(), 1);
        assert!(!saturation.work(at(140)));
        assert_eq!(saturation.times(), 2);
    }

    #[test]
    fn a_saturated_worker_that_may_not_return_to_real_time_rests_now_and_then() {
        let mut saturation = Saturation::new(Priority::Realtime, Wait::Poll, ORDINARY, false);
        let rested: Vec<_> = (0..35).filter(|ms| saturation.work(at(*ms))).collect();
        assert_eq!(rested, [10, 20, 30]);
        assert_eq!(saturation.times(), 1, "its ring was not empty in between");
        saturation.rest();
        assert!(!saturation.work(at(40)) && !saturation.work(at(49)));
        assert!(saturation.work(at(50)));
        assert_eq!(saturation.times(), 2);
        // One that spins does so because that was asked for.
        let mut spinning = Saturation::new(Priority::Realtime, Wait::Spin, ORDINARY, false);
        assert!((0..35).all(|ms| !spinning.work(at(ms))));
    }

    /// As root, which tests of this crate may not be.
    #[test]
    fn a_saturated_worker_has_ordinary_priority_until_it_rests() {
        std::thread::spawn(|| {
            let ordinary = Scheduling::own().unwrap();
            let granted = set(Priority::Auto, Wait::Poll).unwrap();
            let got = Scheduling::own().unwrap();
            if granted.level != Priority::Realtime {
                assert!(granted.warning.is_some() && got != REALTIME, "{granted:?}");
                return;
            }
            assert_eq!(got, REALTIME);
            let start = Instant::now();
            let mut saturation = Saturation::new(granted.level, Wait::Poll, ordinary, true);
            assert!(!saturation.work(start) && !saturation.work(start + SATURATED));
            assert_eq!(Scheduling::own().unwrap(), ordinary);
            saturation.rest();
            assert_eq!(Scheduling::own().unwrap(), REALTIME);
        })
        .join()
        .unwrap();
    }

    #[test]
    fn workers_that_never_sleep_are_not_real_time_unless_asked() {
        std::thread::spawn(|| {
            let before = Scheduling::own().unwrap();
            for wait in [Wait::Spin, Wait::BusyPoll] {
                let granted = set(Priority::Auto, wait).unwrap();
                assert_eq!((granted.level, Scheduling::own().unwrap()), (Priority::Normal, before));
            }
        })
        .join()
        .unwrap();
    }
}
