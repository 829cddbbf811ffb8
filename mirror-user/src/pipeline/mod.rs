//! From outer frames to sinks: the part of a worker that is the same for a ring and for a file.

mod close;
mod fragments;

use std::{
    panic::{self, AssertUnwindSafe},
    sync::Arc,
    time::Instant,
};

use arrayvec::ArrayVec;
pub(crate) use close::{add_sinks, close_sinks};
use fragments::Joins;
pub(crate) use fragments::SharedReassembler;

#[cfg(feature = "af-xdp")]
use crate::account::WorkerCounters;
use crate::{
    account::{FrameCounters, Reject, SinkCounters, SinkHalt, SinkState},
    decap,
    error::panic_message,
    frame::{Batch, Captured, Frame, MAX_BATCH},
    select::{Budget, Scratch, Selection},
    sink::{Sink, SinkError, SinkFactory, SinkStats, WorkerContext},
    tunnels::Tunnels,
};

/// What the pipelines of a run share.
#[derive(Clone, Debug)]
pub(crate) struct PipelineConfig {
    /// What is decapsulated.
    pub(crate) tunnels: Tunnels,
    /// What the worker itself selects; every tunnel where the XDP program has chosen already.
    pub(crate) selection: Arc<Selection>,
    pub(crate) budget: Arc<Budget>,
    /// Where fragments go; `None` to reject them.
    pub(crate) reassembly: Option<Arc<SharedReassembler>>,
}

/// A sink with the worker's own account of it.
pub(crate) struct SinkSlot {
    /// The factory's name.
    name: String,
    sink: Box<dyn Sink>,
    /// Which of the run's frames it gets; `None` for all.
    selection: Option<Arc<Selection>>,
    counters: SinkCounters,
    scratch: Scratch,
}

