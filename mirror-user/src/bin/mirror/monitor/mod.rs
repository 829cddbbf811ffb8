//! The monitor: a second process that keeps the privileges that a reload may need.
//!
//! It is started before the run drops anything, never reads a packet, and ends with the run. It reads the
//! configuration file, and opens the targets that this file names: devices and sockets, which it passes as
//! descriptors (unix(7), `SCM_RIGHTS`). It answers no other request: a process that strangers' packets have
//! taken over gets nothing that the administrator has not written down.
//!
//! It is this executable again, so that it shares no memory with the process that parses packets, and its
//! addresses say nothing about that one's.

mod client;
mod process;
mod protocol;

pub(crate) use self::{
    client::Monitor,
    process::{MonitorArgs, run},
};
