//! The one shape that a mirror sends nearly always: Ethernet, IPv4 without options, UDP, VXLAN, and an inner frame
//! without VLAN tags, all of it captured. It sits at fixed offsets, so one bounds check covers every header.
//!
//! Whatever is not exactly this is left to [`general`](super::general), which also finds the words for what is wrong.

use super::{Layout, Network};
use crate::wire::{
    be16, be32,
    ethernet::{self, ethertype},
    ipv4, ipv6, udp, vlan, vxlan,
};

/// Offsets of the headers, and of the fields that are read, in a frame of this shape.
mod field {
    use std::ops::Range;

    use super::{ethernet, ipv4, udp, vxlan};

    pub(super) const ETHERTYPE: Range<usize> = 12..14;
    pub(super) const NETWORK: usize = ethernet::HEADER_LEN;
    pub(super) const TOTAL_LENGTH: Range<usize> = NETWORK + 2..NETWORK + 4;
    pub(super) const FRAGMENT: Range<usize> = NETWORK + 6..NETWORK + 8;
    pub(super) const PROTOCOL: usize = NETWORK + 9;
    pub(super) const UDP: usize = NETWORK + ipv4::HEADER_LEN;
    pub(super) const PORT: Range<usize> = UDP + 2..UDP + 4;
    pub(super) const UDP_LENGTH: Range<usize> = UDP + 4..UDP + 6;
    pub(super) const VXLAN: usize = UDP + udp::HEADER_LEN;
    pub(super) const FLAGS: Range<usize> = VXLAN..VXLAN + 4;
    pub(super) const VNI: Range<usize> = VXLAN + 4..VXLAN + 8;
    pub(super) const INNER: usize = VXLAN + vxlan::HEADER_LEN;
    pub(super) const INNER_ETHERTYPE: Range<usize> = INNER + 12..INNER + 14;
    pub(super) const INNER_NETWORK: usize = INNER + ethernet::HEADER_LEN;
    pub(super) const INNER_TOTAL_LENGTH: Range<usize> = INNER_NETWORK + 2..INNER_NETWORK + 4;
    pub(super) const INNER_PAYLOAD_LENGTH: Range<usize> = INNER_NETWORK + 4..INNER_NETWORK + 6;
    /// All that is read.
    pub(super) const HEADERS: usize = INNER_NETWORK + 6;
    /// The least UDP length: an inner frame with room for an IPv4 header, so that lengths too small for their own
    /// header come out below what is there.
    pub(super) const LEAST_UDP_LENGTH: usize = INNER_NETWORK + ipv4::HEADER_LEN - UDP;
}

/// Version 4, header length 5 words.
const VERSION_IHL: u8 = 0x45;

/// The layout of a frame of this shape; `None` for all others.
#[expect(clippy::cast_possible_truncation, reason = "constants below 256, and offsets below 2^17")]
#[expect(
    clippy::manual_contains,
    reason = "there is one port, nearly always: `contains` is a call, a third more work"
)]
#[inline]
pub(super) fn decapsulate(bytes: &[u8], ports: &[u16]) -> Option<Layout> {
    let head: &[u8; field::HEADERS] = bytes.first_chunk()?;
    let total_len = usize::from(be16(head, field::TOTAL_LENGTH));
    let udp_len = usize::from(be16(head, field::UDP_LENGTH));
    let port = be16(head, field::PORT);
    let flags = be32(head, field::FLAGS);
    let plain = be16(head, field::ETHERTYPE) == ethertype::IPV4
        && head[field::NETWORK] == VERSION_IHL
        && head[field::PROTOCOL] == udp::PROTOCOL
        && be16(head, field::FRAGMENT) & ipv4::FRAGMENT_BITS == 0
        && ports.iter().any(|wanted| *wanted == port)
        && udp_len >= field::LEAST_UDP_LENGTH
        && udp_len + ipv4::HEADER_LEN <= total_len
        && field::NETWORK + total_len <= bytes.len()
        && flags & vxlan::FLAG_VNI != 0;
    if !plain {
        return None;
    }
    let vni = be32(head, field::VNI);
    let inner_end = field::UDP + udp_len;
    let inner_ethertype = be16(head, field::INNER_ETHERTYPE);
    let version = head[field::INNER_NETWORK] >> 4;
    let told = if inner_ethertype == ethertype::IPV4 && version == 4 {
        ethernet::HEADER_LEN + usize::from(be16(head, field::INNER_TOTAL_LENGTH))
    } else if inner_ethertype == ethertype::IPV6 && version == 6 {
        ethernet::HEADER_LEN + ipv6::HEADER_LEN + usize::from(be16(head, field::INNER_PAYLOAD_LENGTH))
    } else if vlan::announces_tag(inner_ethertype) {
        return None;
    } else {
        0
    };
    Some(Layout {
        vni: vni >> 8,
        network: Network::Ipv4 { at: field::NETWORK as u8 },
        udp: field::UDP as u8,
        inner_start: field::INNER as u32,
        inner_end: inner_end as u32,
        wire_len: told.max(inner_end - field::INNER) as u32,
        reserved_bits: (flags & !vxlan::FLAG_VNI) | (vni & 0xff) != 0,
    })
}
