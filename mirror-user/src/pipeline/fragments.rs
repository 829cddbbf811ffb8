//! Fragments in a pipeline: they go to the reassembler that the run's pipelines share, and come back as whole
//! frames.

use std::{
    fmt,
    ops::Range,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use arrayvec::ArrayVec;

use super::{
    check,
    sorting::{Sorting, count_decapsulated},
};
use crate::{
    account::{FrameCounters, Reject, Rejections},
    decap,
    frame::{Captured, Frame, MAX_BATCH},
    reassembly::{JOINED, MAX_JOINED, Outcome, Reassembler},
    select::Allow,
    tunnels::Tunnels,
};

/// The reassembler of a run. One lock for all workers, because the fragments of a datagram may arrive on
/// different queues. A worker without fragments never takes it.
pub(crate) struct SharedReassembler {
    table: Mutex<Reassembler>,
    clock: Clock,
    /// Pipelines that have yet to finish: the last one accounts for the fragments still held.
    pipelines: AtomicUsize,
}

/// The clock by which fragments expire.
#[derive(Clone, Copy, Debug)]
enum Clock {
    /// The time of the frames: capture files give the same result at any time.
    Frames,
    /// Time since this instant: the host's clock may be set during a run.
    #[cfg_attr(
        not(feature = "af-xdp"),
        expect(dead_code, reason = "only on interfaces they are received now")
    )]
    Since(Instant),
}

impl SharedReassembler {
    /// For frames that are received now, by this many workers.
    #[cfg(feature = "af-xdp")]
    pub(crate) fn live(tunnels: &Tunnels, workers: usize) -> Arc<Self> {
        Self::new(tunnels, workers, Clock::Since(Instant::now()))
    }

    /// For frames that were received at another time, by one pipeline.
    pub(crate) fn recorded(tunnels: &Tunnels) -> Arc<Self> {
        Self::new(tunnels, 1, Clock::Frames)
    }

    fn new(tunnels: &Tunnels, workers: usize, clock: Clock) -> Arc<Self> {
        let table = Mutex::new(Reassembler::new(tunnels.clone(), workers));
        Arc::new(Self { table, clock, pipelines: AtomicUsize::new(0) })
    }

    fn insert(&self, captured: &Captured<'_>, queue: u32, joined: &mut Vec<u8>) -> (Outcome, Rejections) {
        let now = match self.clock {
            Clock::Frames => captured.time(),
            Clock::Since(start) => elapsed(start, Instant::now()),
        };
        // A fragment that is itself in several descriptors is copied once more.
        let bytes = captured.bytes().to_contiguous();
        let mut table = self.lock();
        let outcome = table.insert(&bytes, captured.wire_len(), queue, now, joined);
        (outcome, table.take_rejections())
    }

    /// Rejects fragments that have waited too long, unless the frames' times decide that.
    pub(super) fn tick(&self, now: Instant, counters: &mut FrameCounters) {
        if let Clock::Since(start) = self.clock {
            let mut table = self.lock();
            table.expire(elapsed(start, now));
            counters.add_rejected(&table.take_rejections());
        }
    }

    pub(super) fn join(&self) {
        self.pipelines.fetch_add(1, Ordering::Relaxed);
    }

    /// A pipeline has ended.
    pub(super) fn leave(&self, counters: &mut FrameCounters) {
        // The last one sees all entries of the others: they unlocked the table before they left.
        if self.pipelines.fetch_sub(1, Ordering::AcqRel) == 1 {
            let mut table = self.lock();
            table.clear();
            counters.add_rejected(&table.take_rejections());
        }
    }

    /// After a panic with the lock held, the table is consistent or, at worst, the law has a residue.
    fn lock(&self) -> MutexGuard<'_, Reassembler> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for SharedReassembler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedReassembler").field("clock", &self.clock).finish_non_exhaustive()
    }
}

fn elapsed(start: Instant, now: Instant) -> u64 {
    u64::try_from(now.saturating_duration_since(start).as_nanos()).unwrap_or(u64::MAX)
}

/// Datagrams that were completed within a batch, and where in it.
#[derive(Debug, Default)]
pub(super) struct Joins {
    bytes: Vec<u8>,
    whole: Vec<Whole>,
}

#[derive(Debug)]
struct Whole {
    bytes: Range<usize>,
    /// Frames of the batch that come before it.
    position: usize,
    time: u64,
}

impl Joins {
    pub(super) fn is_empty(&self) -> bool {
        self.whole.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.whole.clear();
    }

    /// Gives a fragment to the reassembler, by value: see [`decap::decapsulate`]. Returns whether there is
    /// room for another datagram.
    #[cold]
    #[inline(never)]
    pub(super) fn collect(
        &mut self,
        shared: &SharedReassembler,
        captured: Captured<'_>,
        queue: u32,
        position: usize,
        sorting: &mut Sorting<'_>,
    ) -> bool {
        let start = self.bytes.len();
        let (outcome, rejected) = shared.insert(&captured, queue, &mut self.bytes);
        // These may be of earlier batches: they count even if this batch is abandoned.
        sorting.counters.add_rejected(&rejected);
        match outcome {
            Outcome::Taken => sorting.handed_over += 1,
            Outcome::Complete { frames } => {
                sorting.counters.fragments_consumed += frames - 1;
                sorting.counters.reassembled += u64::from(frames > 1);
                let bytes = start..self.bytes.len();
                self.whole.push(Whole { bytes, position, time: captured.time() });
            }
        }
        self.bytes.len() + MAX_JOINED <= JOINED
    }

    /// Puts the frames of whole datagrams where their last fragments were.
    #[cold]
    #[inline(never)]
    pub(super) fn insert<'b>(
        &'b self,
        tunnels: &Tunnels,
        allow: &Allow,
        frames: &mut ArrayVec<Frame<'b>, MAX_BATCH>,
        counts: &mut FrameCounters,
    ) {
        let mut inserted = 0;
        for Whole { bytes, position, time } in &self.whole {
            let bytes = &self.bytes[bytes.clone()];
            let wire_len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
            match sort(Captured::new(bytes, wire_len, *time), tunnels, allow) {
                Ok(mut frame) => {
                    count_decapsulated(counts, &mut frame);
                    frames.insert(position + inserted, frame);
                    inserted += 1;
                }
                Err(reason) => counts.reject(reason),
            }
        }
    }
}

/// What `Pipeline::process` does to a frame; these are far fewer.
fn sort<'b>(captured: Captured<'b>, tunnels: &Tunnels, allow: &Allow) -> Result<Frame<'b>, Reject> {
    let frame = decap::decapsulate_frame(captured, tunnels)?;
    check(allow, &frame)?;
    Ok(frame)
}
