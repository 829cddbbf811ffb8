//! Frames and bytes per origin, in bounded memory for any number of origins.

use std::{
    cmp::Reverse,
    collections::HashMap,
    hash::BuildHasher,
    mem,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Instant,
};

use foldhash::fast::RandomState;

use super::{
    Sink, SinkError, SinkFactory, SinkNeeds, SinkStats, WorkerContext,
    directions::{self, Seen},
    distinct::DistinctBits,
    origin::{OriginKey, OriginNames},
};
use crate::{
    account::{ForwardedOrigins, Origin, OtherOrigins, Report, SessionReport, SinkReport},
    frame::Batch,
    mirroring::SessionTable,
};

/// Counts inner frames and bytes for each origin: outer source, VNI, and endpoint of a Gateway Load Balancer.
///
/// A worker's table has room for a fixed number of origins, allocated before the first frame. When it is
/// full, the origins with the fewest frames, at most half of the table, are evicted: their counts go to
/// [`Report::origins_other`]. So a flood of random VNIs costs no memory, the heaviest origins stay, and sums
/// are exact. [`Origin::at_least`] marks origins that may have been evicted before: their earlier frames are
/// in that bucket.
#[derive(Debug)]
pub struct Counters {
    max_origins: usize,
    /// Keyed anew in each process, because senders choose addresses and VNIs and could aim at one bucket of
    /// the table. Workers share the key, so that their bitmaps can be merged.
    hasher: RandomState,
    names: OriginNames,
    workers: Mutex<Vec<Arc<Published>>>,
}

/// What one worker has published; no other thread writes it.
#[derive(Debug)]
struct Published {
    frames: AtomicU64,
    inner_bytes: AtomicU64,
    origins: AtomicU64,
    /// Whether the copy of the table has been read.
    was_read: AtomicBool,
    table: Mutex<PublishedTable>,
}

/// A copy of a worker's table, in memory allocated at the start.
#[derive(Debug)]
struct PublishedTable {
    known: Vec<(OriginKey, Known)>,
    evicted: bool,
    other: Tally,
    other_distinct: DistinctBits,
    /// With [sessions](Counters::sessions): their frames among the others, and directions.
    other_of_sessions: Vec<u64>,
    directions: Vec<(OriginKey, Seen)>,
}

/// A table with at most this many origins is copied at every tick, which takes about 50 µs. A larger one may
/// take milliseconds and is copied only after the last copy was read.
const COPIED_AT_EVERY_TICK: usize = 4096;

/// Totals over all workers, as of each one's last tick: at most 100 ms old.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct CountersSnapshot {
    /// Inner frames.
    pub frames: u64,
    /// Captured bytes of the inner frames.
    pub inner_bytes: u64,
    /// Lower bound of the number of origins: the largest number of any worker.
    pub origins: u64,
}

impl Default for Counters {
    fn default() -> Self {
        Self::new(Self::DEFAULT_MAX_ORIGINS)
    }
}

impl Counters {
    /// Default capacity for origins, per worker and in the report.
    pub const DEFAULT_MAX_ORIGINS: usize = 65_536;

    /// Counters for this many origins, at least one, per worker and in the report.
    #[must_use]
    pub fn new(max_origins: usize) -> Self {
        Self {
            max_origins: max_origins.max(1),
            hasher: RandomState::default(),
            names: OriginNames::default(),
            workers: Mutex::default(),
        }
    }

    /// Names origins by these sessions, counts frames by direction, as their source saw them, and reports
    /// the frames of each session in [`Report::sessions`].
    #[must_use]
    pub fn sessions(self, sessions: Arc<SessionTable>) -> Self {
        Self { names: sessions.into(), ..self }
    }

