//! The XDP program of the mirror target: UDP to a tunnel port is redirected to the AF_XDP socket of its RX
//! queue, all else is passed to the kernel. Tunnel traffic that is not allowed is dropped: if it were passed,
//! the host would answer the mirror with ICMP.
#![no_std]
#![no_main]
#![expect(clippy::needless_pass_by_value, reason = "the macros of aya-ebpf hand the context over by value")]

mod forward;
mod group;
mod log;
mod origins;
mod split;
mod stamp;
mod vxlan;

use core::hint::black_box;

use aya_ebpf::{
    bindings::xdp_action::{XDP_DROP, XDP_PASS, XDP_REDIRECT},
    helpers::{bpf_ktime_get_ns, bpf_redirect_map},
    macros::{map, raw_tracepoint, xdp},
    maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray, XskMap, lpm_trie::Key},
    programs::{RawTracePointContext, XdpContext},
};
use mirror_ebpf::{
    mirror::{
        Announced, Counter, EVERY_VNI, FLAG_FRAGMENTS, FLAG_GENEVE, FLAG_LOG, FLAG_OWN, FLAG_SOURCE_FILTER,
        FLAG_STAMP, FLAG_VNI_FILTER, FRAGMENT_LIFETIME, FragmentKey, HAS_V4, HAS_V6, MAX_ADDRESSES,
        MAX_FRAGMENTED, MAX_PORTS, MAX_SOURCES, MAX_VNIS, OWN_FAMILIES, OWN_V4, Own, PerCpu,
    },
    programs::{
        headers::{self, IPV4_FRAGMENT, PLAIN_UDP, extension_len, ipv4_header_len, is_plain, vni},
        packet::Packet,
    },
    setting,
    wire::{
        ETHERNET_HEADER, ETHERTYPE_IPV4, ETHERTYPE_IPV6, FRAGMENT_HEADER, GENEVE_PORT, IPV4_FRAGMENT_OFFSET,
        IPV4_HEADER, IPV4_MORE_FRAGMENTS, IPV6_HEADER, PROTOCOL_ESP, PROTOCOL_FRAGMENT, PROTOCOL_UDP,
        UDP_HEADER, is_extension,
    },
};

#[map]
static XSKS: XskMap = XskMap::with_max_entries(64, 0);
#[map]
static COUNTERS: PerCpuArray<PerCpu> = PerCpuArray::with_max_entries(1, 0);
#[map]
static VNIS: HashMap<u32, u8> = HashMap::with_max_entries(MAX_VNIS, 0);
#[map]
static SOURCES_V4: LpmTrie<[u8; 4], u8> = LpmTrie::with_max_entries(MAX_SOURCES, BPF_F_NO_PREALLOC);
#[map]
static SOURCES_V6: LpmTrie<[u8; 16], u8> = LpmTrie::with_max_entries(MAX_SOURCES, BPF_F_NO_PREALLOC);
#[map]
static OWN: Array<Own> = Array::with_max_entries(1, 0);
#[map]
static ADDRESSES_V4: HashMap<[u8; 4], u8> = HashMap::with_max_entries(MAX_ADDRESSES, 0);
#[map]
static ADDRESSES_V6: HashMap<[u8; 16], u8> = HashMap::with_max_entries(MAX_ADDRESSES, 0);
/// One LRU list for all CPUs, because fragments of a datagram may arrive on different ones.
#[map]
static FRAGMENTS: LruHashMap<FragmentKey, Announced> = LruHashMap::with_max_entries(MAX_FRAGMENTED, 0);
#[map]
static XSKS_ID: Array<u32> = Array::with_max_entries(1, 0);
#[map]
static REDIRECT_FAILED: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// The kernel accepts LPM tries only with this flag.
const BPF_F_NO_PREALLOC: u32 = 1;

// Settings: user space writes them before the verifier sees the program, which then prunes what is off.
#[unsafe(no_mangle)]
static PORTS: [u16; MAX_PORTS] = [0; MAX_PORTS];
#[unsafe(no_mangle)]
static GENEVE_PORTS: [u16; MAX_PORTS] = [0; MAX_PORTS];
#[unsafe(no_mangle)]
static FLAGS: u32 = 0;
#[unsafe(no_mangle)]
static SEED: u64 = 0;

