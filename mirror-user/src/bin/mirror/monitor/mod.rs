//! The monitor: a second process that keeps the privileges that reloads and upgrades need.
//!
//! It is started before the run drops anything, never reads a packet, and ends with the run. It reads the
//! configuration file, and opens the targets that this file names: devices and sockets, which it passes as
//! descriptors (unix(7), `SCM_RIGHTS`). For an upgrade it starts the installed executable again, with the
//! run's arguments and all that the run was started with. It answers no other request: a process that
//! strangers' packets have taken over gets nothing that the administrator has not written down.
//!
//! It is this executable again, so that it shares no memory with the process that parses packets, and its
//! addresses say nothing about that one's.

mod client;
mod launch;
mod process;
mod protocol;

pub(crate) use self::{
    client::Monitor,
    launch::{LaunchArgs, launch},
    process::{MonitorArgs, run},
};
