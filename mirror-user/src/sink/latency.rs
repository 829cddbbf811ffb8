//! Latency of frames from receive time to this sink.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use hdrhistogram::Histogram;

use super::{Sink, SinkError, SinkFactory, SinkStats, WorkerContext};
use crate::{
    account::{Latency, Report, SinkReport},
    frame::Batch,
};

/// Measures the time from [`Frame::time`](crate::Frame::time) to this sink, in ns, into
/// [`Report::latency_ns`].
///
/// Both times are CLOCK_REALTIME, read here once per batch. The clock may be stepped in between: values are
/// clamped to 0 and [`LatencySink::MAX_NS`]. The time of sinks before this one is included.
#[derive(Debug, Default)]
pub struct LatencySink {
    /// Values that all workers have published; `None` before the first worker is built.
    sum: Sum,
}

type Sum = Arc<Mutex<Option<Histogram<u64>>>>;

const NAME: &str = "latency";
/// Significant decimal digits of a value.
const DIGITS: u8 = 3;

impl LatencySink {
    /// Upper bound of the values, in ns: one minute.
    pub const MAX_NS: u64 = 60_000_000_000;

    /// A measurement without values.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The latency at this quantile (0 to 1), in ns, as of each worker's last tick, at most 100 ms ago;
    /// `None` before the first worker is built.
    #[must_use]
    pub fn value_at_quantile(&self, quantile: f64) -> Option<u64> {
        lock(&self.sum).as_ref().map(|sum| value_at(sum, quantile))
    }
}

fn lock<T>(sum: &Mutex<T>) -> MutexGuard<'_, T> {
    // The histogram is valid even after a panic under this lock.
    sum.lock().unwrap_or_else(PoisonError::into_inner)
}

fn histogram() -> Result<Histogram<u64>, SinkError> {
    Histogram::new_with_bounds(1, LatencySink::MAX_NS, DIGITS).map_err(SinkError::other)
}

/// A bucket's value is its upper end, which in the last bucket exceeds the bound.
fn value_at(histogram: &Histogram<u64>, quantile: f64) -> u64 {
    histogram.value_at_quantile(quantile).min(LatencySink::MAX_NS)
}

impl SinkFactory for LatencySink {
    fn name(&self) -> &str {
        NAME
    }

    fn build(&self, _: &WorkerContext) -> Result<Box<dyn Sink>, SinkError> {
        let mut sum = lock(&self.sum);
        if sum.is_none() {
            *sum = Some(histogram()?);
        }
        Ok(Box::new(Worker { recent: histogram()?, frames: 0, finished: false, sum: Arc::clone(&self.sum) }))
    }

    fn needs_time(&self) -> bool {
        true
    }

    fn report(&self, _: &mut SinkReport, report: &mut Report) {
        let latency = lock(&self.sum).as_ref().map_or_else(Latency::default, |sum| {
            let quantile = |q| value_at(sum, q);
            Latency::new(quantile(0.5), quantile(0.99), quantile(0.999), quantile(1.0))
        });
        report.latency_ns = Some(latency);
    }
}

#[derive(Debug)]
struct Worker {
    /// Values since it last published.
    recent: Histogram<u64>,
    frames: u64,
    finished: bool,
    sum: Sum,
}

impl Worker {
    fn publish(&mut self, sum: &mut Option<Histogram<u64>>) -> Result<(), SinkError> {
        if let Some(sum) = sum
            && !self.recent.is_empty()
        {
            sum.add(&self.recent).map_err(SinkError::other)?;
            self.recent.reset();
        }
        Ok(())
    }
}

