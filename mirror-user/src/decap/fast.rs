//! The shapes that mirrors nearly always send: Ethernet, IPv4 without options, UDP, VXLAN without reserved
//! bits, and an inner frame without VLAN tags, all of it captured; and the same in GENEVE, with the options
//! of an AWS Gateway Load Balancer. Each sits at fixed offsets, so one bounds check covers every header.
//!
//! All other frames are left to [`general`](super::general), which also gives the reasons of rejections.

use crate::{
    frame::{Headers, Layout, Network, Oddities},
    wire::{
        be16, be32,
        ethernet::{self, ethertype},
        geneve, ipv4, ipv6, udp, vlan, vxlan,
    },
};

/// Offsets of the headers, and of the fields that are read, from the IP header in front of VXLAN on.
mod field {
    use std::ops::Range;

    use super::{ethernet, ipv4, udp, vxlan};

    pub(super) const VERSION_IHL: usize = 0;
    pub(super) const TOTAL_LENGTH: Range<usize> = 2..4;
    /// Flags and fragment offset, time to live, protocol.
    pub(super) const FRAGMENT_PROTOCOL: Range<usize> = 6..10;
    pub(super) const UDP: usize = ipv4::HEADER_LEN;
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

/// Where the IP header of a frame is; before it is its ethertype.
const NETWORK: usize = ethernet::HEADER_LEN;

/// Offsets in a frame of the shape with GENEVE.
mod nested {
    use std::ops::Range;

    use super::{NETWORK, geneve, ipv4, udp};

