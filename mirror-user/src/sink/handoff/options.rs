//! Settings of a hand-off, shared by the builders of sinks.

use std::time::Duration;

use super::{DEFAULT_BLOCK_SIZE, DEFAULT_BLOCKS, HandoffConfig, Loss};

/// The hook that runs on the thread of a sink that has one.
pub(crate) type ThreadHook = Box<dyn FnOnce() + Send>;

/// Settings of a hand-off, with `H` as the hook for the start of its thread.
pub(crate) struct HandoffOptions<H = ThreadHook> {
    blocks: usize,
    block_size: usize,
    stop_timeout: Option<Duration>,
    pub(crate) on_thread_start: Option<H>,
}

impl<H> Default for HandoffOptions<H> {
    fn default() -> Self {
        let (blocks, block_size) = (DEFAULT_BLOCKS, DEFAULT_BLOCK_SIZE);
        Self { blocks, block_size, stop_timeout: None, on_thread_start: None }
    }
}

impl<H> HandoffOptions<H> {
    /// Blocks of a worker, at least 2: one to fill while the thread has the other.
    pub(crate) fn set_blocks(&mut self, blocks: usize) {
        self.blocks = blocks.max(2);
    }

    /// As many blocks as have this many bytes.
    pub(crate) fn set_memory(&mut self, bytes: u64) {
        self.set_blocks(usize::try_from(bytes / self.block_size as u64).unwrap_or(usize::MAX));
    }

    pub(crate) fn set_block_size(&mut self, bytes: usize) {
        self.block_size = bytes;
    }

    /// Bytes in the blocks of a worker.
    pub(crate) fn memory(&self) -> u64 {
        (self.blocks * self.block_size) as u64
    }

    pub(crate) fn set_stop_timeout(&mut self, timeout: Duration) {
        self.stop_timeout = Some(timeout);
    }

    /// The configuration of an output with these options: blocks are handed over at every tick and number no
    /// origins; what is unfinished is in the output itself.
    pub(crate) fn config(
        &self,
        sink: &'static str,
        output: String,
        default_stop_timeout: Duration,
        losses: &'static [Loss],
    ) -> HandoffConfig {
        HandoffConfig {
            sink,
            unfinished: output.clone(),
            output,
            blocks: self.blocks,
            block_size: self.block_size,
            origins: 0,
            age: Duration::ZERO,
            stop_timeout: self.stop_timeout.unwrap_or(default_stop_timeout),
            completes_slowly: false,
            losses,
        }
    }
}