    /// Largest memory of one worker's table and its copy for reports, in bytes. Reserved at the start and
    /// paged in as origins appear.
    #[must_use]
    pub fn memory_per_worker(&self) -> usize {
        // The standard map has a power of two of slots, keeps one in eight free, and has a state byte per
        // slot.
        let places = (room(self.max_origins) * 8 / 7 + 1).next_power_of_two();
        let of = |origin: usize| places * (origin + 1) + self.max_origins * origin;
        let directions = self.names.sessions().map_or(0, |_| of(size_of::<(OriginKey, Seen)>()));
        of(size_of::<(OriginKey, Known)>()) + directions + 2 * DistinctBits::MEMORY
    }

    /// Totals for a status line. Takes a lock that workers take only when they start and finish.
    #[must_use]
    pub fn snapshot(&self) -> CountersSnapshot {
        let mut sum = CountersSnapshot::default();
        for worker in &*lock(&self.workers) {
            sum.frames += worker.frames.load(Ordering::Relaxed);
            sum.inner_bytes += worker.inner_bytes.load(Ordering::Relaxed);
            sum.origins = sum.origins.max(worker.origins.load(Ordering::Relaxed));
        }
        sum
    }
}

impl SinkFactory for Counters {
    fn name(&self) -> &str {
        NAME
    }

    fn build(&self, _: &WorkerContext) -> Result<Box<dyn Sink>, SinkError> {
        let published = Arc::new(Published::new(self.max_origins, &self.names));
        lock(&self.workers).push(Arc::clone(&published));
        Ok(Box::new(CountersSink {
            table: Table::new(self.max_origins, self.hasher.clone(), self.names.clone()),
            sum: Tally::default(),
            copied: 0,
            published,
            finished: false,
        }))
    }

    fn needs(&self) -> SinkNeeds {
        SinkNeeds::Origins { most: self.max_origins }
    }

    fn report(&self, _: &mut SinkReport, report: &mut Report) {
        let workers = lock(&self.workers).clone();
        let merge = Merge { names: &self.names, max_origins: self.max_origins, hasher: &self.hasher };
        let merged = merge.of(&workers, &report.forwarded_origins);
        (report.origins, report.origins_other, report.sessions) = merged;
    }
}

const NAME: &str = "counters";

/// Values are valid even after a panic under this lock, so poisoning is ignored.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    frames: u64,
    inner_bytes: u64,
}

impl Tally {
    fn add(&mut self, more: Self) {
        self.frames += more.frames;
        self.inner_bytes += more.inner_bytes;
    }
}

/// The counts of an origin.
#[derive(Clone, Copy, Debug)]
struct Known {
    tally: Tally,
    /// It was added after the first eviction, so it may have been evicted before.
    at_least: bool,
}

/// Number of origins from which the eviction threshold is estimated.
const SAMPLE: usize = 1024;

/// One worker's origins.
#[derive(Debug)]
struct Table {
    known: HashMap<OriginKey, Known, RandomState>,
    max_origins: usize,
    /// Whether any origin was evicted.
    evicted: bool,
    other: Tally,
    other_distinct: DistinctBits,
    names: OriginNames,
    /// Of evicted origins, by session.
    other_of_sessions: Vec<u64>,
    /// Apart from the counts, which are smaller without: nearly all runs know no sessions.
    directions: HashMap<OriginKey, Seen, RandomState>,
}

/// Capacity that a table never exceeds, however often origins are evicted: the map clears slots of removed
/// entries in place only if at most half of it is in use.
fn room(max_origins: usize) -> usize {
    2 * max_origins.max(8)
}

impl Table {
    fn new(max_origins: usize, hasher: RandomState, names: OriginNames) -> Self {
        let directions = names.sessions().map_or(0, |_| room(max_origins));
        Self {
            directions: HashMap::with_capacity_and_hasher(directions, hasher.clone()),
            known: HashMap::with_capacity_and_hasher(room(max_origins), hasher),
            max_origins,
            evicted: false,
            other: Tally::default(),
            other_distinct: DistinctBits::new(),
            other_of_sessions: names.of_each_session(),
            names,
        }
    }

    fn add(&mut self, key: OriginKey, tally: Tally) {
        if let Some(known) = self.known.get_mut(&key) {
            known.tally.add(tally);
            return;
        }
        if self.known.len() >= self.max_origins {
            self.evict_lightest();
        }
        self.known.insert(key, Known { tally, at_least: self.evicted });
    }