/// The most headers behind IPv6 that are walked, UDP included: each is work for the verifier.
const MAX_HEADERS: u32 = 5;
/// First byte of 127.0.0.0/8 (RFC 1122 section 3.2.1.3).
const LOOPBACK_NET: u8 = 127;

#[xdp]
fn mirror(ctx: XdpContext) -> u32 {
    run(&ctx)
}

#[xdp(frags)]
fn mirror_frags(ctx: XdpContext) -> u32 {
    run(&ctx)
}

/// A program of its own: the others pay nothing for it.
#[xdp]
fn mirror_forward(ctx: XdpContext) -> u32 {
    forward::run(&ctx)
}

#[inline(always)]
fn run(ctx: &XdpContext) -> u32 {
    let Some(counters) = COUNTERS.get_ptr_mut(0) else {
        // Unreachable: key 0 of an array of one; the verifier asks for the branch.
        return XDP_PASS;
    };
    count(counters, Counter::Seen);
    let (action, reason) = match judge(ctx) {
        Verdict::Ours(flags) => return redirect(ctx, flags, counters),
        Verdict::Pass(reason) => (XDP_PASS, reason),
        Verdict::Drop(reason) => (XDP_DROP, reason),
    };
    count(counters, reason);
    action
}

enum Verdict {
    /// Redirected, with the flags as they were read.
    Ours(u32),
    Pass(Counter),
    Drop(Counter),
}

#[inline(always)]
fn judge(ctx: &XdpContext) -> Verdict {
    let packet = Packet::new(ctx);
    if is_plain(&packet) { udp_over_ipv4(&packet, ETHERNET_HEADER, PLAIN_UDP) } else { by_headers(&packet) }
}

/// Header by header, for every shape there is, with the reason of each that is passed.
#[inline(always)]
fn by_headers(packet: &Packet) -> Verdict {
    let Some((ethertype, network)) = headers::network(packet) else {
        return Verdict::Pass(Counter::Malformed);
    };
    if ethertype == ETHERTYPE_IPV4.to_be() {
        ipv4(packet, network)
    } else if ethertype == ETHERTYPE_IPV6.to_be() {
        ipv6(packet, network)
    } else {
        Verdict::Pass(Counter::NotTunnel)
    }
}

#[inline(always)]
fn ipv4(packet: &Packet, network: usize) -> Verdict {
    let Some(header) = ipv4_header_len(packet, network) else {
        return Verdict::Pass(Counter::Malformed);
    };
    if packet.u8(network + 9) != PROTOCOL_UDP {
        return Verdict::Pass(Counter::NotTunnel);
    }
    if packet.u16(network + 6) & IPV4_FRAGMENT != 0 {
        let flags = setting!(FLAGS);
        if flags & WANTS_FRAGMENTS == 0 {
            return Verdict::Pass(Counter::Fragment);
        }
        return verdict(ipv4_fragment(packet.start, packet.end, network, header), flags);
    }
    udp_over_ipv4(packet, network, network + header)
}

/// Flags with which fragments are examined: to redirect those that are ours, or to drop those that are
/// refused.
const WANTS_FRAGMENTS: u32 = FLAG_FRAGMENTS | REFUSES;
/// Flags with which something is refused.
const REFUSES: u32 = FLAG_VNI_FILTER | FLAG_SOURCE_FILTER;

// Verdicts on fragments and on packets with extension headers, as numbers: 0 is ours, else the counter. The
// functions that return them are not inlined, so that whole packets do not pay for them and the verifier
// checks them once, not once for each shape of the headers before. An enum with data would be returned
// through memory, where the verifier loses its bounds.
const OURS: u32 = 0;
const FRAGMENT: u32 = Counter::Fragment as u32;
const EXTENSION: u32 = Counter::Extension as u32;
const MALFORMED: u32 = Counter::Malformed as u32;
const NOT_LOCAL: u32 = Counter::NotLocal as u32;
const NOT_TUNNEL: u32 = Counter::NotTunnel as u32;
const SOURCE_REFUSED: u32 = Counter::SourceRefused as u32;
const VNI_REFUSED: u32 = Counter::VniRefused as u32;

