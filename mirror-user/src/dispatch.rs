//! Frames of your own source through the same pipeline as live frames: decapsulation, selection, sinks,
//! report.
//!
//! For programs that get the outer frames elsewhere, from a driver in user space or another capture library.
//! It needs neither root nor Linux, and starts no thread: one pipeline, on the caller's thread.

use std::{
    fmt,
    sync::Arc,
    time::{Instant, SystemTime},
};

use crate::{
    account::{FileReport, Reject, Report},
    frame::{Captured, MAX_BATCH},
    pipeline::{self, Pipeline, PipelineConfig, SharedReassembler, SinkSlot},
    select::{Budget, Selection},
    sink::{SinkError, SinkFactory, WorkerContext},
    tunnels::Tunnels,
};

/// A sink could not be built.
#[derive(Debug, thiserror::Error)]
#[error("sink {sink}: {source}")]
#[non_exhaustive]
pub struct BuildError {
    /// Name of the sink.
    pub sink: String,
    /// Why.
    pub source: SinkError,
}

/// A run over frames that the caller provides.
///
/// # Examples
///
/// ```
/// use std::time::Instant;
///
/// use mirror_user::{Captured, Dispatch, WorkerContext, sink::Counters};
///
/// let mut run = Dispatch::builder().sink(Counters::default()).build(&WorkerContext::single(2048))?;
/// run.frames([Captured::new(&[0; 13], 13, 0)].into_iter());
/// run.tick(Instant::now());
/// let report = run.finish();
/// assert_eq!((report.frames.received, report.frames.rejected.short), (1, 1));
/// # Ok::<(), mirror_user::dispatch::BuildError>(())
/// ```
pub struct Dispatch {
    pipeline: Pipeline,
    sinks: Vec<Arc<dyn SinkFactory>>,
    source: &'static str,
    started: SystemTime,
    clock: Instant,
}

impl fmt::Debug for Dispatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dispatch")
            .field("sinks", &names(&self.sinks))
            .field("source", &self.source)
            .field("started", &self.started)
            .finish_non_exhaustive()
    }
}

/// Settings of a [`Dispatch`].
#[must_use]
pub struct DispatchBuilder {
    tunnels: Tunnels,
    selection: Selection,
    sinks: Vec<Arc<dyn SinkFactory>>,
}

impl fmt::Debug for DispatchBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tunnels, selection, sinks } = self;
        f.debug_struct("DispatchBuilder")
            .field("tunnels", tunnels)
            .field("selection", selection)
            .field("sinks", &names(sinks))
            .finish()
    }
}

impl DispatchBuilder {
    /// Tunnels to decapsulate, instead of VXLAN on 4789; `[4789, 8472]` is VXLAN on these ports.
    pub fn tunnels(mut self, tunnels: impl Into<Tunnels>) -> Self {
        self.tunnels = tunnels.into();
        self
    }

    /// Which frames are selected, instead of all.
    pub fn select(mut self, selection: impl Into<Selection>) -> Self {
        self.selection = selection.into();
        self
    }

    /// Adds a sink.
    pub fn sink(mut self, sink: impl SinkFactory + 'static) -> Self {
        self.sinks.push(Arc::new(sink));
        self
    }

    /// Builds the sinks, on this thread, with `cx` and the tunnels of this builder.
    ///
    /// # Errors
    ///
    /// The first sink that cannot be built.
    pub fn build(self, cx: &WorkerContext) -> Result<Dispatch, BuildError> {
        let (config, sinks) = self.into_parts(true, None);
        Dispatch::start("custom", config, cx, sinks)
    }

    /// The pipeline's configuration, and the sinks.
    pub(crate) fn into_parts(
        self,
        reassemble: bool,
        count: Option<u64>,
    ) -> (PipelineConfig, Vec<Arc<dyn SinkFactory>>) {
        let Self { tunnels, selection, sinks } = self;
        let config = PipelineConfig {
            reassembly: reassemble.then(|| SharedReassembler::recorded(&tunnels)),
            tunnels,
            selection: Arc::new(selection),
            budget: Arc::new(Budget::new(count)),
        };
        (config, sinks)
    }

    /// Whether every tunnel has a port, and there is one.
    pub(crate) fn has_ports(&self) -> bool {
        !self.tunnels.is_empty() && !self.tunnels.contains(0)
    }
}

impl Dispatch {
    /// Starts from the defaults: VXLAN on 4789, every VNI and source, no sink. Fragments are
    /// [reassembled](crate::reassembly), by the times of the frames.
    pub fn builder() -> DispatchBuilder {
        DispatchBuilder { tunnels: Tunnels::default(), selection: Selection::all(), sinks: Vec::new() }
    }

