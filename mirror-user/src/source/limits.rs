//! Limits of what is read.

/// The longest frame that is read, in bytes: libpcap's own limit, `MAXIMUM_SNAPLEN`.
pub const MAX_FRAME: usize = 256 * 1024;

/// The longest block of a pcapng that is read, in bytes.
pub const MAX_BLOCK: usize = 16 * 1024 * 1024;
