//! Exit codes.

/// Bad usage: exit code 2, as with clap.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Usage(pub(crate) String);

pub(crate) const FAILED: u8 = 1;
pub(crate) const BAD_USAGE: u8 = 2;
