//! What can happen to an output, for good or for now.

use std::{
    io,
    sync::{
        Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use crate::sink::SinkError;

/// What workers, factory and thread all look at.
#[derive(Debug, Default)]
pub(crate) struct OutputState {
    /// Set once, by the thread; from then on frames fail.
    failure: OnceLock<Failure>,
    /// What it waits for; from then on the thread drops frames.
    wait: Mutex<Option<String>>,
    /// The thread has ended.
    gone: AtomicBool,
}

impl OutputState {
    pub(crate) fn failure(&self) -> Option<SinkError> {
        self.failure.get().map(Failure::error)
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.failure.get().is_some()
    }

    /// Nothing more can be written. Only the first failure is the cause; what follows from it adds nothing.
    pub(crate) fn fail(&self, failure: Failure) {
        let _ = self.failure.set(failure);
    }

    /// What the output waits for.
    pub(crate) fn waits_for(&self) -> Option<String> {
        self.wait.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The output waits, or does no more.
    pub(super) fn wait_for(&self, reason: Option<String>) {
        *self.wait.lock().unwrap_or_else(PoisonError::into_inner) = reason;
    }

    pub(crate) fn thread_is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }

    pub(super) fn thread_went(&self) {
        self.gone.store(true, Ordering::Release);
    }
}

/// Why nothing more can be written. An `io::Error` is not `Clone`, and every worker needs one.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    what: String,
    kind: io::ErrorKind,
    message: String,
}

impl Failure {
    /// `frames` were written before it.
    pub(crate) fn new(what: String, error: &io::Error, frames: u64) -> Self {
        let remedy = match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "; free space and start again",
            io::ErrorKind::BrokenPipe => "; its reader has gone: start both again",
            io::ErrorKind::FileTooLarge => "; raise the limit (ulimit -f) or split the capture",
            _ => "",
        };
        Self { what, kind: error.kind(), message: format!("{error} ({frames} frames written){remedy}") }
    }

    fn error(&self) -> SinkError {
        SinkError::Io { what: self.what.clone(), source: io::Error::new(self.kind, self.message.clone()) }
    }
}
