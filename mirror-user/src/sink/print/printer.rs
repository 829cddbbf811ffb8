//! The printing thread: formats blocks of frames and writes the text.

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
    handoff::{
        Block, BlockReturn, Consumer, Failure, LOSSES, Loss, NO_SPACE, Outcome, OutputState, Waiting,
        may_pass,
    },
    pipe::{PartialWrite, Pipe},
};

/// Why a frame is not printed: an error, or a wait.
pub(super) const LOSSES_HERE: &[Loss] = &[Loss::Failed("io"), Loss::Dropped(NO_SPACE)];
const IO: usize = 0;
const WAITED: usize = 1;

/// Text is written when it reaches this size, the capacity of a pipe.
const WRITE_SIZE: usize = 64 * 1024;

/// The state of the printing thread.
pub(super) struct Printer {
    pipe: Pipe,
    lines: Lines,
    state: Arc<OutputState>,
    waiting: Waiting,
    dropped_last: Arc<AtomicU64>,
    /// Frames printed.
    frames: u64,
    text: String,
    /// Offset in the text of the end of each frame.
    ends: Vec<usize>,
}

impl Printer {
    pub(super) fn new(
        pipe: Pipe,
        lines: Lines,
        state: Arc<OutputState>,
        dropped_last: Arc<AtomicU64>,
    ) -> Self {
        let waiting = Waiting::new(Arc::clone(&state));
        Self { pipe, lines, state, waiting, dropped_last, frames: 0, text: String::new(), ends: Vec::new() }
    }

    /// Writes the text; returns how many frames of it were written whole.
    fn write(&mut self, stop: impl Fn() -> bool) -> u64 {
        let taken = match self.pipe.write(self.text.as_bytes(), stop) {
            Ok(()) => {
                self.waiting.end(self.pipe.name());
                self.text.len()
            }
            Err(PartialWrite { taken, is_unclear, error }) => {
                let frames = self.whole(taken);
                let surplus = taken - self.ends[..frames].last().copied().unwrap_or(0);
                // A pipe cannot be truncated, and later text would follow the incomplete line.
                let waits = may_pass(&error) && !is_unclear && self.pipe.cut(surplus).is_ok();
                if waits {
                    self.waiting.wait_after(self.pipe.name(), &error);
                } else {
                    let frames = self.frames + frames as u64;
                    self.state.fail(Failure::new(self.pipe.name().to_owned(), &error, frames));
                }
                taken
            }
        };
        let written = self.whole(taken) as u64;
        self.frames += written;
        self.text.clear();
        self.ends.clear();
        written
    }

    /// Frames whose text is within this many bytes.
    fn whole(&self, taken: usize) -> usize {
        self.ends.partition_point(|&end| end <= taken)
    }

    fn put_dropped(&mut self, frames: u64) {
        if frames > 0 {
            let s = if frames == 1 { "" } else { "s" };
            // Writing to a String cannot fail.
            let _ = writeln!(self.text, "[{frames} packet{s} dropped by print: reader too slow]");
        }
    }

    /// Prints the frames of a block.
    fn print(&mut self, block: &Block, block_return: &BlockReturn) -> Outcome {
        let mut written = 0;
        for (dropped, frame) in worker::frames(block.bytes()) {
            if block_return.is_discarded() || self.waiting.is_paused() {
                break;
            }
            self.put_dropped(dropped);
            self.lines.line(&frame, &mut self.text);
            self.ends.push(self.text.len());
            if self.text.len() >= WRITE_SIZE {
                written += self.write(|| block_return.is_discarded());
            }
        }
        if !self.text.is_empty() && !block_return.is_discarded() && !self.waiting.is_paused() {
            written += self.write(|| block_return.is_discarded());
        }
        self.text.clear();
        self.ends.clear();
        let mut lost = [0; LOSSES];
        let rest = block.frames() - written;
        lost[if self.waiting.charge(rest) { WAITED } else { IO }] = rest;
        Outcome { written, lost }
    }
}

impl Consumer for Printer {
    fn take(&mut self, block: Block, block_return: Arc<BlockReturn>) {
        let outcome = self.print(&block, &block_return);
        block_return.give_back(block, outcome);
    }

    fn idle(&mut self) {
        self.waiting.log_left_out();
    }

    fn complete(mut self, _: u64) -> Result<(), SinkError> {
        if !self.state.has_failed() && !self.waiting.is_on() {
            self.put_dropped(self.dropped_last.load(Ordering::Relaxed));
            self.write(|| false);
        }
        self.state.failure().map_or(Ok(()), Err)
    }

    fn abandon(self) -> Result<(), SinkError> {
        Ok(())
    }
}