    /// Evicts origins with few frames: those with no more than the median of a sample, at most half of the
    /// table. The cost of one pass is spread over half as many new origins.
    #[cold]
    fn evict_lightest(&mut self) {
        let mut sample = [0; SAMPLE];
        let mut taken = 0;
        for (place, known) in sample.iter_mut().zip(self.known.values()) {
            *place = known.tally.frames;
            taken += 1;
        }
        let (_, median, _) = sample[..taken].select_nth_unstable(taken / 2);
        let few = *median;
        let mut left = self.known.len().div_ceil(2);
        let Self { known, other, other_distinct, names, other_of_sessions, directions, .. } = self;
        let hasher = known.hasher().clone();
        known.retain(|key, known| {
            let stays = left == 0 || known.tally.frames > few;
            if !stays {
                left -= 1;
                other.add(known.tally);
                other_distinct.insert(hasher.hash_one(key));
                names.add_to_session(other_of_sessions, *key, known.tally.frames);
                directions.remove(key);
            }
            stays
        });
        if !mem::replace(&mut self.evicted, true) {
            tracing::warn!(
                "more than {} origins (VNI and source): those with the fewest packets are counted together \
                from now on",
                self.max_origins
            );
        }
    }

    fn copy_to(&self, published: &mut PublishedTable) {
        let Self { known, evicted, other, other_distinct, other_of_sessions, directions, .. } = self;
        published.known.clear();
        published.known.extend(known.iter().map(|(key, known)| (*key, *known)));
        published.directions.clear();
        published.directions.extend(directions.iter().map(|(key, seen)| (*key, *seen)));
        published.other = *other;
        if *evicted {
            published.evicted = true;
            published.other_distinct.copy(other_distinct);
            published.other_of_sessions.copy_from_slice(other_of_sessions);
        }
    }
}

impl Published {
    fn new(max_origins: usize, names: &OriginNames) -> Self {
        Self {
            frames: AtomicU64::new(0),
            inner_bytes: AtomicU64::new(0),
            origins: AtomicU64::new(0),
            was_read: AtomicBool::new(true),
            table: Mutex::new(PublishedTable {
                known: Vec::with_capacity(max_origins),
                evicted: false,
                other: Tally::default(),
                other_distinct: DistinctBits::new(),
                other_of_sessions: names.of_each_session(),
                directions: Vec::with_capacity(names.sessions().map_or(0, |_| max_origins)),
            }),
        }
    }
}

/// The counts of an origin over all workers.
#[derive(Default)]
struct Merged {
    tally: Tally,
    at_least: bool,
    /// Tables with evictions, or without room for more, that have this origin.
    tables: usize,
    seen: Seen,
}

/// Merges the workers' tables and those of the XDP programs, and keeps the origins with the most frames.
struct Merge<'c> {
    names: &'c OriginNames,
    max_origins: usize,
    hasher: &'c RandomState,
}

