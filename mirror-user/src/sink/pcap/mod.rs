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
mod file;
mod format;
mod interfaces;
mod worker;
mod writer;

#[cfg(test)]
mod tests;

use std::{
    fmt, io,
    io::Write,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use crossbeam_channel::{Receiver, RecvTimeoutError, SendTimeoutError, Sender};

pub use format::Format;

use super::{Sink, SinkError, SinkFactory, WorkerContext, origin::OriginKey};
use crate::account::Report;
use file::HiddenFile;
use interfaces::Interfaces;
use worker::{PcapSink, Settings};
use writer::{Gone, Message, Output, Shared, Writer};

const NAME: &str = "pcap";

/// Messages on their way to the writer thread at most. A worker that finds it full keeps its block and drops frames.
const QUEUE: usize = 4096;
/// Ticks come at least this often.
const TICK: Duration = Duration::from_millis(100);
/// How long a buffered block may be open.
const BUFFERED: Duration = Duration::from_secs(1);
/// How long a stream may take nothing at the end of a run.
const STREAM_STOP: Duration = Duration::from_secs(5);
/// The same for a file: a disk catches up, or fails.
const FILE_STOP: Duration = Duration::from_secs(60);
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

/// Where a capture goes.
pub struct Target(TargetKind);

enum TargetKind {
    File(PathBuf),
    Stdout,
    Writer { name: String, out: Box<dyn Write + Send> },
}

impl Target {
    /// A file that does not exist yet. It is created with mode 0600, under a hidden name until it is complete.
    #[must_use]
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self(TargetKind::File(path.into()))
    }

    /// Standard output, usually a pipe.
    #[must_use]
    pub fn stdout() -> Self {
        Self(TargetKind::Stdout)
    }

    /// Anything that takes bytes; `name` stands for it in messages. It is flushed after each block.
    #[must_use]
    pub fn writer(name: impl Into<String>, out: impl Write + Send + 'static) -> Self {
        Self(TargetKind::Writer { name: name.into(), out: Box::new(out) })
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, name) = match &self.0 {
            TargetKind::File(path) => ("file", path.display().to_string()),
            TargetKind::Stdout => ("stream", STDOUT.to_owned()),
            TargetKind::Writer { name, .. } => ("stream", name.clone()),
        };
        f.debug_tuple("Target").field(&kind).field(&name).finish()
    }
}

const STDOUT: &str = "standard output";

/// Why a capture could not be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PcapError {
    /// The final name is taken, be it by a symbolic link.
    #[error("{}: already exists; remove it or choose another name", path.display())]
    Exists {
        /// The final path.
        path: PathBuf,
    },
    /// The path ends in no file name.
    #[error("{}: names no file; give the path of the file to write", path.display())]
    NoName {
        /// The path.
        path: PathBuf,
    },
    /// The directory could not be opened.
    #[error("{}: cannot open the directory to write in: {source}", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file could not be created.
    #[error("{}: cannot be created: {source}", path.display())]
    Create {
        /// The final path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Standard output could not be taken.
    #[error("standard output: cannot be written to: {source}")]
    Stdout {
        /// What the system said.
        source: io::Error,
    },
    /// The writer thread could not be started.
    #[error("cannot start the writer thread of the capture: {source}")]
    Thread {
        /// What the system said.
        source: io::Error,
    },
}

/// Sets up a [`Pcap`].
#[must_use]
pub struct PcapBuilder {
    target: Target,
    format: Format,
    outer: bool,
    snaplen: u32,
    unbuffered: Option<bool>,
    blocks: usize,
    block_size: usize,
    max_interfaces: usize,
    stop_timeout: Option<Duration>,
    on_thread_start: Option<Box<dyn FnOnce() + Send>>,
}

impl fmt::Debug for PcapBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PcapBuilder").field("target", &self.target).finish_non_exhaustive()
    }
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
        PcapBuilder {
            target,
            format: Format::default(),
            outer: false,
            snaplen: format::MAX_SNAPLEN,
            unbuffered: None,
            blocks: Self::DEFAULT_BLOCKS,
            block_size: Self::DEFAULT_BLOCK_SIZE,
            max_interfaces: Self::DEFAULT_MAX_INTERFACES,
            stop_timeout: None,
            on_thread_start: None,
        }
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

impl PcapBuilder {
    /// Layout of the file; pcapng unless told otherwise.
    pub fn format(mut self, format: Format) -> Self {
        self.format = format;
        self
    }

    /// Writes frames as they came, outer headers and padding included, instead of the inner frames.
    pub fn outer(mut self, outer: bool) -> Self {
        self.outer = outer;
        self
    }

    /// The most bytes of a frame to write; 0, as with tcpdump, and more than 262,144 stand for 262,144.
    pub fn snaplen(mut self, bytes: u32) -> Self {
        self.snaplen = if bytes == 0 { format::MAX_SNAPLEN } else { bytes.min(format::MAX_SNAPLEN) };
        self
    }

