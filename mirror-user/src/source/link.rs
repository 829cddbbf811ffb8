//! Link layers, and giving frames of other link layers an Ethernet header.
//!
//! `tcpdump -i any` writes Linux cooked frames, for example. A decapsulator needs no more of a link header
//! than Ethernet has, so an Ethernet header is written over its end, in the reader's buffer.

use std::ops::Range;

use crate::wire::ethernet::{self, ethertype};

/// A supported link layer (tcpdump.org, "Link-layer header types").
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Link {
    /// `LINKTYPE_ETHERNET`, 1.
    Ethernet,
    /// `LINKTYPE_LINUX_SLL`, 113.
    Cooked,
    /// `LINKTYPE_LINUX_SLL2`, 276.
    Cooked2,
    /// `LINKTYPE_NULL`, 0, of the loopback of BSDs: the address family as their `AF_` has it, in the byte
    /// order of the host that captured. `LINKTYPE_LOOP`, 108, of OpenBSD's: the same in network byte order.
    Loopback,
    /// From the IP header on: `LINKTYPE_RAW` 101, also as 12 and 14, the numbers of `DLT_RAW` on most systems
    /// and on OpenBSD, which occur in files although they should not; `LINKTYPE_IPV4` 228, `LINKTYPE_IPV6`
    /// 229.
    Ip,
}

/// Length of the header that replaces the others, in bytes.
const ETHERNET: u32 = 14;

/// Address families of loopback headers. IPv6 has a different number on each system: Linux, NetBSD and
/// OpenBSD, FreeBSD, macOS.
const AF_INET: u32 = 2;
const AF_INET6: [u32; 4] = [10, 24, 28, 30];

/// Fields of cooked headers.
mod field {
    use std::ops::Range;

    pub(super) const SLL_SOURCE: Range<usize> = 6..12;
    pub(super) const SLL_PROTOCOL: Range<usize> = 14..16;
    pub(super) const SLL2_PROTOCOL: Range<usize> = 0..2;
    pub(super) const SLL2_SOURCE: Range<usize> = 12..18;
}

impl Link {
    /// The link layer of a number; `None` if it is not supported.
    pub(super) fn from_number(link_type: u16) -> Option<Self> {
        match link_type {
            1 => Some(Self::Ethernet),
            113 => Some(Self::Cooked),
            276 => Some(Self::Cooked2),
            0 | 108 => Some(Self::Loopback),
            12 | 14 | 101 | 228 | 229 => Some(Self::Ip),
            _ => None,
        }
    }

    /// Length of the header, in bytes.
    fn header_len(self) -> u32 {
        match self {
            Self::Ethernet => ETHERNET,
            Self::Cooked => 16,
            Self::Cooked2 => 20,
            Self::Loopback => 4,
            Self::Ip => 0,
        }
    }

    /// Length on the wire that the frame has with an Ethernet header.
    pub(super) fn ethernet_wire_len(self, wire_len: u32) -> u32 {
        match self {
            Self::Ethernet => wire_len,
            _ => wire_len.saturating_sub(self.header_len()).saturating_add(ETHERNET),
        }
    }