impl Merge<'_> {
    fn of(
        &self,
        workers: &[Arc<Published>],
        forwarded: &[ForwardedOrigins],
    ) -> (Vec<Origin>, OtherOrigins, Option<Vec<SessionReport>>) {
        let Self { names, max_origins, hasher } = *self;
        let mut known: HashMap<OriginKey, Merged, RandomState> = HashMap::with_hasher(hasher.clone());
        let (mut other, mut other_distinct) = (Tally::default(), DistinctBits::new());
        let mut sessions = names.of_each_session();
        // Tables with evictions, or without room for more: of an origin that such a table does not have,
        // frames may be among the others.
        let mut incomplete = 0;
        for worker in workers {
            let table = lock(&worker.table);
            worker.was_read.store(true, Ordering::Relaxed);
            incomplete += usize::from(table.evicted);
            sessions.iter_mut().zip(&table.other_of_sessions).for_each(|(sum, more)| *sum += more);
            for (key, Known { tally, at_least }) in &table.known {
                let merged = known.entry(*key).or_default();
                merged.tally.add(*tally);
                merged.at_least |= at_least;
                merged.tables += usize::from(table.evicted);
            }
            for (key, seen) in &table.directions {
                if let Some(merged) = known.get_mut(key) {
                    merged.seen.add(*seen);
                }
            }
            other.add(table.other);
            other_distinct.merge(&table.other_distinct);
        }
        let mut other_origins = 0;
        for ForwardedOrigins { known: origins, other: rest } in forwarded {
            let is_full = usize::from(rest.frames > 0);
            incomplete += is_full;
            for origin in origins {
                let merged = known.entry(OriginKey::new(origin.source, origin.vni)).or_default();
                merged.tally.add(Tally { frames: origin.frames, inner_bytes: origin.inner_bytes });
                merged.tables += is_full;
            }
            other.add(Tally { frames: rest.frames, inner_bytes: rest.inner_bytes });
            other_origins = rest.origins.max(other_origins);
        }
        for (key, Merged { tally, .. }) in &known {
            names.add_to_session(&mut sessions, *key, tally.frames);
        }
        let mut known: Vec<_> = known.into_iter().collect();
        known.sort_unstable_by_key(|(key, Merged { tally, .. })| {
            (Reverse(tally.frames), key.source(), key.vni(), key.endpoint())
        });
        for (key, Merged { tally, .. }) in known.drain(max_origins.min(known.len())..) {
            other.add(tally);
            other_distinct.insert(hasher.hash_one(key));
        }
        let origins = known
            .into_iter()
            .map(|(key, Merged { tally, at_least, tables, seen })| {
                let origin = names.origin(key, tally.frames, tally.inner_bytes);
                Origin {
                    at_least: at_least || tables < incomplete,
                    directions: origin.directions.map(|all| seen.among(all)),
                    ..origin
                }
            })
            .collect();
        let other = OtherOrigins {
            // Each counts its own, of which some may be the same.
            origins: other_distinct.count().max(other_origins),
            frames: other.frames,
            inner_bytes: other.inner_bytes,
        };
        let sessions = names.sessions().map(|table| {
            let each = table.sessions().iter().zip(&sessions);
            each.map(|(of, frames)| SessionReport::new(&of.id, of.vni, &of.interface, *frames)).collect()
        });
        (origins, other, sessions)
    }
}

#[derive(Debug)]
struct CountersSink {
    table: Table,
    sum: Tally,
    /// Frames counted when the table was last copied.
    copied: u64,
    published: Arc<Published>,
    finished: bool,
}

impl CountersSink {
    fn end_run(&mut self, origin: OriginKey, run: Tally) {
        if run.frames > 0 {
            self.table.add(origin, run);
            self.sum.add(run);
        }
    }

    fn publish(&mut self) {
        if self.finished {
            return;
        }
        let Published { frames, inner_bytes, origins, was_read, table } = &*self.published;
        frames.store(self.sum.frames, Ordering::Relaxed);
        inner_bytes.store(self.sum.inner_bytes, Ordering::Relaxed);
        let known = self.table.known.len();
        origins.store(known as u64 + u64::from(self.table.evicted), Ordering::Relaxed);
        let is_due = known <= COPIED_AT_EVERY_TICK || was_read.load(Ordering::Relaxed);
        // If a reader holds the lock, the next tick publishes.
        if self.sum.frames != self.copied
            && is_due
            && let Ok(mut table) = table.try_lock()
        {
            self.table.copy_to(&mut table);
            self.copied = self.sum.frames;
            was_read.store(false, Ordering::Relaxed);
        }
    }

    /// Publishes all counts and frees the table.
    fn end(&mut self) {
        self.publish();
        if !mem::replace(&mut self.finished, true) {
            self.table.copy_to(&mut lock(&self.published.table));
            self.table = Table::new(0, self.table.known.hasher().clone(), OriginNames::default());
        }
    }
}

