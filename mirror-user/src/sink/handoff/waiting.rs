//! Outputs that wait for a resource: disk space, inodes, file descriptors.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{OutputState, TICK};
use crate::log_limit::LogLimit;

/// Reason of frames dropped while an output waits.
pub(crate) const NO_SPACE: &str = "no_space";

/// Whether the error may end without our action: a resource is used up.
pub(crate) fn may_pass(error: &io::Error) -> bool {
    #[cfg(unix)]
    let no_descriptor = matches!(
        rustix::io::Errno::from_io_error(error),
        Some(rustix::io::Errno::MFILE | rustix::io::Errno::NFILE)
    );
    #[cfg(not(unix))]
    let no_descriptor = false;
    no_descriptor || is_out_of_space(error)
}

/// The same for resources that deleting a file frees.
pub(crate) fn is_out_of_space(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// The thread's state of a wait; workers and factory see it in the [`OutputState`].
pub(crate) struct Waiting {
    state: Arc<OutputState>,
    since: Option<Instant>,
    /// When to try again.
    next: Instant,
    /// Frames dropped since.
    lost: u64,
    limit: LogLimit,
}

impl Waiting {
    pub(crate) fn new(state: Arc<OutputState>) -> Self {
        Self { state, since: None, next: Instant::now(), lost: 0, limit: LogLimit::default() }
    }

    /// Whether the last attempt failed.
    pub(crate) fn is_on(&self) -> bool {
        self.since.is_some()
    }

    /// Whether to try now: during a wait once per [`TICK`], otherwise always.
    fn may_try(&self) -> bool {
        self.since.is_none() || Instant::now() >= self.next
    }

    /// Whether not to write: the output has failed, or the next attempt of a wait is not due.
    pub(crate) fn is_paused(&self) -> bool {
        self.state.has_failed() || !self.may_try()
    }

    /// Whether frames that were not written count as dropped by a wait; otherwise they failed.
    pub(crate) fn charge(&mut self, frames: u64) -> bool {
        let waits = self.is_on() && !self.state.has_failed();
        if waits {
            self.lost += frames;
        }
        waits
    }

    /// An attempt failed: begins the wait or continues it.
    pub(crate) fn wait_after(&mut self, what: &str, error: &io::Error) {
        let now = Instant::now();
        self.next = now + TICK;
        let reason = format!("{what}: {error}{}", remedy(error));
        if self.since.is_none() {
            (self.since, self.lost) = (Some(now), 0);
            if self.limit.passes(now) {
                tracing::error!("{reason}; frames are dropped until then ({NO_SPACE})");
            }
        }
        self.state.wait_for(Some(reason));
    }

    /// An attempt succeeded: ends the wait.
    pub(crate) fn end(&mut self, what: &str) {
        let Some(since) = self.since.take() else { return };
        self.state.wait_for(None);
        let now = Instant::now();
        let waited = Duration::from_millis(u64::try_from(now.duration_since(since).as_millis()).unwrap_or(0));
        if self.limit.passes(now) {
            tracing::warn!("{what}: output resumed; {} frames dropped in {waited:?} ({NO_SPACE})", self.lost);
        }
    }

    /// Logs how many lines were suppressed; call it now and then.
    pub(crate) fn log_left_out(&mut self) {
        if let Some(lines) = self.limit.left_out(Instant::now()) {
            tracing::warn!("{lines} more lines about waits of an output were not logged");
        }
    }
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::ResourceBusy => "",
        _ if is_out_of_space(error) => "; free space to continue",
        _ => "; close files or raise RLIMIT_NOFILE to continue",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(unix)]
    fn only_errors_that_may_pass_are_waited_for() {
        use rustix::io::Errno;
        for errno in [Errno::NOSPC, Errno::DQUOT, Errno::MFILE, Errno::NFILE] {
            assert!(may_pass(&errno.into()), "{errno}");
        }
        for errno in [Errno::PIPE, Errno::IO, Errno::FBIG, Errno::ROFS, Errno::ACCESS, Errno::STALE] {
            assert!(!may_pass(&errno.into()), "{errno}");
        }
    }

    #[test]
    fn a_wait_is_retried_each_tick_and_visible_while_it_lasts() {
        let state = Arc::new(OutputState::default());
        let mut waiting = Waiting::new(Arc::clone(&state));
        assert!(waiting.may_try() && state.waits_for().is_none());
        waiting.wait_after("x", &io::ErrorKind::StorageFull.into());
        assert!(waiting.is_on() && !waiting.may_try());
        assert!(state.waits_for().is_some_and(|reason| reason.starts_with("x: ")));
        waiting.next = Instant::now();
        assert!(waiting.may_try());
        waiting.end("x");
        assert!(!waiting.is_on() && state.waits_for().is_none());
    }
}
