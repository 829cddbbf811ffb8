//! The printing thread: blocks of frames to text, text to its reader.

use std::{
    fmt::Write as _,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use super::{lines::Lines, worker};
use crate::sink::{
    SinkError,
    handoff::{Block, Consumer, Failure, Fate, LOSSES, Loss, Owner, Settled},
    pipe::{Pipe, Torn},
};

/// What may become of a frame here, other than that it is printed: its text could not be written.
pub(super) const LOSSES_HERE: &[Loss] = &[Loss::Failed("io")];

/// Text is written when there is as much, which is what a pipe holds.
const ENOUGH: usize = 64 * 1024;

/// The state of the printing thread.
pub(super) struct Printer {
    pipe: Pipe,
    lines: Lines,
    fate: Arc<Fate>,
    left_out_last: Arc<AtomicU64>,
    /// Frames printed.
    frames: u64,
    text: String,
    /// Where in the text each frame's part of it ends.
    ends: Vec<usize>,
}

impl Printer {
    pub(super) fn new(pipe: Pipe, lines: Lines, fate: Arc<Fate>, left_out_last: Arc<AtomicU64>) -> Self {
        Self { pipe, lines, fate, left_out_last, frames: 0, text: String::new(), ends: Vec::new() }
    }

    /// Writes the text so far; gives how many frames of it were written whole.
    fn write(&mut self, stop: impl Fn() -> bool) -> u64 {
        let taken = match self.pipe.write(self.text.as_bytes(), stop) {
            Ok(()) => self.text.len(),
            Err(Torn { taken, error }) => {
                let frames = self.frames + self.whole(taken);
                self.fate.fail(Failure::new(self.pipe.name().to_owned(), &error, frames));
                taken
            }
        };
        let written = self.whole(taken);
        self.frames += written;
        self.text.clear();
        self.ends.clear();
        written
    }

    /// Frames whose text lies in this many bytes.
    fn whole(&self, taken: usize) -> u64 {
        self.ends.partition_point(|&end| end <= taken) as u64
    }

    fn say_left_out(&mut self, frames: u64) {
        if frames > 0 {
            let s = if frames == 1 { "" } else { "s" };
            // Writing to a String cannot fail.
            let _ = writeln!(self.text, "[{frames} packet{s} left out here: the reader is too slow]");
        }
    }
}

impl Consumer for Printer {
    fn take(&mut self, block: &mut Block, owner: &Owner) -> Settled {
        let mut written = 0;
        for (left_out, frame) in worker::frames(block.bytes()) {
            if owner.has_given_up() || self.fate.has_failed() {
                break;
            }
            self.say_left_out(left_out);
            self.lines.line(&frame, &mut self.text);
            self.ends.push(self.text.len());
            if self.text.len() >= ENOUGH {
                written += self.write(|| owner.has_given_up());
            }
        }
        if !owner.has_given_up() && !self.fate.has_failed() {
            written += self.write(|| owner.has_given_up());
        }
        self.text.clear();
        self.ends.clear();
        let mut lost = [0; LOSSES];
        lost[0] = block.frames() - written;
        Settled { written, lost }
    }

    fn complete(mut self, _: u64) -> Result<(), SinkError> {
        if !self.fate.has_failed() {
            self.say_left_out(self.left_out_last.load(Ordering::Relaxed));
            self.write(|| false);
        }
        self.fate.failure().map_or(Ok(()), Err)
    }

    fn abandon(self) -> Result<(), SinkError> {
        Ok(())
    }
}
