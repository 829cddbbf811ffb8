//! A sink's place in a worker: the sink of that name, those of that name that are leaving, and what was
//! counted of all that have left.

#[cfg(feature = "af-xdp")]
use std::sync::Arc;

use super::slot::SinkSlot;
#[cfg(feature = "af-xdp")]
use crate::select::Selection;
use crate::{account::SinkCounters, frame::Batch};

/// The place of a sink.
#[derive(Default)]
pub(crate) struct Place {
    present: Option<SinkSlot>,
    /// Removed, with frames that are still on their way to the output.
    leaving: Vec<SinkSlot>,
    /// Of those that have left, and of the frames that came while there was no sink.
    past: SinkCounters,
}

impl Place {
    pub(super) fn new(sink: SinkSlot) -> Self {
        Self { present: Some(sink), ..Self::default() }
    }

    /// Hands a batch over, of which so many frames were not selected before.
    pub(super) fn offer(&mut self, batch: &Batch<'_>, deselected: u64) {
        match &mut self.present {
            Some(slot) => {
                slot.counters.deselected += deselected;
                slot.offer(batch);
            }
            None => self.past.absent += batch.len() as u64 + deselected,
        }
    }

    /// Counts frames that came before the place was made.
    #[cfg(feature = "af-xdp")]
    pub(super) fn miss(&mut self, frames: u64) {
        self.past.absent += frames;
    }

    /// Puts a sink here, or none. The one that was here leaves.
    #[cfg(feature = "af-xdp")]
    pub(super) fn put(&mut self, sink: Option<SinkSlot>) {
        if let Some(before) = std::mem::replace(&mut self.present, sink) {
            self.leaving.push(before);
        }
    }

    /// Gives the sink here another selection.
    #[cfg(feature = "af-xdp")]
    pub(super) fn reselect(&mut self, selection: Arc<Selection>) {
        if let Some(slot) = &mut self.present {
            slot.selection = Some(selection);
        }
    }

    /// The sinks that get frames, or have some.
    pub(super) fn each(&mut self) -> impl Iterator<Item = &mut SinkSlot> {
        self.present.iter_mut().chain(&mut self.leaving)
    }

    /// Lets sinks go whose frames have all reached the output.
    #[cfg(feature = "af-xdp")]
    pub(super) fn settle(&mut self) {
        let Some(left) = self.leaving.iter_mut().position(SinkSlot::has_left) else { return };
        // One each time: it takes the worker's time.
        self.past.add(&self.leaving.swap_remove(left).finish());
    }

    /// Sinks that are still leaving.
    #[cfg(feature = "af-xdp")]
    pub(super) fn leaving(&self) -> usize {
        self.leaving.len()
    }

    /// The counts so far, into a place that is reused.
    pub(super) fn count(&mut self, counters: &mut SinkCounters) {
        counters.clone_from(&self.past);
        for slot in self.each() {
            slot.refresh();
            counters.add(&slot.counters);
        }
    }

    /// Finishes all sinks, which may wait for their outputs.
    pub(super) fn finish(self) -> SinkCounters {
        let Self { present, leaving, mut past } = self;
        present.into_iter().chain(leaving).for_each(|slot| past.add(&slot.finish()));
        past
    }
}
