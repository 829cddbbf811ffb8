//! What this host, driver and interface can do, and the command that fixes what they cannot.
//!
//! Facts are gathered first ([`gather`]) and then judged ([`judge`]), so that the facts of a host can be
//! saved as JSON and judged elsewhere.

mod facts;
mod gather;
mod judge;
mod plan;
mod procfs;
mod report;
mod rss;
#[cfg(test)]
mod tests;

pub use facts::{Fact, Facts, InterfaceFacts, Irq, Peer, PortHolder, VxlanDevice};
pub use gather::gather;
pub use judge::{Finding, Severity, judge};
pub use plan::{Plan, plan};
pub use report::Report;
pub use rss::{MICROSOFT_KEY, Reach, reach, toeplitz};
