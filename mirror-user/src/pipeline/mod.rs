//! From outer frames to sinks: the part of a worker that rings and files share.

mod close;
mod fragments;
mod place;
mod slot;
mod sorting;

use std::{sync::Arc, time::Instant};

use arrayvec::ArrayVec;
#[cfg(feature = "af-xdp")]
pub(crate) use close::halted;
pub(crate) use close::{add_sinks, close_sinks};
use fragments::Joins;
pub(crate) use fragments::SharedReassembler;
use place::Place;
pub(crate) use slot::SinkSlot;
use sorting::{Sorting, count_decapsulated};

#[cfg(feature = "af-xdp")]
use crate::account::WorkerCounters;
use crate::{
    account::{FrameCounters, Reject, SinkCounters},
    decap,
    frame::{Batch, Captured, Frame, MAX_BATCH},
    select::{Allow, Budget, Scratch, Selection},
    sink::{Sink, SinkError},
    tunnels::Tunnels,
};

/// What the pipelines of a run share.
#[derive(Clone, Debug)]
pub(crate) struct PipelineConfig {
    /// Tunnels to decapsulate.
    pub(crate) tunnels: Tunnels,
    /// What the worker selects; if the XDP program has filtered VNIs and sources already, all of these.
    pub(crate) selection: Arc<Selection>,
    pub(crate) budget: Arc<Budget>,
    /// The reassembler; `None` to reject fragments.
    pub(crate) reassembly: Option<Arc<SharedReassembler>>,
}

/// Whether a frame's source and VNI are selected. In the sequence of the XDP program, so that a frame with
/// neither has the same reason.
fn check(allow: &Allow, frame: &Frame<'_>) -> Result<(), Reject> {
    if !allow.allows_source(frame.source()) {
        return Err(Reject::Source);
    }
    if !allow.allows_vni(frame.vni()) {
        return Err(Reject::Vni);
    }
    Ok(())
}

