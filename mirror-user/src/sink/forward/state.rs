//! The state of a target, for reports.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use crate::account::{MemberReport, ReaderReport};

/// State of a target, written by its member's thread.
#[derive(Debug, Default)]
pub(super) struct State {
    /// Whether it has ever been up.
    pub(super) ready: AtomicBool,
    /// Readers of a stream that have connected, and those disconnected to make room for others.
    connected: AtomicU64,
    disconnected: AtomicU64,
    /// Why it was last down.
    pub(super) reason: Mutex<Option<String>>,
}

impl State {
    pub(super) fn connected(&self) {
        self.connected.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn disconnected(&self) {
        self.disconnected.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }

    /// Adds the state to the entry of a report.
    pub(super) fn report(&self, streams: bool, entry: &mut MemberReport) {
        entry.reason.clone_from(&self.reason.lock().unwrap_or_else(PoisonError::into_inner));
        entry.readers = streams.then(|| ReaderReport {
            came: self.connected.load(Ordering::Relaxed),
            disconnected: self.disconnected.load(Ordering::Relaxed),
        });
    }
}
