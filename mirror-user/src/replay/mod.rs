//! Capture files through the same pipeline as live frames: decapsulation, selection, sinks, report.
//!
//! It needs neither root nor Linux: one pipeline, on the caller's thread.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, OnceLock, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use crate::{
    account::{FileReport, Reject, Report},
    dispatch::{BuildError, Dispatch, DispatchBuilder, names},
    pipeline::{self, PipelineConfig},
    select::Selection,
    sink::{SinkError, SinkFactory, WorkerContext},
    source::{CaptureError, CaptureFile, CaptureReader, Unread},
    tunnels::Tunnels,
};

pub use crate::source::MAX_FRAME;

/// Frames handled at once.
const BATCH: usize = 64;

/// Sinks are promised a tick every 100 ms, and a silent pipe keeps the reader for up to 50.
const TICK: Duration = Duration::from_millis(50);

/// What kept a replay from starting.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// There is nothing to read.
    #[error("no capture file given; name at least one, or `-` for standard input")]
    NoFile,
    /// Standard input can be read once only.
    #[error("standard input (`-`) is given more than once; it can be read once")]
    StdinTwice,
    /// Without a port nothing is a tunnel.
    #[error("no tunnel port given, or 0, which is none; VXLAN's is 4789")]
    NoPort,
    /// None of the files can be opened; this is the first.
    #[error("{}: {source}", crate::escape::path(file))]
    File {
        /// The file, as given.
        file: PathBuf,
        /// Why.
        source: CaptureError,
    },
    /// A sink could not be built.
    #[error("sink {sink}: {source}")]
    Sink {
        /// Name of the sink.
        sink: String,
        /// Why.
        source: SinkError,
    },
}

impl From<BuildError> for ReplayError {
    fn from(BuildError { sink, source }: BuildError) -> Self {
        Self::Sink { sink, source }
    }
}

/// A run over capture files, ready to start.
///
/// # Examples
///
/// ```no_run
/// # fn main() -> Result<(), mirror_user::replay::ReplayError> {
/// let replay = mirror_user::Replay::builder().file("mirror.pcap").build()?;
/// let stop = replay.stop_handle();
/// std::thread::spawn(move || {
///     std::thread::sleep(std::time::Duration::from_secs(60));
///     stop.stop();
/// });
/// let report = replay.run()?;
/// println!("{} inner frames", report.frames.decapsulated);
/// # Ok(())
/// # }
/// ```
pub struct Replay {
    files: Vec<(PathBuf, Opened)>,
    sinks: Vec<Arc<dyn SinkFactory>>,
    config: PipelineConfig,
    progress: Progress,
    flusher: Flusher,
    stop: StopHandle,
}

/// How a run goes, for other threads to ask.
#[derive(Clone, Debug, Default)]
pub struct Progress(Arc<Live>);

/// What a run under way shows.
#[derive(Debug, Default)]
struct Live {
    last: Mutex<Option<(Report, Instant)>>,
    /// Weak, so that outputs end with their run.
    sinks: OnceLock<Vec<Weak<dyn SinkFactory>>>,
}

impl Progress {
    /// What the run had come to at most 50 ms ago; where a sink keeps it waiting, 50 ms before the wait or at
    /// half of what it has come to, whichever is later. Of the time since the start `duration_s` has all.
    /// Frames that a sink still holds are pending. What [sinks add](SinkFactory::report), as origins, is
    /// there while the run lasts.
    #[must_use]
    pub fn report(&self) -> Report {
        let Some((mut report, at)) = self.0.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
        else {
            return Report::new(SOURCE, SystemTime::now());
        };
        report.duration_s += at.elapsed().as_secs_f64();
        let sinks: Option<Vec<_>> =
            self.0.sinks.get().and_then(|sinks| sinks.iter().map(Weak::upgrade).collect());
        pipeline::add_sinks(&mut report, &sinks.unwrap_or_default());
        report
    }

    fn publish(&self, report: Report, now: Instant) {
        *self.0.last.lock().unwrap_or_else(PoisonError::into_inner) = Some((report, now));
    }
}

/// Has the sinks of a run hand over what they buffer, from another thread, such as one that hears signals.
#[derive(Clone, Debug, Default)]
pub struct Flusher(Arc<AtomicBool>);

