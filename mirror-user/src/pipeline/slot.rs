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

/// A sink with the worker's own account of it.
pub(crate) struct SinkSlot {
    /// The factory's name.
    name: String,
    sink: Box<dyn Sink>,
    /// Which of the run's frames it gets; `None` for all.
    selection: Option<Arc<Selection>>,
    pub(super) counters: SinkCounters,
    scratch: Scratch,
}

/// Reasons under which frames fail at the worker's edge.
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

    /// Calls into the sink; an error or a panic ends it, and nothing else.
    pub(super) fn call(&mut self, f: impl FnOnce(&mut dyn Sink) -> Result<(), SinkError>) {
        // Unwind safety: after a panic the sink is asked for its statistics, under the same guard, and
        // nothing else.
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

    /// Takes the account of a sink that goes on.
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

    /// Takes the account of a sink that just ended within a batch: what of that batch it does not know has
    /// failed.
    pub(super) fn settle(&mut self, frames: u64) {
        // A sink that panicked still says what it had written before; if even that panics, its last word
        // counts.
        if let Some(stats) = self.read_stats() {
            self.counters.stats = stats;
        }
        let before = self.counters.offered - frames;
        let known = self.counters.stats.total().saturating_sub(before).min(frames);
        if frames > known {
            self.counters.failed.add(self.failure(), frames - known);
        }
    }

    pub(super) fn finish(mut self) -> SinkCounters {
        // A sink that ended by an error still has frames on their way to settle; one that panicked is left
        // alone.
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
