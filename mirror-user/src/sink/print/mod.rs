//! Packets as text, in tcpdump's format, for people and for programs that read tcpdump's output.
//!
//! ```text
//! 12:34:56.789012 vni-12345@10.0.0.5 IP 10.1.0.10.40000 > 10.1.0.11.80: Flags [S], seq 1, win 64, length 0
//! ```
//!
//! A line begins with the receive time and the origin, named as in a capture. The rest is what tcpdump prints
//! of the inner packet with `-n`. `docs/print.md` lists the differences.
//!
//! [`Lines`] only formats frames. [`Print`] is the sink: workers copy frames into blocks, and one thread
//! formats and writes them within 100 ms. A worker without an empty block drops the frame and counts
//! `no_block`; it waits only over a capture file. The text has a line where frames are missing.

mod builder;
mod lines;
mod packet;
mod printer;
mod style;
mod time;
mod worker;

#[cfg(all(test, unix))]
mod tests;

pub use builder::{PrintBuilder, PrintError};
pub use lines::Lines;
pub use style::{Dump, Style, Time};

use std::{
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use super::{
    Sink, SinkError, SinkFactory, WorkerContext,
    handoff::{self, Handoff},
};
use crate::account::{Report, SinkHalt};
use worker::PrintSink;

const NAME: &str = "print";

/// The factory of sinks that print frames to standard output or a stream. See the [module](self).
///
/// ```no_run
/// use mirror_user::sink::print::{Print, Style};
///
/// let print = Print::builder(Style::default().verbosity(1)).build()?;
/// # Ok::<(), mirror_user::sink::print::PrintError>(())
/// ```
#[derive(Debug)]
pub struct Print {
    needs_time: bool,
    handoff: Handoff,
    /// Frames dropped at the end, after the last frame that was printed.
    dropped_last: Arc<AtomicU64>,
}

impl Print {
    /// Default number of blocks per worker.
    pub const DEFAULT_BLOCKS: usize = handoff::DEFAULT_BLOCKS;
    /// Default size of a block, in bytes.
    pub const DEFAULT_BLOCK_SIZE: usize = handoff::DEFAULT_BLOCK_SIZE;

    /// Starts setting up a printer in this style, to standard output by default.
    pub fn builder(style: Style) -> PrintBuilder {
        PrintBuilder::new(style)
    }

    /// Memory of each worker's sink, in bytes: its blocks, allocated at the start.
    ///
    /// `max_frame` is [`WorkerContext::max_frame`]: a block holds at least two of the largest frames.
    #[must_use]
    pub fn memory_per_worker(&self, max_frame: usize) -> usize {
        self.handoff.config().memory_per_worker(worker::record_len(max_frame))
    }

    /// The output, as the user named it.
    #[must_use]
    pub fn target(&self) -> &str {
        &self.handoff.config().output
    }
}

impl SinkFactory for Print {
    fn name(&self) -> &str {
        NAME
    }

    fn prepare(&self, workers: usize, cx: &WorkerContext) -> Result<(), SinkError> {
        self.handoff.prepare(workers, worker::record_len(cx.max_frame));
        Ok(())
    }

    fn build(&self, cx: &WorkerContext) -> Result<Box<dyn Sink>, SinkError> {
        let blocks = self.handoff.block_writer(worker::record_len(cx.max_frame), cx.wait_until.clone());
        Ok(Box::new(PrintSink::new(blocks, Arc::clone(&self.dropped_last))))
    }

    fn needs_time(&self) -> bool {
        self.needs_time
    }

    fn halted(&self) -> Option<SinkHalt> {
        self.handoff.halted()
    }

    fn lag(&self) -> Option<Duration> {
        self.handoff.lag()
    }

    fn close(&self, report: &Report) -> Result<(), SinkError> {
        self.handoff.close(report)
    }
}
