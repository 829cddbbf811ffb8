//! What becomes of the copies of a session.

use std::net::SocketAddr;

/// How copies of a session are sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct SessionOut {
    /// The VNI, of 24 bits.
    pub vni: u32,
    /// The target and its UDP port.
    pub to: SocketAddr,
    /// The most bytes of each packet, from its Ethernet header on; `None` for all. Lengths in its IP header
    /// stay as they were.
    pub packet_length: Option<u16>,
    /// What becomes of a packet that does not fit into one packet to the target.
    pub oversize: Oversize,
}

impl SessionOut {
    /// Whole packets of this VNI; those that do not fit are truncated.
    #[must_use]
    pub fn new(vni: u32, to: SocketAddr) -> Self {
        Self { vni, to, packet_length: None, oversize: Oversize::default() }
    }
}

/// What becomes of a packet that, encapsulated, is longer than the MTU towards the target.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Oversize {
    /// It is truncated to the MTU, as AWS does.
    #[default]
    Truncate,
    /// It is not sent.
    Drop,
}
