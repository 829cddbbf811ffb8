//! A sink that does nothing: what remains is the pipeline before it.

use mirror_user::{
    Batch,
    sink::{Sink, SinkError, SinkFactory, SinkStats, WorkerContext},
};

/// Accepts batches and reads nothing of them.
#[derive(Debug)]
pub(crate) struct Null;

#[derive(Debug, Default)]
struct NullSink {
    frames: u64,
}

const NULL: &str = "null";

impl SinkFactory for Null {
    fn name(&self) -> &str {
        NULL
    }

    fn build(&self, _: &WorkerContext) -> Result<Box<dyn Sink>, SinkError> {
        Ok(Box::<NullSink>::default())
    }
}

impl Sink for NullSink {
    fn batch(&mut self, batch: &Batch<'_>) -> Result<(), SinkError> {
        self.frames += batch.len() as u64;
        Ok(())
    }

    fn stats(&self) -> SinkStats {
        SinkStats { written: self.frames, ..SinkStats::default() }
    }
}