impl Flusher {
    /// Has every sink hand over what it buffers, at most 50 ms later, also while a pipe is silent; where a
    /// sink keeps the run waiting, once it goes on.
    pub fn flush(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether it was asked for since this was last called.
    fn was_asked(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }
}

/// Ends a run from another thread, such as one that hears signals.
#[derive(Clone, Debug, Default)]
pub struct StopHandle(Arc<AtomicBool>);

impl StopHandle {
    /// Ends the run as if its files ended here: between batches, and at most 50 ms later while a pipe is
    /// silent. A sink that makes the run wait is not waited for any longer. A run that has not begun reads
    /// nothing.
    pub fn stop(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether the end has been asked for.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// The source's name in the report.
const SOURCE: &str = "file";

/// A file before its turn comes.
#[derive(Debug)]
enum Opened {
    /// It is there, or was; or it is no regular file.
    Later,
    /// It is held open.
    Now(File),
    /// It cannot be opened.
    Failed(CaptureError),
}

/// Settings of a [`Replay`].
#[derive(Debug)]
#[must_use]
pub struct ReplayBuilder {
    files: Vec<PathBuf>,
    hold_open: bool,
    dispatch: DispatchBuilder,
    count: Option<u64>,
    reassemble: bool,
}

impl std::fmt::Debug for Replay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { files, sinks, config, progress: _, flusher: _, stop: _ } = self;
        f.debug_struct("Replay")
            .field("files", files)
            .field("sinks", &names(sinks))
            .field("config", config)
            .finish()
    }
}

impl ReplayBuilder {
    /// Adds a capture file, or standard input for `-`. Files are read in the order in which they are added.
    pub fn file(mut self, path: impl Into<PathBuf>) -> Self {
        self.files.push(path.into());
        self
    }

    /// Opens regular files when built and not when their turn comes, so that they can be read whatever rights
    /// the process has by then. Each takes a file descriptor.
    pub fn hold_open(mut self, hold_open: bool) -> Self {
        self.hold_open = hold_open;
        self
    }

    /// Adds a sink.
    pub fn sink(self, sink: impl SinkFactory + 'static) -> Self {
        Self { dispatch: self.dispatch.sink(sink), ..self }
    }

    /// Tunnels to decapsulate, see [`DispatchBuilder::tunnels`].
    pub fn tunnels(self, tunnels: impl Into<Tunnels>) -> Self {
        Self { dispatch: self.dispatch.tunnels(tunnels), ..self }
    }

    /// Which frames are selected, instead of all.
    pub fn select(self, selection: impl Into<Selection>) -> Self {
        Self { dispatch: self.dispatch.select(selection), ..self }
    }

    /// Ends the run after so many selected inner frames.
    pub fn count(mut self, frames: Option<u64>) -> Self {
        self.count = frames;
        self
    }

    /// Whether outer frames that were fragmented on their way are [reassembled](crate::reassembly), by the
    /// times of the capture. Default: yes; without, they are rejected as [`Reject::Fragment`].
    pub fn reassemble(mut self, wanted: bool) -> Self {
        self.reassemble = wanted;
        self
    }

    /// Whether this contradicts itself. Touches no file, and needs none yet; [`build`](Self::build) begins
    /// with it.
    ///
    /// # Errors
    ///
    /// [`ReplayError`]: no port, or standard input twice.
    pub fn validate(&self) -> Result<(), ReplayError> {
        if !self.dispatch.has_ports() {
            return Err(ReplayError::NoPort);
        }
        if self.files.iter().filter(|file| *file == Path::new("-")).count() > 1 {
            return Err(ReplayError::StdinTwice);
        }
        Ok(())
    }

    /// Checks what can be checked before any frame is read. Of several files some may fail to open: that is
    /// logged, the others are read, and the report has it.
    ///
    /// # Errors
    ///
    /// [`ReplayError`]: nothing to read, no port, or no file that can be opened.
    pub fn build(self) -> Result<Replay, ReplayError> {
        if self.files.is_empty() {
            return Err(ReplayError::NoFile);
        }
        self.validate()?;
        let Self { files, hold_open, dispatch, count, reassemble } = self;
        let open = |path: PathBuf| {
            let opened = match readable(&path) {
                Ok(Some(file)) if hold_open => Opened::Now(file),
                Ok(_) => Opened::Later,
                Err(source) => Opened::Failed(CaptureError::Open(source)),
            };
            (path, opened)
        };
        let mut files: Vec<_> = files.into_iter().map(open).collect();
        let failed = |opened: &Opened| matches!(opened, Opened::Failed(_));
        if files.iter().all(|(_, opened)| failed(opened))
            && let (file, Opened::Failed(source)) = files.swap_remove(0)
        {
            return Err(ReplayError::File { file, source });
        }
        for (path, opened) in &files {
            if let Opened::Failed(error) = opened {
                tracing::error!("{}: {error}; the other files are read", crate::escape::path(path));
            }
        }
        let (config, sinks) = dispatch.into_parts(reassemble, count);
        let (progress, flusher, stop) = (Progress::default(), Flusher::default(), StopHandle::default());
        Ok(Replay { files, sinks, config, progress, flusher, stop })
    }
}

/// Whether a file is there to be read, better told before the first of many is replayed than after; and a
/// regular one.
fn readable(file: &Path) -> io::Result<Option<File>> {
    if file == Path::new("-") {
        return Ok(None);
    }
    let kind = std::fs::metadata(file)?;
    if kind.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    // Opening a FIFO waits for its writer, and takes from what it has to say.
    kind.is_file().then(|| File::open(file)).transpose()
}

impl Replay {
    /// Starts from the defaults: port 4789, every VNI and source, all frames, no sink.
    pub fn builder() -> ReplayBuilder {
        ReplayBuilder {
            files: Vec::new(),
            hold_open: false,
            dispatch: Dispatch::builder(),
            count: None,
            reassemble: true,
        }
    }

