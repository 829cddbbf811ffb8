//! One member of a group: its sending thread.

use std::{
    sync::{Arc, PoisonError, atomic::Ordering},
    time::{Duration, Instant},
};

use super::{group::Group, not_sent::NotSent, output::Transmit, state::State};
use crate::{
    log_limit::LogLimit,
    sink::{
        SinkError,
        handoff::{Block, BlockReturn, Consumer, Outcome, TICK},
    },
};

/// Stop timeout of a target.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
/// Time to send what is still held at the end: less than the stop timeout, so that the error names the cause.
const FINISH: Duration = Duration::from_secs(4);

pub(super) struct Member {
    name: String,
    output: Box<dyn Transmit>,
    group: Arc<Group>,
    position: usize,
    up: bool,
    checked: Instant,
    state: Arc<State>,
    /// Others can cause many changes: readers, the remote end, the network.
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
        let (checked, log) = (Instant::now(), LogLimit::default());
        Self { name, output, group, position, up: true, checked, state, log }
    }

    /// Checks whether the output can send; updates the group and logs a change.
    fn check(&mut self) {
        self.checked = Instant::now();
        let left_out = self.log.left_out(self.checked);
        self.log_left_out(left_out);
        match (self.output.check(), self.up) {
            (Ok(()), up) => {
                if !up {
                    if self.log.passes(self.checked) {
                        tracing::warn!("{}: is back", self.name);
                    }
                    self.set_up(true);
                }
                self.state.ready.store(true, Ordering::Relaxed);
            }
            (Err(reason), up) => {
                if up {
                    if self.log.passes(self.checked) {
                        tracing::warn!(
                            "{}: {reason}; until then its frames are dropped, or go to other members",
                            self.name
                        );
                    }
                    self.set_up(false);
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

    fn set_up(&mut self, up: bool) {
        self.up = up;
        self.group.set(self.position, up);
    }

    /// Sends the frames of a block.
    fn send(&mut self, block: &Block, block_return: &BlockReturn) -> Outcome {
        let mut outcome = Outcome::default();
        if block_return.is_discarded() {
            outcome.not_sent(NotSent::Io, block.frames());
            return outcome;
        }
        if self.checked.elapsed() >= TICK {
            self.check();
        }
        if !self.up {
            outcome.not_sent(NotSent::Down, block.frames());
            return outcome;
        }
        self.output.send(block.bytes(), &mut outcome);
        let no_buffer = outcome.lost[NotSent::NoBuffer as usize];
        let is_stuck = no_buffer > 0 && outcome.written == 0;
        if outcome.lost[NotSent::Down as usize] > 0 || is_stuck {
            self.check();
        }
        // The driver of an interface that goes down drops frames as if it had no room.
        if is_stuck && !self.up {
            outcome.lost[NotSent::NoBuffer as usize] = 0;
            outcome.not_sent(NotSent::Down, no_buffer);
        }
        outcome
    }
}

impl Consumer for Member {
    fn begin(&mut self) {
        self.check();
    }

    fn take(&mut self, block: Block, block_return: Arc<BlockReturn>) {
        let outcome = self.send(&block, &block_return);
        block_return.give_back(block, outcome);
    }

    fn idle(&mut self) {
        self.check();
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

/// Also after a panic: the member is down.
impl Drop for Member {
    fn drop(&mut self) {
        self.group.set(self.position, false);
    }
}
