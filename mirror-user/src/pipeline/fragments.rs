//! Fragments on their way through a pipeline: to the reassembler that the run's pipelines share, and back as
//! whole frames.

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

use super::sorting::{Sorting, count_decapsulated};
use crate::{
    account::{FrameCounters, Reject, Rejections},
    decap,
    frame::{Captured, Frame, MAX_BATCH},
    reassembly::{JOINED, MAX_JOINED, Outcome, Reassembler},
    select::Allow,
    tunnels::Tunnels,
};

/// The reassembler of a run. One lock for all workers: the fragments of a datagram may come by different
/// queues, and who has no fragments never asks for it.
pub(crate) struct SharedReassembler {
    table: Mutex<Reassembler>,
    clock: Clock,
    /// Pipelines that have yet to finish: the last one accounts for what is held.
    pipelines: AtomicUsize,
}

/// By which time fragments are waited for.
#[derive(Clone, Copy, Debug)]
enum Clock {
    /// That of the frames: over capture files the same frames come out whatever the hour.
    Frames,
    /// Time since this: the host's clock may be set while frames come.
    #[cfg_attr(
        not(feature = "af-xdp"),
        expect(dead_code, reason = "only on interfaces they are received now")
    )]
    Since(Instant),
}

impl SharedReassembler {
    /// For frames that are received now, by so many workers.
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

    /// Gives up what has waited too long, where that is not known from frames.
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

    /// A pipeline takes no more frames.
    pub(super) fn leave(&self, counters: &mut FrameCounters) {
        // The last one sees what the others have left in the table: they have unlocked it before they left.
        if self.pipelines.fetch_sub(1, Ordering::AcqRel) == 1 {
            let mut table = self.lock();
            table.clear();
            counters.add_rejected(&table.take_rejections());
        }
    }

    /// A worker that panicked with the lock leaves a table that is whole or, at worst, a residue.
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

/// Datagrams that became whole within a batch, and where in it.
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

    /// Hands a fragment over, by value: see [`decap::decapsulate`]. Whether there is room for another
    /// datagram.
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
        // These are of earlier batches too: they stand whatever becomes of this one.
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
    if !allow.allows_source(frame.source()) {
        return Err(Reject::Source);
    }
    if !allow.allows_vni(frame.vni()) {
        return Err(Reject::Vni);
    }
    Ok(frame)
}
