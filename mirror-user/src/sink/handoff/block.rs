//! Blocks: buffers of records that go from a worker to the thread and back.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
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
    /// For sinks that number origins: the origins of its records, by number.
    origins: Vec<OriginKey>,
}

impl Block {
    /// A block with room for this many bytes and origins.
    pub(crate) fn new(size: usize, origins: usize) -> Self {
        // Not zeros, so that every page is written now and the first frames cause no page faults.
        let bytes = vec![0xff; size].into_boxed_slice();
        Self { bytes, len: 0, frames: 0, origins: Vec::with_capacity(origins) }
    }

    /// The records in it.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// The records, mutable, and the origins.
    pub(crate) fn parts(&mut self) -> (&mut [u8], &[OriginKey]) {
        (&mut self.bytes[..self.len], &self.origins)
    }

    pub(crate) fn frames(&self) -> u64 {
        self.frames
    }

    /// Number of origins so far.
    pub(crate) fn origins(&self) -> usize {
        self.origins.len()
    }

    /// Assigns the next number to an origin.
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

    /// Adds a record of this length and returns its bytes; `None` if it does not fit.
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

/// The blocks of workers to come, and of those that have gone: to take memory, and to give it back, takes a
/// worker in the midst of its frames too long.
#[derive(Clone, Debug, Default)]
pub(crate) struct Spare(Arc<Mutex<Vec<Vec<Block>>>>);

impl Spare {
    pub(super) fn put(&self, blocks: Vec<Block>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(blocks);
    }

    pub(super) fn take(&self) -> Option<Vec<Block>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }
}

/// How many frames of a block were written, dropped and failed.
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

/// Shared by a worker and the thread: the channel that returns blocks, and the outcome of their frames.
#[derive(Debug)]
pub(crate) struct BlockReturn {
    returned: Sender<Block>,
    /// Blocks that are in the channel as a whole, or were.
    given_back: AtomicUsize,
    written: AtomicU64,
    lost: [AtomicU64; LOSSES],
    discarded: AtomicBool,
    /// Blocks that the worker has sent, and when it sent each that is not back, in ns since `epoch`.
    sent: AtomicUsize,
    sent_at: Box<[AtomicU64]>,
    epoch: Instant,
}

impl BlockReturn {
    /// For a worker with this many blocks.
    pub(crate) fn new(returned: Sender<Block>, blocks: usize) -> Arc<Self> {
        let (written, lost) = (AtomicU64::new(0), [const { AtomicU64::new(0) }; LOSSES]);
        let (given_back, discarded) = (AtomicUsize::new(0), AtomicBool::new(false));
        let sent_at = (0..blocks).map(|_| AtomicU64::new(0)).collect();
        let (sent, epoch) = (AtomicUsize::new(0), Instant::now());
        Arc::new(Self { returned, given_back, written, lost, discarded, sent, sent_at, epoch })
    }

    /// Notes that the worker has sent a block. Called by the worker only.
    pub(super) fn note_sent(&self, at: Instant) {
        let nth = self.sent.load(Ordering::Relaxed);
        let since = u64::try_from(at.saturating_duration_since(self.epoch).as_nanos()).unwrap_or(u64::MAX);
        // No more blocks than there are places can be on their way.
        if let Some(place) = self.sent_at.get(nth.checked_rem(self.sent_at.len()).unwrap_or(0)) {
            place.store(since, Ordering::Relaxed);
        }
        self.sent.store(nth + 1, Ordering::Release);
    }

    /// For how long the oldest block waits that is not back, if the thread returns blocks in their sequence;
    /// `None` if all are back. From any thread.
    pub(super) fn lag(&self) -> Option<Duration> {
        let back = self.given_back();
        if back >= self.sent.load(Ordering::Acquire) {
            return None;
        }
        let place = self.sent_at.get(back.checked_rem(self.sent_at.len())?)?;
        let sent_at = self.epoch.checked_add(Duration::from_nanos(place.load(Ordering::Relaxed)))?;
        Some(sent_at.elapsed())
    }

    /// Counts the outcome of a block and returns the block to its worker. Called by the thread only.
    pub(crate) fn give_back(&self, mut block: Block, outcome: Outcome) {
        debug_assert_eq!(outcome.total(), block.frames(), "every frame of a block has an outcome");
        let add = |counter: &AtomicU64, frames| {
            counter.store(counter.load(Ordering::Relaxed) + frames, Ordering::Relaxed);
        };
        add(&self.written, outcome.written);
        self.lost.iter().zip(outcome.lost).for_each(|(counter, frames)| add(counter, frames));
        block.clear();
        // The channel has room for every block of the worker. A worker that has ended needs none.
        drop(self.returned.try_send(block));
        self.given_back.fetch_add(1, Ordering::Release);
    }

    /// How many blocks the worker can receive, or has received, without waiting for the thread.
    pub(super) fn given_back(&self) -> usize {
        self.given_back.load(Ordering::Acquire)
    }

    /// The outcome of all blocks returned so far.
    pub(crate) fn outcome(&self) -> Outcome {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Outcome { written: read(&self.written), lost: self.lost.each_ref().map(read) }
    }

    /// The worker has counted frames without an outcome as failed: the thread must not write them any more.
    pub(super) fn discard_rest(&self) {
        self.discarded.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_discarded(&self) -> bool {
        self.discarded.load(Ordering::Relaxed)
    }
}
