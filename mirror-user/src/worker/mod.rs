//! A worker: takes batches from its source, finds the inner frames, hands them to the sinks, and counts.

mod pipeline;

pub(crate) use pipeline::{Pipeline, PipelineConfig, SinkEnd, SinkOutcome, SinkSlot, panic_message};
