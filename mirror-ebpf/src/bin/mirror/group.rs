//! The flow of an inner frame and its member of a group, chosen as user space chooses it.

use aya_ebpf::{macros::map, maps::Array};
use mirror_ebpf::{
    flow::{Assignment, hash, slot, words_v4, words_v6},
    mirror::MAX_MEMBERS,
    programs::{
        headers::{IPV4_FRAGMENT, ipv4_header_len},
        packet::Packet,
    },
    setting,
    wire::{
        ETHERNET_HEADER, ETHERTYPE_IPV4, ETHERTYPE_IPV6, IPV6_HEADER, PROTOCOL_FRAGMENT, has_ports,
        is_extension,
    },
};

use super::SEED;

#[map]
static ASSIGNMENT: Array<Assignment> = Array::with_max_entries(1, 0);

/// User space is to find the flow.
pub(super) const NO_FLOW: u64 = u64::MAX;
/// User space knows that no member is up.
pub(super) const NONE: u32 = u32::MAX;

/// Bytes of the two ports.
const PORTS: usize = 4;

/// The hash of the flow of an inner frame with this length, which padding may follow. Not inlined, so that
/// the verifier checks it once for each kind of outer header.
#[inline(never)]
pub(super) fn flow(start: usize, end: usize, len: usize) -> u64 {
    let frame = Packet { start, end };
    if !frame.holds(ETHERNET_HEADER) {
        return NO_FLOW;
    }
    let seed = setting!(SEED);
    let at = ETHERNET_HEADER;
    let ethertype = frame.u16(at - 2);
    if ethertype == ETHERTYPE_IPV4.to_be() {
        let Some(header) = ipv4_header_len(&frame, at) else { return NO_FLOW };
        if frame.u16(at + 6) & IPV4_FRAGMENT != 0 {
            return NO_FLOW;
        }
        let protocol = frame.u8(at + 9);
        if len < at + header {
            return NO_FLOW;
        }
        let payload = usize::from(u16::from_be(frame.u16(at + 2))).wrapping_sub(header);
        let payload = payload.min(len - at - header);
        let Some([from, to]) = ports(&frame.from(at + header), protocol, payload) else { return NO_FLOW };
        hash(seed, &words_v4((frame.u32_le(at + 12), from), (frame.u32_le(at + 16), to), protocol))
    } else if ethertype == ETHERTYPE_IPV6.to_be() {
        if !frame.holds(at + IPV6_HEADER) || frame.u8(at) >> 4 != 6 {
            return NO_FLOW;
        }
        let protocol = frame.u8(at + 6);
        if protocol == PROTOCOL_FRAGMENT || is_extension(protocol) {
            return NO_FLOW;
        }
        if len < at + IPV6_HEADER {
            return NO_FLOW;
        }
        let payload = usize::from(u16::from_be(frame.u16(at + 4))).min(len - at - IPV6_HEADER);
        let Some([from, to]) = ports(&frame.from(at + IPV6_HEADER), protocol, payload) else {
            return NO_FLOW;
        };
        let address = |at| [frame.u64_le(at), frame.u64_le(at + 8)];
        hash(seed, &words_v6((address(at + 8), from), (address(at + 24), to), protocol))
    } else {
        NO_FLOW
    }
}

/// The member for flows with this hash.
#[inline(always)]
pub(super) fn member(hash: u64) -> u32 {
    let Some(assignment) = ASSIGNMENT.get_ptr(0) else { return NONE };
    // SAFETY: a value of the map; user space may write other slots, or this one, at the same time.
    let member = u32::from(unsafe { (*assignment)[slot(hash)] });
    if member < MAX_MEMBERS { member } else { NONE }
}

/// Ports as little-endian loads give them, 0 for protocols without; `None` where they should be and are not.
#[inline(always)]
fn ports(segment: &Packet, protocol: u8, len: usize) -> Option<[u16; 2]> {
    if !has_ports(protocol) {
        return Some([0, 0]);
    }
    if len < PORTS || !segment.holds(PORTS) {
        return None;
    }
    Some([segment.u16(0), segment.u16(2)])
}
