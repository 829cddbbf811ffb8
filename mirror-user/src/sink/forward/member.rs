//! One member of a group: the thread that sends.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    group::Group,
    output::{Output, Refusal},
};
use crate::sink::{
    SinkError,
    handoff::{Block, Consumer, Owner, Settled, TICK},
};

/// How long a target may take nothing at the end.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
/// How long it may take what is still held for it then: less, so that it is told what it was that took too long.
const FINISH: Duration = Duration::from_secs(4);

pub(super) struct Member {
    name: String,
    output: Box<dyn Output>,
    group: Arc<Group>,
    position: usize,
    up: bool,
    looked: Instant,
}

impl Member {
    pub(super) fn new(name: String, output: Box<dyn Output>, group: Arc<Group>, position: usize) -> Self {
        Self { name, output, group, position, up: true, looked: Instant::now() }
    }

    /// Asks whether the output could send, and tells the group and the log when that has changed.
    fn look(&mut self) {
        self.looked = Instant::now();
        match (self.output.look(), self.up) {
            (Ok(()), false) => {
                tracing::warn!("{}: is back", self.name);
                self.turn(true);
            }
            (Err(reason), true) => {
                tracing::warn!(
                    "{}: {reason}; frames for it are dropped until then, or go to others",
                    self.name
                );
                self.turn(false);
            }
            _ => {}
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

    fn take(&mut self, block: &mut Block, owner: &Owner) -> Settled {
        let mut settled = Settled::default();
        if owner.has_given_up() {
            settled.refuse(Refusal::Io, block.frames());
            return settled;
        }
        if self.looked.elapsed() >= TICK {
            self.look();
        }
        if !self.up {
            settled.refuse(Refusal::Down, block.frames());
            return settled;
        }
        self.output.send(block.bytes(), &mut settled);
        if settled.lost[Refusal::Down as usize] > 0 {
            self.look();
        }
        settled
    }

    fn idle(&mut self) {
        self.look();
    }

    fn complete(mut self, _: u64) -> Result<(), SinkError> {
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
