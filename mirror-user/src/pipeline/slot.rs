//! A worker's sink: calls into it are guarded, and its frames counted.

use std::{
    panic::{self, AssertUnwindSafe},
    sync::Arc,
};

use arrayvec::ArrayVec;

use crate::{
    account::{SinkCounters, SinkHalt, SinkState},
    error::panic_message,
    frame::{Batch, MAX_BATCH},
    select::{Scratch, Selection},
    sink::{Sink, SinkError, SinkFactory, SinkStats, WorkerContext},
};

/// A sink with the worker's counters for it.
pub(crate) struct SinkSlot {
    /// The factory's name.
    name: String,
    sink: Box<dyn Sink>,
    /// Which of the run's frames it is given; `None` for all.
    pub(super) selection: Option<Arc<Selection>>,
    pub(super) counters: SinkCounters,
    scratch: Scratch,
}

/// Reasons for which frames fail between worker and sink.
const FAILED_BY_ERROR: &str = "error";
const FAILED_BY_PANIC: &str = "panic";

impl SinkSlot {
    #[cfg(test)]
    pub(crate) fn new(name: &str, sink: Box<dyn Sink>) -> Self {
        let (name, counters, scratch) = (name.to_owned(), SinkCounters::default(), Scratch::default());
        Self { name, sink, selection: None, counters, scratch }
    }

    #[cfg(test)]
    pub(crate) fn selecting(self, selection: Option<Arc<Selection>>) -> Self {
        Self { selection, ..self }
    }

    /// The factory's sink for one worker.
    pub(crate) fn build(factory: &dyn SinkFactory, cx: &WorkerContext) -> Result<Self, SinkError> {
        Ok(Self {
            sink: factory.build(cx)?,
            name: factory.name().to_owned(),
            selection: factory.selection(),
            counters: SinkCounters::default(),
            scratch: Scratch::default(),
        })
    }

    /// Calls into the sink; an error or a panic ends this sink only.
    pub(super) fn call(&mut self, f: impl FnOnce(&mut dyn Sink) -> Result<(), SinkError>) {
        // Unwind safety: after a panic only the sink's statistics are read, under the same guard.
        let end = match panic::catch_unwind(AssertUnwindSafe(|| f(&mut *self.sink))) {
            Ok(Ok(())) => return,
            Ok(Err(error)) => SinkHalt::ended(error),
            Err(payload) => SinkHalt::failed(panic_message(&*payload)),
        };
        if self.counters.end.is_none() {
            tracing::error!(sink = self.name, reason = end.reason, "sink stopped; ingest continues");
            self.counters.end = Some(end);
        }
    }

    fn read_stats(&self) -> Option<SinkStats> {
        panic::catch_unwind(AssertUnwindSafe(|| self.sink.stats())).ok()
    }

    /// Reads the statistics of a sink that has not ended.
    pub(super) fn refresh(&mut self) {
        if self.counters.end.is_none()
            && let Some(stats) = self.read_stats()
        {
            self.counters.stats = stats;
        }
    }

    pub(super) fn offer(&mut self, batch: &Batch<'_>) {
        let Some(selection) = self.selection.clone() else { return self.take(batch) };
        let mut frames: ArrayVec<_, MAX_BATCH> = batch.frames().iter().copied().collect();
        selection.retain(&mut frames, &mut self.scratch);
        self.counters.deselected += (batch.len() - frames.len()) as u64;
        self.take(&Batch::new(batch.queue(), &frames));
    }

    fn take(&mut self, batch: &Batch<'_>) {
        let frames = batch.len() as u64;
        if frames == 0 {
            return;
        }
        self.counters.offered += frames;
        if self.counters.end.is_some() {
            self.counters.failed.add(self.failure(), frames);
            return;
        }
        self.call(|sink| sink.batch(batch));
        if self.counters.end.is_some() {
            self.settle(frames);
        }
    }

    /// Reads the statistics of a sink that just ended within a batch: frames of that batch that it does not
    /// account for have failed.
    pub(super) fn settle(&mut self, frames: u64) {
        // A sink that panicked still has its statistics; if reading them panics too, the last ones count.
        if let Some(stats) = self.read_stats() {
            self.counters.stats = stats;
        }
        let before = self.counters.offered - frames;
        let known = self.counters.stats.total().saturating_sub(before).min(frames);
        if frames > known {
            self.counters.failed.add(self.failure(), frames - known);
        }
    }

    /// Whether a sink that gets no more frames can be finished without a wait.
    #[cfg(feature = "af-xdp")]
    pub(super) fn has_left(&mut self) -> bool {
        if self.counters.end.is_some() {
            return true;
        }
        let mut left = true;
        self.call(|sink| {
            left = sink.leave();
            Ok(())
        });
        left || self.counters.end.is_some()
    }

    pub(super) fn finish(mut self) -> SinkCounters {
        // A sink that ended with an error is finished, because it may have pending frames; one that panicked
        // is not called again.
        if !matches!(self.counters.end, Some(SinkHalt { state: SinkState::Failed, .. })) {
            self.call(|sink| sink.finish());
            if let Some(stats) = self.read_stats() {
                self.counters.stats = stats;
            }
        }
        let Self { sink, mut counters, .. } = self;
        // A sink may panic in its drop, too.
        if let Err(payload) = panic::catch_unwind(AssertUnwindSafe(|| drop(sink))) {
            counters.end = Some(SinkHalt::failed(panic_message(&*payload)));
        }
        counters
    }

    fn failure(&self) -> &'static str {
        match &self.counters.end {
            Some(SinkHalt { state: SinkState::Failed, .. }) => FAILED_BY_PANIC,
            _ => FAILED_BY_ERROR,
        }
    }
}
