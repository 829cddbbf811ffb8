//! How long frames take from receive time to here.

use std::{
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use hdrhistogram::Histogram;

use super::{Sink, SinkError, SinkFactory, SinkStats, WorkerContext};
use crate::{
    account::{Latency, Report},
    frame::Batch,
};

/// Measures the time from [`Frame::time`](crate::Frame::time) to this sink, in ns, into [`Report::latency_ns`].
///
/// The clock is CLOCK_REALTIME on both ends and is read once a batch. It may be stepped in between: what would be
/// negative counts as 0, what is above [`LatencySink::MAX_NS`] as that. Sinks before this one add to what it measures.
#[derive(Debug, Default)]
pub struct LatencySink {
    finished: Arc<Mutex<Vec<Histogram<u64>>>>,
    /// Of all workers, once the run is over.
    sum: Mutex<Option<Histogram<u64>>>,
}

const NAME: &str = "latency";
/// Decimal digits to which a value is kept.
const DIGITS: u8 = 3;

impl LatencySink {
    /// The longest time that is told apart, in ns: one minute.
    pub const MAX_NS: u64 = 60_000_000_000;

    /// A measurement yet without values.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The time that this share of the frames (0 to 1) took at most, in ns, once the run is over; `None` before.
    #[must_use]
    pub fn value_at_quantile(&self, quantile: f64) -> Option<u64> {
        lock(&self.sum).as_ref().map(|sum| value_at(sum, quantile))
    }
}

fn lock<T>(histograms: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic under this lock leaves whole histograms behind.
    histograms.lock().unwrap_or_else(PoisonError::into_inner)
}

fn histogram() -> Result<Histogram<u64>, SinkError> {
    Histogram::new_with_bounds(1, LatencySink::MAX_NS, DIGITS).map_err(SinkError::other)
}

/// A bucket is told by its upper end, which in the last one is past the bound.
fn value_at(histogram: &Histogram<u64>, quantile: f64) -> u64 {
    histogram.value_at_quantile(quantile).min(LatencySink::MAX_NS)
}

impl SinkFactory for LatencySink {
    fn name(&self) -> &str {
        NAME
    }

    fn build(&self, _: &WorkerContext) -> Result<Box<dyn Sink>, SinkError> {
        let finished = Arc::clone(&self.finished);
        Ok(Box::new(Worker { histogram: Some(histogram()?), frames: 0, finished }))
    }

    fn needs_time(&self) -> bool {
        true
    }

    fn close(&self, report: &mut Report) -> Result<(), SinkError> {
        let mut sum = histogram()?;
        for worker in mem::take(&mut *lock(&self.finished)) {
            sum.add(worker).map_err(SinkError::other)?;
        }
        let quantile = |q| value_at(&sum, q);
        report.latency_ns = Some(Latency::new(quantile(0.5), quantile(0.99), quantile(0.999), quantile(1.0)));
        *lock(&self.sum) = Some(sum);
        Ok(())
    }
}

#[derive(Debug)]
struct Worker {
    /// `None` once handed over.
    histogram: Option<Histogram<u64>>,
    frames: u64,
    finished: Arc<Mutex<Vec<Histogram<u64>>>>,
}

impl Sink for Worker {
    fn name(&self) -> &str {
        NAME
    }

    fn batch(&mut self, batch: &Batch<'_>) -> Result<(), SinkError> {
        let Some(histogram) = &mut self.histogram else {
            return Err(SinkError::other("latency: a frame after the end"));
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        for frame in batch {
            histogram.saturating_record(now.saturating_sub(frame.time()).min(LatencySink::MAX_NS));
        }
        self.frames += batch.len() as u64;
        Ok(())
    }

    fn stats(&self) -> SinkStats {
        SinkStats { written: self.frames, ..SinkStats::default() }
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        lock(&self.finished).extend(self.histogram.take());
        Ok(())
    }
}

/// A worker that dies leaves what it measured.
impl Drop for Worker {
    fn drop(&mut self) {
        lock(&self.finished).extend(self.histogram.take());
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
        let mut report = Report::new("file", UNIX_EPOCH);
        factory.close(&mut report).unwrap();
        report.latency_ns.unwrap()
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
    fn a_stepped_clock_neither_panics_nor_leaves_the_bounds() {
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
