//! The state of an output: writing, waiting, failed, or without its thread.

use std::{
    io,
    sync::{
        Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use crate::sink::SinkError;

/// Shared by workers, factory and thread.
#[derive(Debug, Default)]
pub(crate) struct OutputState {
    /// Set once, by the thread; frames after it fail.
    failure: OnceLock<Failure>,
    /// What the output waits for; the thread drops frames meanwhile.
    wait: Mutex<Option<String>>,
    /// The thread has ended.
    thread_ended: AtomicBool,
}

impl OutputState {
    pub(crate) fn failure(&self) -> Option<SinkError> {
        self.failure.get().map(Failure::error)
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.failure.get().is_some()
    }

    /// Records that nothing more can be written. Only the first failure is kept: later ones follow from it.
    pub(crate) fn fail(&self, failure: Failure) {
        let _ = self.failure.set(failure);
    }

    /// What the output waits for.
    pub(crate) fn waits_for(&self) -> Option<String> {
        self.wait.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sets what the output waits for; `None` at the end of the wait.
    pub(super) fn wait_for(&self, reason: Option<String>) {
        *self.wait.lock().unwrap_or_else(PoisonError::into_inner) = reason;
    }

    pub(crate) fn has_thread_ended(&self) -> bool {
        self.thread_ended.load(Ordering::Acquire)
    }

    pub(super) fn set_thread_ended(&self) {
        self.thread_ended.store(true, Ordering::Release);
    }
}

/// Why nothing more can be written. Every worker reports it, and `io::Error` is not `Clone`.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    what: String,
    kind: io::ErrorKind,
    message: String,
}

impl Failure {
    /// `frames` were written before the error.
    pub(crate) fn new(what: String, error: &io::Error, frames: u64) -> Self {
        let remedy = match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "; free space and start again",
            io::ErrorKind::BrokenPipe => "; the reader has closed it: restart both",
            io::ErrorKind::FileTooLarge => "; raise RLIMIT_FSIZE or split the capture",
            _ => "",
        };
        Self { what, kind: error.kind(), message: format!("{error} ({frames} frames written){remedy}") }
    }

    fn error(&self) -> SinkError {
        SinkError::Io { what: self.what.clone(), source: io::Error::new(self.kind, self.message.clone()) }
    }
}
