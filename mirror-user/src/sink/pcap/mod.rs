//! Capture files: pcapng and classic pcap, to a file or a stream.
//!
//! Each worker writes frames, in the format of the file, into blocks that are allocated at the start. One
//! writer thread writes whole blocks and returns them. A worker without an empty block drops the frame and
//! counts `no_block`; over a NIC it never waits. So an output that stalls costs frames of this sink and
//! nothing else.
//!
//! Order: frames of one queue keep their order. Frames of different queues are in the order in which their
//! blocks were sent to the writer. A block is sent when it is full, or by the worker's tick: within 1 s of
//! its first frame, or within 100 ms if [unbuffered](PcapBuilder::unbuffered). As long as the writer keeps
//! up, timestamps go back by no more than that from one packet to the next. `reordercap` sorts a file.
//!
//! A file is written under a hidden name, `.NAME.partial`, in the directory of its final name, and is renamed
//! when it is complete. At any time it is readable up to the last block written.
//!
//! A capture is one file, or [rotates](PcapBuilder::rotate_size) through many, each of which is complete.
//! They are named as by tcpdump: from the second file on a number follows the name. The suffix `.gz` or
//! `.zst` selects compression and follows the number.
//!
//! Where one thread cannot keep up, [`PcapParts`] writes a capture in parts, each with its own thread.

mod builder;
mod compress;
mod deleted;
mod direct;
mod files;
mod format;
mod headers;
mod held;
mod idb_table;
mod losses;
mod min_free;
mod names;
mod origins;
mod part;
mod parts;
mod rotation;
mod rotator;
mod split;
#[cfg(feature = "af-xdp")]
mod stream;
mod worker;
mod writer;

#[cfg(all(test, unix))]
mod tests;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

pub use builder::{PcapBuilder, PcapError, Target};
pub use format::Format;
pub use min_free::{FreeSpace, WhenFull};
pub use names::part_path;
pub use parts::PcapParts;
pub use rotator::{CaptureState, Completed, Rotator};
#[cfg(feature = "af-xdp")]
pub(crate) use stream::{Announced, Stream};

use super::{
    Sink, SinkError, SinkFactory, WorkerContext,
    handoff::{self, Handoff},
};
use crate::account::{Report, SinkHalt};
use idb_table::BlockNumbers;
use losses::{Dropped, Losses};
use worker::{PcapSink, Settings};

const NAME: &str = "pcap";

/// The factory of sinks that write a capture file or a stream. See the [module](self).
///
/// ```no_run
/// use mirror_user::sink::pcap::{Pcap, Target};
///
/// let pcap = Pcap::builder(Target::file("out.pcapng")).snaplen(128).build()?;
/// # Ok::<(), mirror_user::sink::pcap::PcapError>(())
/// ```
#[derive(Debug)]
pub struct Pcap {
    settings: Settings,
    losses: Losses,
    handoff: Handoff,
    hidden: Option<PathBuf>,
    rotator: Option<Rotator>,
}

impl Pcap {
    /// Default number of blocks per worker.
    pub const DEFAULT_BLOCKS: usize = handoff::DEFAULT_BLOCKS;
    /// Default size of a block, in bytes.
    pub const DEFAULT_BLOCK_SIZE: usize = handoff::DEFAULT_BLOCK_SIZE;
    /// Default limit of named interfaces in a file.
    pub const DEFAULT_MAX_INTERFACES: usize = 4096;

    /// Starts setting up a capture to this target.
    pub fn builder(target: Target) -> PcapBuilder {
        PcapBuilder::new(target)
    }

    /// Memory of each worker's sink, in bytes: its blocks and tables, allocated at the start.
    ///
    /// `max_frame` is [`WorkerContext::max_frame`]: a block holds at least two of the largest frames.
    #[must_use]
    pub fn memory_per_worker(&self, max_frame: usize) -> usize {
        let blocks = self.handoff.config().memory_per_worker(self.record_len(max_frame));
        blocks + BlockNumbers::memory() + Dropped::memory()
    }

    /// The target of the capture, as the user named it.
    #[must_use]
    pub fn target(&self) -> &str {
        &self.handoff.config().output
    }

    /// The hidden name of the first file until it is complete; `None` for a stream and with a file per
    /// origin.
    #[must_use]
    pub fn hidden_path(&self) -> Option<&Path> {
        self.hidden.as_deref()
    }

    /// A handle that rotates its files; `None` for a stream.
    #[must_use]
    pub fn rotator(&self) -> Option<Rotator> {
        self.rotator.clone()
    }

    /// Bytes that a frame of this many bytes takes in a block.
    fn record_len(&self, frame: usize) -> usize {
        self.settings.format.packet_len(frame.min(self.settings.snaplen as usize))
    }
}

impl SinkFactory for Pcap {
    fn name(&self) -> &str {
        NAME
    }

    fn prepare(&self, workers: usize, cx: &WorkerContext) -> Result<(), SinkError> {
        self.handoff.prepare(workers, self.record_len(cx.max_frame));
        Ok(())
    }

    fn build(&self, cx: &WorkerContext) -> Result<Box<dyn Sink>, SinkError> {
        Ok(Box::new(PcapSink::new(
            self.settings,
            self.handoff.block_writer(self.record_len(cx.max_frame), cx.wait_until.clone()),
            Dropped::new(self.losses.clone()),
        )))
    }

    fn needs_time(&self) -> bool {
        true
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