    /// Hands frames to the output at every tick, so within 100 ms, instead of within 1 s. Streams do so by themselves.
    pub fn unbuffered(mut self, unbuffered: bool) -> Self {
        self.unbuffered = Some(unbuffered);
        self
    }

    /// How many blocks each worker has, at least 2. See [`Pcap::memory_per_worker`].
    pub fn blocks(mut self, blocks: usize) -> Self {
        self.blocks = blocks.max(2);
        self
    }

    /// Bytes in a block; more where two of the largest frames need more.
    pub fn block_size(mut self, bytes: usize) -> Self {
        self.block_size = bytes;
        self
    }

    /// How many origins get an interface of their own in a pcapng file, between 1 and 65,536; frames of further ones
    /// belong to an interface named `other`.
    pub fn max_interfaces(mut self, interfaces: usize) -> Self {
        self.max_interfaces = interfaces.clamp(1, 65_536);
        self
    }

    /// How long the end of a run waits for an output that takes nothing. 60 s for a file, 5 s for a stream, unless told
    /// otherwise. Frames not written by then count as failed, reason `stuck`.
    pub fn stop_timeout(mut self, timeout: Duration) -> Self {
        self.stop_timeout = Some(timeout);
        self
    }

    /// Something to do on the writer thread before anything else, such as giving up capabilities, which belong to
    /// threads. The file is open by then. To rename it at the end, this thread needs leave to write in its directory.
    pub fn on_thread_start(mut self, hook: impl FnOnce() + Send + 'static) -> Self {
        self.on_thread_start = Some(Box::new(hook));
        self
    }

    /// Opens the output and starts the writer thread.
    ///
    /// # Errors
    ///
    /// [`PcapError`]: the name is taken, the directory or the file cannot be opened, no thread can be started.
    pub fn build(self) -> Result<Pcap, PcapError> {
        let (output, name, hidden) = match self.target.0 {
            TargetKind::File(path) => {
                let file = HiddenFile::create(&path)?;
                let hidden = file.hidden_path();
                (Output::File(file), path.display().to_string(), Some(hidden))
            }
            TargetKind::Stdout => {
                let out = Box::new(stdout().map_err(|source| PcapError::Stdout { source })?);
                (Output::Stream { name: STDOUT.to_owned(), out }, STDOUT.to_owned(), None)
            }
            TargetKind::Writer { name, out } => (Output::Stream { name: name.clone(), out }, name, None),
        };
        let is_file = hidden.is_some();
        let unbuffered = self.unbuffered.unwrap_or(!is_file);
        let settings = Settings {
            format: self.format,
            outer: self.outer,
            snaplen: self.snaplen,
            // A tick may come just before the age is reached.
            age: if unbuffered { Duration::ZERO } else { BUFFERED - TICK },
            stop_timeout: self.stop_timeout.unwrap_or(if is_file { FILE_STOP } else { STREAM_STOP }),
        };
        // Classic pcap knows no interfaces.
        let interfaces = Interfaces::new(if self.format == Format::Pcapng { self.max_interfaces } else { 0 });
        let shared = Arc::new(Shared::default());
        let (messages, inbox) = crossbeam_channel::bounded(QUEUE);
        let (report, done) = crossbeam_channel::bounded(1);
        let writer = Writer::new(output, self.format, self.snaplen, interfaces.clone(), Arc::clone(&shared));
        let gone = Gone(Arc::clone(&shared));
        let hook = self.on_thread_start;
        // Not joined: `done` says when it has ended, and a thread stuck in a pipe must not keep the process.
        thread::Builder::new()
            .name("mirror-pcap".to_owned())
            .spawn(move || {
                // Before the hook, which may panic.
                let _gone = gone;
                if let Some(hook) = hook {
                    hook();
                }
                // Nobody listens any more if the factory was dropped while the output was stuck.
                drop(report.send(writer.run(&inbox)));
            })
            .map_err(|source| PcapError::Thread { source })?;
        let (blocks, block_size) = (self.blocks, self.block_size);
        let closed = AtomicBool::new(false);
        Ok(Pcap { settings, blocks, block_size, interfaces, shared, messages, done, closed, name, hidden })
    }
}

/// Standard output without the line buffer that the standard library puts before it.
fn stdout() -> io::Result<std::fs::File> {
    #[cfg(unix)]
    {
        use std::os::fd::AsFd;
        Ok(io::stdout().as_fd().try_clone_to_owned()?.into())
    }
    #[cfg(windows)]
    {
        use std::os::windows::io::AsHandle;
        Ok(io::stdout().as_handle().try_clone_to_owned()?.into())
    }
}

impl SinkFactory for Pcap {
    fn name(&self) -> &str {
        NAME
    }

    fn build(&self, cx: &WorkerContext) -> Result<Box<dyn Sink>, SinkError> {
        Ok(Box::new(PcapSink::new(
            self.settings.clone(),
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
