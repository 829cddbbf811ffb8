//! Where decapsulated frames go.
//!
//! A [`SinkFactory`] is handed to the engine's builder; it builds one [`Sink`] per worker, on that worker's
//! pinned thread, so a sink needs no lock. A batch is lent for one call. A sink that needs bytes for longer
//! copies them into blocks of its own, and when none is free it drops and counts: it never makes the worker
//! wait.
//!
//! [`for_each`] makes a sink of a closure. One that keeps state for each worker implements both traits:
//!
//! ```
//! use std::sync::{Arc, Mutex};
//!
//! use mirror_user::{Batch, Sink, SinkError, SinkFactory, SinkStats, WorkerContext};
//!
//! /// The longest inner frame of the run.
//! #[derive(Default)]
//! struct Longest(Arc<Mutex<u32>>);
//!
//! impl SinkFactory for Longest {
//!     fn name(&self) -> &str {
//!         "longest"
//!     }
//!
//!     fn build(&self, _: &WorkerContext) -> Result<Box<dyn Sink>, SinkError> {
//!         Ok(Box::new(Worker { longest: 0, frames: 0, all: Arc::clone(&self.0) }))
//!     }
//! }
//!
//! struct Worker {
//!     longest: u32,
//!     frames: u64,
//!     all: Arc<Mutex<u32>>,
//! }
//!
//! impl Sink for Worker {
//!     fn batch(&mut self, batch: &Batch<'_>) -> Result<(), SinkError> {
//!         self.longest = batch.into_iter().map(|frame| frame.wire_len()).fold(self.longest, u32::max);
//!         self.frames += batch.len() as u64;
//!         Ok(())
//!     }
//!
//!     fn stats(&self) -> SinkStats {
//!         SinkStats { written: self.frames, ..SinkStats::default() }
//!     }
//!
//!     fn finish(&mut self) -> Result<(), SinkError> {
//!         let mut all = self.all.lock().map_err(SinkError::other)?;
//!         *all = self.longest.max(*all);
//!         Ok(())
//!     }
//! }
//!
//! let longest = Longest::default();
//! let run = mirror_user::Replay::builder().sink(Longest(Arc::clone(&longest.0)));
//! ```

mod counters;
mod distinct;
mod for_each;
#[cfg(feature = "af-xdp")]
pub mod forward;
mod handoff;
mod latency;
mod origin;
pub mod pcap;
mod pipe;
pub mod print;
mod selected;
mod shared;
#[cfg(test)]
pub(crate) mod testing;

pub use crate::account::{MAX_REASONS, Reasons, SinkStats};
pub use counters::{Counters, CountersSnapshot};
pub use for_each::for_each;
#[cfg(feature = "af-xdp")]
pub use forward::Forward;
pub use latency::LatencySink;
pub use pcap::Pcap;
pub use print::Print;
pub use selected::selected;

use std::{
    fmt, io,
    sync::{Arc, atomic::AtomicBool},
    time::Instant,
};

use crate::{
    account::{Report, SinkHalt, SinkReport},
    frame::Batch,
    select::Selection,
    tunnels::Tunnels,
};

/// Builds one sink a worker. An [`Arc`] of a factory is one, too, for whoever wants to ask it something
/// afterwards.
pub trait SinkFactory: Send + Sync {
    /// Name of the sink in reports and messages.
    fn name(&self) -> &str;

    /// Builds the sink of one worker, on that worker's thread, before the first frame.
    ///
    /// # Errors
    ///
    /// What keeps the sink from being built; the run then does not start.
    fn build(&self, cx: &WorkerContext) -> Result<Box<dyn Sink>, SinkError>;

    /// Which frames the sink gets, of those that the run selects; `None` for all of them.
    fn selection(&self) -> Option<Arc<Selection>> {
        None
    }

    /// Whether the sink uses [`Frame::time`](crate::Frame::time). If any does, the XDP program stamps frames.
    fn needs_time(&self) -> bool {
        false
    }

