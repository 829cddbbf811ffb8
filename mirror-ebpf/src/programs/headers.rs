//! Headers of a frame: where they are, and the fields that every program asks for.

use super::packet::{Fields, Packet};
use crate::wire::{
    ETHERNET_HEADER, ETHERTYPE_IPV4, ETHERTYPE_SERVICE_VLAN, ETHERTYPE_VLAN, IPV4_FRAGMENT_OFFSET,
    IPV4_HEADER, IPV4_MORE_FRAGMENTS, PROTOCOL_AH, PROTOCOL_UDP, UDP_HEADER, VLAN_TAG, VXLAN_FLAG_VNI,
    VXLAN_HEADER,
};

/// More-fragments flag and fragment offset, as [`Packet::u16`] gives them; don't-fragment is left out.
pub const IPV4_FRAGMENT: u16 = (IPV4_MORE_FRAGMENTS | IPV4_FRAGMENT_OFFSET).to_be();

/// Where UDP starts behind an Ethernet header without tags and an IPv4 header without options.
pub const PLAIN_UDP: usize = ETHERNET_HEADER + IPV4_HEADER;
/// Ethertype IPv4; version 4 and a header of 5 words.
const PLAIN_KIND: Fields = Fields {
    at: ETHERNET_HEADER - 2,
    mask: 0xffff_ff00_u32.to_be(),
    value: ((ETHERTYPE_IPV4 as u32) << 16 | 0x4500).to_be(),
};
/// Not a fragment; any time to live; protocol UDP.
const PLAIN_PROTOCOL: Fields = Fields {
    at: ETHERNET_HEADER + 6,
    mask: (((IPV4_MORE_FRAGMENTS | IPV4_FRAGMENT_OFFSET) as u32) << 16 | 0xff).to_be(),
    value: (PROTOCOL_UDP as u32).to_be(),
};

/// Whether a frame is UDP over IPv4 without tags, options and fragmentation, as nearly all mirrored frames
/// are: its fields lie at fixed offsets behind a single bounds check.
#[inline(always)]
pub fn is_plain(frame: &Packet) -> bool {
    frame.holds(PLAIN_UDP + UDP_HEADER) && frame.has(&PLAIN_KIND) && frame.has(&PLAIN_PROTOCOL)
}

/// Ethertype behind at most two VLAN tags (802.1Q inside 802.1ad, or twice 802.1Q as some switches do), as
/// [`Packet::u16`] gives it, and where its header starts; `None` for a frame that is too short.
#[inline(always)]
pub fn network(frame: &Packet) -> Option<(u16, usize)> {
    if !frame.holds(ETHERNET_HEADER) {
        return None;
    }
    let mut ethertype = frame.u16(ETHERNET_HEADER - 2);
    let mut at = ETHERNET_HEADER;
    if announces_tag(ethertype) {
        at += VLAN_TAG;
        if !frame.holds(at) {
            return None;
        }
        ethertype = frame.u16(at - 2);
        if announces_tag(ethertype) {
            at += VLAN_TAG;
            if !frame.holds(at) {
                return None;
            }
            ethertype = frame.u16(at - 2);
        }
    }
    Some((ethertype, at))
}

#[inline(always)]
fn announces_tag(ethertype: u16) -> bool {
    ethertype == ETHERTYPE_SERVICE_VLAN.to_be() || ethertype == ETHERTYPE_VLAN.to_be()
}

/// Length of the IPv4 header at `at`, of which the fixed part may be read then; `None` for one that is too
/// short or that contradicts itself.
#[inline(always)]
pub fn ipv4_header_len(packet: &Packet, at: usize) -> Option<usize> {
    if !packet.holds(at + IPV4_HEADER) {
        return None;
    }
    let version_ihl = packet.u8(at);
    let len = usize::from(version_ihl & 0x0f) * 4;
    if version_ihl >> 4 != 4 || len < IPV4_HEADER { None } else { Some(len) }
}

/// Length of an IPv6 extension header that starts here, other than ESP and fragment headers. RFC 4302 section
/// 2.2 and RFC 8200 section 4 count in different units.
#[inline(always)]
pub fn extension_len(header: &Packet, protocol: u8) -> usize {
    let units = usize::from(header.u8(1));
    if protocol == PROTOCOL_AH { (units + 2) * 4 } else { (units + 1) * 8 }
}

/// VNI of the VXLAN header that starts here; `None` where there is no whole header with a valid one.
#[inline(always)]
pub fn vni(header: &Packet) -> Option<u32> {
    if !header.holds(VXLAN_HEADER) || header.u8(0) & VXLAN_FLAG_VNI == 0 {
        return None;
    }
    let [_, a, b, c] = header.bytes::<4>(3);
    Some(u32::from_be_bytes([0, a, b, c]))
}
