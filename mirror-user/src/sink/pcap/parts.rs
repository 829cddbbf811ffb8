//! A capture in parts, where one writer thread cannot keep up: each part is a capture of its own.

use std::{
    sync::PoisonError,
    time::{Duration, Instant},
};

use super::{NAME, Pcap};
use crate::{
    account::{Report, SinkHalt, SinkReport},
    frame::Batch,
    sink::{
        Sink, SinkError, SinkFactory, SinkStats, WorkerContext,
        members::{MemberStats, MemberTotals},
    },
};

/// The factory of sinks that write a capture in parts, one sink in the report with a member for each part.
///
/// Each part has its own file, or series of files, and its own writer thread. All frames of a worker, so of
/// an RX queue, are in the same part, in their order; `mergecap` merges parts by time. A part that fails
/// loses the frames of its workers only.
///
/// ```no_run
/// use mirror_user::sink::pcap::{Pcap, PcapParts, Target, part_path};
///
/// let path = "inner.pcapng".as_ref();
/// let parts = (0..2).map(|part| Pcap::builder(Target::file(part_path(path, part, 2))).build());
/// let pcap = PcapParts::new(parts.collect::<Result<_, _>>()?);
/// # Ok::<(), mirror_user::sink::pcap::PcapError>(())
/// ```
#[derive(Debug)]
pub struct PcapParts {
    parts: Vec<Pcap>,
    totals: MemberTotals,
}

impl PcapParts {
    /// A capture of these parts. With none, no sink can be built.
    #[must_use]
    pub fn new(parts: Vec<Pcap>) -> Self {
        let names = parts.iter().map(|part| part.target().to_owned()).collect();
        Self { parts, totals: MemberTotals::new(names) }
    }

    /// Memory of each worker's sink, in bytes; see [`Pcap::memory_per_worker`].
    #[must_use]
    pub fn memory_per_worker(&self, max_frame: usize) -> usize {
        self.parts.iter().map(|part| part.memory_per_worker(max_frame)).max().unwrap_or(0)
    }
}

impl SinkFactory for PcapParts {
    fn name(&self) -> &str {
        NAME
    }

    fn prepare(&self, workers: usize, cx: &WorkerContext) -> Result<(), SinkError> {
        let of_a_part = workers.div_ceil(self.parts.len().max(1));
        self.parts.iter().try_for_each(|part| part.prepare(of_a_part, cx))
    }

    fn build(&self, cx: &WorkerContext) -> Result<Box<dyn Sink>, SinkError> {
        let Some(number) = cx.worker.checked_rem(self.parts.len()) else {
            return Err(SinkError::other("a capture without parts"));
        };
        let inner = self.parts[number].build(cx)?;
        Ok(Box::new(PartSink { inner, number, published: self.totals.worker() }))
    }

    fn needs_time(&self) -> bool {
        true
    }

    /// Final only if every part has ended. One that has ended while others have not is reported by its
    /// workers, and when it is closed.
    fn halted(&self) -> Option<SinkHalt> {
        let halts: Vec<_> = self.parts.iter().map(SinkFactory::halted).collect();
        let all_ended = halts.iter().all(|halt| halt.as_ref().is_some_and(SinkHalt::is_final));
        halts.into_iter().flatten().find(|halt| halt.is_final() == all_ended)
    }

    fn lag(&self) -> Option<Duration> {
        self.parts.iter().filter_map(SinkFactory::lag).max()
    }

    fn report(&self, entry: &mut SinkReport, _: &mut Report) {
        entry.members = self.totals.report();
        for (member, part) in entry.members.iter_mut().zip(&self.parts) {
            member.reason = part.halted().map(|halt| halt.reason);
        }
    }

    /// Completes every part, also after one that cannot be completed; the error is that of the first.
    fn close(&self, report: &Report) -> Result<(), SinkError> {
        let ends: Vec<_> = self.parts.iter().map(|part| part.close(report)).collect();
        ends.into_iter().collect()
    }
}

/// The sink of one worker: that of its part, with its counts published.
struct PartSink {
    inner: Box<dyn Sink>,
    number: usize,
    /// Counts that other threads read.
    published: MemberStats,
}

impl PartSink {
    fn publish(&self, counts: &mut [SinkStats]) {
        if let Some(count) = counts.get_mut(self.number) {
            *count = self.inner.stats();
        }
    }
}

impl Sink for PartSink {
    fn batch(&mut self, batch: &Batch<'_>) -> Result<(), SinkError> {
        self.inner.batch(batch)
    }

    fn tick(&mut self, now: Instant) {
        self.inner.tick(now);
        // If a reader holds the lock, the next tick publishes.
        if let Ok(mut counts) = self.published.try_lock() {
            self.publish(&mut counts);
        }
    }

    fn is_behind(&self) -> bool {
        self.inner.is_behind()
    }

    fn flush(&mut self) {
        self.inner.flush();
    }

    fn leave(&mut self) -> bool {
        self.inner.leave()
    }

    fn stats(&self) -> SinkStats {
        self.inner.stats()
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        let finished = self.inner.finish();
        self.publish(&mut self.published.lock().unwrap_or_else(PoisonError::into_inner));
        finished
    }
}