#[inline(always)]
fn verdict(number: u32, flags: u32) -> Verdict {
    match number {
        OURS => Verdict::Ours(flags),
        MALFORMED => Verdict::Pass(Counter::Malformed),
        EXTENSION => Verdict::Pass(Counter::Extension),
        NOT_LOCAL => Verdict::Pass(Counter::NotLocal),
        NOT_TUNNEL => Verdict::Pass(Counter::NotTunnel),
        SOURCE_REFUSED => Verdict::Drop(Counter::SourceRefused),
        VNI_REFUSED => Verdict::Drop(Counter::VniRefused),
        _ => Verdict::Pass(Counter::Fragment),
    }
}

/// The verdict on a first fragment from its UDP header; one of no tunnel counts as a fragment only.
#[inline(always)]
fn number(verdict: Verdict) -> u32 {
    match verdict {
        Verdict::Ours(_) => OURS,
        Verdict::Drop(Counter::VniRefused) => VNI_REFUSED,
        Verdict::Drop(_) => SOURCE_REFUSED,
        Verdict::Pass(Counter::NotLocal) => NOT_LOCAL,
        Verdict::Pass(_) => FRAGMENT,
    }
}

#[inline(always)]
fn is_refused(number: u32) -> bool {
    number == SOURCE_REFUSED || number == VNI_REFUSED
}

#[expect(clippy::cast_possible_truncation, reason = "an IPv4 header has at most 60 bytes")]
#[inline(never)]
fn ipv4_fragment(start: usize, end: usize, network: usize, header: usize) -> u32 {
    let packet = Packet { start, end };
    if !packet.holds(network + IPV4_HEADER) {
        return MALFORMED;
    }
    let fragment = u16::from_be(packet.u16(network + 6));
    let place = Place {
        offset: u32::from(fragment & IPV4_FRAGMENT_OFFSET) * 8,
        len: u32::from(u16::from_be(packet.u16(network + 2))).wrapping_sub(header as u32),
        more: fragment & IPV4_MORE_FRAGMENTS != 0,
    };
    let mut key: FragmentKey = zeroed();
    key[0] = packet.u32(network + 12);
    key[4] = packet.u32(network + 16);
    key[8] = u32::from(packet.u16(network + 4));
    key[9] = 4;
    if place.offset == 0 {
        first_fragment(&key, &place, number(udp_over_ipv4(&packet, network, network + header)))
    } else {
        later_fragment(&key, &place)
    }
}

/// Where a fragment belongs in its datagram, in bytes, from its header.
struct Place {
    offset: u32,
    len: u32,
    more: bool,
}

/// A first fragment gets the verdict of a whole packet, by its UDP and VXLAN headers. If it is ours or
/// refused, this is recorded for the fragments that follow. They are judged by this record alone, never by
/// their source: fragments for the host itself may come from the same source, and a redirect or drop cannot
/// be undone. A fragment that arrives before its first is passed.
#[inline(always)]
fn first_fragment(key: &FragmentKey, place: &Place, mut verdict: u32) -> u32 {
    if verdict == OURS && setting!(FLAGS) & FLAG_FRAGMENTS == 0 {
        verdict = FRAGMENT;
    }
    // An atomic fragment is a whole datagram, whatever else has its id (RFC 6946).
    if place.more {
        if verdict == OURS || is_refused(verdict) {
            announce(key, place.len, verdict);
        } else {
            // The id belongs to another datagram now, for the host. Nearly always there is no entry to
            // remove.
            let _ = FRAGMENTS.remove(key);
        }
    }
    verdict
}

/// A fragment that is not the first has the verdict of the first, if that was seen.
#[inline(always)]
fn later_fragment(key: &FragmentKey, place: &Place) -> u32 {
    let Some(announced) = FRAGMENTS.get_ptr_mut(key) else {
        return FRAGMENT;
    };
    // SAFETY: a value of the map. If two CPUs write it at once, `next` is one of their values, and the entry
    // ends by its age instead of with its last fragment.
    let announced = unsafe { &mut *announced };
    // SAFETY: a helper without arguments.
    let now = unsafe { bpf_ktime_get_ns() };
    if now.wrapping_sub(announced.time) > FRAGMENT_LIFETIME {
        let _ = FRAGMENTS.remove(key);
        return FRAGMENT;
    }
    let refused = announced.refused;
    if announced.next == place.offset {
        if place.more {
            announced.next = place.offset.wrapping_add(place.len);
        } else {
            // All arrived in sequence and this is the last: from here on the key may be the host's own.
            let _ = FRAGMENTS.remove(key);
        }
    }
    refused
}

