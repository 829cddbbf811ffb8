//! The way of frames from workers to a thread that may take its time: a file's writer, a forwarder, a
//! printer.
//!
//! Each worker copies what the thread needs into blocks allocated at the start, in a [`BlockWriter`] of its own.
//! Whole blocks go to the thread and come back empty. A worker that has no empty block drops and counts
//! `no_block`; it never waits, but over a capture file, which can. So what an output that stalls costs is
//! frames of its own sink, and nothing else.

mod block;
mod block_writer;
mod options;
mod output_state;
pub(crate) mod record;
mod thread;
mod waiting;

pub(crate) use block::{Block, BlockReturn, Outcome};
pub(crate) use block_writer::BlockWriter;
pub(crate) use options::{HandoffOptions, ThreadHook};
pub(crate) use output_state::{Failure, OutputState};
#[cfg(test)]
pub(crate) use thread::run;
pub(crate) use thread::{Consumer, Handoff};
pub(crate) use waiting::{NO_SPACE, Waiting, is_want, is_want_of_space};

use std::{sync::Arc, time::Duration};

use super::origin::OriginKey;

/// Blocks a worker has, unless told otherwise.
pub(crate) const DEFAULT_BLOCKS: usize = 64;
/// Bytes in a block, unless told otherwise.
pub(crate) const DEFAULT_BLOCK_SIZE: usize = 256 * 1024;
/// Ticks come at least this often.
pub(crate) const TICK: Duration = Duration::from_millis(100);

/// What workers and factory need to know of an output.
#[derive(Clone, Debug)]
pub(crate) struct HandoffConfig {
    /// Name of the sink.
    pub(crate) sink: &'static str,
    /// The output, as the user named it.
    pub(crate) output: String,
    /// Where what was written is found if the output is never completed.
    pub(crate) unfinished: String,
    /// Blocks each worker has.
    pub(crate) blocks: usize,
    /// Bytes in a block, unless two of the largest records need more.
    pub(crate) block_size: usize,
    /// The most origins in a block; 0 for sinks that do not number them.
    pub(crate) origins: usize,
    /// Age at which a tick hands over a block that is not full.
    pub(crate) age: Duration,
    /// How long the end of a run waits for an output that takes nothing.
    pub(crate) stop_timeout: Duration,
    /// Whether completing the output may take as long as it wants, once all frames are through.
    pub(crate) completes_slowly: bool,
    /// What the thread may do to a frame instead of writing it, in the order of [`Outcome::lost`].
    pub(crate) losses: &'static [Loss],
}

impl HandoffConfig {
    /// Bytes in a block, of which the longest record takes this many.
    pub(crate) fn size_for(&self, longest_record: usize) -> usize {
        self.block_size.max(2 * longest_record)
    }

    /// Memory of a worker's blocks, in bytes.
    pub(crate) fn memory_per_worker(&self, longest_record: usize) -> usize {
        let block = self.size_for(longest_record) + size_of::<Block>();
        self.blocks * (block + self.origins * size_of::<OriginKey>())
    }
}

/// A reason for which the thread did not write a frame.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Loss {
    /// It let the frame go.
    Dropped(&'static str),
    /// The frame was lost to an error.
    Failed(&'static str),
}

/// The most reasons that [`HandoffConfig::losses`] may have.
pub(crate) const LOSSES: usize = 5;

/// What the thread is told.
#[derive(Debug)]
pub(crate) enum Message {
    /// Take this, and say to its block_return what became of it.
    Block { block: Block, block_return: Arc<BlockReturn> },
    /// There are no more blocks; complete the output.
    Close { lost_in_kernel: u64 },
    /// There was no run, or it came to no end.
    Abandon,
}
