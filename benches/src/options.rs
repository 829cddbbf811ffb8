//! Options of a run.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use anyhow::{Result, bail};

/// Options of every part.
#[derive(Clone, Debug)]
pub struct Options {
    /// Fewer rounds and points: all in under three minutes.
    pub quick: bool,
    /// Rounds of the ladder and the sweep; of courses with a goal three times as many in a full run.
    pub rounds: usize,
    /// The CPU that sends and, because softirqs run where the frames were sent, receives.
    pub kernel_cpu: usize,
    /// The CPU of the worker, or of the other tool.
    pub worker_cpu: usize,
    /// Set by a signal: the run ends between two measurements, and the lab is removed.
    pub stop: Arc<AtomicBool>,
}

impl Options {
    /// Rounds of a full run, as for the figures of `docs/performance.md`.
    pub const FULL_ROUNDS: usize = 9;
    /// Rounds of a quick one.
    pub const QUICK_ROUNDS: usize = 5;

    /// Whether to continue.
    ///
    /// # Errors
    ///
    /// After a signal to stop.
    pub fn go_on(&self) -> Result<()> {
        if self.stop.load(Ordering::Relaxed) {
            bail!("stopped by a signal");
        }
        Ok(())
    }
}
