//! Why a forwarder could not be set up.

use std::io;

use crate::{escape, host::HostError, xsk::SocketError};

/// Why a forwarder could not be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ForwardError {
    /// A target was named twice.
    #[error("{}: named twice; once is enough", escape::line(target))]
    Twice {
        /// The target.
        target: String,
    },
    /// There are more members than a group can have.
    #[error("{targets} targets: a group has at most {most}")]
    TooMany {
        /// Number of targets.
        targets: usize,
        /// The limit.
        most: usize,
    },
    /// An option applies to none of the targets.
    #[error("{option} needs {by}, and no target is one")]
    NotApplicable {
        /// The option.
        option: &'static str,
        /// The targets that it applies to.
        by: &'static str,
    },
    /// A target could not be opened.
    #[error("{}: {source}", escape::line(target))]
    Open {
        /// The target.
        target: String,
        /// The reason.
        source: OpenError,
    },
    /// A member's thread could not be started.
    #[error("{}: cannot start its thread: {source}", escape::line(target))]
    Thread {
        /// The target.
        target: String,
        /// The system's error.
        source: io::Error,
    },
}

/// Why a target could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// An operation on the host failed.
    #[error(transparent)]
    Host(#[from] HostError),
    /// A socket operation failed.
    #[error("{what}: {source}{remedy}")]
    Socket {
        /// The operation.
        what: &'static str,
        /// The system's error.
        source: io::Error,
        /// The remedy, if known; otherwise empty.
        remedy: &'static str,
    },
    /// The target is the loopback interface.
    #[error(
        "this host itself receives, and may answer, what is sent there; forward to a veth pair \
        (`veth:NAME`) or a TAP device (`tap:NAME`) instead"
    )]
    Loopback,
    /// The process that opens targets for this one refuses.
    #[error("{reason}")]
    Refused {
        /// Why, with the remedy.
        reason: String,
    },
    /// AF_XDP on the interface could not be set up.
    #[error("AF_XDP for sending: {0}")]
    Xsk(#[source] SocketError),
}
