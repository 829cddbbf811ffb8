//! Setting up a capture: target, format, memory.

use std::{
    fmt,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use crate::{
    hidden_file::HiddenFileError,
    mirroring::SessionTable,
    sink::{
        handoff::{Handoff, HandoffConfig, HandoffOptions, OutputState, TICK},
        origin::OriginNames,
        pipe::{self, Pipe},
    },
};

use super::{
    NAME, Pcap, WhenFull,
    compress::Encoder,
    files::{Files, Plan},
    format::{Format, MAX_SNAPLEN},
    idb_table::MOST_IN_BLOCK,
    losses::Losses,
    min_free::{FreeSpace, MinFree},
    names::Names,
    part::{CaptureFormat, CapturePart, PartOutput},
    rotation::Rotation,
    rotator::Hooks,
    worker::Settings,
    writer::{CaptureOutput, LOSSES_HERE, Writer},
};

/// Age of a block when it is written, where buffered.
const BUFFERED: Duration = Duration::from_secs(1);
/// Default stop timeout of a stream.
const STREAM_STOP: Duration = Duration::from_secs(5);
/// The same for a file: a slow disk catches up or fails.
const FILE_STOP: Duration = Duration::from_secs(60);

/// The target of a capture.
pub struct Target(TargetKind);

enum TargetKind {
    File(PathBuf),
    Stdout,
    Writer(Pipe),
}

impl Target {
    /// A file that does not exist yet. It is created with mode 0600, and has a hidden name until it is
    /// complete.
    #[must_use]
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self(TargetKind::File(path.into()))
    }

    /// Standard output, usually a pipe.
    #[must_use]
    pub fn stdout() -> Self {
        Self(TargetKind::Stdout)
    }

    /// Any writer; `name` is its name in messages. It is flushed after each block.
    #[must_use]
    pub fn writer(name: impl Into<String>, out: impl Write + Send + 'static) -> Self {
        Self(TargetKind::Writer(Pipe::new(name, out)))
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, name) = match &self.0 {
            TargetKind::File(path) => ("file", crate::escape::path(path).to_string()),
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
    /// The given name makes no file names.
    #[error("{}: {reason}", crate::escape::path(path))]
    Name {
        /// The path.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
    /// The compression that its name asks for is not available.
    #[error("{}: {source}", crate::escape::path(path))]
    Compression {
        /// The path.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// Rotation, a file per origin and free space need a file; the target is a stream.
    #[error("{name}: not a file: rotation, per-origin and min-free need one")]
    NotAFile {
        /// The target.
        name: String,
    },
    /// Standard output could not be opened.
    #[error("standard output: cannot be written to: {source}")]
    Stdout {
        /// The system's error.
        source: io::Error,
    },
    /// The writer thread could not be started.
    #[error("cannot start the writer thread of the capture: {source}")]
    Thread {
        /// The system's error.
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
    headers_only: bool,
    unbuffered: Option<bool>,
    handoff: HandoffOptions,
    max_interfaces: usize,
    rotation: Rotation,
    min_free: MinFree,
    free_space: FreeSpace,
    origins: Option<usize>,
    names: OriginNames,
    follows: bool,
    hooks: Hooks,
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
            headers_only: false,
            unbuffered: None,
            handoff: HandoffOptions::default(),
            max_interfaces: Pcap::DEFAULT_MAX_INTERFACES,
            rotation: Rotation::default(),
            min_free: MinFree::default(),
            free_space: FreeSpace::default(),
            origins: None,
            names: OriginNames::default(),
            follows: false,
            hooks: Hooks::default(),
        }
    }

    /// File format; pcapng by default.
    pub fn format(mut self, format: Format) -> Self {
        self.format = format;
        self
    }

    /// Writes frames with outer headers and padding instead of the inner frames.
    pub fn outer(mut self, outer: bool) -> Self {
        self.outer = outer;
        self
    }

    /// Snap length: the most bytes of a frame to write. 0, as with tcpdump, and values over 262,144 mean
    /// 262,144.
    pub fn snaplen(mut self, bytes: u32) -> Self {
        self.snaplen = if bytes == 0 { MAX_SNAPLEN } else { bytes.min(MAX_SNAPLEN) };
        self
    }

    /// Writes the headers of each frame and no payload: Ethernet, VLAN tags, IP with options and extension
    /// headers, and TCP, UDP, ICMP or SCTP. With [`outer`](Self::outer) the outer headers too.
    pub fn headers_only(mut self, headers_only: bool) -> Self {
        self.headers_only = headers_only;
        self
    }

    /// Writes frames at every tick, so within 100 ms, instead of within 1 s. The default for streams.
    pub fn unbuffered(mut self, unbuffered: bool) -> Self {
        self.unbuffered = Some(unbuffered);
        self
    }

    /// Number of blocks of each worker, at least 2. See [`Pcap::memory_per_worker`].
    pub fn blocks(mut self, blocks: usize) -> Self {
        self.handoff.set_blocks(blocks);
        self
    }

    /// As many [blocks](Self::blocks) as have this many bytes in each worker.
    pub fn memory(mut self, bytes: u64) -> Self {
        self.handoff.set_memory(bytes);
        self
    }

    /// Bytes in a block; more if two of the largest frames need more.
    pub fn block_size(mut self, bytes: usize) -> Self {
        self.handoff.set_block_size(bytes);
        self
    }

    /// How many origins have an interface of their own in a pcapng file, between 1 and 65,536. Further
    /// origins share an interface named `other`. Each file begins with none.
    pub fn max_interfaces(mut self, interfaces: usize) -> Self {
        self.max_interfaces = interfaces.clamp(1, 65_536);
        self
    }

    /// How long the end of a run waits for an output that makes no progress; by default 60 s for a file, 5 s
    /// for a stream. Frames not written by then count as failed, reason `stuck`.
    pub fn stop_timeout(mut self, timeout: Duration) -> Self {
        self.handoff.set_stop_timeout(timeout);
        self
    }

    /// A hook that runs first on the writer thread, for example to drop capabilities, which are per thread.
    /// The file is open by then. To rename it at the end, the thread needs write permission to its directory.
    pub fn on_thread_start(mut self, hook: impl FnOnce() + Send + 'static) -> Self {
        self.handoff.on_thread_start = Some(Box::new(hook));
        self
    }

    /// Starts a new file once one has more than this many bytes, counted before compression. Files are named
    /// as by tcpdump: `NAME`, `NAME1`, `NAME2`.
    ///
    /// Only a [ring](Self::max_files) replaces files: otherwise the sink stops if a name is taken.
    pub fn rotate_size(mut self, bytes: u64) -> Self {
        self.rotation.size = Some(bytes);
        self
    }

    /// Starts a new file after each interval, also without frames. Conversions of strftime(3) in the file's
    /// name are replaced by the local time of its start; a number is appended if the name is not new.
    pub fn rotate_every(mut self, time: Duration) -> Self {
        self.rotation.every = Some(time.max(Duration::from_millis(1)));
        self
    }

    /// Like [`rotate_every`](Self::rotate_every), by packet times instead of the clock, for capture files
    /// that are read: the first packet starts the first interval, a file's name has the time of its first
    /// packet, and an interval without packets has no file. With [`max_files`](Self::max_files), packets
    /// after the last interval are dropped, reason `after_last_file`.
    pub fn rotate_every_by_packets(mut self, time: Duration) -> Self {
        self.rotation.by_packets = true;
        self.rotate_every(time)
    }

    /// With [`rotate_size`](Self::rotate_size): a ring of this many files, in which each further file
    /// replaces the oldest; numbers begin at 0 and have leading zeros. With
    /// [`rotate_every`](Self::rotate_every) alone: the number of intervals, see [`on_last`](Self::on_last).
    pub fn max_files(mut self, files: u32) -> Self {
        self.rotation.files = Some(files.max(1));
        self
    }

    /// Keeps at least this many bytes free on the file system, as far as this capture can.
    pub fn min_free(mut self, bytes: u64, when_full: WhenFull) -> Self {
        self.min_free.bytes = bytes;
        self.when_full(when_full)
    }

    /// Keeps [that minimum](Self::min_free) together with other captures to the same file system, which get a
    /// clone of this value: none writes what another is about to.
    pub fn min_free_with(mut self, free_space: &FreeSpace) -> Self {
        self.free_space = free_space.clone();
        self
    }

    /// What to do when there is no space; by default [wait](WhenFull::Wait).
    pub fn when_full(mut self, when_full: WhenFull) -> Self {
        self.min_free.when_full = when_full;
        self
    }

    /// A file for which this returns true is neither replaced in a [ring](Self::max_files) nor deleted for
    /// [space](Self::min_free). Called on the writer thread. If a file of a ring is still kept when its
    /// successor is complete, frames are dropped, reason `no_space`, until it is released.
    pub fn keep_while(mut self, keeps: impl Fn(&Path) -> bool + Send + 'static) -> Self {
        self.hooks.keep_while = Some(Box::new(keeps));
        self
    }

    /// A file for each origin, created with its first frame and named `STEM-vni-VNI@SOURCE.EXTENSION`, with
    /// `-` for the colons of addresses. At most `max` are open at a time, at least 1. When all are in use, an
    /// origin with a second frame takes the slot of the origin that has been idle longest: that one's file is
    /// completed, and it gets another one if it sends again. Origins without a file share one with `other` in
    /// its name. Slots are reassigned `max` times at once and then once a second, so that forged origins do
    /// not fill the directory.
    pub fn per_origin(mut self, max: usize) -> Self {
        self.origins = Some(max.max(1));
        self
    }

    /// Names origins by these sessions: in the interfaces of a pcapng file, with a comment, and in the names
    /// of [their files](Self::per_origin), as
    /// [`Origin::interface_name`](crate::account::Origin::interface_name) says.
    pub fn sessions(mut self, sessions: Arc<SessionTable>) -> Self {
        self.names = sessions.into();
        self
    }

    /// Goes on with the files of another process, whose place in the capture [`Rotator::follow`](super::Rotator::follow) then says;
    /// the first file is opened with the first packet.
    pub fn follows(mut self, follows: bool) -> Self {
        self.follows = follows;
        self
    }

    /// A hook that runs on the writer thread for each completed file. A slow one costs frames.
    pub fn on_file(mut self, hook: impl FnMut(&Path) + Send + 'static) -> Self {
        self.hooks.on_file = Some(Box::new(hook));
        self
    }

    /// Called on the writer thread when [`max_files`](Self::max_files) intervals are over: the embedder then
    /// stops the run. Until it does, frames go to the last file.
    pub fn on_last(mut self, hook: impl FnOnce() + Send + 'static) -> Self {
        self.hooks.on_last = Some(Box::new(hook));
        self
    }

    /// Checks the settings without touching a file; [`build`](Self::build) checks the same.
    ///
    /// # Errors
    ///
    /// [`PcapError`]: a name that makes no file names, or settings of files for a stream.
    pub fn validate(&self) -> Result<(), PcapError> {
        let is_plain =
            self.rotation == Rotation::default() && self.min_free.bytes == 0 && self.origins.is_none();
        match &self.target.0 {
            TargetKind::File(path) => Names::new(path, &self.rotation)
                .map(drop)
                .map_err(|error| PcapError::Name { path: path.clone(), reason: error.to_string() }),
            TargetKind::Writer(pipe) if !is_plain => {
                Err(PcapError::NotAFile { name: pipe.name().to_owned() })
            }
            TargetKind::Stdout if !is_plain => {
                Err(PcapError::NotAFile { name: "standard output".to_owned() })
            }
            TargetKind::Stdout | TargetKind::Writer(_) => Ok(()),
        }
    }

    /// Opens the output and starts the writer thread.
    ///
    /// # Errors
    ///
    /// [`PcapError`]: the name is taken, or the directory, the file or the thread cannot be created.
    pub fn build(self) -> Result<Pcap, PcapError> {
        let blocks = match self.format {
            // Classic pcap has no interfaces to distinguish origins by.
            classic @ (Format::Pcap | Format::PcapMicros) if self.origins.is_none() => classic,
            _ => Format::Pcapng,
        };
        let max_interfaces = self.max_interfaces;
        let is_held = !self.unbuffered.unwrap_or(false);
        let plan = Plan {
            rotation: self.rotation,
            min_free: self.min_free,
            free_space: self.free_space,
            origins: self.origins,
            max_interfaces,
            // A worker must not run out of blocks for it.
            most_held: if is_held { self.handoff.memory() / 2 } else { 0 },
            follows: self.follows,
        };
        let is_plain =
            plan.rotation == Rotation::default() && plan.min_free.bytes == 0 && plan.origins.is_none();
        let stream = |pipe: Pipe| {
            let name = pipe.name().to_owned();
            if !is_plain {
                return Err(PcapError::NotAFile { name });
            }
            let part = CapturePart::new(PartOutput::Stream(pipe), None, max_interfaces);
            Ok((CaptureOutput::Stream(Box::new(part)), name))
        };
        let (output, name) = match self.target.0 {
            TargetKind::File(path) => {
                let names = Names::new(&path, &plan.rotation)
                    .map_err(|error| PcapError::Name { path: path.clone(), reason: error.to_string() })?
                    .of_origins(self.names.clone());
                let encoder = Encoder::new(names.compression())
                    .map_err(|source| PcapError::Compression { path: path.clone(), source })?;
                let files = Files::create(names, plan, self.hooks, encoder)?;
                (CaptureOutput::Files(Box::new(files)), crate::escape::path(&path).to_string())
            }
            TargetKind::Stdout => stream(Pipe::stdout().map_err(|source| PcapError::Stdout { source })?)?,
            TargetKind::Writer(pipe) => stream(pipe)?,
        };
        let (hidden, rotator) = match &output {
            CaptureOutput::Files(files) => (files.hidden_path(), Some(files.rotator().clone())),
            CaptureOutput::Stream(_) => (None, None),
        };
        let is_file = rotator.is_some();
        let unbuffered = self.unbuffered.unwrap_or(!is_file);
        let unfinished = hidden.as_deref().map(|hidden| crate::escape::path(hidden).to_string());
        let stop_timeout = if is_file { FILE_STOP } else { STREAM_STOP };
        let config = HandoffConfig {
            unfinished: unfinished.unwrap_or_else(|| name.clone()),
            origins: if blocks == Format::Pcapng { MOST_IN_BLOCK } else { 0 },
            // A tick may fall just before the age is reached.
            age: if unbuffered { Duration::ZERO } else { BUFFERED - TICK },
            // Syncing a long file may take a while.
            completes_slowly: is_file,
            ..self.handoff.config(NAME, name, stop_timeout, LOSSES_HERE)
        };
        let losses = Losses::new();
        let state = Arc::new(OutputState::default());
        let capture = CaptureFormat { format: self.format, snaplen: self.snaplen, names: self.names };
        let writer = Writer::new(output, capture, blocks, losses.clone(), Arc::clone(&state));
        let handoff =
            Handoff::start(config, state, self.handoff.on_thread_start, writer).map_err(|source| {
                // This call has created it, and no thread is left to remove it.
                if let Some(hidden) = &hidden
                    && let Err(error) = std::fs::remove_file(hidden)
                {
                    tracing::warn!(file = %crate::escape::path(hidden), %error, "cannot remove an empty \
                        file");
                }
                PcapError::Thread { source }
            })?;
        let settings = Settings {
            format: blocks,
            outer: self.outer,
            snaplen: self.snaplen,
            headers_only: self.headers_only,
        };
        Ok(Pcap { settings, losses, handoff, hidden, rotator })
    }
}
