//! Mirrors a host's own traffic, as AWS does that of an interface: the user half of a source agent.
//!
//! A program of the kernel at tc clones packets into a `Carrier`, a TAP device of each session, where
//! super-frames arrive whole. An `AgentThread` reads them, [segments](segment) them, cuts each segment to the
//! session's packet length, encapsulates it (`outer`), and sends it. Production pays for the clone alone,
//! once for a super-frame; the rest is done behind a queue, by a thread that yields.
//!
//! Everything is counted (`FrameCounters`): a copy that is not sent has a reason. All but [`segment`] is for
//! Linux only, with the feature `af-xdp`.

#[cfg(feature = "af-xdp")]
mod carrier;
#[cfg(feature = "af-xdp")]
mod counters;
#[cfg(feature = "af-xdp")]
mod error;
#[cfg(feature = "af-xdp")]
pub mod outer;
#[cfg(feature = "af-xdp")]
mod report;
#[cfg(feature = "af-xdp")]
mod rules;
pub mod segment;
#[cfg(feature = "af-xdp")]
mod send;
#[cfg(feature = "af-xdp")]
mod session;
#[cfg(feature = "af-xdp")]
mod source;
#[cfg(feature = "af-xdp")]
mod target;
#[cfg(feature = "af-xdp")]
mod thread;

#[cfg(feature = "af-xdp")]
pub use crate::tc::Hook;
#[cfg(feature = "af-xdp")]
pub use carrier::Carrier;
#[cfg(feature = "af-xdp")]
pub use counters::{CarrierCounters, FrameCounters, SendFailed};
#[cfg(feature = "af-xdp")]
pub use error::AgentError;
#[cfg(feature = "af-xdp")]
pub use report::{
    DirectionReport, ExcludedReport, InterfaceReport, SessionReport, SourceAccounting, SourceReport,
};
#[cfg(all(test, feature = "af-xdp"))]
pub(crate) use rules::cases;
#[cfg(feature = "af-xdp")]
pub use session::{Oversize, SessionOut};
#[cfg(feature = "af-xdp")]
pub use source::{Source, SourceError, SourceOptions, clean};
#[cfg(feature = "af-xdp")]
pub use target::TargetAddress;
#[cfg(feature = "af-xdp")]
pub use thread::{AgentOptions, AgentThread};