/// Decapsulates, selects, dispatches, counts.
pub(crate) struct Pipeline {
    config: PipelineConfig,
    queue: u32,
    frames: FrameCounters,
    sinks: Vec<Place>,
    scratch: Scratch,
    joins: Joins,
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
            sinks: sinks.into_iter().map(Place::new).collect(),
            scratch: Scratch::default(),
            joins: Joins::default(),
        }
    }

    /// Processes a batch of at most [`MAX_BATCH`] frames; `None` stands for a frame in more descriptors than
    /// a batch has.
    pub(crate) fn process<'a>(&mut self, mut batch: impl ExactSizeIterator<Item = Option<Captured<'a>>>) {
        loop {
            self.process_part(&mut batch);
            if batch.len() == 0 {
                return;
            }
        }
    }

    /// Processes a batch, or as much of it as the buffer of reassembled datagrams allows.
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
        // Read once: to read a frame's source takes bounds checks, and nearly always there is nothing to
        // filter here.
        let refuses = !allow.is_all();
        for captured in batch.by_ref() {
            let counts = &mut sorting.batch;
            // Not as a chain of results, which would be passed through memory.
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
            // In its place at once: a frame that is built elsewhere is written twice.
            assert!(frames.try_push(Frame::new(captured, layout)).is_ok(), "more than {MAX_BATCH} frames");
            let Some(frame) = frames.last_mut() else { continue };
            if refuses && let Err(reason) = check(allow, frame) {
                counts.reject(reason);
                frames.pop();
                continue;
            }
            count_decapsulated(counts, frame);
        }
        if !self.joins.is_empty() {
            self.joins.insert(&self.config.tunnels, allow, &mut frames, &mut sorting.batch);
            // The rest of the batch, if any, is processed next.
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
        for place in &mut self.sinks {
            place.offer(&batch, deselected);
        }
    }

    /// Counts frames that were read and are not decapsulated.
    pub(crate) fn reject(&mut self, reason: Reject, frames: u64) {
        self.frames.received += frames;
        self.frames.rejected[reason as usize] += frames;
    }

    /// Counts frames that are not processed, because the worker has panicked.
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

    /// Whether the output of a sink is late.
    #[cfg(feature = "af-xdp")]
    pub(crate) fn is_behind(&mut self) -> bool {
        let mut behind = false;
        self.each_live(|sink| {
            behind |= sink.is_behind();
            Ok(())
        });
        behind
    }

    /// Flushes each sink.
    pub(crate) fn flush(&mut self) {
        self.each_live(|sink| {
            sink.flush();
            Ok(())
        });
    }

    fn each_live(&mut self, mut f: impl FnMut(&mut dyn Sink) -> Result<(), SinkError>) {
        let slots = self.sinks.iter_mut().flat_map(Place::each);
        for slot in slots.filter(|slot| slot.counters.end.is_none()) {
            slot.call(&mut f);
            if slot.counters.end.is_some() {
                slot.settle(0);
            }
        }
    }

    /// Takes another selection from the next batch on, and puts sinks into their places, or none; those that
    /// were there leave.
    #[cfg(feature = "af-xdp")]
    pub(crate) fn change(
        &mut self,
        selection: Option<Arc<Selection>>,
        sinks: impl IntoIterator<Item = (usize, Option<SinkSlot>)>,
    ) {
        if let Some(selection) = selection {
            self.config.selection = selection;
        }
        for (position, sink) in sinks {
            while self.sinks.len() <= position {
                // Added now: it was not there for the frames before.
                let mut place = Place::default();
                place.miss(self.frames.decapsulated);
                self.sinks.push(place);
            }
            self.sinks[position].put(sink);
        }
    }

    /// Gives sinks other selections from the next batch on.
    #[cfg(feature = "af-xdp")]
    pub(crate) fn reselect(&mut self, selections: impl IntoIterator<Item = (usize, Arc<Selection>)>) {
        for (position, selection) in selections {
            if let Some(place) = self.sinks.get_mut(position) {
                place.reselect(selection);
            }
        }
    }

    /// Lets sinks go whose frames have all reached the output, and says how many are left that are leaving.
    #[cfg(feature = "af-xdp")]
    pub(crate) fn settle(&mut self) -> usize {
        self.sinks.iter_mut().for_each(Place::settle);
        self.sinks.iter().map(Place::leaving).sum()
    }

    /// The selection of the worker.
    pub(crate) fn selection(&self) -> &Selection {
        &self.config.selection
    }

    /// Whether the run's budget of frames is used up.
    pub(crate) fn is_spent(&self) -> bool {
        self.config.budget.is_spent()
    }

    /// Publishes the worker's counters. Allocates only the first time, and for sinks that have ended.
    #[cfg(feature = "af-xdp")]
    pub(crate) fn publish(&mut self, counters: &mut WorkerCounters) {
        counters.frames.clone_from(&self.frames);
        counters.sinks.resize_with(self.sinks.len(), SinkCounters::default);
        for (place, counters) in self.sinks.iter_mut().zip(&mut counters.sinks) {
            place.count(counters);
        }
    }

    /// The counters so far: of the frames, and of the sinks by position.
    pub(crate) fn so_far(&mut self) -> (FrameCounters, Vec<SinkCounters>) {
        let so_far = |place: &mut Place| {
            let mut counters = SinkCounters::default();
            place.count(&mut counters);
            counters
        };
        (self.frames.clone(), self.sinks.iter_mut().map(so_far).collect())
    }

    /// Finishes every sink and returns the final counters.
    pub(crate) fn finish(mut self) -> (FrameCounters, Vec<SinkCounters>) {
        if let Some(reassembly) = &self.config.reassembly {
            reassembly.leave(&mut self.frames);
        }
        (self.frames, self.sinks.into_iter().map(Place::finish).collect())
    }
}

#[cfg(test)]
mod tests;
