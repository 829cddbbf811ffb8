//! What the main thread leaves for the thread that answers.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use super::{health::Verdict, metrics::OriginId, process::ProcessFacts};
use crate::observed::{Observed, Phase};

/// The main loop turns ten times a second.
const TURN: Duration = Duration::from_secs(5);

/// Shared by the main thread and the HTTP thread.
#[derive(Debug)]
pub(crate) struct Board {
    pub(super) observed: Arc<Observed>,
    begun: Instant,
    begun_at: SystemTime,
    /// When the main loop turned last, in ms since `begun`.
    turned: AtomicU64,
    /// CPU time of the processes that had the run before, in µs.
    cpu_before: AtomicU64,
    /// Origins that have series of their own in the metrics.
    listed: Mutex<Vec<OriginId>>,
    state: Mutex<State>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct State {
    pub(super) verdict: Option<Arc<Verdict>>,
    pub(super) process: ProcessFacts,
}

impl Board {
    pub(super) fn new(observed: &Arc<Observed>) -> Arc<Self> {
        Arc::new(Self {
            observed: Arc::clone(observed),
            begun: Instant::now(),
            begun_at: SystemTime::now(),
            turned: AtomicU64::new(0),
            cpu_before: AtomicU64::new(0),
            listed: Mutex::default(),
            state: Mutex::default(),
        })
    }

    /// The main loop turns.
    pub(crate) fn turn(&self, now: Instant) {
        let since = now.saturating_duration_since(self.begun).as_millis();
        self.turned.store(u64::try_from(since).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Leaves a verdict, with what the kernel says of the process.
    pub(crate) fn put(&self, verdict: Verdict) {
        let mut process = ProcessFacts::read(self.begun_at);
        process.cpu = process.cpu.map(|own| own + self.cpu_before());
        *self.lock() = State { verdict: Some(Arc::new(verdict)), process };
    }

    /// Counts the CPU time of processes that had the run before, so that the counter does not go back.
    pub(crate) fn follow(&self, cpu: Duration) {
        self.cpu_before.store(u64::try_from(cpu.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Origins that have series of their own.
    pub(crate) fn listed(&self) -> Vec<OriginId> {
        self.listed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Lists these.
    pub(crate) fn list(&self, origins: Vec<OriginId>) {
        *self.listed.lock().unwrap_or_else(PoisonError::into_inner) = origins;
    }

    /// The CPU time of this process and those before it.
    pub(crate) fn cpu(&self) -> Duration {
        ProcessFacts::read(self.begun_at).cpu.unwrap_or_default() + self.cpu_before()
    }

    fn cpu_before(&self) -> Duration {
        Duration::from_micros(self.cpu_before.load(Ordering::Relaxed))
    }

    pub(super) fn state(&self) -> State {
        self.lock().clone()
    }

    /// Whether the main loop turns; it does not begin before the run has started, and does not end before its
    /// outputs are complete, which may take long.
    pub(super) fn is_live(&self, now: Instant) -> bool {
        let turned = self.begun + Duration::from_millis(self.turned.load(Ordering::Relaxed));
        match self.observed.phase() {
            Phase::Starting | Phase::Stopping => true,
            Phase::Ingesting | Phase::Draining => now.saturating_duration_since(turned) <= TURN,
        }
    }

    /// Whole values are put in under this lock, so one poisoned by a panic is as good as any.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_live_while_its_main_loop_turns() {
        let observed = Arc::new(Observed::default());
        let board = Board::new(&observed);
        let later = board.begun + 2 * TURN;
        assert!(board.is_live(later), "it starts");
        observed.enter(Phase::Ingesting);
        assert!(!board.is_live(later));
        board.turn(later - TURN);
        assert!(board.is_live(later));
        assert!(!board.is_live(later + Duration::from_millis(1)));
        observed.enter(Phase::Stopping);
        assert!(board.is_live(later + TURN), "it completes its outputs");
    }
}