#[inline(always)]
fn udp_over_ipv4(packet: &Packet, network: usize, transport: usize) -> Verdict {
    let source_allowed = || SOURCES_V4.get(Key::new(32, packet.bytes(network + 12))).is_some();
    udp(packet, transport, || is_own_v4(packet, network), source_allowed)
}

/// Whether an IPv4 packet is for this interface: by its MAC address, and by its IPv4 addresses if it has any.
/// A packet from a loopback address is left to the kernel to refuse (RFC 1122 section 3.2.1.3).
#[inline(always)]
fn is_own_v4(packet: &Packet, network: usize) -> bool {
    // Unreachable otherwise: key 0 of an array of one.
    let Some(own) = OWN.get(0) else { return true };
    if !has_mac(packet, own) || packet.u8(network + 12) == LOOPBACK_NET {
        return false;
    }
    own[OWN_FAMILIES] & HAS_V4 == 0
        || packet.u16(network + 16) == own[OWN_V4] && packet.u16(network + 18) == own[OWN_V4 + 1]
        // SAFETY: the value is not read.
        || unsafe { ADDRESSES_V4.get(packet.bytes::<4>(network + 16)) }.is_some()
}

/// Whether the Ethernet destination is this interface's.
#[inline(always)]
fn has_mac(packet: &Packet, own: &Own) -> bool {
    let ethernet = packet.from(0);
    ethernet.u16(0) == own[0] && ethernet.u16(2) == own[1] && ethernet.u16(4) == own[2]
}

/// As [`is_own_v4`]; the loopback address is `::1` (RFC 4291 section 2.5.3).
#[inline(always)]
fn is_own_v6(packet: &Packet, network: usize) -> bool {
    const LOOPBACK: [u8; 16] = core::net::Ipv6Addr::LOCALHOST.octets();
    let Some(own) = OWN.get(0) else { return true };
    if !has_mac(packet, own) || packet.bytes::<16>(network + 8) == LOOPBACK {
        return false;
    }
    own[OWN_FAMILIES] & HAS_V6 == 0
        // SAFETY: the value is not read.
        || unsafe { ADDRESSES_V6.get(packet.bytes::<16>(network + 24)) }.is_some()
}

#[inline(always)]
fn ipv6(packet: &Packet, network: usize) -> Verdict {
    if !packet.holds(network + IPV6_HEADER) {
        return Verdict::Pass(Counter::Malformed);
    }
    if packet.u8(network) >> 4 != 6 {
        return Verdict::Pass(Counter::Malformed);
    }
    match packet.u8(network + 6) {
        PROTOCOL_UDP => udp_over_ipv6(packet, network, packet, network + IPV6_HEADER),
        header if header == PROTOCOL_FRAGMENT || is_extension(header) => {
            let is_fragment = header == PROTOCOL_FRAGMENT;
            let flags = setting!(FLAGS);
            if flags & (if is_fragment { WANTS_FRAGMENTS } else { REFUSES }) == 0 {
                return Verdict::Pass(if is_fragment { Counter::Fragment } else { Counter::Extension });
            }
            verdict(ipv6_chain(packet.start, packet.end, network), flags)
        }
        _ => Verdict::Pass(Counter::NotTunnel),
    }
}

/// UDP at `transport` of `segment`, which is the packet or the rest of it; the IPv6 header is at `network` of
/// `packet`.
#[inline(always)]
fn udp_over_ipv6(packet: &Packet, network: usize, segment: &Packet, transport: usize) -> Verdict {
    let source_allowed = || SOURCES_V6.get(Key::new(128, packet.bytes(network + 8))).is_some();
    udp(segment, transport, || is_own_v6(packet, network), source_allowed)
}

