//! Counts by member: of a forwarder's targets, of the parts of a capture.

use std::sync::{Arc, Mutex, PoisonError};

use crate::account::{MemberReport, SinkStats};

/// Counts of all workers, by member.
#[derive(Debug)]
pub(super) struct MemberTotals {
    names: Vec<String>,
    workers: Mutex<Vec<MemberStats>>,
}

/// Counts of one worker as of its last tick or its end, by member.
pub(super) type MemberStats = Arc<Mutex<Vec<SinkStats>>>;

impl MemberTotals {
    pub(super) fn new(names: Vec<String>) -> Self {
        Self { names, workers: Mutex::default() }
    }

    /// The counts of one more worker.
    pub(super) fn worker(&self) -> MemberStats {
        let stats = MemberStats::new(Mutex::new(vec![SinkStats::default(); self.names.len()]));
        self.workers.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&stats));
        stats
    }

    pub(super) fn report(&self) -> Vec<MemberReport> {
        let mut sums = vec![SinkStats::default(); self.names.len()];
        for worker in self.workers.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let stats = worker.lock().unwrap_or_else(PoisonError::into_inner);
            sums.iter_mut().zip(&*stats).for_each(|(sum, worker)| sum.add(worker));
        }
        self.names.iter().zip(&sums).map(|(name, sum)| MemberReport::new(name, sum)).collect()
    }
}
