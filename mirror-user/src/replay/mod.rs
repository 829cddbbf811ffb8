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

/// Frames of a batch.
const BATCH: usize = 64;

/// Sinks need a tick every 100 ms, and a silent pipe blocks the reader for up to 50.
const TICK: Duration = Duration::from_millis(50);

/// Why a replay cannot start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// There is nothing to read.
    #[error("no capture file given; name at least one, or `-` for standard input")]
    NoFile,
    /// Standard input can be read once only.
    #[error("standard input (`-`) is given more than once; it can be read once")]
    StdinTwice,
    /// There is no tunnel port, or it is 0.
    #[error("no tunnel port given, or port 0; VXLAN's is 4789")]
    NoPort,
    /// No file can be opened; this is the first.
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

/// The report of a run under way, for other threads.
#[derive(Clone, Debug, Default)]
pub struct Progress(Arc<Live>);

/// What a run under way publishes.
#[derive(Debug, Default)]
struct Live {
    last: Mutex<Option<(Report, Instant)>>,
    /// Weak, so that outputs end with their run.
    sinks: OnceLock<Vec<Weak<dyn SinkFactory>>>,
}

impl Progress {
    /// The report as it was at most 50 ms ago; while a sink blocks the run, as it was 50 ms before or at half
    /// of its batches, whichever is later. `duration_s` is current. Frames that a sink still holds are
    /// pending. What [sinks add](SinkFactory::report), such as origins, is there while the run lasts.
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

/// Flushes the sinks of a run from another thread, for example a signal handler's.
#[derive(Clone, Debug, Default)]
pub struct Flusher(Arc<AtomicBool>);

impl Flusher {
    /// Flushes every sink, at most 50 ms later, also while a pipe is silent; if a sink blocks the run, when
    /// it continues.
    pub fn flush(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether a flush was requested since the last call.
    fn was_asked(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }
}

/// Ends a run from another thread, for example a signal handler's.
#[derive(Clone, Debug, Default)]
pub struct StopHandle(Arc<AtomicBool>);

impl StopHandle {
    /// Ends the run as if its files ended here: between batches, and at most 50 ms later while a pipe is
    /// silent. A sink that blocks the run is not waited for any longer. A run that has not begun reads
    /// nothing.
    pub fn stop(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether the end was requested.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// The source's name in the report.
const SOURCE: &str = "file";

/// A file before it is read.
#[derive(Debug)]
enum Opened {
    /// It exists, or is not a regular file: opened when it is read.
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

    /// Opens regular files in [`build`](Self::build), not before each is read, so that the process may drop
    /// privileges in between. Each takes a file descriptor.
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

    /// Whether fragmented outer frames are [reassembled](crate::reassembly), by the times of the capture.
    /// Default: yes; otherwise they are rejected as [`Reject::Fragment`].
    pub fn reassemble(mut self, wanted: bool) -> Self {
        self.reassemble = wanted;
        self
    }

    /// Checks the settings, with or without files, and opens none; [`build`](Self::build) begins with it.
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

    /// Checks what can be checked before any frame is read. If some of several files cannot be opened, that
    /// is logged and reported, and the others are read.
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

/// Opens a regular file, so that an error is reported before the first file is replayed; `None` for other
/// kinds.
fn readable(file: &Path) -> io::Result<Option<File>> {
    if file == Path::new("-") {
        return Ok(None);
    }
    let kind = std::fs::metadata(file)?;
    if kind.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    // Opening a FIFO blocks until it has a writer, and could lose its first bytes.
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

    /// Adds a sink after the files were checked.
    #[must_use]
    pub fn sink(mut self, sink: impl SinkFactory + 'static) -> Self {
        self.sinks.push(Arc::new(sink));
        self
    }

    /// A handle by which other threads read the report.
    #[must_use]
    pub fn progress(&self) -> Progress {
        self.progress.clone()
    }

    /// A handle by which other threads flush the sinks.
    #[must_use]
    pub fn flusher(&self) -> Flusher {
        self.flusher.clone()
    }

    /// A handle by which other threads end the run.
    #[must_use]
    pub fn stop_handle(&self) -> StopHandle {
        self.stop.clone()
    }

    /// Reads the files to their end, or until it is [stopped](Self::stop_handle) or the count is reached, and
    /// returns the final report.
    ///
    /// A file that is cut short, damaged or not a capture ends there: the frames before have reached the
    /// sinks, the next file is read, and [`Report::files`] has the reason. [`Report::ended_by`] has the
    /// first.
    ///
    /// # Errors
    ///
    /// [`ReplayError::Sink`] where a sink cannot be built; no frame has been read then.
    pub fn run(self) -> Result<Report, ReplayError> {
        let Self { files, sinks, config, progress, flusher, stop } = self;
        let context =
            WorkerContext { wait_until: Some(Arc::clone(&stop.0)), ..WorkerContext::single(MAX_FRAME) };
        let dispatch = Dispatch::start(SOURCE, config, &context, sinks)?;
        // Set once: a replay runs once.
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

    /// Dispatches the frames of a capture.
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
            // A sink may block a fast reader before the first tick.
            if is_due || self.batches.is_power_of_two() {
                self.progress.publish(self.dispatch.report(), now);
            }
        }
        self.reject(reader, &mut of_link_types);
        result
    }

    /// Counts the packets of unsupported link types, `before` of which are counted already.
    fn reject(&mut self, reader: &CaptureReader<CaptureFile>, before: &mut u64) {
        let now = reader.unread().of_link_types();
        self.dispatch.reject(Reject::LinkType, now - std::mem::replace(before, now));
    }
}

#[cfg(test)]
mod tests;
