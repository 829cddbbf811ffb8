//! Changes that a worker makes between two batches.

use std::{
    collections::VecDeque,
    io,
    os::fd::OwnedFd,
    sync::{
        Arc, Mutex, PoisonError, TryLockError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use crossbeam_channel::Sender;

use crate::{engine::EngineError, select::Selection, sink::SinkFactory, xsk::SocketParts};

/// What a worker is to do.
pub(crate) enum Order {
    /// Build the sinks of these places. Nothing changes yet.
    Build { sinks: Vec<(usize, Arc<dyn SinkFactory>)>, built: Sender<Result<(), EngineError>> },
    /// From now on, have the sinks that were built last in their places, none in these, and these selections:
    /// of sinks, and of the worker.
    Change {
        remove: Vec<usize>,
        reselect: Vec<(usize, Arc<Selection>)>,
        selection: Option<Arc<Selection>>,
        changed: Sender<()>,
    },
    /// Drop what was built.
    Discard,
    /// Give descriptors by which another process can go on with the socket. Nothing changes yet.
    Lend { lent: Sender<io::Result<SocketParts>> },
    /// Take no more frames: another process takes them from then on.
    Yield(Yield),
}

/// How a worker makes way for that of another process.
pub(crate) struct Yield {
    /// The eventfd to write to once it has.
    pub(crate) to: OwnedFd,
    /// Since when (CLOCK_MONOTONIC, in ns) frames have passed to the host: the worker empties the ring and
    /// closes the socket, and the other one binds its own. `None`: that one goes on with the socket.
    pub(crate) passing_since: Option<u64>,
}

impl Yield {
    /// Whether the other one has a socket of its own.
    pub(super) fn closes(&self) -> bool {
        self.passing_since.is_some()
    }
}

/// The orders of one worker.
#[derive(Default)]
pub(crate) struct Orders {
    /// Whether there are some. A worker looks for orders between any two batches.
    waiting: AtomicBool,
    /// `None` once the worker has ended.
    queue: Mutex<Option<VecDeque<Order>>>,
    /// Sinks that the worker has removed and that have frames still.
    pub(crate) leaving: AtomicUsize,
}

impl Orders {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { queue: Mutex::new(Some(VecDeque::new())), ..Self::default() })
    }

    /// Gives an order. A worker that has ended drops it, and with it the sender of the answer.
    pub(crate) fn give(&self, order: Order) {
        if let Some(queue) = &mut *self.queue.lock().unwrap_or_else(PoisonError::into_inner) {
            queue.push_back(order);
            self.waiting.store(true, Ordering::Release);
        }
    }

    /// The next order. Never waits: who gives an order holds the lock only to append it.
    pub(super) fn take(&self) -> Option<Order> {
        if !self.waiting.load(Ordering::Acquire) {
            return None;
        }
        let mut queue = match self.queue.try_lock() {
            Ok(queue) => queue,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        let queue = queue.as_mut()?;
        let order = queue.pop_front();
        self.waiting.store(!queue.is_empty(), Ordering::Release);
        order
    }

    /// Takes no more orders, and drops those that were not carried out.
    pub(super) fn close(&self) {
        *self.queue.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.leaving.store(0, Ordering::Release);
    }
}
