//! What a run says of itself to those who ask while it runs: its phase, and its report of a moment ago.
//!
//! The main thread observes. Threads that answer requests read from memory, and need neither capabilities nor
//! the engine for it.

use std::{
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use mirror_user::Report;
use serde::{Deserialize, Serialize};

/// Between two observations while somebody asks.
const INTERVAL: Duration = Duration::from_secs(1);
/// For so long after a question the main thread observes.
const ASKED: Duration = Duration::from_secs(10);

/// The phases of a run, in sequence; none comes back.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Phase {
    /// Outputs are opened and queues are bound.
    Starting,
    /// Frames are taken.
    Ingesting,
    /// Frames are taken, until no more come: the run is about to stop.
    Draining,
    /// No frame is taken any more.
    Stopping,
}

impl Phase {
    const ALL: [Self; 4] = [Self::Starting, Self::Ingesting, Self::Draining, Self::Stopping];

    /// In words.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ingesting => "ingesting",
            Self::Draining => "draining",
            Self::Stopping => "stopping",
        }
    }
}

/// A run's report as it stood.
#[derive(Clone, Debug)]
pub(crate) struct Observation {
    pub(crate) at: Instant,
    pub(crate) report: Arc<Report>,
}

/// Shared by the main thread and those that answer requests.
#[derive(Debug, Default)]
pub(crate) struct Observed {
    phase: AtomicU8,
    /// Another process answers.
    is_withheld: AtomicBool,
    clients: [AtomicUsize; Listener::COUNT],
    state: Mutex<State>,
    published: Condvar,
}

/// Those that take questions.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Listener {
    Control,
    Http,
}

impl Listener {
    const COUNT: usize = 2;
}

/// How often a listener that does not accept looks whether it may.
pub(crate) const WITHHELD: Duration = Duration::from_millis(20);

#[derive(Debug, Default)]
struct State {
    last: Option<Observation>,
    asked: Option<Instant>,
}

impl Observed {
    pub(crate) fn phase(&self) -> Phase {
        Phase::ALL[usize::from(self.phase.load(Ordering::Acquire)).min(Phase::ALL.len() - 1)]
    }

    /// Enters a phase, unless a later one has begun.
    pub(crate) fn enter(&self, phase: Phase) {
        self.phase.fetch_max(phase as u8, Ordering::AcqRel);
    }

    /// Whether questions are left to another process that has the same sockets: they wait in the backlog
    /// until it accepts them.
    pub(crate) fn is_withheld(&self) -> bool {
        self.is_withheld.load(Ordering::Acquire)
    }

    pub(crate) fn withhold(&self, withheld: bool) {
        self.is_withheld.store(withheld, Ordering::Release);
    }

    /// How many clients a listener has accepted and not answered yet.
    pub(crate) fn serves(&self, listener: Listener, clients: usize) {
        self.clients[listener as usize].store(clients, Ordering::Release);
    }

    /// Waits until all clients are answered, at most for `patience`.
    pub(crate) fn finish(&self, patience: Duration) {
        let deadline = Instant::now() + patience;
        let is_busy = || self.clients.iter().any(|clients| clients.load(Ordering::Acquire) > 0);
        while is_busy() && Instant::now() < deadline {
            thread::sleep(WITHHELD);
        }
    }

    /// Whether the main thread is to [publish](Self::publish) a report.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        let state = self.state();
        let is_older = |than: Instant, age| now.saturating_duration_since(than) >= age;
        state.asked.is_some_and(|asked| !is_older(asked, ASKED))
            && state.last.as_ref().is_none_or(|last| is_older(last.at, INTERVAL))
    }

    pub(crate) fn publish(&self, at: Instant, report: Report) {
        self.state().last = Some(Observation { at, report: Arc::new(report) });
        self.published.notify_all();
    }

    /// An observation that is not older than two intervals; waits for one for at most `patience`.
    pub(crate) fn ask(&self, patience: Duration) -> Option<Observation> {
        let mut state = self.state();
        state.asked = Some(Instant::now());
        let is_stale =
            |state: &mut State| state.last.as_ref().is_none_or(|last| last.at.elapsed() >= 2 * INTERVAL);
        let waited = self.published.wait_timeout_while(state, patience, is_stale);
        let (state, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        if timeout.timed_out() { None } else { state.last.clone() }
    }

    /// The last observation, of any age.
    pub(crate) fn last(&self) -> Option<Observation> {
        self.state().last.clone()
    }

    /// Whole values are put in under this lock, so one poisoned by a panic is as good as any.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_phase_comes_back() {
        let observed = Observed::default();
        assert_eq!(observed.phase(), Phase::Starting);
        for (enter, is) in [
            (Phase::Ingesting, Phase::Ingesting),
            (Phase::Draining, Phase::Draining),
            (Phase::Ingesting, Phase::Draining),
            (Phase::Stopping, Phase::Stopping),
        ] {
            observed.enter(enter);
            assert_eq!(observed.phase(), is);
        }
    }

    #[test]
    fn nothing_is_observed_unless_somebody_asks() {
        let observed = Observed::default();
        assert!(!observed.is_due(Instant::now()));
        assert!(observed.ask(Duration::ZERO).is_none());
        let now = Instant::now();
        assert!(observed.is_due(now));
        let report =
            r#"{"schema": "mirror.report/1", "source": "af_xdp", "started": "1970-01-01T00:00:00Z"}"#;
        observed.publish(now, serde_json::from_str(report).unwrap());
        assert!(observed.ask(Duration::ZERO).is_some());
        assert!(!observed.is_due(now) && observed.is_due(now + INTERVAL));
        assert!(!observed.is_due(now + 2 * ASKED));
    }
}
