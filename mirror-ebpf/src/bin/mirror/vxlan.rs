//! Frames for tunnels: the received outer headers are replaced in place by those of another VXLAN tunnel. The
//! VXLAN header and the inner frame are not moved.

use core::ptr::read_volatile;

use aya_ebpf::{helpers::bpf_csum_diff, macros::map, maps::Array, programs::XdpContext};
use mirror_ebpf::{
    flow::source_port,
    mirror::{
        MAX_MEMBERS, TUNNEL_HEADERS, TUNNEL_KEEPS_VNI, TUNNEL_KIND, TUNNEL_MTU, TUNNEL_NONE, TUNNEL_SUM,
        TUNNEL_V4, TUNNEL_V6, TUNNEL_VNI, Tunnel,
    },
    programs::packet::Packet,
    wire::{ETHERNET_HEADER, IPV4_HEADER, IPV6_HEADER, UDP_HEADER, VXLAN_HEADER},
};

use super::forward::{Ends, Made, Route, before, cut_padding, move_start};

#[map]
static TUNNELS: Array<Tunnel> = Array::with_max_entries(MAX_MEMBERS, 0);

/// Outer headers over IPv4.
const HEADERS_V4: usize = ETHERNET_HEADER + IPV4_HEADER + UDP_HEADER + VXLAN_HEADER;
/// Outer headers over IPv6.
const HEADERS_V6: usize = ETHERNET_HEADER + IPV6_HEADER + UDP_HEADER + VXLAN_HEADER;

/// Bytes that are summed by one call: before 6.13 `bpf_csum_diff` takes no more.
const BLOCK: usize = 512;
/// The most blocks of a UDP datagram that is summed.
const MAX_BLOCKS: usize = 18;

/// Makes the frame for a tunnel; `None` if the member is none.
#[expect(clippy::cast_possible_truncation, reason = "the length of a frame")]
#[inline(always)]
pub(super) fn encapsulate(ctx: &XdpContext, len: usize, ends: Ends, route: &Route) -> Option<Made> {
    let Some(tunnel) = TUNNELS.get_ptr(route.member) else { return Some(Made::Nothing) };
    // SAFETY: a value of the map. User space may write it meanwhile: see `TUNNEL_KIND`, which is read once.
    let kind = unsafe { read_volatile(tunnel.cast::<u32>().wrapping_add(TUNNEL_KIND)) };
    let mtu = word(tunnel, TUNNEL_MTU);
    if kind == TUNNEL_NONE {
        return None;
    }
    let datagram = UDP_HEADER + VXLAN_HEADER + len - (ends >> 32) as usize - (ends as u32) as usize;
    let made = if kind == TUNNEL_V4 {
        if (datagram + IPV4_HEADER) as u32 > mtu {
            Made::TooLarge
        } else if leave(ctx, ends, HEADERS_V4) {
            over_ipv4(&Packet::new(ctx), tunnel, datagram as u16, route.flow)
        } else {
            Made::Nothing
        }
    } else if kind == TUNNEL_V6 && datagram <= MAX_BLOCKS * BLOCK {
        if (datagram + IPV6_HEADER) as u32 > mtu {
            Made::TooLarge
        } else if leave(ctx, ends, HEADERS_V6) {
            let packet = Packet::new(ctx);
            over_ipv6(packet.start, packet.end, tunnel, datagram, route.flow)
        } else {
            Made::Nothing
        }
    } else {
        Made::Nothing
    };
    Some(made)
}

/// Leaves room for so many bytes of outer headers. Nearly always the received ones had as many.
#[expect(clippy::cast_possible_truncation, clippy::cast_possible_wrap, reason = "70 at most")]
#[inline(always)]
fn leave(ctx: &XdpContext, ends: Ends, headers: usize) -> bool {
    let by = before(ends) - headers as i32;
    cut_padding(ctx, ends) && (by == 0 || move_start(ctx, by))
}

/// Writes the outer headers. The frame starts at a multiple of 4, as received frames do: the lengths of all
/// headers differ by multiples of 4.
#[expect(clippy::cast_possible_truncation, reason = "the length of a header")]
#[inline(always)]
fn over_ipv4(packet: &Packet, tunnel: *const Tunnel, datagram: u16, flow: u64) -> Made {
    if !packet.holds(HEADERS_V4) {
        return Made::Nothing;
    }
    let word = |at: usize| word(tunnel, TUNNEL_HEADERS + at / 4);
    let total_len = (datagram + IPV4_HEADER as u16).to_be();
    let checksum = complement(u64::from(self::word(tunnel, TUNNEL_SUM)) + u64::from(total_len));
    put(packet, 0, word(0));
    put(packet, 4, word(4));
    put(packet, 8, word(8));
    put(packet, 12, word(12));
    put(packet, 16, word(16) | u32::from(total_len));
    put(packet, 20, word(20));
    put(packet, 24, word(24) | u32::from(checksum));
    put(packet, 28, word(28));
    put(packet, 32, word(32) | u32::from(source_port(flow).to_be()) << 16);
    put(packet, 36, word(36) | u32::from(datagram.to_be()) << 16);
    put(packet, 40, 0_u16);
    put_vni(packet, HEADERS_V4, tunnel);
    Made::Frame
}

