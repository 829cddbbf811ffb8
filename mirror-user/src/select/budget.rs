//! The limit on the number of frames.

use std::sync::atomic::{AtomicU64, Ordering};

/// How many frames all workers may still select: `-c`.
#[derive(Debug)]
pub(crate) struct Budget(AtomicU64);

impl Budget {
    pub(crate) fn new(frames: Option<u64>) -> Self {
        Self(AtomicU64::new(frames.unwrap_or(u64::MAX)))
    }

    /// Takes up to `frames` from the budget; returns how many were granted.
    pub(crate) fn claim(&self, frames: u64) -> u64 {
        let left = match self.0.load(Ordering::Relaxed) {
            // Without a limit there is no shared write.
            u64::MAX => return frames,
            left => left,
        };
        let mut left = left;
        loop {
            let granted = frames.min(left);
            match self.0.compare_exchange_weak(left, left - granted, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return granted,
                Err(now) => left = now,
            }
        }
    }

    pub(crate) fn is_spent(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_grants_exactly_its_frames() {
        let budget = Budget::new(Some(10));
        assert_eq!([budget.claim(4), budget.claim(4), budget.claim(4), budget.claim(4)], [4, 4, 2, 0]);
        assert!(budget.is_spent());
        assert_eq!(Budget::new(None).claim(1 << 40), 1 << 40);
    }
}
