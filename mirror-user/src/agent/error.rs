//! Why an agent does not start, or does not take other sessions.

use std::io;

use crate::host::HostError;

/// Why an agent does not start, or does not take other sessions.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AgentError {
    /// A carrier cannot be made, or the target has no route.
    #[error(transparent)]
    Host(#[from] HostError),
    /// The socket that copies are sent by.
    #[error("cannot open a socket to send copies: {what}: {source}")]
    Socket {
        /// What failed.
        what: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The thread cannot be started or set up.
    #[error("the agent's thread: {what}: {source}")]
    Thread {
        /// What failed.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
    /// There is not one session for each carrier.
    #[error("{sessions} sessions for {carriers} carriers")]
    Sessions {
        /// Sessions that were given.
        sessions: usize,
        /// Carriers that there are.
        carriers: usize,
    },
    /// The thread has ended.
    #[error("the agent's thread has ended")]
    Ended,
}