impl Sink for Worker {
    fn batch(&mut self, batch: &Batch<'_>) -> Result<(), SinkError> {
        if self.finished {
            return Err(SinkError::other("latency: frame received after the end"));
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        for frame in batch {
            self.recent.saturating_record(now.saturating_sub(frame.time()).min(LatencySink::MAX_NS));
        }
        self.frames += batch.len() as u64;
        Ok(())
    }

    fn tick(&mut self, _: Instant) {
        let sum = Arc::clone(&self.sum);
        // If another worker or a reader holds the lock, the next tick publishes.
        if let Ok(mut sum) = sum.try_lock()
            && let Err(error) = self.publish(&mut sum)
        {
            tracing::error!(%error, "latency");
        }
    }

    fn stats(&self) -> SinkStats {
        SinkStats { written: self.frames, ..SinkStats::default() }
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        self.finished = true;
        let sum = Arc::clone(&self.sum);
        self.publish(&mut lock(&sum))
    }
}

/// A worker that panics still publishes its values.
impl Drop for Worker {
    fn drop(&mut self) {
        if let Err(error) = self.finish() {
            tracing::error!(%error, "latency");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::testing::{Outer, offer};

    fn now() -> u64 {
        u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos()).unwrap()
    }

    fn measured(workers: &[&[Outer]]) -> Latency {
        let factory = LatencySink::new();
        for frames in workers {
            let mut sink = factory.build(&WorkerContext::single(2048)).unwrap();
            offer(&mut *sink, frames).unwrap();
            assert_eq!(sink.stats().written, frames.len() as u64);
            sink.finish().unwrap();
        }
        latency_of(&factory)
    }

    fn latency_of(factory: &LatencySink) -> Latency {
        let mut report = Report::new("file", UNIX_EPOCH);
        factory.report(&mut SinkReport::default(), &mut report);
        report.latency_ns.unwrap()
    }

    #[test]
    fn live_quantiles_are_those_of_the_last_tick_and_count_no_frame_twice() {
        let factory = LatencySink::new();
        assert_eq!(factory.value_at_quantile(0.5), None);
        let mut sink = factory.build(&WorkerContext::single(2048)).unwrap();
        let old = |age_s: u64| Outer::new([10, 0, 0, 1], 1, &[0; 60]).at(now() - age_s * 1_000_000_000);
        offer(&mut *sink, &[old(10)]).unwrap();
        assert_eq!(latency_of(&factory), Latency::default(), "not before a tick");
        for _ in 0..3 {
            sink.tick(Instant::now());
        }
        let live = latency_of(&factory);
        assert!(live.p50 >= 10_000_000_000, "{live:?}");
        assert_eq!(latency_of(&factory), live, "a second report is the same");
        for _ in 0..2 {
            offer(&mut *sink, &[old(1)]).unwrap();
        }
        sink.finish().unwrap();
        drop(sink);
        let last = latency_of(&factory);
        assert!(last.p50 < 10_000_000_000 && last.max == live.max, "{last:?}");
        assert_eq!(lock(&factory.sum).as_ref().map(Histogram::len), Some(3));
    }

    #[test]
    fn quantiles_span_the_workers() {
        let frame = |age_s: u64| Outer::new([10, 0, 0, 1], 1, &[0; 60]).at(now() - age_s * 1_000_000_000);
        let one: Vec<_> = (0..90).map(|_| frame(1)).collect();
        let other: Vec<_> = (0..10).map(|_| frame(10)).collect();
        let latency = measured(&[&one, &other]);
        // The measurement itself takes time, and values are kept to three digits.
        let near = |value: u64, s: u64| (s * 1_000_000_000..(s + 5) * 1_000_000_000).contains(&value);
        assert!(near(latency.p50, 1) && near(latency.p99, 10) && near(latency.max, 10), "{latency:?}");
    }

    #[test]
    fn a_stepped_clock_gives_values_within_the_bounds() {
        let from_the_future = Outer::new([10, 0, 0, 1], 1, &[0; 60]).at(u64::MAX);
        let from_1970 = Outer::new([10, 0, 0, 1], 1, &[0; 60]).at(0);
        let latency = measured(&[&[from_the_future, from_1970]]);
        assert_eq!(latency.p50, 0);
        assert!(latency.max == LatencySink::MAX_NS, "{latency:?}");
    }

    #[test]
    fn without_frames_all_is_zero() {
        assert_eq!(measured(&[]), Latency::default());
    }
}