impl Sink for CountersSink {
    fn batch(&mut self, batch: &Batch<'_>) -> Result<(), SinkError> {
        let Table { names, directions, .. } = &mut self.table;
        if let Some(sessions) = names.sessions() {
            directions::count(sessions, batch, directions);
        }
        // Frames of one origin come in runs: one lookup per run.
        let (mut origin, mut run) = (OriginKey::default(), Tally::default());
        for frame in batch {
            if let Some(another) = origin.another(frame) {
                self.end_run(origin, run);
                (origin, run) = (another, Tally::default());
            }
            run.add(Tally { frames: 1, inner_bytes: frame.inner_len() as u64 });
        }
        self.end_run(origin, run);
        Ok(())
    }

    fn tick(&mut self, _: Instant) {
        self.publish();
    }

    fn flush(&mut self) {
        self.publish();
    }

    fn stats(&self) -> SinkStats {
        SinkStats { written: self.sum.frames, ..SinkStats::default() }
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        self.end();
        Ok(())
    }
}

/// A worker that panics still publishes its counts.
impl Drop for CountersSink {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, net::IpAddr, time::SystemTime};

    use mirror_lab::geneve::Geneve;

    use super::*;
    use crate::{
        account::Directions,
        decap::decapsulate_frame,
        frame::{Captured, MAX_BATCH},
        sink::testing::{Outer, offer, sessions},
        tunnels::Tunnels,
    };

    fn report_of(factory: &Counters) -> Report {
        let mut report = Report::new("file", SystemTime::UNIX_EPOCH);
        factory.report(&mut SinkReport::default(), &mut report);
        report
    }

    fn sink(factory: &Counters) -> Box<dyn Sink> {
        factory.build(&WorkerContext::single(2048)).unwrap()
    }

    #[test]
    fn origins_differ_by_source_and_vni_and_are_sorted_by_frames() {
        let factory = Counters::default();
        let mut sink = sink(&factory);
        let frames = [
            Outer::new([10, 0, 0, 1], 7, &[1; 60]),
            Outer::new([10, 0, 0, 2], 7, &[1; 60]),
            Outer::new([10, 0, 0, 2], 7, &[1; 100]),
            Outer::new([10, 0, 0, 2], 8, &[1; 60]),
            Outer::new([10, 0, 0, 2], 7, &[1; 60]),
        ];
        offer(&mut *sink, &frames).unwrap();
        assert_eq!(sink.stats(), SinkStats { written: 5, ..SinkStats::default() });
        sink.finish().unwrap();
        let report = report_of(&factory);
        let ip = |last| IpAddr::from([10, 0, 0, last]);
        let expected =
            [Origin::new(ip(2), 7, 3, 220), Origin::new(ip(1), 7, 1, 60), Origin::new(ip(2), 8, 1, 60)];
        assert_eq!(report.origins, expected);
        assert_eq!(report.origins_other, OtherOrigins::default());
    }

    #[test]
    fn the_same_source_and_vni_through_two_endpoints_are_two_origins() {
        let outer = mirror_lab::frames::Outer::sample(7);
        let inner = mirror_lab::frames::inner_of_len(60).unwrap();
        let through = |endpoint| Geneve::aws(endpoint, 5, 6).encapsulate_mirrored(&outer, &inner).unwrap();
        let captured = [through(1), through(2), through(1), outer.encapsulate(&inner).unwrap()];
        let tunnels = Tunnels::from([4789, 6081]);
        let frames = captured.each_ref().map(|frame| {
            let captured = Captured::new(frame, u32::try_from(frame.len()).unwrap(), 0);
            decapsulate_frame(captured, &tunnels).unwrap()
        });
        let factory = Counters::default();
        let mut sink = sink(&factory);
        sink.batch(&Batch::new(0, &frames)).unwrap();
        sink.finish().unwrap();
        let plain = |frames| Origin::new([10, 10, 10, 252].into(), 7, frames, frames * 60);
        let of = |endpoint, frames| Origin { endpoint: Some(endpoint), attachment: Some(5), ..plain(frames) };
        assert_eq!(report_of(&factory).origins, [of(1, 2), plain(1), of(2, 1)]);
    }

    #[test]
    fn workers_are_merged() {
        let factory = Counters::default();
        let mut sinks = [sink(&factory), sink(&factory)];
        for sink in &mut sinks {
            offer(&mut **sink, &[Outer::new([10, 0, 0, 1], 7, &[1; 60])]).unwrap();
            sink.tick(Instant::now());
        }
        let live = CountersSnapshot { frames: 2, inner_bytes: 120, origins: 1 };
        assert_eq!(factory.snapshot(), live);
        sinks.iter_mut().for_each(|sink| sink.finish().unwrap());
        assert_eq!(report_of(&factory).origins, [Origin::new([10, 0, 0, 1].into(), 7, 2, 120)]);
    }

    #[test]
    fn live_origins_are_those_of_the_last_tick() {
        let factory = Counters::default();
        let mut sink = sink(&factory);
        let frame = Outer::new([10, 0, 0, 1], 7, &[1; 60]);
        for frames in 1..=3 {
            offer(&mut *sink, std::slice::from_ref(&frame)).unwrap();
            sink.tick(Instant::now());
            let origins = report_of(&factory).origins;
            assert_eq!(origins, [Origin::new([10, 0, 0, 1].into(), 7, frames, frames * 60)]);
            assert_eq!(report_of(&factory).origins, origins, "a second report is the same");
        }
        offer(&mut *sink, std::slice::from_ref(&frame)).unwrap();
        assert_eq!(report_of(&factory).origins[0].frames, 3, "not before a tick");
        sink.finish().unwrap();
        drop(sink);
        assert_eq!(report_of(&factory).origins[0].frames, 4);
    }

    #[test]
    fn a_large_table_is_copied_only_after_the_last_copy_was_read() {
        let factory = Counters::default();
        let mut sink = sink(&factory);
        let large = u32::try_from(COPIED_AT_EVERY_TICK).unwrap() + 1;
        let frames: Vec<_> = (0..large).map(|vni| Outer::new([10, 0, 0, 1], vni, &[1; 60])).collect();
        let mut round = || {
            frames.chunks(MAX_BATCH).for_each(|frames| offer(&mut *sink, frames).unwrap());
            sink.tick(Instant::now());
        };
        let known = || report_of(&factory).origins.iter().map(|origin| origin.frames).sum::<u64>();
        round();
        round();
        assert_eq!(known(), u64::from(large), "the first tick's copy");
        round();
        assert_eq!(known(), 3 * u64::from(large), "it was read");
        assert_eq!(factory.snapshot().frames, 3 * u64::from(large));
    }

    #[test]
    fn ticks_allocate_nothing() {
        let factory = Counters::new(100);
        let mut sink = sink(&factory);
        let frames: Vec<_> = (0..200).map(|vni| Outer::new([10, 0, 0, 1], vni, &[1; 60])).collect();
        for frames in frames.chunks(MAX_BATCH) {
            offer(&mut *sink, frames).unwrap();
            let allocated = allocation_counter::measure(|| sink.tick(Instant::now()));
            assert_eq!(allocated.count_total, 0, "{allocated:?}");
        }
        assert!(report_of(&factory).origins_other.frames > 0);
    }

    #[test]
    fn a_dropped_sink_leaves_its_counts() {
        let factory = Counters::default();
        let mut sink = sink(&factory);
        offer(&mut *sink, &[Outer::new([10, 0, 0, 1], 7, &[1; 60])]).unwrap();
        drop(sink);
        assert_eq!(report_of(&factory).origins.len(), 1);
    }

    #[test]
    fn a_flood_of_vnis_stays_in_bounds_with_exact_sums() {
        let factory = Counters::new(1000);
        let mut sinks = [sink(&factory), sink(&factory)];
        let mut offered = BTreeMap::new();
        for round in 0..200_u32 {
            // A fixed walk over the VNIs that rarely meets one twice.
            let vnis = (0..200).map(|i| (round * 200 + i).wrapping_mul(2_654_435_761) >> 8);
            let frames: Vec<_> = vnis.map(|vni| Outer::new([10, 0, 0, 1], vni, &[1; 60])).collect();
            for frame in &frames {
                *offered.entry(frame.vni()).or_insert(0_u64) += 1;
            }
            offer(&mut *sinks[round as usize % 2], &frames).unwrap();
        }
        sinks.iter_mut().for_each(|sink| sink.finish().unwrap());
        let report = report_of(&factory);
        let other = report.origins_other;
        assert!((500..=1000).contains(&report.origins.len()), "{}", report.origins.len());
        assert_eq!(report.origins.iter().map(|origin| origin.frames).sum::<u64>() + other.frames, 40_000);
        let bytes: u64 = report.origins.iter().map(|origin| origin.inner_bytes).sum();
        assert_eq!(bytes + other.inner_bytes, 40_000 * 60);
        // Never more than there were; and with 40,000 keys on 65,536 bits, far from none.
        let distinct = offered.len() as u64;
        assert!(other.origins <= distinct && other.origins > distinct / 2, "{other:?} of {distinct}");
    }

    #[test]
    fn tenants_before_and_after_a_flood_are_reported_with_all_their_frames() {
        let factory = Counters::new(1000);
        let mut sink = sink(&factory);
        let tenant = |last: u8, count: usize| vec![Outer::new([10, 0, 0, last], 7, &[1; 60]); count];
        let flood = |vnis: std::ops::Range<u32>| -> Vec<_> {
            vnis.map(|vni| Outer::new([198, 51, 100, 1], vni, &[1; 60])).collect()
        };
        let parts = [tenant(1, 5), flood(0..20_000), tenant(2, 10), flood(20_000..90_000), tenant(2, 10)];
        for frames in parts.iter().flat_map(|part| part.chunks(MAX_BATCH)) {
            offer(&mut *sink, frames).unwrap();
        }
        sink.finish().unwrap();
        let report = report_of(&factory);
        let ip = |last| IpAddr::from([10, 0, 0, last]);
        assert_eq!(report.origins[0], Origin { at_least: true, ..Origin::new(ip(2), 7, 20, 1200) });
        assert_eq!(
            report.origins[1],
            Origin::new(ip(1), 7, 5, 300),
            "it was added before the first eviction"
        );
        let frames = report.origins.iter().map(|origin| origin.frames).sum::<u64>();
        assert_eq!(frames + report.origins_other.frames, 90_025);
    }

    #[test]
    fn origins_of_forwarded_frames_are_added_and_what_had_no_room_is_a_lower_bound() {
        let factory = Counters::default();
        let mut sink = sink(&factory);
        offer(&mut *sink, &[Outer::new([10, 0, 0, 1], 7, &[1; 60]), Outer::new([10, 0, 0, 2], 7, &[1; 60])])
            .unwrap();
        sink.finish().unwrap();
        let ip = |last| IpAddr::from([10, 0, 0, last]);
        let mut report = Report::new("af_xdp", SystemTime::UNIX_EPOCH);
        let other = |origins, frames| OtherOrigins { origins, frames, inner_bytes: frames * 60 };
        report.forwarded_origins = vec![
            ForwardedOrigins { known: vec![Origin::new(ip(1), 7, 5, 300)], other: other(2, 3) },
            ForwardedOrigins {
                known: vec![Origin::new(ip(1), 7, 1, 60), Origin::new(ip(3), 7, 9, 540)],
                other: other(0, 0),
            },
        ];
        for _ in 0..2 {
            factory.report(&mut SinkReport::default(), &mut report);
        }
        let at_least = |origin| Origin { at_least: true, ..origin };
        let expected = [
            at_least(Origin::new(ip(3), 7, 9, 540)),
            Origin::new(ip(1), 7, 7, 420),
            at_least(Origin::new(ip(2), 7, 1, 60)),
        ];
        assert_eq!(report.origins, expected);
        assert_eq!(report.origins_other, other(2, 3));
    }

    /// Frames that `eni-1` has received, sent, or neither.
    fn seen() -> [Outer; 3] {
        let [mut received, mut sent] = [[1; 60]; 2];
        received[..6].fill(2);
        sent[6..12].fill(2);
        [received, sent, [1; 60]].map(|inner| Outer::new([10, 0, 0, 1], 7, &inner))
    }

    fn frames_of(sessions: &Report) -> Vec<(&str, u64)> {
        sessions.sessions.iter().flatten().map(|session| (session.id.as_str(), session.frames)).collect()
    }

    #[test]
    fn with_sessions_origins_are_named_and_frames_counted_by_direction() {
        let factory = Counters::default().sessions(sessions());
        let [received, sent, neither] = seen();
        let unknown = Outer::new([10, 0, 0, 1], 8, &[2; 60]);
        let mut workers = [sink(&factory), sink(&factory)];
        offer(&mut *workers[0], &[received.clone(), sent.clone(), received.clone()]).unwrap();
        offer(&mut *workers[1], &[neither, unknown, received]).unwrap();
        workers.iter_mut().for_each(|worker| worker.finish().unwrap());
        let report = report_of(&factory);
        let [known, other] = &report.origins[..] else { panic!("{:?}", report.origins) };
        assert_eq!(known.interface_name(), "web-1.vni-7@10.0.0.1");
        assert_eq!((known.session.as_deref(), known.interface.as_deref()), (Some("tms-1"), Some("eni-1")));
        assert_eq!((known.owner.as_deref(), known.tags["Name"].as_str()), (Some("111122223333"), "web 1"));
        assert_eq!(
            (known.frames, known.directions),
            (5, Some(Directions { ingress: 3, egress: 1, unknown: 1 }))
        );
        assert_eq!(other.interface_name(), "vni-8@10.0.0.1");
        assert_eq!(other.directions, Some(Directions { unknown: 1, ..Directions::default() }));
        assert_eq!(frames_of(&report), [("tms-1", 5), ("tms-2", 0)]);
    }

    #[test]
    fn sessions_have_the_frames_of_evicted_origins_and_of_those_forwarded_by_the_kernel() {
        let factory = Counters::new(8).sessions(sessions());
        let mut worker = sink(&factory);
        let flood: Vec<_> = (0..200).map(|last| Outer::new([10, 0, 1, last], 7, &[2; 60])).collect();
        offer(&mut *worker, &flood).unwrap();
        worker.finish().unwrap();
        let mut report = Report::new("file", SystemTime::UNIX_EPOCH);
        let forwarded = vec![Origin::new([10, 0, 0, 1].into(), 9, 7, 420)];
        report.forwarded_origins =
            vec![ForwardedOrigins { known: forwarded, other: OtherOrigins::default() }];
        factory.report(&mut SinkReport::default(), &mut report);
        assert_eq!(frames_of(&report), [("tms-1", 200), ("tms-2", 7)]);
        let directions: Vec<_> = report.origins.iter().map(|origin| origin.directions.unwrap()).collect();
        assert_eq!(directions[0], Directions { unknown: 7, ..Directions::default() });
        assert!(directions[1..].iter().all(|seen| (seen.egress, seen.unknown) == (1, 0)), "{directions:?}");
        assert_eq!(report.origins.len(), 8);
    }

    #[test]
    fn the_planned_memory_holds_the_table() {
        for max_origins in [1, 7, 1000, 65_536] {
            for counters in [Counters::new(max_origins), Counters::new(max_origins).sessions(sessions())] {
                let names = &counters.names;
                let allocated = allocation_counter::measure(|| {
                    let table = Table::new(max_origins, counters.hasher.clone(), names.clone());
                    drop((table, Published::new(max_origins, names)));
                });
                let planned = counters.memory_per_worker();
                // The standard map adds a group of state bytes, and has a minimum size.
                let most = planned as u64 + 512;
                assert!(allocated.bytes_max <= most, "{max_origins}: {allocated:?} of {planned}");
            }
        }
    }
}
