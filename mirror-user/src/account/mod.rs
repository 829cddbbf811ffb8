//! Counters, and the laws that they must satisfy.
//!
//! ```text
//! seen         = redirected + forwarded + Σ passed + Σ dropped            counted in the XDP program
//! forwarded    = sent + Σ not_sent                                        counted by two tracepoints
//! redirected   = received + rx_dropped + rx_ring_full + redirect_failed   at rest
//! received     = decapsulated + Σ rejected + abandoned + fragments_consumed
//! files: Σ packets read = received
//! per sink: decapsulated = deselected + offered;   offered = written + dropped + failed + pending
//! ```
//!
//! No term is derived from another, so a frame that nobody counted shows as a residue.

mod counters;
#[cfg(feature = "af-xdp")]
mod ended;
mod follow;
mod law;
mod losses;
mod merge;
mod reasons;
mod report;
mod stats;
mod summary;
mod tally;

#[cfg(feature = "af-xdp")]
pub(crate) use counters::WorkerCounters;
pub(crate) use counters::{FrameCounters, SinkCounters};
pub(crate) use reasons::Rejections;
pub use reasons::{Dropped, NotSent, Passed, Reject, Rejected};
pub(crate) use report::ForwardedOrigins;
#[cfg(feature = "af-xdp")]
pub(crate) use report::begins_with_schema;
pub use report::{
    Accounting, Directions, Drain, FileReport, ForwardPathReport, ForwardTargetReport, Frames,
    InterfaceReport, Latency, Losses, MemberReport, Odd, Origin, OtherOrigins, QueueReport, ReaderReport,
    Report, Restarts, SessionReport, SinkReport, Upgrades, VlanReport, XdpReport,
};
pub use stats::{MAX_REASONS, Reasons, SinkHalt, SinkState, SinkStats};
pub use summary::Summary;
