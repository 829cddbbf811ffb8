//! The protocol of an upgrade, over the socket that connects the old process and the new one.
//!
//! Both may be of different releases: the first message names the version of the protocol, and fields may be
//! added. Texts that may be long are descriptors of files in memory.

use std::path::PathBuf;

use mirror_user::sink::pcap::CaptureState;
use serde::{Deserialize, Serialize};

use crate::http::OriginId;

/// The version of the protocol.
pub(super) const SCHEMA: &str = "mirror.upgrade/1";

/// From the old process.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ToSuccessor {
    /// What there is. Its descriptors: the engine's description, standard output, then those that are there
    /// of the control socket and of the HTTP server.
    Offer {
        schema: String,
        /// The name of the control socket.
        control: Option<String>,
        http: bool,
        /// The captures in files, as the configuration names them.
        captures: Vec<PathBuf>,
        /// The engine's descriptors that follow.
        descriptors: usize,
    },
    /// Some of the engine's descriptors.
    Descriptors,
    /// The new process is to go on. Its descriptors: the account so far, and a [`Standing`].
    Go {
        /// CPU time of the processes so far, in µs.
        cpu_us: u64,
    },
    /// The old process is done. Its descriptor: its final account.
    Account {
        /// As before.
        cpu_us: u64,
    },
}

/// Where things stand that the new process goes on with.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct Standing {
    /// Captures in files, by their paths.
    pub(crate) captures: Vec<(PathBuf, CaptureState)>,
    /// Origins that have series of their own in the metrics.
    pub(crate) listed: Vec<OriginId>,
}

/// From the new process.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ToPredecessor {
    /// It can go on.
    Ready { version: String },
    /// Its program has replaced the old one's, and its workers wait until those of the old process stop; or
    /// it has new sockets, and waits to bind them until those of the old process are closed.
    Follows,
    /// It goes on.
    Taken {
        /// For each queue whose socket it has: how long nobody took packets, in ns.
        pauses_ns: Vec<u64>,
        /// With new sockets: for how long packets passed to the host, in ns.
        #[serde(default)]
        cold_ns: Option<u64>,
    },
    /// It cannot, and ends.
    Failed { message: String },
}
