//! Sinks: the consumers of decapsulated frames.
//!
//! A [`SinkFactory`] is passed to the engine's builder. It builds one [`Sink`] per worker, on that worker's
//! pinned thread, so a sink needs no lock. A batch is lent for one call. A sink that needs bytes for longer
//! copies them into blocks of its own; when none is free it drops the frame and counts it. It never blocks
//! the worker.
//!
//! [`for_each`] makes a sink of a closure. A sink with state for each worker implements both traits:
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
mod directions;
mod distinct;
mod for_each;
#[cfg(feature = "af-xdp")]
pub mod forward;
mod handoff;
mod latency;
mod members;
pub(crate) mod needs;
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
#[cfg(feature = "af-xdp")]
pub use needs::Interfaces;
pub use needs::SinkNeeds;
pub use pcap::Pcap;
pub use print::Print;
pub use selected::selected;

use std::{
    fmt, io,
    sync::{Arc, atomic::AtomicBool},
    time::{Duration, Instant},
};

use crate::{
    account::{Report, SinkHalt, SinkReport},
    frame::Batch,
    select::Selection,
    tunnels::Tunnels,
};

/// Builds one sink per worker. An [`Arc`] of a factory is a factory too, so an embedder can keep one to query
/// it.
pub trait SinkFactory: Send + Sync {
    /// Name of the sink in reports and messages.
    fn name(&self) -> &str;

    /// Refuses an interface that it must not be used with. Called for each interface, on the thread that
    /// starts or changes an engine.
    ///
    /// # Errors
    ///
    /// Why: nothing is started or changed then.
    fn check(&self, interface: &str, tunnels: &Tunnels) -> Result<(), SinkError> {
        let _ = (interface, tunnels);
        Ok(())
    }

    /// Takes what [`build`](Self::build) needs time for, such as memory, for so many workers. Called before a
    /// sink is added to a running engine, on the thread that adds it: workers build in the midst of their
    /// frames then.
    ///
    /// # Errors
    ///
    /// Why the sink could not be built; nothing is changed then.
    fn prepare(&self, workers: usize, cx: &WorkerContext) -> Result<(), SinkError> {
        let _ = (workers, cx);
        Ok(())
    }

    /// Builds the sink of one worker, on that worker's thread, before the first frame.
    ///
    /// # Errors
    ///
    /// Why the sink could not be built; the run then does not start.
    fn build(&self, cx: &WorkerContext) -> Result<Box<dyn Sink>, SinkError>;

    /// Which of the frames that the run selects the sink gets; `None` for all.
    fn selection(&self) -> Option<Arc<Selection>> {
        None
    }

    /// Whether the sink uses [`Frame::time`](crate::Frame::time). If any does, the XDP program stamps frames.
    fn needs_time(&self) -> bool {
        false
    }

    /// What the sink needs of the frames, by which the engine decides whether the kernel may forward them.
    fn needs(&self) -> SinkNeeds {
        SinkNeeds::Frames
    }

    /// Adds totals over all workers to a report: to the sink's own `entry`, or to fields that only this sink
    /// fills, as [`Counters`] fills [`Report::origins`].
    ///
    /// Called for reports during the run and for the final one, once more after [`close`](Self::close); from
    /// any thread, also for two reports at a time. So it must not consume anything: workers publish at their
    /// [ticks](Sink::tick), and this method reads what they published. `report` has no entries of sinks
    /// during the call.
    fn report(&self, entry: &mut SinkReport, report: &mut Report) {
        let _ = (entry, report);
    }

    /// Why its output accepts no frames; `None` while it accepts them. Called for reports during the run, and
    /// once more after [`close`](Self::close), where
    /// [`SinkState::Waiting`](crate::account::SinkState::Waiting) is the sink's final state.
    fn halted(&self) -> Option<SinkHalt> {
        None
    }

    /// For how long the oldest frames wait that workers have handed to a thread of the sink, and that it has
    /// not taken care of; `None` if there are none. Called from any thread, during the run.
    fn lag(&self) -> Option<Duration> {
        None
    }

    /// Completes the output. Called once, after every worker's sink has finished and the accounts are closed;
    /// `report` has totals that belong in the output.
    ///
    /// # Errors
    ///
    /// Why the output could not be completed; the sink is then reported as ended.
    fn close(&self, report: &Report) -> Result<(), SinkError> {
        let _ = report;
        Ok(())
    }
}

/// Receives the frames of one worker.
pub trait Sink {
    /// Processes a batch, which is lent for this call.
    ///
    /// # Errors
    ///
    /// Stops this sink: later frames count as failed; ingest and the other sinks continue. Frames of this
    /// batch that [`stats`](Self::stats) does not include count as failed too.
    fn batch(&mut self, batch: &Batch<'_>) -> Result<(), SinkError>;

    /// Called at least every 100 ms, under load and when idle, to flush and publish.
    fn tick(&mut self, now: Instant) {
        let _ = now;
    }

    /// Whether its output is late, so that it drops frames or soon will. A worker that sleeps then sleeps for
    /// longer each time, half a millisecond at most: what a thread of the sink lacks may be the worker's CPU.
    fn is_behind(&self) -> bool {
        false
    }

    /// Called when the embedder requests a flush: writes what is buffered.
    fn flush(&mut self) {}

    /// Called at every tick after the sink was removed from a running engine, until it returns true: writes
    /// what is buffered, and says whether [`finish`](Self::finish) would not wait. The worker has other
    /// sinks' frames to take meanwhile.
    fn leave(&mut self) -> bool {
        true
    }

    /// Counts of the offered frames: `written + dropped + failed + pending` equals the frames offered.
    fn stats(&self) -> SinkStats;

    /// Called after the last batch, also on a sink that an error has stopped. `pending` is 0 when it returns.
    ///
    /// # Errors
    ///
    /// Why frames were not written; they count as failed.
    fn finish(&mut self) -> Result<(), SinkError> {
        Ok(())
    }
}

/// The worker that a sink is built for.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct WorkerContext {
    /// Interface the worker reads; `None` for a capture file.
    pub interface: Option<Arc<str>>,
    /// RX queue the worker reads; 0 for a capture file.
    pub queue: u32,
    /// Number of this worker, from 0.
    pub worker: usize,
    /// Number of workers planned for the run. There are more if a driver adds queues for the XDP program.
    pub workers: usize,
    /// CPU the worker is pinned to.
    pub cpu: Option<usize>,
    /// Largest outer frame, in bytes.
    pub max_frame: usize,
    /// Tunnels that are decapsulated.
    pub tunnels: Tunnels,
    /// Set for sources that can wait for sinks: capture files, not NICs. A sink may block instead of dropping
    /// until this is true.
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

/// Why a sink stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SinkError {
    /// An operation on a file, pipe or socket failed.
    #[error("{what}: {source}")]
    Io {
        /// The file, pipe or socket, as the user named it.
        what: String,
        /// The system's error.
        source: io::Error,
    },
    /// Another error; the message names cause and remedy.
    #[error("{0}")]
    Other(String),
}

impl SinkError {
    /// An error with this message.
    pub fn other(message: impl fmt::Display) -> Self {
        Self::Other(message.to_string())
    }
}
