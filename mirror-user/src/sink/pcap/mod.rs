//! Capture files: pcapng and classic pcap, to a file or a stream.
//!
//! Each worker copies frames, in the form in which they end up in the file, into blocks allocated at the
//! start. One writer thread writes whole blocks and sends them back. A worker that has no empty block drops
//! and counts `no_block`; it never waits. So what an output that stalls costs is frames of this sink, and
//! nothing else.
//!
//! Order: frames of one queue are in the order in which they came. Frames of different queues are in the file
//! in the order in which their blocks were handed over. A block is handed over when it is full or, by the
//! worker's tick, within 1 s of its first frame, within 100 ms where [unbuffered](PcapBuilder::unbuffered):
//! as long as the writer keeps up, that is by how much times may go back from one packet to the next.
//! `reordercap` sorts where a reader minds.
//!
//! A file is written under a hidden name, `.NAME.partial`, beside its final one and gets that when it is
//! complete. At any time it can be read up to the last block written.
//!
//! A capture is one file, or [rotates](PcapBuilder::rotate_size) through many, each of which opens by itself.
//! They are named as tcpdump names them: a number follows the name from the second on, in front of an ending
//! `.gz` or `.zst`, by which they are compressed.

mod builder;
mod compress;
mod files;
mod format;
mod headers;
mod idb_table;
mod losses;
mod min_free;
mod names;
mod origins;
mod part;
mod rotation;
mod rotator;
mod split;
#[cfg(feature = "af-xdp")]
mod stream;
mod worker;
mod writer;

#[cfg(all(test, unix))]
mod tests;

use std::path::{Path, PathBuf};

pub use builder::{PcapBuilder, PcapError, Target};
pub use format::Format;
pub use min_free::WhenFull;
pub use rotator::{Completed, Rotator};
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

/// Writes frames to a capture file or a stream: the factory. See the [module](self).
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
    /// Blocks a worker has, unless told otherwise.
    pub const DEFAULT_BLOCKS: usize = handoff::DEFAULT_BLOCKS;
    /// Bytes in a block, unless told otherwise.
    pub const DEFAULT_BLOCK_SIZE: usize = handoff::DEFAULT_BLOCK_SIZE;
    /// Named interfaces in a file, unless told otherwise.
    pub const DEFAULT_MAX_INTERFACES: usize = 4096;

    /// Starts setting up a capture to this target.
    pub fn builder(target: Target) -> PcapBuilder {
        PcapBuilder::new(target)
    }

    /// Memory that each worker's sink takes, in bytes: its blocks and its tables. All of it is allocated at
    /// the start.
    ///
    /// `max_frame` is [`WorkerContext::max_frame`]: a block holds at least two of the largest frames.
    #[must_use]
    pub fn memory_per_worker(&self, max_frame: usize) -> usize {
        let blocks = self.handoff.config().memory_per_worker(self.record_len(max_frame));
        blocks + BlockNumbers::memory() + Dropped::memory()
    }

    /// Where the capture goes, as the user named it.
    #[must_use]
    pub fn target(&self) -> &str {
        &self.handoff.config().output
    }

    /// The name under which the first file is written until it is complete; `None` for a stream, and where
    /// each origin has a file of its own.
    #[must_use]
    pub fn hidden_path(&self) -> Option<&Path> {
        self.hidden.as_deref()
    }

    /// What has its files rotated from outside; `None` for a stream.
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

    fn close(&self, report: &Report) -> Result<(), SinkError> {
        self.handoff.close(report)
    }
}