/// Decapsulates, selects, dispatches, counts.
pub(crate) struct Pipeline {
    config: PipelineConfig,
    queue: u32,
    frames: FrameCounters,
    sinks: Vec<SinkSlot>,
    scratch: Scratch,
    joins: Joins,
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
    fn call(&mut self, f: impl FnOnce(&mut dyn Sink) -> Result<(), SinkError>) {
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
    fn refresh(&mut self) {
        if self.counters.end.is_none()
            && let Some(stats) = self.read_stats()
        {
            self.counters.stats = stats;
        }
    }

    fn offer(&mut self, batch: &Batch<'_>) {
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
    fn settle(&mut self, frames: u64) {
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

    fn finish(mut self) -> SinkCounters {
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

/// A batch being sorted: counted apart, so that a worker that dies within it abandons the whole batch and no
/// half.
struct Sorting<'a> {
    counters: &'a mut FrameCounters,
    batch: FrameCounters,
    /// Frames that the reassembler accounts for now.
    handed_over: u64,
    sorted: bool,
}

impl Drop for Sorting<'_> {
    fn drop(&mut self) {
        if self.sorted {
            self.counters.add(&self.batch);
        } else {
            self.counters.received += self.batch.received;
            self.counters.abandoned += self.batch.received - self.handed_over;
        }
    }
}

/// Counts a frame that goes on, and judges its length.
#[inline]
fn count_decapsulated(counters: &mut FrameCounters, frame: &mut Frame<'_>) {
    counters.decapsulated += 1;
    counters.inner_bytes += frame.inner_len() as u64;
    counters.reserved_bits += u64::from(frame.has_reserved_bits());
    if frame.is_truncated() {
        match frame.disbelieve_impossible_len() {
            true => counters.impossible_length += 1,
            false => counters.truncated_inner += 1,
        }
    }
}

impl Pipeline {
    pub(crate) fn new(config: PipelineConfig, queue: u32, sinks: Vec<SinkSlot>) -> Self {
        if let Some(reassembly) = &config.reassembly {
            reassembly.join();
        }
        Self {
            config,
            queue,
            frames: FrameCounters::default(),
            sinks,
            scratch: Scratch::default(),
            joins: Joins::default(),
        }
    }

    /// Takes one batch of at most [`MAX_BATCH`] frames; `None` stands for a frame in more descriptors than a
    /// batch has.
    pub(crate) fn process<'a>(&mut self, mut batch: impl ExactSizeIterator<Item = Option<Captured<'a>>>) {
        loop {
            self.process_part(&mut batch);
            if batch.len() == 0 {
                return;
            }
        }
    }

    /// Takes a batch, or as much of it as the room for reassembled datagrams allows.
    #[expect(
        clippy::inline_always,
        reason = "out of line, the batch's iterator goes through memory for each frame"
    )]
    #[inline(always)]
    fn process_part<'a>(&mut self, batch: &mut impl ExactSizeIterator<Item = Option<Captured<'a>>>) {
        if !self.joins.is_empty() {
            self.joins.clear();
        }
        let mut frames = ArrayVec::<Frame<'_>, MAX_BATCH>::new();
        let counts = FrameCounters { received: batch.len() as u64, ..FrameCounters::default() };
        let mut sorting =
            Sorting { counters: &mut self.frames, batch: counts, handed_over: 0, sorted: false };
        let Selection { allow, .. } = &*self.config.selection;
        // Asked once: to read a frame's source takes bounds checks, and nearly always nothing is left to
        // refuse here.
        let refuses = !allow.is_all();
        for captured in batch.by_ref() {
            let counts = &mut sorting.batch;
            // Step by step and not as a chain of results, which would go through memory from one to the next.
            let Some(captured) = captured else {
                counts.reject(Reject::MultiDescriptor);
                continue;
            };
            counts.outer_bytes += captured.len() as u64;
            counts.multi_descriptor += u64::from(captured.is_in_several());
            let layout = match decap::decapsulate(&captured, &self.config.tunnels) {
                Ok(layout) => layout,
                Err(reason) => {
                    let (Reject::Fragment, Some(reassembly)) = (reason, &self.config.reassembly) else {
                        counts.reject(reason);
                        continue;
                    };
                    let joins = &mut self.joins;
                    if joins.collect(reassembly, captured, self.queue, frames.len(), &mut sorting) {
                        continue;
                    }
                    break;
                }
            };
            let mut frame = Frame::new(captured, layout);
            if refuses {
                // In the order of the XDP program, so that a frame that fails both has the same reason.
                if !allow.allows_source(frame.source()) {
                    counts.reject(Reject::Source);
                    continue;
                }
                if !allow.allows_vni(frame.vni()) {
                    counts.reject(Reject::Vni);
                    continue;
                }
            }
            count_decapsulated(counts, &mut frame);
            frames.push(frame);
        }
        if !self.joins.is_empty() {
            self.joins.insert(&self.config, &mut frames, &mut sorting.batch);
            // The rest of the batch, if any is left, has its turn afterwards.
            sorting.batch.received -= batch.len() as u64;
        }
        sorting.sorted = true;
        drop(sorting);
        let decapsulated = frames.len() as u64;
        self.config.selection.retain_matching(&mut frames, &mut self.scratch);
        let selected = self.config.budget.claim(frames.len() as u64);
        self.frames.selected += selected;
        let deselected = decapsulated - selected;
        frames.truncate(usize::try_from(selected).unwrap_or(usize::MAX));
        let batch = Batch::new(self.queue, &frames);
        for slot in &mut self.sinks {
            slot.counters.deselected += deselected;
            slot.offer(&batch);
        }
    }

    /// Counts frames that were read and are not looked at.
    pub(crate) fn reject(&mut self, reason: Reject, frames: u64) {
        self.frames.received += frames;
        self.frames.rejected[reason as usize] += frames;
    }

    /// Counts frames that nobody looks at any more, because the worker has died.
    #[cfg(feature = "af-xdp")]
    pub(crate) fn abandon(&mut self, frames: u64) {
        self.frames.received += frames;
        self.frames.abandoned += frames;
    }

    /// Gives each sink its tick.
    pub(crate) fn tick(&mut self, now: Instant) {
        if let Some(reassembly) = &self.config.reassembly {
            reassembly.tick(now, &mut self.frames);
        }
        self.each_live(|sink| {
            sink.tick(now);
            Ok(())
        });
    }

    /// Has each sink hand over what it buffers.
    pub(crate) fn flush(&mut self) {
        self.each_live(|sink| {
            sink.flush();
            Ok(())
        });
    }

    fn each_live(&mut self, mut f: impl FnMut(&mut dyn Sink) -> Result<(), SinkError>) {
        for slot in self.sinks.iter_mut().filter(|slot| slot.counters.end.is_none()) {
            slot.call(&mut f);
            if slot.counters.end.is_some() {
                slot.settle(0);
            }
        }
    }

    /// What it selects.
    pub(crate) fn selection(&self) -> &Selection {
        &self.config.selection
    }

    /// Whether the run has had all the frames it asked for.
    pub(crate) fn is_spent(&self) -> bool {
        self.config.budget.is_spent()
    }

    /// Shows where the worker is. Allocates only the first time, and for sinks that have ended.
    #[cfg(feature = "af-xdp")]
    pub(crate) fn publish(&mut self, counters: &mut WorkerCounters) {
        counters.frames.clone_from(&self.frames);
        counters.sinks.resize_with(self.sinks.len(), SinkCounters::default);
        for (slot, place) in self.sinks.iter_mut().zip(&mut counters.sinks) {
            slot.refresh();
            place.clone_from(&slot.counters);
        }
    }

    /// Where it is: its frames, and by position what its sinks come to so far.
    pub(crate) fn so_far(&mut self) -> (FrameCounters, Vec<SinkCounters>) {
        let so_far = |slot: &mut SinkSlot| {
            slot.refresh();
            slot.counters.clone()
        };
        (self.frames.clone(), self.sinks.iter_mut().map(so_far).collect())
    }

    /// Finishes every sink and closes the worker's account.
    pub(crate) fn finish(mut self) -> (FrameCounters, Vec<SinkCounters>) {
        if let Some(reassembly) = &self.config.reassembly {
            reassembly.leave(&mut self.frames);
        }
        (self.frames, self.sinks.into_iter().map(SinkSlot::finish).collect())
    }
}

#[cfg(test)]
mod tests;
