//! A worker: takes batches from its source, finds the inner frames, hands them to the sinks, and counts.

#[cfg(feature = "af-xdp")]
mod clock;
mod pipeline;
#[cfg(feature = "af-xdp")]
mod ring;

pub(crate) use pipeline::{Pipeline, PipelineConfig, SharedReassembler, SinkSlot};
#[cfg(feature = "af-xdp")]
pub(crate) use ring::{Control, Published, RingConfig, RingOutcome, RingWorker};
