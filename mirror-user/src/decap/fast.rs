//! The one shape that mirrors nearly always send: Ethernet, IPv4 without options, UDP, VXLAN without reserved
//! bits, and an inner frame without VLAN tags, all of it captured. It sits at fixed offsets, so one bounds
//! check covers every header.
//!
//! All other frames are left to [`general`](super::general), which also gives the reasons of rejections.

use crate::{
    frame::{Layout, Network},
    wire::{
        be16, be32,
        ethernet::{self, ethertype},
        ipv4, ipv6, udp, vlan, vxlan,
    },
};

/// Offsets of the headers, and of the fields that are read, in a frame of this shape.
mod field {
    use std::ops::Range;

    use super::{ethernet, ipv4, udp, vxlan};

    pub(super) const ETHERTYPE: Range<usize> = 12..14;
    pub(super) const NETWORK: usize = ethernet::HEADER_LEN;
    pub(super) const TOTAL_LENGTH: Range<usize> = NETWORK + 2..NETWORK + 4;
    /// Flags and fragment offset, time to live, protocol.
    pub(super) const FRAGMENT_PROTOCOL: Range<usize> = NETWORK + 6..NETWORK + 10;
    pub(super) const UDP: usize = NETWORK + ipv4::HEADER_LEN;
    pub(super) const PORT: Range<usize> = UDP + 2..UDP + 4;
    pub(super) const UDP_LENGTH: Range<usize> = UDP + 4..UDP + 6;
    pub(super) const VXLAN: usize = UDP + udp::HEADER_LEN;
    pub(super) const FLAGS: Range<usize> = VXLAN..VXLAN + 4;
    /// The VNI and a reserved byte.
    pub(super) const VNI: Range<usize> = VXLAN + 4..VXLAN + 8;
    pub(super) const INNER: usize = VXLAN + vxlan::HEADER_LEN;
    pub(super) const INNER_NETWORK: usize = INNER + ethernet::HEADER_LEN;
    pub(super) const INNER_ETHERTYPE: Range<usize> = INNER_NETWORK - 2..INNER_NETWORK;
    /// Ethertype, version and 12 bits after it.
    pub(super) const INNER_KIND: Range<usize> = INNER_NETWORK - 2..INNER_NETWORK + 2;
    pub(super) const INNER_TOTAL_LENGTH: Range<usize> = INNER_NETWORK + 2..INNER_NETWORK + 4;
    /// The payload length, next header and hop limit.
    pub(super) const INNER_PAYLOAD_LENGTH: Range<usize> = INNER_NETWORK + 4..INNER_NETWORK + 8;
    /// All that is read.
    pub(super) const HEADERS: usize = INNER_NETWORK + 8;
    /// The least UDP length: an inner frame with room for an IPv4 header, so that a declared length below
    /// that of its own header is also below the bytes present.
    pub(super) const LEAST_UDP_LENGTH: usize = INNER_NETWORK + ipv4::HEADER_LEN - UDP;
}

/// Version 4, header length 5 words.
const VERSION_IHL: u8 = 0x45;

/// Not a fragment, and UDP: mask and value of the fields at [`field::FRAGMENT_PROTOCOL`].
const FRAGMENT_PROTOCOL: (u32, u32) = ((ipv4::FRAGMENT_BITS as u32) << 16 | 0xff, udp::PROTOCOL as u32);

/// Inner ethertype and IP version: mask of [`field::INNER_KIND`], and its value for IPv4.
const INNER_IPV4: (u32, u32) = (0xffff_f000, (ethertype::IPV4 as u32) << 16 | 4 << 12);

/// The layout of a frame of this shape, to one of these ports of VXLAN; `None` for all others.
///
/// Adjacent fields are read and compared at once: benchmarks hold this function to a budget of instructions.
#[expect(clippy::cast_possible_truncation, reason = "constants below 256, and offsets below 2^17")]
#[expect(clippy::inline_always, reason = "out of line, the layout goes through memory: a third more work")]
#[inline(always)]
pub(super) fn decapsulate(bytes: &[u8], ports: &[u16]) -> Option<Layout> {
    let head: &[u8; field::HEADERS] = bytes.first_chunk()?;
    let total_len = usize::from(be16(head, field::TOTAL_LENGTH));
    let udp_len = usize::from(be16(head, field::UDP_LENGTH));
    let vni = be32(head, field::VNI);
    let plain = be16(head, field::ETHERTYPE) == ethertype::IPV4
        && head[field::NETWORK] == VERSION_IHL
        && be32(head, field::FRAGMENT_PROTOCOL) & FRAGMENT_PROTOCOL.0 == FRAGMENT_PROTOCOL.1
        && is_tunnel(ports, be16(head, field::PORT))
        && udp_len >= field::LEAST_UDP_LENGTH
        && udp_len + ipv4::HEADER_LEN <= total_len
        && field::NETWORK + total_len <= bytes.len()
        && be32(head, field::FLAGS) == vxlan::FLAG_VNI
        && vni & 0xff == 0;
    if !plain {
        return None;
    }
    let inner_len = udp_len - (field::INNER - field::UDP);
    let declared = if be32(head, field::INNER_KIND) & INNER_IPV4.0 == INNER_IPV4.1 {
        ethernet::HEADER_LEN + usize::from(be16(head, field::INNER_TOTAL_LENGTH))
    } else {
        match be16(head, field::INNER_ETHERTYPE) {
            ethertype::IPV6 if head[field::INNER_NETWORK] >> 4 == 6 => {
                // Read with the bytes after it: the compiler would share the load above, and compute its
                // address.
                let payload_len = be32(head, field::INNER_PAYLOAD_LENGTH) >> 16;
                ethernet::HEADER_LEN + ipv6::HEADER_LEN + payload_len as usize
            }
            other if vlan::announces_tag(other) => return None,
            _ => 0,
        }
    };
    Some(Layout {
        vni: vni >> 8,
        network: Network::Ipv4 { at: field::NETWORK as u16 },
        udp: field::UDP as u16,
        inner_start: field::INNER as u32,
        inner_len: inner_len as u32,
        wire_len: declared.max(inner_len) as u32,
        reserved_bits: false,
    })
}

/// Whether it is one of these ports. Nearly always there is one, and a comparison is cheaper than a search.
#[inline]
fn is_tunnel(ports: &[u16], port: u16) -> bool {
    match ports {
        [only] => *only == port,
        _ => ports.contains(&port),
    }
}