/// Writes the outer headers, as [`over_ipv4`]. Not inlined: few tunnels are over IPv6.
#[expect(clippy::cast_possible_truncation, reason = "the length of a frame")]
#[inline(never)]
fn over_ipv6(start: usize, end: usize, tunnel: *const Tunnel, datagram: usize, flow: u64) -> Made {
    let packet = Packet { start, end };
    if !packet.holds(HEADERS_V6) {
        return Made::Nothing;
    }
    let word = |at: usize| word(tunnel, TUNNEL_HEADERS + at / 4);
    let len = (datagram as u16).to_be();
    put(&packet, 0, word(0));
    put(&packet, 4, word(4));
    put(&packet, 8, word(8));
    put(&packet, 12, word(12));
    put(&packet, 16, word(16) | u32::from(len) << 16);
    put(&packet, 20, word(20));
    put(&packet, 24, word(24));
    put(&packet, 28, word(28));
    put(&packet, 32, word(32));
    put(&packet, 36, word(36));
    put(&packet, 40, word(40));
    put(&packet, 44, word(44));
    put(&packet, 48, word(48));
    put(&packet, 52, word(52) | u32::from(source_port(flow).to_be()) << 16);
    put(&packet, 56, word(56) | u32::from(len) << 16);
    put(&packet, 60, 0_u16);
    put_vni(&packet, HEADERS_V6, tunnel);
    let udp = packet.from(ETHERNET_HEADER + IPV6_HEADER);
    let pseudo = u64::from(self::word(tunnel, TUNNEL_SUM)) + u64::from(len);
    let checksum = complement(pseudo + sum(&udp, datagram));
    // Zero would say that there is none (RFC 768).
    put(&packet, 60, if checksum == 0 { u16::MAX } else { checksum });
    Made::Frame
}

#[inline(always)]
fn word(tunnel: *const Tunnel, index: usize) -> u32 {
    // SAFETY: a value of the map, as in `encapsulate`.
    unsafe { (*tunnel)[index] }
}

/// Writes a value at an offset that is even.
#[inline(always)]
fn put<T>(packet: &Packet, offset: usize, value: T) {
    // SAFETY: the caller has asked `holds`; the verifier refuses the program otherwise.
    unsafe { *((packet.start + offset) as *mut T) = value };
}

/// Writes the VNI of the tunnel in front of the inner frame, if it has one.
#[expect(clippy::cast_possible_truncation, reason = "the two halves")]
#[inline(always)]
fn put_vni(packet: &Packet, headers: usize, tunnel: *const Tunnel) {
    let vni = word(tunnel, TUNNEL_VNI);
    if vni != TUNNEL_KEEPS_VNI {
        put(packet, headers - 4, vni as u16);
        put(packet, headers - 2, (vni >> 16) as u16);
    }
}

/// Sum of the 16-bit words from here on, as they lie in memory. The blocks are at offsets that the verifier
/// does not know, so that it checks each once and not once for each length.
#[inline(always)]
fn sum(packet: &Packet, len: usize) -> u64 {
    const LONGEST: usize = 0x3fff;
    let mut sum = 0;
    let mut n = 0;
    while n < MAX_BLOCKS {
        if len < (n + 1) * BLOCK {
            break;
        }
        sum = add_block::<BLOCK>(&packet.from(n * BLOCK), sum);
        n += 1;
    }
    let rest = |block: usize| packet.from(len & LONGEST & !(2 * block - 1));
    if len & 256 != 0 {
        sum = add_block::<256>(&rest(256), sum);
    }
    if len & 128 != 0 {
        sum = add_block::<128>(&rest(128), sum);
    }
    if len & 64 != 0 {
        sum = add_block::<64>(&rest(64), sum);
    }
    if len & 32 != 0 {
        sum = add_block::<32>(&rest(32), sum);
    }
    if len & 16 != 0 {
        sum = add_block::<16>(&rest(16), sum);
    }
    if len & 8 != 0 {
        sum = add_block::<8>(&rest(8), sum);
    }
    if len & 4 != 0 {
        sum = add_block::<4>(&rest(4), sum);
    }
    let mut sum = u64::from(sum);
    if len & 2 != 0 {
        let last = rest(2);
        if last.holds(2) {
            sum += u64::from(last.u16(0));
        }
    }
    if len & 1 != 0 {
        let last = rest(1);
        if last.holds(1) {
            sum += u64::from(last.u8(0));
        }
    }
    sum
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a sum of 32 bits, or an errno")]
#[inline(always)]
fn add_block<const N: usize>(block: &Packet, sum: u32) -> u32 {
    if !block.holds(N) {
        return sum;
    }
    let nothing = core::ptr::null_mut();
    // SAFETY: there are so many bytes, which the helper only reads. It fails for lengths that are too large
    // or no multiple of 4 only.
    unsafe { bpf_csum_diff(nothing, 0, block.start as *mut u32, N as u32, sum) as u32 }
}

/// The Internet checksum of words with this sum (RFC 1071).
#[expect(clippy::cast_possible_truncation, reason = "folded to 16 bits")]
#[inline(always)]
fn complement(sum: u64) -> u16 {
    let sum = (sum & 0xffff) + (sum >> 16 & 0xffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    !(sum as u16)
}
