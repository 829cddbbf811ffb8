//! One member of a group: the thread that sends.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use super::{
    group::Group,
    output::{Refusal, Transmit},
};
use crate::{
    account::{MemberReport, ReaderReport},
    log_limit::LogLimit,
    sink::{
        SinkError,
        handoff::{Block, BlockReturn, Consumer, Outcome, TICK},
    },
};

/// How long a target may take nothing at the end.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
/// How long it may take what is still held for it then: less, so that it is told what it was that took too
/// long.
const FINISH: Duration = Duration::from_secs(4);

/// What a member's thread tells of its target.
#[derive(Debug, Default)]
pub(super) struct State {
    /// Whether it could ever send.
    ready: AtomicBool,
    /// Readers of a stream that have come, and those that made room for others.
    came: AtomicU64,
    disconnected: AtomicU64,
    /// Why it could not send when last it could not.
    reason: Mutex<Option<String>>,
}

impl State {
    pub(super) fn came(&self) {
        self.came.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn disconnected(&self) {
        self.disconnected.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }

    /// Adds what is known to what was counted.
    pub(super) fn report(&self, streams: bool, entry: &mut MemberReport) {
        entry.reason.clone_from(&self.reason.lock().unwrap_or_else(PoisonError::into_inner));
        entry.readers = streams.then(|| ReaderReport {
            came: self.came.load(Ordering::Relaxed),
            disconnected: self.disconnected.load(Ordering::Relaxed),
        });
    }
}

pub(super) struct Member {
    name: String,
    output: Box<dyn Transmit>,
    group: Arc<Group>,
    position: usize,
    up: bool,
    looked: Instant,
    state: Arc<State>,
    /// Whether it is up can be up to others: readers, the far end, the network.
    log: LogLimit,
}

impl Member {
    pub(super) fn new(
        name: String,
        output: Box<dyn Transmit>,
        group: Arc<Group>,
        position: usize,
        state: Arc<State>,
    ) -> Self {
        let (looked, log) = (Instant::now(), LogLimit::default());
        Self { name, output, group, position, up: true, looked, state, log }
    }

    /// Asks whether the output could send, and tells the group and the log when that has changed.
    fn look(&mut self) {
        self.looked = Instant::now();
        let left_out = self.log.left_out(self.looked);
        self.log_left_out(left_out);
        match (self.output.look(), self.up) {
            (Ok(()), up) => {
                if !up {
                    if self.log.passes(self.looked) {
                        tracing::warn!("{}: is back", self.name);
                    }
                    self.turn(true);
                }
                self.state.ready.store(true, Ordering::Relaxed);
            }
            (Err(reason), up) => {
                if up {
                    if self.log.passes(self.looked) {
                        tracing::warn!(
                            "{}: {reason}; frames for it are dropped until then, or go to others",
                            self.name
                        );
                    }
                    self.turn(false);
                }
                *self.state.reason.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason);
            }
        }
    }

    fn log_left_out(&self, left_out: Option<u64>) {
        if let Some(lines) = left_out {
            tracing::warn!("{}: {lines} more lines about it were not logged", self.name);
        }
    }

    fn turn(&mut self, up: bool) {
        self.up = up;
        self.group.set(self.position, up);
    }
}

impl Consumer for Member {
    fn begin(&mut self) {
        self.look();
    }

    fn take(&mut self, block: &mut Block, block_return: &BlockReturn) -> Outcome {
        let mut outcome = Outcome::default();
        if block_return.has_given_up() {
            outcome.refuse(Refusal::Io, block.frames());
            return outcome;
        }
        if self.looked.elapsed() >= TICK {
            self.look();
        }
        if !self.up {
            outcome.refuse(Refusal::Down, block.frames());
            return outcome;
        }
        self.output.send(block.bytes(), &mut outcome);
        if outcome.lost[Refusal::Down as usize] > 0 {
            self.look();
        }
        outcome
    }

    fn idle(&mut self) {
        self.look();
    }

    fn complete(mut self, _: u64) -> Result<(), SinkError> {
        let left_out = self.log.rest();
        self.log_left_out(left_out);
        self.output.finish(FINISH).map_err(|source| SinkError::Io { what: self.name.clone(), source })
    }

    fn abandon(self) -> Result<(), SinkError> {
        Ok(())
    }
}

/// A thread that panicked sends nothing more.
impl Drop for Member {
    fn drop(&mut self) {
        self.group.set(self.position, false);
    }
}