    /// A run of this configuration; `source` is its name in the report.
    pub(crate) fn start(
        source: &'static str,
        config: PipelineConfig,
        cx: &WorkerContext,
        sinks: Vec<Arc<dyn SinkFactory>>,
    ) -> Result<Self, BuildError> {
        let (started, clock) = (SystemTime::now(), Instant::now());
        let cx = &WorkerContext { tunnels: config.tunnels.clone(), ..cx.clone() };
        let build = |factory: &Arc<dyn SinkFactory>| {
            SinkSlot::build(&**factory, cx)
                .map_err(|source| BuildError { sink: factory.name().to_owned(), source })
        };
        let slots = sinks.iter().map(build).collect::<Result<_, _>>()?;
        Ok(Self { pipeline: Pipeline::new(config, cx.queue, slots), sinks, source, started, clock })
    }

    /// Processes frames, which are free again when it returns. Sinks are given batches of at most
    /// [`MAX_BATCH`].
    pub fn frames<'a>(&mut self, mut frames: impl ExactSizeIterator<Item = Captured<'a>>) {
        while frames.len() > 0 {
            self.pipeline.process(frames.by_ref().take(MAX_BATCH).map(Some));
        }
    }

    /// Calls each sink's [`tick`](crate::sink::Sink::tick), which must happen at least every 100 ms, also
    /// without frames.
    pub fn tick(&mut self, now: Instant) {
        self.pipeline.tick(now);
    }

    /// [Flushes](crate::sink::Sink::flush) every sink.
    pub fn flush(&mut self) {
        self.pipeline.flush();
    }

    /// Counts frames that were read and are not decapsulated.
    pub(crate) fn reject(&mut self, reason: Reject, frames: u64) {
        self.pipeline.reject(reason, frames);
    }

    /// Whether the run's budget of frames is used up.
    pub(crate) fn is_spent(&self) -> bool {
        self.pipeline.is_spent()
    }

    /// The report so far: frames that a sink still holds are pending. Without what
    /// [factories](SinkFactory::report) add.
    pub(crate) fn report(&mut self) -> Report {
        let (frames, sinks) = self.pipeline.so_far();
        let mut report = Report::new(self.source, self.started);
        report.expect_sinks(names(&self.sinks));
        (report.filter, report.outer_filter) = self.pipeline.selection().expressions();
        report.add_worker(&frames, &sinks);
        report.duration_s = self.clock.elapsed().as_secs_f64();
        report
    }

    /// The factories of the sinks.
    pub(crate) fn factories(&self) -> &[Arc<dyn SinkFactory>] {
        &self.sinks
    }

    /// Finishes every sink and returns the final report.
    #[must_use]
    pub fn finish(self) -> Report {
        self.finish_with(Vec::new())
    }

    /// The same for frames that were read from these files.
    pub(crate) fn finish_with(self, files: Vec<FileReport>) -> Report {
        let Self { pipeline, sinks, source, started, clock } = self;
        let mut report = Report::new(source, started);
        report.files = files;
        report.expect_sinks(names(&sinks));
        (report.filter, report.outer_filter) = pipeline.selection().expressions();
        let (frames, counters) = pipeline.finish();
        report.add_worker(&frames, &counters);
        report.duration_s = clock.elapsed().as_secs_f64();
        report.close();
        pipeline::close_sinks(&mut report, &sinks);
        report
    }
}

/// Names of the sinks.
pub(crate) fn names(sinks: &[Arc<dyn SinkFactory>]) -> Vec<&str> {
    sinks.iter().map(SinkFactory::name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        select::Allow,
        sink::{self, Counters, testing::Outer},
    };

    #[test]
    fn every_frame_handed_in_is_in_the_account_however_many_come_at_once() {
        let frames: Vec<_> = (0..1000).map(|vni| Outer::new([10, 0, 0, 1], vni % 4, &[0; 60])).collect();
        let allow = Allow::all().vnis([1, 2]);
        let run =
            Dispatch::builder().select(allow).sink(Counters::new(8)).sink(sink::for_each("null", |_| Ok(())));
        let mut run = run.build(&WorkerContext::single(2048)).unwrap();
        run.frames(frames.iter().map(Outer::captured));
        run.tick(Instant::now());
        let report = run.finish();
        assert_eq!((&*report.source, report.frames.received, report.accounting.residue), ("custom", 1000, 0));
        assert_eq!((report.frames.decapsulated, report.frames.rejected.vni), (500, 500));
        assert_eq!(report.sinks.iter().map(|sink| sink.written).collect::<Vec<_>>(), [500, 500]);
        assert_eq!(report.origins.len(), 2);
    }
}
