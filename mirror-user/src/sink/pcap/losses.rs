//! Frames that are in no file, by interface, for the statistics.

use std::sync::{Arc, Mutex, PoisonError};

/// What workers let go.
#[derive(Clone, Debug)]
pub(super) struct Dropped(Arc<Mutex<Vec<u64>>>);

impl Dropped {
    pub(super) fn new(interfaces: usize) -> Self {
        Self(Arc::new(Mutex::new(vec![0; interfaces])))
    }

    /// Takes a worker's counts over, and leaves zeros.
    pub(super) fn take_over(&self, counts: &mut [u64]) {
        let mut sums = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (sum, count) in sums.iter_mut().zip(counts) {
            *sum += std::mem::take(count);
        }
    }

    fn of(&self, interface: usize) -> u64 {
        let sums = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sums.get(interface).copied().unwrap_or(0)
    }
}

/// All that is known of on the writer thread.
pub(super) struct Losses {
    dropped: Dropped,
    /// Could not be written.
    failed: Vec<u64>,
    /// Stand in the statistics of an earlier file.
    told: Vec<u64>,
}

impl Losses {
    pub(super) fn new(dropped: Dropped, interfaces: usize) -> Self {
        Self { dropped, failed: vec![0; interfaces], told: vec![0; interfaces] }
    }

    pub(super) fn add_failed(&mut self, interface: u32) {
        self.failed[interface as usize] += 1;
    }

    /// What an interface has lost since this was last asked.
    pub(super) fn since_last(&mut self, interface: usize) -> u64 {
        let all = self.dropped.of(interface) + self.failed[interface];
        let told = std::mem::replace(&mut self.told[interface], all);
        all - told
    }
}
