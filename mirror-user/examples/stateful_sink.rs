//! A sink that keeps state for each worker: the lengths of the inner frames of capture files.
//!
//! ```console
//! $ cargo run --example stateful_sink -- outer.pcap
//! ```
//!
//! Each worker counts into its own array, without a lock; when it has finished, it adds that to the
//! factory's.

use std::{
    env,
    error::Error,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use mirror_user::{
    Batch, Replay, Report, Sink, SinkError, SinkFactory, SinkStats, WorkerContext, replay::ReplayBuilder,
};

/// Upper bounds of frame lengths, as the mirrored host sent them, in bytes.
pub(crate) const BOUNDS: [u32; 6] = [64, 128, 256, 512, 1024, 1518];

/// A count for each of [`BOUNDS`], and one for longer frames.
pub(crate) type Lengths = [u64; BOUNDS.len() + 1];

/// The factory, with the counts of all workers.
#[derive(Debug, Default)]
pub(crate) struct FrameLengths(Arc<Mutex<Lengths>>);

impl FrameLengths {
    /// Frames by length, from workers that have finished.
    pub(crate) fn all(&self) -> Lengths {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SinkFactory for FrameLengths {
    fn name(&self) -> &str {
        "lengths"
    }

    fn build(&self, _: &WorkerContext) -> Result<Box<dyn Sink>, SinkError> {
        Ok(Box::new(Worker { lengths: Lengths::default(), all: Arc::clone(&self.0) }))
    }
}

struct Worker {
    lengths: Lengths,
    all: Arc<Mutex<Lengths>>,
}

impl Sink for Worker {
    fn batch(&mut self, batch: &Batch<'_>) -> Result<(), SinkError> {
        for frame in batch {
            self.lengths[BOUNDS.partition_point(|bound| *bound < frame.wire_len())] += 1;
        }
        Ok(())
    }

    fn stats(&self) -> SinkStats {
        SinkStats { written: self.lengths.iter().sum(), ..SinkStats::default() }
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter_mut().zip(self.lengths).for_each(|(all, frames)| *all += frames);
        Ok(())
    }
}

/// Counts the inner frames of capture files by length.
pub(crate) fn run(files: impl IntoIterator<Item = PathBuf>) -> Result<(Report, Lengths), Box<dyn Error>> {
    let lengths = Arc::new(FrameLengths::default());
    let replay = Replay::builder().sink(Arc::clone(&lengths));
    let report = files.into_iter().fold(replay, ReplayBuilder::file).build()?.run()?;
    Ok((report, lengths.all()))
}

fn main() -> Result<(), Box<dyn Error>> {
    let (report, lengths) = run(env::args_os().skip(1).map(PathBuf::from))?;
    for (bound, frames) in BOUNDS.iter().zip(lengths) {
        println!("up to {bound:>4} bytes: {frames}");
    }
    println!("longer:           {}", lengths[BOUNDS.len()]);
    println!("{} inner frames, residue {}", report.frames.decapsulated, report.accounting.residue);
    Ok(())
}