    /// Adds to a report what only the sink as a whole knows: to its own `entry`, or to fields that are its
    /// alone, as [`Report::origins`] are those of [`Counters`].
    ///
    /// Called for the report of a run under way as for the final one, for which it is called once more after
    /// [`close`](Self::close); from any thread, and for two reports at the same time. So it takes nothing
    /// away: workers publish at their [ticks](Sink::tick), and what they have published is read here.
    /// `report` is without entries of sinks meanwhile.
    fn report(&self, entry: &mut SinkReport, report: &mut Report) {
        let _ = (entry, report);
    }

    /// What keeps its output from taking frames; `None` where it takes them. Asked at any time, for reports
    /// of a run under way, and once more after [`close`](Self::close), where
    /// [`SinkState::Waiting`](crate::account::SinkState::Waiting) is how the sink ended.
    fn halted(&self) -> Option<SinkHalt> {
        None
    }

    /// Completes the output. Called once, after every worker's sink has finished and the accounts are closed:
    /// `report` is there for totals that a reader of the output expects in it.
    ///
    /// # Errors
    ///
    /// What kept the output from being completed; the sink is then reported as ended.
    fn close(&self, report: &Report) -> Result<(), SinkError> {
        let _ = report;
        Ok(())
    }
}

/// Takes the frames of one worker.
pub trait Sink {
    /// Takes a batch, which is lent for the length of this call.
    ///
    /// # Errors
    ///
    /// Ends this sink: frames after it count as failed, ingest and the other sinks go on. Of this batch, the
    /// frames that [`stats`](Self::stats) does not know of count as failed too.
    fn batch(&mut self, batch: &Batch<'_>) -> Result<(), SinkError>;

    /// Called at least every 100 ms, loaded or idle: to flush and publish.
    fn tick(&mut self, now: Instant) {
        let _ = now;
    }

    /// Called when the embedder asked for a flush: what is buffered goes out now.
    fn flush(&mut self) {}

    /// Where the offered frames are by now: `written + dropped + failed + pending` is what was offered.
    fn stats(&self) -> SinkStats;

    /// Called after the last batch, also on a sink that has ended by an error. `pending` is 0 when it
    /// returns.
    ///
    /// # Errors
    ///
    /// What kept frames from getting where they belong; they count as failed.
    fn finish(&mut self) -> Result<(), SinkError> {
        Ok(())
    }
}

/// What a sink may know of the worker it is built for.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct WorkerContext {
    /// Interface the worker reads; `None` for a capture file.
    pub interface: Option<Arc<str>>,
    /// RX queue the worker reads; 0 for a capture file.
    pub queue: u32,
    /// Number of this worker, from 0.
    pub worker: usize,
    /// How many workers the run was planned with; where a driver adds queues for the XDP program, more
    /// follow.
    pub workers: usize,
    /// CPU the worker is pinned to.
    pub cpu: Option<usize>,
    /// The most bytes an outer frame can have.
    pub max_frame: usize,
    /// Tunnels that are decapsulated.
    pub tunnels: Tunnels,
    /// Where the source can wait for its sinks, as a capture file can and a NIC cannot: a sink may make it
    /// wait instead of dropping, until this is set.
    pub wait_until: Option<Arc<AtomicBool>>,
}

impl WorkerContext {
    /// The only worker of a run over capture files; also what a sink's own test needs.
    #[must_use]
    pub fn single(max_frame: usize) -> Self {
        Self {
            interface: None,
            queue: 0,
            worker: 0,
            workers: 1,
            cpu: None,
            max_frame,
            tunnels: Tunnels::default(),
            wait_until: None,
        }
    }
}

/// Why a sink ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SinkError {
    /// A file, pipe or socket refused.
    #[error("{what}: {source}")]
    Io {
        /// What was written or opened, as the user named it.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// Anything else, in the sink's own words, naming cause and remedy.
    #[error("{0}")]
    Other(String),
}

impl SinkError {
    /// An error in the sink's own words.
    pub fn other(message: impl fmt::Display) -> Self {
        Self::Other(message.to_string())
    }
}
