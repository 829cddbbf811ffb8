//! Decapsulation in place: where in an outer frame the inner one lies, and what is wrong with it if it does not.

use crate::{account::Reject, batch::Captured};

/// Where the outer network header starts, and which it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Network {
    /// IPv4 (RFC 791) at this offset.
    Ipv4 {
        /// Bytes from the start of the frame.
        at: u8,
    },
    /// IPv6 (RFC 8200) at this offset.
    Ipv6 {
        /// Bytes from the start of the frame.
        at: u8,
    },
}

/// What decapsulation found: offsets into the outer frame. Every one lies within the captured bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    pub(crate) vni: u32,
    pub(crate) network: Network,
    /// Offset of the outer UDP header.
    pub(crate) udp: u8,
    pub(crate) inner_start: u32,
    pub(crate) inner_end: u32,
    /// Length of the inner frame before truncation.
    pub(crate) wire_len: u32,
    pub(crate) reserved_bits: bool,
}

/// Finds the inner frame.
///
/// # Errors
///
/// The reason for which the frame holds none.
pub(crate) fn decapsulate(captured: &Captured<'_>, ports: &[u16]) -> Result<Layout, Reject> {
    let _ = (captured, ports);
    Err(Reject::BadOuter)
}
