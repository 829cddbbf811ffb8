//! What the kernel refused.

use std::io;

/// Why an AF_XDP socket could not be set up: which step the kernel refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SocketError {
    /// socket(2).
    #[error("AF_XDP socket: {0}")]
    Socket(#[source] io::Error),
    /// The memory for frames, or its registration (`XDP_UMEM_REG`).
    #[error("UMEM of {bytes} bytes: {source}")]
    Umem {
        /// Its size.
        bytes: u64,
        /// What the kernel said.
        source: io::Error,
    },
    /// The sizes of the rings, or their mappings.
    #[error("rings: {0}")]
    Rings(#[source] io::Error),
    /// bind(2).
    #[error("bind: {0}")]
    Bind(#[source] io::Error),
    /// `SO_PREFER_BUSY_POLL` and its budget. Minimum kernel version: 5.11.
    #[error("busy polling: {0}")]
    BusyPoll(#[source] io::Error),
}