    pub(super) const UDP: usize = NETWORK + ipv4::HEADER_LEN;
    pub(super) const PORT: Range<usize> = UDP + 2..UDP + 4;
    pub(super) const UDP_LENGTH: Range<usize> = UDP + 4..UDP + 6;
    pub(super) const GENEVE: usize = UDP + udp::HEADER_LEN;
    /// Version, length of the options, flags, protocol.
    pub(super) const FIRST_WORD: Range<usize> = GENEVE..GENEVE + 4;
    /// The VNI and a reserved byte.
    pub(super) const VNI: Range<usize> = GENEVE + 4..GENEVE + 8;
    pub(super) const ENDPOINT: usize = GENEVE + geneve::HEADER_LEN;
    pub(super) const ATTACHMENT: usize = ENDPOINT + geneve::OPTION_HEAD + geneve::amazon::ENDPOINT.1;
    pub(super) const COOKIE: usize = ATTACHMENT + geneve::OPTION_HEAD + geneve::amazon::ATTACHMENT.1;
    /// The IP header inside.
    pub(super) const NETWORK_INSIDE: usize = ENDPOINT + geneve::amazon::OPTIONS_LEN;
    /// Length of the options, in words.
    #[expect(clippy::cast_possible_truncation, reason = "8")]
    pub(super) const OPTIONS: u32 = (geneve::amazon::OPTIONS_LEN / 4) as u32;
}

// What AWS documents: 68 bytes from the outer IP header to the one inside.
const _: () = assert!(nested::NETWORK_INSIDE == NETWORK + 68);

/// Version 4, header length 5 words.
const VERSION_IHL: u8 = 0x45;

/// Not a fragment, and UDP: mask and value of the fields at [`field::FRAGMENT_PROTOCOL`].
const FRAGMENT_PROTOCOL: (u32, u32) = ((ipv4::FRAGMENT_BITS as u32) << 16 | 0xff, udp::PROTOCOL as u32);

/// Inner ethertype and IP version: mask of [`field::INNER_KIND`], and its value for IPv4.
const INNER_IPV4: (u32, u32) = (0xffff_f000, (ethertype::IPV4 as u32) << 16 | 4 << 12);

/// Version 0, the options of a Gateway Load Balancer, no flags, and IPv4 inside.
const GENEVE_IPV4: u32 = nested::OPTIONS << 24 | ethertype::IPV4 as u32;

/// The layout of a frame of this shape, to one of these ports of VXLAN; `None` for all others.
///
/// Adjacent fields are read and compared at once: benchmarks hold this function to a budget of instructions.
#[expect(clippy::inline_always, reason = "out of line, the layout goes through memory: a third more work")]
#[inline(always)]
pub(super) fn decapsulate(bytes: &[u8], ports: &[u16]) -> Option<Layout> {
    let head: &[u8; NETWORK + field::HEADERS] = bytes.first_chunk()?;
    if be16(head, NETWORK - 2..NETWORK) != ethertype::IPV4 {
        return None;
    }
    vxlan_over_ipv4::<NETWORK>(head.last_chunk()?, bytes.len(), ports)
}

/// The layout of a frame with VXLAN in GENEVE from an AWS Gateway Load Balancer, to one of these ports of
/// GENEVE; `None` for all others.
///
/// The load balancer always sends the same options in the same order; without flags or another option none of
/// them can be critical and unknown.
#[expect(clippy::cast_possible_truncation, reason = "constants below 256")]
#[inline(always)]
pub(super) fn decapsulate_geneve(bytes: &[u8], ports: &[u16]) -> Option<Layout> {
    const fn option((kind, len): (u8, usize)) -> u32 {
        (geneve::CLASS_AMAZON as u32) << 16 | (kind as u32) << 8 | (len / 4) as u32
    }
    const HEADERS: usize = nested::NETWORK_INSIDE + field::HEADERS;
    let head: &[u8; HEADERS] = bytes.first_chunk()?;
    let total_len = usize::from(be16(head, NETWORK + 2..NETWORK + 4));
    let udp_len = usize::from(be16(head, nested::UDP_LENGTH));
    let word = |at: usize| be32(head, at..at + 4);
    let plain = be16(head, NETWORK - 2..NETWORK) == ethertype::IPV4
        && head[NETWORK] == VERSION_IHL
        && word(NETWORK + 6) & FRAGMENT_PROTOCOL.0 == FRAGMENT_PROTOCOL.1
        && is_tunnel(ports, be16(head, nested::PORT))
        && udp_len + ipv4::HEADER_LEN <= total_len
        && NETWORK + total_len <= bytes.len()
        && be32(head, nested::FIRST_WORD) == GENEVE_IPV4
        && be32(head, nested::VNI) & 0xff == 0
        && word(nested::ENDPOINT) == option(geneve::amazon::ENDPOINT)
        && word(nested::ATTACHMENT) == option(geneve::amazon::ATTACHMENT)
        && word(nested::COOKIE) == option(geneve::amazon::FLOW_COOKIE);
    if !plain {
        return None;
    }
    let end = nested::UDP + udp_len;
    let layout = vxlan_over_ipv4::<{ nested::NETWORK_INSIDE }>(head.last_chunk()?, end, &[vxlan::PORT])?;
    Some(Layout { headers: layout.headers.with_geneve(nested::GENEVE), ..layout })
}

/// The layout of VXLAN over IPv4, whose header is at `AT` of the frame and begins `head`. The packet must not
/// go beyond `end`.
#[expect(clippy::cast_possible_truncation, reason = "a constant below 256, and lengths below 2^17")]
#[expect(clippy::inline_always, reason = "as `decapsulate`")]
#[inline(always)]
fn vxlan_over_ipv4<const AT: usize>(
    head: &[u8; field::HEADERS],
    end: usize,
    ports: &[u16],
) -> Option<Layout> {
    let total_len = usize::from(be16(head, field::TOTAL_LENGTH));
    let udp_len = usize::from(be16(head, field::UDP_LENGTH));
    let vni = be32(head, field::VNI);
    let plain = head[field::VERSION_IHL] == VERSION_IHL
        && be32(head, field::FRAGMENT_PROTOCOL) & FRAGMENT_PROTOCOL.0 == FRAGMENT_PROTOCOL.1
        && is_tunnel(ports, be16(head, field::PORT))
        && udp_len >= field::LEAST_UDP_LENGTH
        && udp_len + ipv4::HEADER_LEN <= total_len
        && AT + total_len <= end
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
        inner_len: inner_len as u32,
        wire_len: declared.max(inner_len) as u32,
        inner_start: (AT + field::INNER) as u16,
        odd: Oddities::NONE,
        headers: Headers::new(Network::Ipv4 { at: AT as u16 }, AT + field::UDP),
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