/// Walks the headers between IPv6 and UDP (RFC 8200 section 4.1). Ours are only fragments without extension
/// headers, which is all that mirrors send. The others are walked to drop what is refused: if it were passed,
/// the kernel would answer it.
#[expect(clippy::cast_possible_truncation, reason = "a fragment header has 8 bytes")]
#[inline(never)]
fn ipv6_chain(start: usize, end: usize, network: usize) -> u32 {
    let packet = Packet { start, end };
    if !packet.holds(network + IPV6_HEADER) {
        return MALFORMED;
    }
    let mut header = packet.u8(network + 6);
    let passed = if header == PROTOCOL_FRAGMENT { FRAGMENT } else { EXTENSION };
    let mut takes = true;
    // No `Option`s: the compiler would spill their unset parts, which the verifier lets nobody read.
    let mut key: FragmentKey = zeroed();
    let mut place = Place { offset: 0, len: 0, more: false };
    let mut is_first = false;
    let mut here = packet.from(network + IPV6_HEADER);
    // The verifier knows the flags, so it walks no further than the verdict needs.
    let most = if setting!(FLAGS) & REFUSES == 0 { 2 } else { MAX_HEADERS };
    for _ in 0..most {
        if header == PROTOCOL_UDP {
            let mut verdict = number(udp_over_ipv6(&packet, network, &here, 0));
            if !takes && verdict == OURS {
                verdict = passed;
            }
            if is_first {
                verdict = first_fragment(&key, &place, verdict);
            }
            return if verdict == FRAGMENT { passed } else { verdict };
        }
        if header == PROTOCOL_ESP || !(header == PROTOCOL_FRAGMENT || is_extension(header)) {
            break;
        }
        if !here.holds(8) {
            return MALFORMED;
        }
        let len = if header == PROTOCOL_FRAGMENT {
            let fragment = u16::from_be(here.u16(2));
            place = Place {
                offset: u32::from(fragment & 0xfff8),
                // No extension header precedes the fragment header where it is ours.
                len: u32::from(u16::from_be(packet.u16(network + 4))).wrapping_sub(FRAGMENT_HEADER as u32),
                more: fragment & 1 != 0,
            };
            key = ipv6_key(&packet, network, here.u32(4));
            if place.offset != 0 {
                return match later_fragment(&key, &place) {
                    OURS if takes => OURS,
                    verdict if is_refused(verdict) => verdict,
                    _ => passed,
                };
            }
            is_first = true;
            FRAGMENT_HEADER
        } else {
            takes = false;
            extension_len(&here, header)
        };
        header = here.u8(0);
        here = here.from(len);
    }
    if is_first {
        first_fragment(&key, &place, FRAGMENT);
    }
    passed
}

/// Key of a datagram over IPv6, with the identification in network byte order.
#[inline(always)]
fn ipv6_key(packet: &Packet, network: usize, id: u32) -> FragmentKey {
    let mut key: FragmentKey = zeroed();
    key[0] = packet.u32(network + 8);
    key[1] = packet.u32(network + 12);
    key[2] = packet.u32(network + 16);
    key[3] = packet.u32(network + 20);
    key[4] = packet.u32(network + 24);
    key[5] = packet.u32(network + 28);
    key[6] = packet.u32(network + 32);
    key[7] = packet.u32(network + 36);
    key[8] = id;
    key[9] = 6;
    key
}

/// Zeros that the compiler may not see: it would call `memset`, which goes byte by byte.
#[inline(always)]
fn zeroed<T: Copy + From<u8>, const N: usize>() -> [T; N] {
    [black_box(T::from(0)); N]
}

#[inline(always)]
fn announce(key: &FragmentKey, next: u32, refused: u32) {
    // SAFETY: a helper without arguments.
    let time = unsafe { bpf_ktime_get_ns() };
    // A full map evicts its oldest entries; if the insertion fails all the same, the others are passed.
    let _ = FRAGMENTS.insert(key, Announced { time, next, refused }, 0);
}