    /// Gives the frame at `frame` an Ethernet header, and returns its new place.
    ///
    /// At least 14 bytes before the frame must be free to be overwritten. A frame that ends within its own
    /// link header becomes an empty one.
    pub(super) fn make_ethernet(self, buffer: &mut [u8], frame: Range<usize>) -> Range<usize> {
        let bytes = &buffer[frame.clone()];
        let header_len = self.header_len() as usize;
        if self == Self::Ethernet {
            return frame;
        }
        if bytes.len() <= header_len {
            return frame.end..frame.end;
        }
        let mut header = [0; ethernet::HEADER_LEN];
        let (source, protocol) = header[6..].split_at_mut(6);
        match self {
            Self::Ethernet | Self::Ip => {
                let ethertype = match bytes[0] >> 4 {
                    4 => ethertype::IPV4,
                    6 => ethertype::IPV6,
                    _ => 0,
                };
                protocol.copy_from_slice(&ethertype.to_be_bytes());
            }
            Self::Loopback => {
                let family = [bytes[0], bytes[1], bytes[2], bytes[3]];
                // Families are small numbers, so one byte order alone makes sense.
                let family = u32::from_le_bytes(family).min(u32::from_be_bytes(family));
                let ethertype = match family {
                    AF_INET => ethertype::IPV4,
                    family if AF_INET6.contains(&family) => ethertype::IPV6,
                    _ => 0,
                };
                protocol.copy_from_slice(&ethertype.to_be_bytes());
            }
            Self::Cooked => {
                source.copy_from_slice(&bytes[field::SLL_SOURCE]);
                protocol.copy_from_slice(&bytes[field::SLL_PROTOCOL]);
            }
            Self::Cooked2 => {
                source.copy_from_slice(&bytes[field::SLL2_SOURCE]);
                protocol.copy_from_slice(&bytes[field::SLL2_PROTOCOL]);
            }
        }
        let network = frame.start + header_len;
        let start = network - ethernet::HEADER_LEN;
        buffer[start..network].copy_from_slice(&header);
        start..frame.end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Makes a frame of a link header and three bytes of payload Ethernet, inside a buffer with room in
    /// front.
    fn made(link: Link, header: &[u8], payload: &[u8]) -> Vec<u8> {
        let mut buffer = vec![0xaa; 16];
        buffer.extend_from_slice(header);
        buffer.extend_from_slice(payload);
        let end = buffer.len();
        let range = link.make_ethernet(&mut buffer, 16..end);
        buffer[range].to_vec()
    }

    #[test]
    fn cooked_headers_give_protocol_and_source() {
        let sll = [0, 0, 0, 1, 0, 6, 1, 2, 3, 4, 5, 6, 0, 0, 8, 0];
        let sll2 = [8, 0, 0, 0, 0, 0, 0, 2, 0, 1, 0, 6, 1, 2, 3, 4, 5, 6, 0, 0];
        let ethernet = [0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 8, 0, 0x45, 7, 7];
        assert_eq!(made(Link::Cooked, &sll, &[0x45, 7, 7]), ethernet);
        assert_eq!(made(Link::Cooked2, &sll2, &[0x45, 7, 7]), ethernet);
    }

    #[test]
    fn loopback_headers_have_the_family_in_either_byte_order() {
        assert_eq!(made(Link::Loopback, &[2, 0, 0, 0], &[0x45, 1])[12..], [8, 0, 0x45, 1]);
        assert_eq!(made(Link::Loopback, &[0, 0, 0, 2], &[0x45, 1])[12..], [8, 0, 0x45, 1]);
        for family in AF_INET6 {
            assert_eq!(made(Link::Loopback, &family.to_le_bytes(), &[0x60, 1])[12..], [0x86, 0xdd, 0x60, 1]);
            assert_eq!(made(Link::Loopback, &family.to_be_bytes(), &[0x60, 1])[12..], [0x86, 0xdd, 0x60, 1]);
        }
        assert_eq!(made(Link::Loopback, &[7, 0, 0, 0], &[0x45, 1])[12..], [0, 0, 0x45, 1]);
    }

    #[test]
    fn raw_ip_is_ipv4_or_ipv6_by_its_version_field() {
        assert_eq!(made(Link::Ip, &[], &[0x45, 1])[12..], [8, 0, 0x45, 1]);
        assert_eq!(made(Link::Ip, &[], &[0x60, 1])[12..], [0x86, 0xdd, 0x60, 1]);
        assert_eq!(made(Link::Ip, &[], &[0x00, 1])[12..], [0, 0, 0, 1]);
    }

    #[test]
    fn a_frame_cut_within_its_link_header_is_empty() {
        for (link, len) in [(Link::Cooked, 16), (Link::Cooked2, 20), (Link::Loopback, 4), (Link::Ip, 0)] {
            assert!(made(link, &vec![1; len], &[]).is_empty());
        }
    }

    #[test]
    fn wire_lengths_follow_the_header() {
        assert_eq!([Link::Ethernet.ethernet_wire_len(100), Link::Ethernet.ethernet_wire_len(5)], [100, 5]);
        assert_eq!(Link::Cooked.ethernet_wire_len(100), 98);
        assert_eq!(Link::Cooked2.ethernet_wire_len(100), 94);
        assert_eq!(Link::Loopback.ethernet_wire_len(100), 110);
        assert_eq!(Link::Ip.ethernet_wire_len(100), 114);
        assert_eq!(Link::Ip.ethernet_wire_len(u32::MAX), u32::MAX);
    }
}
