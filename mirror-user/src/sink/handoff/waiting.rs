//! Outputs that take nothing for want of what may come back: space, inodes, file descriptors.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{OutputState, TICK};
use crate::log_limit::LogLimit;

/// Reason of the frames that come while an output waits.
pub(crate) const NO_SPACE: &str = "no_space";

/// Whether there may be later what is missing now.
pub(crate) fn is_want(error: &io::Error) -> bool {
    #[cfg(unix)]
    let no_descriptor = matches!(
        rustix::io::Errno::from_io_error(error),
        Some(rustix::io::Errno::MFILE | rustix::io::Errno::NFILE)
    );
    #[cfg(not(unix))]
    let no_descriptor = false;
    no_descriptor || is_want_of_space(error)
}

/// The same for what a deleted file gives back.
pub(crate) fn is_want_of_space(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// The thread's own account of a wait, which everybody else sees in its [`OutputState`].
pub(crate) struct Waiting {
    state: Arc<OutputState>,
    since: Option<Instant>,
    /// When it is tried again.
    next: Instant,
    /// Frames lost since.
    lost: u64,
    limit: LogLimit,
}

impl Waiting {
    pub(crate) fn new(state: Arc<OutputState>) -> Self {
        Self { state, since: None, next: Instant::now(), lost: 0, limit: LogLimit::default() }
    }

    /// Whether the last try failed.
    pub(crate) fn is_on(&self) -> bool {
        self.since.is_some()
    }

    /// Whether a try is due: always but in a wait, in which it is each [`TICK`].
    fn may_try(&self) -> bool {
        self.since.is_none() || Instant::now() >= self.next
    }

    /// Whether there is no use in trying to write: not for now, or not any more.
    pub(crate) fn rests(&self) -> bool {
        self.state.has_failed() || !self.may_try()
    }

    /// Whether frames that were not written are dropped for the wait, and not lost to an error.
    pub(crate) fn charge(&mut self, frames: u64) -> bool {
        let waits = self.is_on() && !self.state.has_failed();
        if waits {
            self.lost += frames;
        }
        waits
    }

    /// A try has failed, for the first time or again.
    pub(crate) fn go_on_after(&mut self, what: &str, error: &io::Error) {
        let now = Instant::now();
        self.next = now + TICK;
        let reason = format!("{what}: {error}{}", remedy(error));
        if self.since.is_none() {
            (self.since, self.lost) = (Some(now), 0);
            if self.limit.passes(now) {
                tracing::error!("{reason}; what comes meanwhile is dropped ({NO_SPACE})");
            }
        }
        self.state.wait_for(Some(reason));
    }

    /// A try has succeeded.
    pub(crate) fn end(&mut self, what: &str) {
        let Some(since) = self.since.take() else { return };
        self.state.wait_for(None);
        let now = Instant::now();
        let waited = Duration::from_millis(u64::try_from(now.duration_since(since).as_millis()).unwrap_or(0));
        if self.limit.passes(now) {
            tracing::warn!("{what}: goes on; {} frames were dropped in {waited:?} ({NO_SPACE})", self.lost);
        }
    }

    /// To be called now and then: says how many lines were not logged.
    pub(crate) fn log_left_out(&mut self) {
        if let Some(lines) = self.limit.left_out(Instant::now()) {
            tracing::warn!("{lines} more lines about an output that waited and went on were not logged");
        }
    }
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::ResourceBusy => "",
        _ if is_want_of_space(error) => "; free space, and it goes on",
        _ => "; close files or raise the limit (ulimit -n), and it goes on",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(unix)]
    fn what_may_come_back_is_told_from_what_ends_an_output() {
        use rustix::io::Errno;
        for errno in [Errno::NOSPC, Errno::DQUOT, Errno::MFILE, Errno::NFILE] {
            assert!(is_want(&errno.into()), "{errno}");
        }
        for errno in [Errno::PIPE, Errno::IO, Errno::FBIG, Errno::ROFS, Errno::ACCESS, Errno::STALE] {
            assert!(!is_want(&errno.into()), "{errno}");
        }
    }

    #[test]
    fn a_wait_is_tried_each_tick_and_seen_while_it_lasts() {
        let state = Arc::new(OutputState::default());
        let mut waiting = Waiting::new(Arc::clone(&state));
        assert!(waiting.may_try() && state.waits_for().is_none());
        waiting.go_on_after("x", &io::ErrorKind::StorageFull.into());
        assert!(waiting.is_on() && !waiting.may_try());
        assert!(state.waits_for().is_some_and(|reason| reason.starts_with("x: ")));
        waiting.next = Instant::now();
        assert!(waiting.may_try());
        waiting.end("x");
        assert!(!waiting.is_on() && state.waits_for().is_none());
    }
}