#[inline(always)]
fn udp(
    packet: &Packet,
    transport: usize,
    is_own: impl FnOnce() -> bool,
    source_allowed: impl FnOnce() -> bool,
) -> Verdict {
    if !packet.holds(transport + UDP_HEADER) {
        return Verdict::Pass(Counter::Malformed);
    }
    let port = packet.u16(transport + 2);
    let is = |wanted: u16| wanted != 0 && wanted == port;
    let vxlan = |i: usize| is(setting!(PORTS[i]));
    let geneve = |i: usize| is(setting!(GENEVE_PORTS[i]));
    let of_geneve = if vxlan(0) || vxlan(1) || vxlan(2) || vxlan(3) {
        0
    } else if geneve(0) || geneve(1) || geneve(2) || geneve(3) {
        FLAG_GENEVE
    } else {
        let geneve = port == GENEVE_PORT.to_be();
        return Verdict::Pass(if geneve { Counter::Geneve } else { Counter::NotTunnel });
    };
    // The verifier prunes what is off, but the read itself stays: one read serves all flags.
    let flags = setting!(FLAGS);
    // First of all: a packet for another host must not be dropped here.
    if flags & FLAG_OWN != 0 && !is_own() {
        return Verdict::Pass(Counter::NotLocal);
    }
    if flags & REFUSES == 0 || of_geneve != 0 {
        return Verdict::Ours(flags | of_geneve);
    }
    // Without a readable VNI there is nothing to refuse: user space names what is wrong with the header.
    let vni = if flags & FLAG_VNI_FILTER != 0 { vni(&packet.from(transport + UDP_HEADER)) } else { None };
    if flags & FLAG_SOURCE_FILTER != 0 && !source_allowed() {
        return Verdict::Drop(Counter::SourceRefused);
    }
    if let Some(vni) = vni {
        // SAFETY: what the set has for a key is never read.
        let is_allowed = |vni| unsafe { VNIS.get(vni) }.is_some();
        if !is_allowed(vni) && !is_allowed(EVERY_VNI) {
            return Verdict::Drop(Counter::VniRefused);
        }
    }
    Verdict::Ours(flags)
}

#[inline(always)]
fn redirect(ctx: &XdpContext, flags: u32, counters: *mut PerCpu) -> u32 {
    if flags & FLAG_STAMP != 0 {
        stamp::put(ctx, counters);
    }
    let map = (&raw const XSKS).cast_mut().cast();
    // Without a socket on the queue, the helper returns the fallback action in the flags.
    // SAFETY: an XSKMAP, which the helper does not write to. `XskMap::redirect` does the same, and also takes
    // the absolute value of the result: five more instructions on a path of 58.
    let action = unsafe { bpf_redirect_map(map, u64::from(ctx.rx_queue_index()), u64::from(XDP_PASS)) };
    if action == i64::from(XDP_REDIRECT) {
        count(counters, Counter::Redirected);
        return XDP_REDIRECT;
    }
    count(counters, Counter::NoSocket);
    if flags & FLAG_LOG != 0 {
        log_first_without_socket(ctx, counters);
    }
    XDP_PASS
}

#[inline(always)]
fn count(counters: *mut PerCpu, counter: Counter) {
    // SAFETY: this CPU's own copy, in a softirq that no other frame of the map interrupts.
    unsafe { (*counters)[counter as usize] += 1 };
}

#[inline(always)]
fn log_first_without_socket(ctx: &XdpContext, counters: *const PerCpu) {
    // SAFETY: as in `count`.
    if unsafe { (*counters)[Counter::NoSocket as usize] } == 1 {
        log::queue_without_socket(ctx);
    }
}

/// `xdp_redirect_err(dev, xdp, tgt, err, map_type, map_id, index)`, kernel 5.13 and later: fires for every
/// redirect on the host that fails after the XDP program has returned.
#[raw_tracepoint(tracepoint = "xdp_redirect_err")]
fn redirect_err(ctx: RawTracePointContext) -> i32 {
    const ENOMEM: i32 = 12;
    const ENOSPC: i32 = 28;
    const ENOBUFS: i32 = 105;
    let map: u32 = ctx.arg(5);
    let error: i32 = ctx.arg(3);
    let ours = XSKS_ID.get(0).is_some_and(|id| *id == map);
    // The socket itself counts these three, as rx_dropped or rx_ring_full.
    if ours
        && !matches!(-error, ENOMEM | ENOSPC | ENOBUFS)
        && let Some(failed) = REDIRECT_FAILED.get_ptr_mut(0)
    {
        // SAFETY: this CPU's own copy.
        unsafe { *failed += 1 };
    }
    0
}

mirror_ebpf::object_frame!();
