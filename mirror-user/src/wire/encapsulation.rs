//! Outer headers of frames that are sent in VXLAN: both paths of a forwarder send the same, and the source
//! agent what AWS does.

use std::net::{IpAddr, Ipv6Addr};

use arrayvec::ArrayVec;
use etherparse::{IpNumber, Ipv4Header, Ipv6Header, checksum::Sum16BitWords};

use super::{ipv6, udp, vxlan};

/// The longest of these headers, from IP to VXLAN, in bytes.
pub(crate) const MAX_LEN: usize = ipv6::HEADER_LEN + udp::HEADER_LEN + vxlan::HEADER_LEN;

/// In what outer IP headers differ.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Style {
    /// TTL or hop limit.
    pub(crate) ttl: u8,
    /// IPv4's don't-fragment flag.
    pub(crate) dont_fragment: bool,
}

impl Style {
    /// Of forwarders: a frame that is too long is an error, and counted.
    pub(crate) const FORWARDED: Self = Self { ttl: 64, dont_fragment: true };
    /// Of AWS, as seen in captures.
    pub(crate) const MIRRORED: Self = Self { ttl: 255, dont_fragment: false };
}

/// The IP header of a UDP datagram of this length; `None` if that is too long for an IP packet, or if the
/// addresses are of two families. Of IPv4 identification and checksum are 0.
pub(crate) fn ip_header(
    from: IpAddr,
    to: IpAddr,
    datagram: u16,
    style: Style,
) -> Option<ArrayVec<u8, { ipv6::HEADER_LEN }>> {
    let mut bytes = ArrayVec::new();
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let mut header =
                Ipv4Header::new(datagram, style.ttl, IpNumber::UDP, from.octets(), to.octets()).ok()?;
            header.dont_fragment = style.dont_fragment;
            bytes.try_extend_from_slice(&header.to_bytes()).ok()?;
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let header = Ipv6Header {
                payload_length: datagram,
                next_header: IpNumber::UDP,
                hop_limit: style.ttl,
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

/// The sum of the pseudo-header of a UDP datagram without its length (RFC 768, RFC 8200 section 8.1).
pub(crate) fn pseudo_header(from: Ipv6Addr, to: Ipv6Addr) -> Sum16BitWords {
    Sum16BitWords::new().add_16bytes(from.octets()).add_16bytes(to.octets()).add_2bytes([0, IpNumber::UDP.0])
}
