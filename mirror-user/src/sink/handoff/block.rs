//! Blocks: records on their way from a worker to the thread and back.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use crossbeam_channel::Sender;

use super::LOSSES;

/// Bytes for whole records, one a frame, allocated once.
#[derive(Debug)]
pub(crate) struct Block {
    bytes: Box<[u8]>,
    len: usize,
    frames: u64,
    /// The highest mark of its records, plus one.
    marks: usize,
}

impl Block {
    pub(crate) fn new(size: usize) -> Self {
        // Anything but zeros: the pages are written to, so that no page fault is left for the first frames.
        Self { bytes: vec![0xff; size].into_boxed_slice(), len: 0, frames: 0, marks: 0 }
    }

    /// The records in it.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    pub(crate) fn frames(&self) -> u64 {
        self.frames
    }

    /// One more than the highest mark that came with a record; 0 for an empty block.
    pub(crate) fn marks(&self) -> usize {
        self.marks
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.frames == 0
    }

    pub(crate) fn fits(&self, len: usize) -> bool {
        self.bytes.len() - self.len >= len
    }

    /// Adds a record of this length, if it fits, and gives the bytes to fill in. What a mark means is the sink's to say.
    pub(crate) fn push(&mut self, len: usize, mark: u32) -> Option<&mut [u8]> {
        let start = self.len;
        let record = self.bytes.get_mut(start..start.checked_add(len)?)?;
        self.len += len;
        self.frames += 1;
        self.marks = self.marks.max(mark as usize + 1);
        Some(record)
    }

    pub(crate) fn clear(&mut self) {
        self.len = 0;
        self.frames = 0;
        self.marks = 0;
    }
}

/// What became of the frames of a block.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Settled {
    pub(crate) written: u64,
    /// By reason, in the order of the output's [`losses`](super::Terms::losses).
    pub(crate) lost: [u64; LOSSES],
}

impl Settled {
    pub(crate) fn total(&self) -> u64 {
        self.written + self.lost.iter().sum::<u64>()
    }
}

/// What a worker and the thread share: the way home for blocks, and what became of the frames in them.
#[derive(Debug)]
pub(crate) struct Owner {
    returned: Sender<Block>,
    written: AtomicU64,
    lost: [AtomicU64; LOSSES],
    gave_up: AtomicBool,
}

impl Owner {
    pub(crate) fn new(returned: Sender<Block>) -> Arc<Self> {
        let (written, lost) = (AtomicU64::new(0), [const { AtomicU64::new(0) }; LOSSES]);
        Arc::new(Self { returned, written, lost, gave_up: AtomicBool::new(false) })
    }

    /// Sends a block home with the news of its frames. Only the thread calls it.
    pub(super) fn settle(&self, mut block: Block, settled: Settled) {
        let add = |counter: &AtomicU64, frames| {
            counter.store(counter.load(Ordering::Relaxed) + frames, Ordering::Relaxed);
        };
        add(&self.written, settled.written);
        self.lost.iter().zip(settled.lost).for_each(|(counter, frames)| add(counter, frames));
        block.clear();
        // There is room for every block its worker has; a worker that is gone has no more use for it.
        drop(self.returned.try_send(block));
    }

    /// What the thread has said so far.
    pub(crate) fn settled(&self) -> Settled {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Settled { written: read(&self.written), lost: self.lost.each_ref().map(read) }
    }

    /// The worker has counted as lost what is not settled yet: nothing more of it may be written.
    pub(super) fn give_up(&self) {
        self.gave_up.store(true, Ordering::Relaxed);
    }

    pub(crate) fn has_given_up(&self) -> bool {
        self.gave_up.load(Ordering::Relaxed)
    }
}
