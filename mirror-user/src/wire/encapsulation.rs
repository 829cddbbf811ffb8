//! Outer headers of frames that are sent in VXLAN: both paths of a forwarder send the same.

use std::net::IpAddr;

use arrayvec::ArrayVec;
use etherparse::{IpNumber, Ipv4Header, Ipv6Header};

use super::ipv6;

/// TTL or hop limit.
pub(crate) const TTL: u8 = 64;

/// The IP header of a UDP datagram of this length; `None` if that is too long for an IP packet, or if the
/// addresses are of two families. Of IPv4 the checksum is 0, and don't-fragment is set: a frame that is too
/// long is an error, and counted.
pub(crate) fn ip_header(
    from: IpAddr,
    to: IpAddr,
    datagram: u16,
) -> Option<ArrayVec<u8, { ipv6::HEADER_LEN }>> {
    let mut bytes = ArrayVec::new();
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let header = Ipv4Header::new(datagram, TTL, IpNumber::UDP, from.octets(), to.octets()).ok()?;
            bytes.try_extend_from_slice(&header.to_bytes()).ok()?;
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let header = Ipv6Header {
                payload_length: datagram,
                next_header: IpNumber::UDP,
                hop_limit: TTL,
                source: from.octets(),
                destination: to.octets(),
                ..Ipv6Header::default()
            };
            bytes.try_extend_from_slice(&header.to_bytes()).ok()?;
        }
        _ => return None,
    }
    Some(bytes)
}
