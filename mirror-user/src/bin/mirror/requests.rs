//! Requests to change a run, by signal or over the control socket; the main thread handles them.

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

/// Requests that wait: one change serves them all.
const WAITING: usize = 32;

/// A request for a change whose outcome is a `T`, or why it was refused; `W` says how it is wanted.
pub(crate) struct Request<T, W = ()> {
    pub(crate) wanted: W,
    answer: Option<Sender<Result<T, String>>>,
}

/// Takes requests.
#[derive(Debug)]
pub(crate) struct Requests<T, W = ()>(Sender<Request<T, W>>);

impl<T: Clone, W> Requests<T, W> {
    /// With the receiver of the requests.
    pub(crate) fn new() -> (Self, Receiver<Request<T, W>>) {
        let (sender, receiver) = bounded(WAITING);
        (Self(sender), receiver)
    }

    /// Requests the change. Never waits: if too many requests do, one of those is as good.
    pub(crate) fn request(&self, wanted: W) {
        // Without a receiver, the run stops.
        let _ = self.0.try_send(Request { wanted, answer: None });
    }

    /// The same; the outcome is received. `None` if too many requests wait, or the run stops.
    pub(crate) fn ask(&self, wanted: W) -> Option<Receiver<Result<T, String>>> {
        let (answer, receiver) = bounded(1);
        match self.0.try_send(Request { wanted, answer: Some(answer) }) {
            Ok(()) => Some(receiver),
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => None,
        }
    }
}

impl<T: Clone, W> Request<T, W> {
    /// Answers who asked.
    pub(crate) fn answer(self, outcome: &Result<T, String>) {
        if let Some(asked) = self.answer {
            // Who has given up waiting has no receiver.
            let _ = asked.try_send(outcome.clone());
        }
    }
}
