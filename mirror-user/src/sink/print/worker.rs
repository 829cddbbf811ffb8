//! The sink of one worker: copies frames into blocks, each with the number of frames dropped before it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use crate::{
    frame::{Batch, Frame},
    sink::{
        Sink, SinkError, SinkStats,
        handoff::{BlockWriter, record},
    },
};

/// Bytes before the record of a frame: the number of frames dropped before it.
const HEAD: usize = size_of::<u64>();

/// Bytes that a frame of this many bytes takes in a block.
pub(super) fn record_len(frame: usize) -> usize {
    HEAD + record::len_of(frame)
}

pub(super) struct PrintSink {
    blocks: BlockWriter,
    /// Frames dropped since the last frame that was not.
    dropped: u64,
    dropped_last: Arc<AtomicU64>,
}

impl PrintSink {
    pub(super) fn new(blocks: BlockWriter, dropped_last: Arc<AtomicU64>) -> Self {
        Self { blocks, dropped: 0, dropped_last }
    }
}

impl Sink for PrintSink {
    fn batch(&mut self, batch: &Batch<'_>) -> Result<(), SinkError> {
        self.blocks.begin_batch()?;
        for frame in batch {
            let Some(out) = self.blocks.push(HEAD + record::len(frame)) else {
                self.dropped += 1;
                continue;
            };
            let (head, out) = out.split_at_mut(HEAD);
            head.copy_from_slice(&self.dropped.to_le_bytes());
            record::put(frame, out);
            self.dropped = 0;
        }
        Ok(())
    }

    fn tick(&mut self, now: Instant) {
        self.blocks.tick(now);
    }

    fn is_behind(&self) -> bool {
        self.blocks.is_behind()
    }

    fn flush(&mut self) {
        self.blocks.flush();
    }

    fn leave(&mut self) -> bool {
        self.blocks.leave()
    }

    fn stats(&self) -> SinkStats {
        self.blocks.stats()
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        self.dropped_last.fetch_add(std::mem::take(&mut self.dropped), Ordering::Relaxed);
        self.blocks.finish()
    }
}

/// The frames of a block, each with the number of frames dropped before it.
pub(super) fn frames(mut records: &[u8]) -> impl Iterator<Item = (u64, Frame<'_>)> {
    std::iter::from_fn(move || {
        let (head, rest) = records.split_first_chunk()?;
        let frame = record::frames(rest).next()?;
        records = rest.get(record::len(&frame)..)?;
        Some((u64::from_le_bytes(*head), frame))
    })
}