    /// Adds a sink once it is known that the files can be read.
    #[must_use]
    pub fn sink(mut self, sink: impl SinkFactory + 'static) -> Self {
        self.sinks.push(Arc::new(sink));
        self
    }

    /// What tells other threads how the run goes.
    #[must_use]
    pub fn progress(&self) -> Progress {
        self.progress.clone()
    }

    /// What has the sinks flush from other threads.
    #[must_use]
    pub fn flusher(&self) -> Flusher {
        self.flusher.clone()
    }

    /// What ends the run from other threads.
    #[must_use]
    pub fn stop_handle(&self) -> StopHandle {
        self.stop.clone()
    }

    /// Reads the files to their end, or until it is [stopped](Self::stop_handle) or the count is reached, and
    /// closes the accounts.
    ///
    /// What ends a file early (it is cut short, damaged, or no capture at all) ends that file: the frames
    /// before it have gone to the sinks, the next file is read, and [`Report::files`] has the reason.
    /// [`Report::ended_by`] has the first.
    ///
    /// # Errors
    ///
    /// [`ReplayError::Sink`] where a sink cannot be built; no frame has been read then.
    pub fn run(self) -> Result<Report, ReplayError> {
        let Self { files, sinks, config, progress, flusher, stop } = self;
        let context =
            WorkerContext { wait_until: Some(Arc::clone(&stop.0)), ..WorkerContext::single(MAX_FRAME) };
        let dispatch = Dispatch::start(SOURCE, config, &context, sinks)?;
        // There is but one run: it takes the replay.
        let _ = progress.0.sinks.set(dispatch.factories().iter().map(Arc::downgrade).collect());
        let mut run = Run { dispatch, stop, ticked: Instant::now(), batches: 0, progress, flusher };
        let mut reports = Vec::new();
        for (path, opened) in files {
            if run.is_over() {
                break;
            }
            reports.push(run.read(&path, opened));
        }

        let ended_by = reports.iter().find_map(|FileReport { path, ended_by, .. }| {
            ended_by.as_ref().map(|reason| format!("{path}: {reason}"))
        });
        let mut report = run.dispatch.finish_with(reports);
        report.ended_by = ended_by;
        Ok(report)
    }
}

/// A run under way.
struct Run {
    dispatch: Dispatch,
    stop: StopHandle,
    ticked: Instant,
    batches: u64,
    progress: Progress,
    flusher: Flusher,
}

impl Run {
    fn is_over(&self) -> bool {
        self.stop.is_stopped() || self.dispatch.is_spent()
    }

    /// Reads a file, as far as it can be read.
    fn read(&mut self, path: &Path, opened: Opened) -> FileReport {
        let mut report = FileReport { path: path.display().to_string(), ..FileReport::default() };
        let opened = match opened {
            Opened::Later => CaptureReader::open(path).inspect_err(|error| {
                tracing::error!("{}: {error}", crate::escape::path(path));
            }),
            Opened::Now(file) => Ok(CaptureReader::of_file(file)),
            Opened::Failed(error) => Err(error),
        };
        let mut reader = match opened {
            Ok(reader) => reader,
            Err(error) => return FileReport { ended_by: Some(error.to_string()), ..report },
        };
        report.ended_by = self.frames(&mut reader).err().map(|error| error.to_string());
        report.compression = reader.compression().map(Into::into);
        report.packets = reader.packets();
        let Unread { link_types, broken, first_broken, .. } = reader.into_unread();
        report.link_types = link_types;
        report.skipped = broken;
        report.first_skipped = first_broken.map(|error| error.to_string());
        for complaint in report.complaints() {
            tracing::warn!("{}: {complaint}", report.path);
        }
        report
    }

    /// Has the frames of a capture dispatched.
    fn frames(&mut self, reader: &mut CaptureReader<CaptureFile>) -> Result<(), CaptureError> {
        let mut of_link_types = 0;
        let mut result = Ok(());
        while !self.is_over() {
            match reader.next_batch(BATCH) {
                Ok(Some(captures)) => self.dispatch.frames(captures.iter()),
                Ok(None) => break,
                Err(error) => {
                    result = Err(error);
                    break;
                }
            }
            self.batches += 1;
            let now = Instant::now();
            let is_due = now.duration_since(self.ticked) >= TICK;
            if is_due {
                self.reject(reader, &mut of_link_types);
                self.dispatch.tick(now);
                self.ticked = now;
            }
            if self.flusher.was_asked() {
                self.dispatch.flush();
            }
            // A sink may stop a quick reader for good before the first tick.
            if is_due || self.batches.is_power_of_two() {
                self.progress.publish(self.dispatch.report(), now);
            }
        }
        self.reject(reader, &mut of_link_types);
        result
    }

    /// Counts the packets of link types that are not read, `before` of which are counted already.
    fn reject(&mut self, reader: &CaptureReader<CaptureFile>, before: &mut u64) {
        let now = reader.unread().of_link_types();
        self.dispatch.reject(Reject::LinkType, now - std::mem::replace(before, now));
    }
}

#[cfg(test)]
mod tests;
