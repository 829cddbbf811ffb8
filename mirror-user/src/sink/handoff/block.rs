//! Blocks: records on their way from a worker to the thread and back.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use crossbeam_channel::Sender;

use super::LOSSES;
use crate::sink::origin::OriginKey;

/// Bytes for whole records, one a frame, allocated once.
#[derive(Debug)]
pub(crate) struct Block {
    bytes: Box<[u8]>,
    len: usize,
    frames: u64,
    /// For sinks that number origins: those of its records, by the number that each has in it.
    origins: Vec<OriginKey>,
}

impl Block {
    /// With this many bytes, and room for so many origins.
    pub(crate) fn new(size: usize, origins: usize) -> Self {
        // Anything but zeros: the pages are written to, so that no page fault is left for the first frames.
        let bytes = vec![0xff; size].into_boxed_slice();
        Self { bytes, len: 0, frames: 0, origins: Vec::with_capacity(origins) }
    }

    /// The records in it.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// The same, to be changed, and the origins.
    pub(crate) fn parts(&mut self) -> (&mut [u8], &[OriginKey]) {
        (&mut self.bytes[..self.len], &self.origins)
    }

    pub(crate) fn frames(&self) -> u64 {
        self.frames
    }

    /// How many origins it has so far.
    pub(crate) fn origins(&self) -> usize {
        self.origins.len()
    }

    /// Gives an origin the next number.
    pub(crate) fn add_origin(&mut self, origin: OriginKey) {
        self.origins.push(origin);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.frames == 0
    }

    #[inline]
    pub(crate) fn fits(&self, len: usize) -> bool {
        self.bytes.len() - self.len >= len
    }

    /// Adds a record of this length, if it fits, and gives the bytes to fill in.
    #[inline]
    pub(crate) fn push(&mut self, len: usize) -> Option<&mut [u8]> {
        let start = self.len;
        let record = self.bytes.get_mut(start..start.checked_add(len)?)?;
        self.len += len;
        self.frames += 1;
        Some(record)
    }

    pub(crate) fn clear(&mut self) {
        self.len = 0;
        self.frames = 0;
        self.origins.clear();
    }
}

/// What became of the frames of a block.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Outcome {
    pub(crate) written: u64,
    /// By reason, in the order of the output's [`losses`](super::HandoffConfig::losses).
    pub(crate) lost: [u64; LOSSES],
}

impl Outcome {
    pub(crate) fn total(&self) -> u64 {
        self.written + self.lost.iter().sum::<u64>()
    }
}

/// What a worker and the thread share: the way home for blocks, and what became of the frames in them.
#[derive(Debug)]
pub(crate) struct BlockReturn {
    returned: Sender<Block>,
    written: AtomicU64,
    lost: [AtomicU64; LOSSES],
    gave_up: AtomicBool,
}

impl BlockReturn {
    pub(crate) fn new(returned: Sender<Block>) -> Arc<Self> {
        let (written, lost) = (AtomicU64::new(0), [const { AtomicU64::new(0) }; LOSSES]);
        Arc::new(Self { returned, written, lost, gave_up: AtomicBool::new(false) })
    }

    /// Sends a block home with the news of its frames. Only the thread calls it.
    pub(super) fn settle(&self, mut block: Block, outcome: Outcome) {
        let add = |counter: &AtomicU64, frames| {
            counter.store(counter.load(Ordering::Relaxed) + frames, Ordering::Relaxed);
        };
        add(&self.written, outcome.written);
        self.lost.iter().zip(outcome.lost).for_each(|(counter, frames)| add(counter, frames));
        block.clear();
        // There is room for every block its worker has; a worker that is gone has no more use for it.
        drop(self.returned.try_send(block));
    }

    /// What the thread has said so far.
    pub(crate) fn outcome(&self) -> Outcome {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Outcome { written: read(&self.written), lost: self.lost.each_ref().map(read) }
    }

    /// The worker has counted as lost what is not outcome yet: nothing more of it may be written.
    pub(super) fn give_up(&self) {
        self.gave_up.store(true, Ordering::Relaxed);
    }

    pub(crate) fn has_given_up(&self) -> bool {
        self.gave_up.load(Ordering::Relaxed)
    }
}
