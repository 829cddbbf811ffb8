//! Why an engine does not start, each with its cause and its mend.

use std::io;

use crate::{escape::shell, host::HostError, sink::SinkError};

/// Why an engine could not be built or started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The options contradict each other, or the host's facts.
    #[error("{0}")]
    Options(String),
    /// The process lacks capabilities.
    #[error("live ingest needs {missing}; run it as root (`sudo mirror ingest …`)")]
    Capabilities {
        /// Names of what is missing.
        missing: String,
    },
    /// The host would not tell about itself, or has no such interface.
    #[error(transparent)]
    Host(#[from] HostError),
    /// The driver does not take the MTU in native mode, or frames of that size would be lost.
    #[error("{interface}: {reason}; run `{remedy}`")]
    Mtu {
        /// The interface.
        interface: String,
        /// The MTU, in bytes: its own, or that of the other end of a veth pair.
        mtu: u32,
        /// The most it may be, in bytes.
        most: u32,
        /// MTU and limit, with what sets the limit.
        reason: String,
        /// The command that sets the largest MTU at which nothing is lost.
        remedy: String,
    },
    /// A queue was asked for that is not there.
    #[error(
        "{interface}: there is no RX queue {queue}: it has {queues}, from 0; `ethtool -l {}` shows them",
        shell(interface)
    )]
    NoSuchQueue {
        /// The interface.
        interface: String,
        /// The queue asked for.
        queue: u32,
        /// How many there are.
        queues: u32,
    },
    /// Another program holds the interface's XDP hook.
    #[error(
        "{interface}: an XDP program is attached already ({holder}); stop its owner, or, if nobody owns it, \
        run `ip link set dev {} xdp off`",
        shell(interface)
    )]
    HookHeld {
        /// The interface.
        interface: String,
        /// Mode, id and name of the program.
        holder: String,
    },
    /// The program could not be loaded.
    #[error("{interface}: {reason}")]
    Program {
        /// The interface.
        interface: String,
        /// What the kernel said.
        reason: String,
    },
    /// The program could not be attached.
    #[error("{interface}: attach failed: {reason}")]
    Attach {
        /// The interface.
        interface: String,
        /// Cause and mend.
        reason: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// A queue's socket could not be set up.
    #[error("{interface} queue {queue}: {reason}")]
    Socket {
        /// The interface.
        interface: String,
        /// The queue.
        queue: u32,
        /// Cause and mend.
        reason: String,
    },
    /// A sink could not be built.
    #[error("sink {sink}: {source}")]
    Sink {
        /// The sink's name.
        sink: String,
        /// In its own words.
        source: SinkError,
    },
    /// A thread could not be started, pinned, or prepared.
    #[error("{what}: {source}")]
    Thread {
        /// What was tried.
        what: String,
        /// What the system said.
        source: io::Error,
    },
}
