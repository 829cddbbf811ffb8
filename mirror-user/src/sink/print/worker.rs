//! The sink of one worker: frames into blocks, and in front of each how many are missing.

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

/// Bytes in front of the record of a frame: how many frames before it were left out.
const HEAD: usize = size_of::<u64>();

/// Bytes that a frame of this many bytes takes in a block.
pub(super) fn record_len(frame: usize) -> usize {
    HEAD + record::len_of(frame)
}

pub(super) struct PrintSink {
    blocks: BlockWriter,
    /// Frames dropped since the last that was not.
    left_out: u64,
    left_out_last: Arc<AtomicU64>,
}

impl PrintSink {
    pub(super) fn new(blocks: BlockWriter, left_out_last: Arc<AtomicU64>) -> Self {
        Self { blocks, left_out: 0, left_out_last }
    }
}

impl Sink for PrintSink {
    fn batch(&mut self, batch: &Batch<'_>) -> Result<(), SinkError> {
        self.blocks.begin_batch()?;
        for frame in batch {
            // No sink uses marks unless it wants to.
            let Some(out) = self.blocks.push(HEAD + record::len(frame)) else {
                self.left_out += 1;
                continue;
            };
            let (head, out) = out.split_at_mut(HEAD);
            head.copy_from_slice(&self.left_out.to_le_bytes());
            record::put(frame, out);
            self.left_out = 0;
        }
        Ok(())
    }

    fn tick(&mut self, now: Instant) {
        self.blocks.tick(now);
    }

    fn flush(&mut self) {
        self.blocks.flush();
    }

    fn stats(&self) -> SinkStats {
        self.blocks.stats()
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        self.left_out_last.fetch_add(std::mem::take(&mut self.left_out), Ordering::Relaxed);
        self.blocks.finish()
    }
}

/// The frames of a block, each with how many were left out before it.
pub(super) fn frames(mut records: &[u8]) -> impl Iterator<Item = (u64, Frame<'_>)> {
    std::iter::from_fn(move || {
        let (head, rest) = records.split_first_chunk()?;
        let frame = record::frames(rest).next()?;
        records = rest.get(record::len(&frame)..)?;
        Some((u64::from_le_bytes(*head), frame))
    })
}
