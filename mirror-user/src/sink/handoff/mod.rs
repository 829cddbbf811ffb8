//! Passes frames from workers to a thread that may be slow: a file's writer, a forwarder, a printer.
//!
//! Each worker has a [`BlockWriter`] and copies what the thread needs into blocks that are allocated at the
//! start. Whole blocks go to the thread and return empty. A worker without an empty block drops the frame and
//! counts `no_block`. It waits only over a capture file. So an output that stalls costs frames of its own
//! sink and nothing else.

mod block;
mod block_writer;
mod options;
mod output_state;
pub(crate) mod record;
#[cfg(test)]
mod tests;
mod thread;
mod waiting;

pub(crate) use block::{Block, BlockReturn, Outcome, Spare};
pub(crate) use block_writer::BlockWriter;
pub(crate) use options::{HandoffOptions, ThreadHook};
pub(crate) use output_state::{Failure, OutputState};
#[cfg(test)]
pub(crate) use thread::run;
pub(crate) use thread::{Consumer, Handoff};
pub(crate) use waiting::{NO_SPACE, Waiting, is_out_of_space, may_pass};

use std::{sync::Arc, time::Duration};

use super::origin::OriginKey;

/// Default number of blocks per worker.
pub(crate) const DEFAULT_BLOCKS: usize = 64;
/// Default size of a block, in bytes.
pub(crate) const DEFAULT_BLOCK_SIZE: usize = 256 * 1024;
/// The longest interval between ticks.
pub(crate) const TICK: Duration = Duration::from_millis(100);

/// Configuration of an output, for workers and factory.
#[derive(Clone, Debug)]
pub(crate) struct HandoffConfig {
    /// Name of the sink.
    pub(crate) sink: &'static str,
    /// The output, as the user named it.
    pub(crate) output: String,
    /// Where the data is if the output is never completed.
    pub(crate) unfinished: String,
    /// Blocks each worker has.
    pub(crate) blocks: usize,
    /// Bytes in a block, unless two of the largest records need more.
    pub(crate) block_size: usize,
    /// The most origins in a block; 0 for sinks that do not number them.
    pub(crate) origins: usize,
    /// Age at which a tick sends a block that is not full.
    pub(crate) age: Duration,
    /// How long the end of a run waits for an output that makes no progress.
    pub(crate) stop_timeout: Duration,
    /// Whether there is no limit on the time to complete the output after the last frame.
    pub(crate) completes_slowly: bool,
    /// Reasons for which the thread does not write a frame, in the order of [`Outcome::lost`].
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
    /// The thread dropped the frame.
    Dropped(&'static str),
    /// The frame was lost to an error.
    Failed(&'static str),
}

/// The most reasons that [`HandoffConfig::losses`] may have.
pub(crate) const LOSSES: usize = 5;

/// A message to the thread.
#[derive(Debug)]
pub(crate) enum Message {
    /// Write the frames of a block, and return it with their outcome.
    Block { block: Block, block_return: Arc<BlockReturn> },
    /// There are no more blocks; complete the output.
    Close { lost_in_kernel: u64 },
    /// There was no run, or it was not stopped cleanly.
    Abandon,
}
