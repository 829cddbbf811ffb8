//! Facts of the host: interfaces, their drivers and counters, the kernel, and limits of the process.
//!
//! Nothing here prints, waits or changes a setting, except [`tunables`], which restores what it changed (and
//! [records](run_state) it, in case the run is killed), [`settings`], which changes what it is asked to, and
//! [`tap`] and [`veth`], which make interfaces and keep their traffic from the host. Netlink and ioctl
//! sockets are opened on the calling thread, so all of it is about that thread's network namespace;
//! `/sys/class/net` may show another one (it belongs to the mount, not to the thread) and is read only where
//! it proves to show the same interface.

pub(crate) mod addresses;
pub(crate) mod affinity;
pub(crate) mod burst;
pub(crate) mod clock;
mod discard;
pub(crate) mod driver;
pub(crate) mod egress;
mod ethtool;
pub mod interface;
pub mod kernel;
pub mod limits;
pub mod links;
pub mod namespace;
mod netlink;
pub(crate) mod next_hop;
pub(crate) mod qdisc;
pub mod run_state;
pub mod scheduling;
pub mod settings;
pub mod statistics;
pub mod tap;
pub mod tunables;
pub mod veth;
pub mod vxlan;
pub mod xdp;

use std::{io, path::PathBuf};

pub(crate) use ethtool::hex_key;
pub use ethtool::{Channels, DriverInfo, Rings, Rss};

/// Why something about the host could not be read or set.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HostError {
    /// No interface of that name in this network namespace.
    #[error("{name}: no such interface; there are {}", none_or(.there))]
    NoSuchInterface {
        /// The name asked for.
        name: String,
        /// The names there are.
        there: Vec<String>,
    },
    /// A netlink request was refused or its answer could not be read.
    #[error("cannot {what} over netlink: {source}")]
    Netlink {
        /// What was asked.
        what: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The next hop towards a remote end could not be looked up.
    #[error("{to}: no next hop: {source}; see `ip route get`")]
    NextHop {
        /// The remote end.
        to: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The driver refused an ethtool command.
    #[error("{interface}: cannot read {what} over ethtool: {source}")]
    Ethtool {
        /// The interface asked.
        interface: String,
        /// What was asked.
        what: &'static str,
        /// The driver's answer; `EOPNOTSUPP` where it has no such thing.
        source: io::Error,
    },
    /// A TAP device could not be made.
    #[error("{name}: cannot make a TAP device: {source}")]
    Tap {
        /// Its name.
        name: String,
        /// Why not.
        source: io::Error,
    },
    /// A veth pair could not be made.
    #[error("{name}: cannot make a veth pair: {source}")]
    Veth {
        /// The name of its far end.
        name: String,
        /// Why not.
        source: io::Error,
    },
    /// A veth pair could not be made because its name is taken.
    #[error("{name}: {}", match .in_use {
        true => "another run of mirror forwards to a veth pair of this name",
        false => "there is an interface of this name that mirror did not make",
    })]
    NameTaken {
        /// The name.
        name: String,
        /// Whether by a pair of another run.
        in_use: bool,
    },
    /// A network namespace could not be entered.
    #[error("network namespace {}: {source}", crate::escape::line(&namespace.to_string()))]
    Namespace {
        /// The namespace.
        namespace: namespace::NetworkNamespace,
        /// Why not.
        source: io::Error,
    },
    /// The traffic of a device could not be kept from the host's own network stack.
    #[error(
        "{name}: the host itself would receive what is forwarded there, and may answer it: {}",
        crate::error::with_causes(&**.source)
    )]
    Discard {
        /// The device's name.
        name: String,
        /// Why not.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A file of procfs or sysfs could not be read.
    #[error("cannot read {}: {source}", crate::escape::path(path))]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file of sysfs could not be written.
    #[error("cannot write {value} to {}: {source}", crate::escape::path(path))]
    Write {
        /// The file.
        path: PathBuf,
        /// What was to be written.
        value: String,
        /// Why not.
        source: io::Error,
    },
    /// A setting could not be changed.
    #[error("{}: cannot be set to {value}: {source}", crate::escape::line(setting))]
    Setting {
        /// What was to be changed.
        setting: String,
        /// To what.
        value: String,
        /// The kernel's or the driver's answer.
        source: io::Error,
    },
    /// Another run has changed the interface's settings, and will restore them.
    #[error("{interface}: another run of mirror (process {pid}) busy-polls it and has changed its settings")]
    SettingsHeld {
        /// The interface.
        interface: String,
        /// The other run's process.
        pid: u32,
    },
    /// A file or an answer holds something else than expected.
    #[error("cannot parse {what}: {text:?}")]
    Unexpected {
        /// What it should have been.
        what: &'static str,
        /// What it was.
        text: String,
    },
    /// `/sys` shows another network namespace than the one the thread is in.
    #[error(
        "{interface}: /sys shows another network namespace; run `ip netns exec` or mount sysfs in this \
        namespace"
    )]
    OtherNamespace {
        /// The interface looked for.
        interface: String,
    },
}

fn none_or(names: &[String]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

/// Reads a small text file of procfs or sysfs, without the newline at its end.
pub(crate) fn read_text(path: impl Into<PathBuf>) -> Result<String, HostError> {
    let path = path.into();
    match std::fs::read_to_string(&path) {
        Ok(mut text) => {
            text.truncate(text.trim_end().len());
            Ok(text)
        }
        Err(source) => Err(HostError::Read { path, source }),
    }
}
