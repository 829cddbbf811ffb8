//! Setting up a capture: where to, in which form, with how much memory.

use std::{
    fmt,
    io::{self, Write},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use crate::{
    hidden_file::{HiddenFile, HiddenFileError},
    sink::{
        handoff::{Fate, Handoff, TICK, Terms},
        pipe::{self, Pipe},
    },
};

use super::{
    NAME, Pcap,
    format::{Format, MAX_SNAPLEN},
    interfaces::Interfaces,
    worker::Settings,
    writer::{LOSSES_HERE, Output, SharedTallies, Writer},
};

/// How long a buffered block may be open.
const BUFFERED: Duration = Duration::from_secs(1);
/// How long a stream may take nothing at the end of a run.
const STREAM_STOP: Duration = Duration::from_secs(5);
/// The same for a file: a disk catches up, or fails.
const FILE_STOP: Duration = Duration::from_secs(60);
/// Where a capture goes.
pub struct Target(TargetKind);

enum TargetKind {
    File(PathBuf),
    Stdout,
    Writer(Pipe),
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
        Self(TargetKind::Writer(Pipe::new(name, out)))
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, name) = match &self.0 {
            TargetKind::File(path) => ("file", path.display().to_string()),
            TargetKind::Stdout => ("stream", pipe::STDOUT.to_owned()),
            TargetKind::Writer(pipe) => ("stream", pipe.name().to_owned()),
        };
        f.debug_tuple("Target").field(&kind).field(&name).finish()
    }
}

/// Why a capture could not be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PcapError {
    /// The file could not be created.
    #[error(transparent)]
    File(#[from] HiddenFileError),
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

impl PcapBuilder {
    pub(super) fn new(target: Target) -> Self {
        Self {
            target,
            format: Format::default(),
            outer: false,
            snaplen: MAX_SNAPLEN,
            unbuffered: None,
            blocks: Pcap::DEFAULT_BLOCKS,
            block_size: Pcap::DEFAULT_BLOCK_SIZE,
            max_interfaces: Pcap::DEFAULT_MAX_INTERFACES,
            stop_timeout: None,
            on_thread_start: None,
        }
    }

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
        self.snaplen = if bytes == 0 { MAX_SNAPLEN } else { bytes.min(MAX_SNAPLEN) };
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
        let streamed = |pipe: Pipe| {
            let name = pipe.name().to_owned();
            (Output::Stream(pipe), name, None)
        };
        let (output, name, hidden) = match self.target.0 {
            TargetKind::File(path) => {
                let file = HiddenFile::create(&path)?;
                let hidden = file.hidden_path();
                (Output::File(file), path.display().to_string(), Some(hidden))
            }
            TargetKind::Stdout => streamed(Pipe::stdout().map_err(|source| PcapError::Stdout { source })?),
            TargetKind::Writer(pipe) => streamed(pipe),
        };
        let is_file = hidden.is_some();
        let unbuffered = self.unbuffered.unwrap_or(!is_file);
        // Classic pcap knows no interfaces.
        let interfaces = Interfaces::new(if self.format == Format::Pcapng { self.max_interfaces } else { 0 });
        let terms = Terms {
            sink: NAME,
            unfinished: hidden.as_deref().map_or_else(|| name.clone(), |hidden| hidden.display().to_string()),
            output: name,
            blocks: self.blocks,
            // A tick may come just before the age is reached.
            age: if unbuffered { Duration::ZERO } else { BUFFERED - TICK },
            stop_timeout: self.stop_timeout.unwrap_or(if is_file { FILE_STOP } else { STREAM_STOP }),
            // To sync a long file may take its time.
            completes_slowly: is_file,
            losses: LOSSES_HERE,
        };
        let (tallies, fate) = (SharedTallies::default(), Arc::new(Fate::default()));
        let writer = Writer::new(
            output,
            self.format,
            self.snaplen,
            interfaces.clone(),
            tallies.clone(),
            Arc::clone(&fate),
        );
        let handoff = Handoff::start(terms, fate, self.on_thread_start, writer)
            .map_err(|source| PcapError::Thread { source })?;
        let settings = Settings { format: self.format, outer: self.outer, snaplen: self.snaplen };
        Ok(Pcap { settings, block_size: self.block_size, interfaces, tallies, handoff, hidden })
    }
}
