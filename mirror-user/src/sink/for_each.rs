//! A sink made of a closure.

use std::sync::Arc;

use super::{Sink, SinkError, SinkFactory, SinkStats, WorkerContext};
use crate::frame::{Batch, Frame};

/// Calls a closure for each frame: the simplest custom sink.
///
/// All workers share the closure, so it is called from several threads at once. It runs on the worker and
/// delays the next batch: move slow work to another thread, behind a queue that the closure never waits for.
/// Frames are stamped in the kernel, so [`Frame::time`] is the receive time.
///
/// An error stops the sink on that worker: this frame and all later ones count as failed.
///
/// # Examples
///
/// ```
/// use std::sync::{Arc, atomic::{AtomicU64, Ordering}};
///
/// use mirror_user::{Frame, sink};
///
/// let bytes = Arc::new(AtomicU64::new(0));
/// let sum = Arc::clone(&bytes);
/// let sink = sink::for_each("bytes", move |frame: &Frame<'_>| {
///     sum.fetch_add(frame.wire_len().into(), Ordering::Relaxed);
///     Ok(())
/// });
/// assert_eq!(sink.name(), "bytes");
/// ```
pub fn for_each<F>(name: impl Into<String>, f: F) -> Arc<dyn SinkFactory>
where
    F: Fn(&Frame<'_>) -> Result<(), SinkError> + Send + Sync + 'static,
{
    Arc::new(ForEach { name: name.into(), f: Arc::new(f) })
}

struct ForEach<F> {
    name: String,
    f: Arc<F>,
}

impl<F> SinkFactory for ForEach<F>
where
    F: Fn(&Frame<'_>) -> Result<(), SinkError> + Send + Sync + 'static,
{
    fn name(&self) -> &str {
        &self.name
    }

    fn build(&self, _: &WorkerContext) -> Result<Box<dyn Sink>, SinkError> {
        Ok(Box::new(Worker { f: Arc::clone(&self.f), written: 0 }))
    }

    fn needs_time(&self) -> bool {
        true
    }
}

struct Worker<F> {
    f: Arc<F>,
    written: u64,
}

impl<F> Sink for Worker<F>
where
    F: Fn(&Frame<'_>) -> Result<(), SinkError>,
{
    fn batch(&mut self, batch: &Batch<'_>) -> Result<(), SinkError> {
        for frame in batch {
            (self.f)(frame)?;
            self.written += 1;
        }
        Ok(())
    }

    fn stats(&self) -> SinkStats {
        SinkStats { written: self.written, ..SinkStats::default() }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::sink::testing::{Outer, offer};

    #[test]
    fn each_frame_is_shown_once_to_the_one_closure_of_all_workers() {
        let vnis = Arc::new(AtomicU64::new(0));
        let sum = Arc::clone(&vnis);
        let factory = for_each("sum", move |frame| {
            sum.fetch_add(frame.vni().into(), Ordering::Relaxed);
            Ok(())
        });
        for vni in [7, 8] {
            let mut sink = factory.build(&WorkerContext::single(2048)).unwrap();
            let frame = || Outer::new([10, 0, 0, 1], vni, &[0; 60]);
            offer(&mut *sink, &[frame(), frame()]).unwrap();
            assert_eq!(sink.stats().written, 2);
        }
        assert_eq!(vnis.load(Ordering::Relaxed), 2 * (7 + 8));
    }

    #[test]
    fn an_error_leaves_the_frames_before_it_written() {
        let factory = for_each("picky", |frame| match frame.vni() {
            13 => Err(SinkError::other("VNI 13 is bad luck")),
            _ => Ok(()),
        });
        let mut sink = factory.build(&WorkerContext::single(2048)).unwrap();
        let frames = [7, 13, 7].map(|vni| Outer::new([10, 0, 0, 1], vni, &[0; 60]));
        assert_eq!(offer(&mut *sink, &frames).unwrap_err().to_string(), "VNI 13 is bad luck");
        assert_eq!(sink.stats(), SinkStats { written: 1, ..SinkStats::default() });
    }
}
