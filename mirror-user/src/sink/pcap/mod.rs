//! Capture files: pcapng and classic pcap, to a file or a stream.
//!
//! Each worker copies frames, in the form in which they end up in the file, into blocks allocated at the start. One writer
//! thread writes whole blocks and sends them back. A worker that has no empty block drops and counts `no_block`; it
//! never waits. So what an output that stalls costs is frames of this sink, and nothing else.
//!
//! Order: frames of one queue are in the order in which they came. Frames of different queues are in the file in the
//! order in which their blocks were handed over. A block is handed over when it is full or, by the worker's tick, within
//! 1 s of its first frame, within 100 ms where [unbuffered](PcapBuilder::unbuffered): as long as the writer keeps up, that
//! is by how much times may go back from one packet to the next. `reordercap` sorts where a reader minds.
//!
//! A file is written under a hidden name, `.NAME.partial`, beside its final one and gets that when it is complete. At
//! any time it can be read up to the last block written.

mod block;
mod builder;
mod format;
mod interfaces;
mod worker;
mod writer;

#[cfg(all(test, unix))]
mod tests;

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use crossbeam_channel::{Receiver, RecvTimeoutError, SendTimeoutError, Sender};

pub use builder::{PcapBuilder, PcapError, Target};
pub use format::Format;

use super::{Sink, SinkError, SinkFactory, WorkerContext, origin::OriginKey};
use crate::account::Report;
use interfaces::Interfaces;
use worker::{PcapSink, Settings};
use writer::{Message, Shared};

const NAME: &str = "pcap";

/// How long the end of a run that did not start waits for the writer thread.
const ABANDON: Duration = Duration::from_secs(1);

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
    blocks: usize,
    block_size: usize,
    interfaces: Interfaces,
    shared: Arc<Shared>,
    messages: Sender<Message>,
    done: Receiver<Result<(), SinkError>>,
    closed: AtomicBool,
    name: String,
    hidden: Option<PathBuf>,
}

impl Pcap {
    /// Blocks a worker has, unless told otherwise.
    pub const DEFAULT_BLOCKS: usize = 64;
    /// Bytes in a block, unless told otherwise.
    pub const DEFAULT_BLOCK_SIZE: usize = 256 * 1024;
    /// Named interfaces in a file, unless told otherwise.
    pub const DEFAULT_MAX_INTERFACES: usize = 4096;

    /// Starts setting up a capture to this target.
    pub fn builder(target: Target) -> PcapBuilder {
        PcapBuilder::new(target)
    }

    /// Memory that each worker's sink takes, in bytes: its blocks and its tables. All of it is allocated at the start.
    ///
    /// `max_frame` is [`WorkerContext::max_frame`]: a block holds at least two of the largest frames.
    #[must_use]
    pub fn memory_per_worker(&self, max_frame: usize) -> usize {
        let numbers = self.interfaces.numbers();
        // The map keeps one entry in eight free, in a power of two of places, and a byte of state for each.
        let places = (numbers * 8 / 7 + 1).next_power_of_two();
        let tables = places * (size_of::<(OriginKey, u32)>() + 1) + 2 * numbers * size_of::<u64>();
        self.blocks * (self.size_for(max_frame) + size_of::<block::Block>()) + tables
    }

    /// Where the capture goes, as the user named it.
    #[must_use]
    pub fn target(&self) -> &str {
        &self.name
    }

    /// The name under which a file is written until it is complete; `None` for a stream.
    #[must_use]
    pub fn hidden_path(&self) -> Option<&Path> {
        self.hidden.as_deref()
    }

    /// Bytes in a block that is to take frames of this size.
    fn size_for(&self, max_frame: usize) -> usize {
        let captured = max_frame.min(self.settings.snaplen as usize);
        self.block_size.max(2 * self.settings.format.packet_len(captured))
    }

    fn is_file(&self) -> bool {
        self.hidden.is_some()
    }
}

impl SinkFactory for Pcap {
    fn name(&self) -> &str {
        NAME
    }

    fn build(&self, cx: &WorkerContext) -> Result<Box<dyn Sink>, SinkError> {
        Ok(Box::new(PcapSink::new(
            Settings { wait_until: cx.wait_until.clone(), ..self.settings.clone() },
            self.interfaces.clone(),
            (self.blocks, self.size_for(cx.max_frame)),
            self.messages.clone(),
            Arc::clone(&self.shared),
        )))
    }

    fn needs_time(&self) -> bool {
        true
    }

    fn close(&self, report: &mut Report) -> Result<(), SinkError> {
        if self.closed.swap(true, Ordering::Relaxed) {
            return Err(SinkError::other("pcap: closed twice"));
        }
        let queues = report.interfaces.iter().flat_map(|interface| &interface.queues);
        let lost = queues.map(|queue| queue.rx_dropped + queue.rx_ring_full).sum::<u64>()
            + report.interfaces.iter().filter_map(|interface| interface.xdp.redirect_failed).sum::<u64>();
        let stuck = || {
            self.shared.failure().unwrap_or_else(|| {
                let seconds = self.settings.stop_timeout.as_secs_f64();
                SinkError::other(format!(
                    "{}: took nothing for {seconds} s, so the capture has no end; see whether its reader still reads",
                    self.name
                ))
            })
        };
        let close = Message::Close { lost_in_kernel: lost };
        if let Err(SendTimeoutError::Timeout(_)) =
            self.messages.send_timeout(close, self.settings.stop_timeout)
        {
            return Err(stuck());
        }
        // To sync a long file may take its time.
        let done = if self.is_file() {
            self.done.recv().map_err(|_| RecvTimeoutError::Disconnected)
        } else {
            self.done.recv_timeout(self.settings.stop_timeout)
        };
        match done {
            Ok(result) => result,
            Err(RecvTimeoutError::Timeout) => Err(stuck()),
            Err(RecvTimeoutError::Disconnected) => {
                let kept = self.hidden.as_deref().unwrap_or(Path::new(&self.name)).display();
                Err(SinkError::other(format!("the writer thread panicked; what it wrote is in {kept}")))
            }
        }
    }
}

/// Without a run, nothing is left behind.
impl Drop for Pcap {
    fn drop(&mut self) {
        if self.closed.load(Ordering::Relaxed) {
            return;
        }
        if self.messages.try_send(Message::Abandon).is_ok()
            && let Ok(Err(error)) = self.done.recv_timeout(ABANDON)
        {
            tracing::warn!(%error, "cannot take the unfinished capture away");
        }
    }
}
