//! Requests to reload a run, by signal or over the control socket; the main thread handles them.

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use super::Reloaded;

/// Requests that wait: a reload serves them all.
const WAITING: usize = 32;

/// A request to reload.
pub(crate) struct ReloadRequest(Option<Sender<Result<Reloaded, String>>>);

/// Takes requests.
#[derive(Clone, Debug)]
pub(crate) struct ReloadRequests(Sender<ReloadRequest>);

impl ReloadRequests {
    /// With the receiver of the requests.
    pub(crate) fn new() -> (Self, Receiver<ReloadRequest>) {
        let (sender, receiver) = bounded(WAITING);
        (Self(sender), receiver)
    }

    /// Requests a reload. Never waits: if too many requests do, one of those is as good.
    pub(crate) fn request(&self) {
        // Without a receiver, the run stops.
        let _ = self.0.try_send(ReloadRequest(None));
    }

    /// The same; the outcome is received. `None` if too many requests wait, or the run stops.
    pub(crate) fn ask(&self) -> Option<Receiver<Result<Reloaded, String>>> {
        let (answer, receiver) = bounded(1);
        match self.0.try_send(ReloadRequest(Some(answer))) {
            Ok(()) => Some(receiver),
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => None,
        }
    }
}

impl ReloadRequest {
    /// Answers who asked.
    pub(crate) fn answer(self, outcome: &Result<Reloaded, String>) {
        if let Some(asked) = self.0 {
            // Who has given up waiting has no receiver.
            let _ = asked.try_send(outcome.clone());
        }
    }
}
