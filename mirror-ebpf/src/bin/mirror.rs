//! The XDP program of the mirror target: UDP to a tunnel port goes to the AF_XDP socket of its RX queue, all
//! else is passed to the kernel. What is ours but not allowed is dropped here, because passing it would have
//! the host answer the mirror with ICMP.
#![no_std]
#![no_main]
#![expect(clippy::needless_pass_by_value, reason = "the macros of aya-ebpf hand the context over by value")]

use aya_ebpf::{
    bindings::xdp_action::{XDP_DROP, XDP_PASS, XDP_REDIRECT},
    helpers::{bpf_jiffies64, bpf_ktime_get_ns, bpf_redirect_map, bpf_xdp_adjust_meta},
    macros::{map, raw_tracepoint, xdp},
    maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray, XskMap, lpm_trie::Key},
    programs::{RawTracePointContext, XdpContext},
};
use mirror_ebpf::{
    mirror::{
        Announced, COUNTERS as COUNTER_COUNT, Counter, FLAG_FRAGMENTS, FLAG_LOG, FLAG_OWN,
        FLAG_SOURCE_FILTER, FLAG_STAMP, FLAG_VNI_FILTER, FRAGMENT_LIFETIME, FragmentKey, GENEVE_PORT, HAS_V4,
        HAS_V6, MAX_ADDRESSES, MAX_FRAGMENTED, MAX_PORTS, MAX_SOURCES, MAX_VNIS, OWN_FAMILIES, OWN_V4, Own,
        PerCpu, STAMP_EACH, STAMP_EVERY, STAMP_LEN,
    },
    setting,
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
/// With one list for all CPUs, not one each: the fragments of a datagram may come by different ones.
#[map]
static FRAGMENTS: LruHashMap<FragmentKey, Announced> = LruHashMap::with_max_entries(MAX_FRAGMENTED, 0);
#[map]
static XSKS_ID: Array<u32> = Array::with_max_entries(1, 0);
#[map]
static REDIRECT_FAILED: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// LPM tries take memory as entries come: the kernel accepts them no other way.
const BPF_F_NO_PREALLOC: u32 = 1;

// Settings: user space writes them before the verifier sees the program, which then prunes what is off.
#[unsafe(no_mangle)]
static PORTS: [u16; MAX_PORTS] = [0; MAX_PORTS];
#[unsafe(no_mangle)]
static FLAGS: u32 = 0;

const ETH_HEADER: usize = 14;
const VLAN_TAG: usize = 4;
const IPV4_HEADER: usize = 20;
const IPV6_HEADER: usize = 40;
const UDP_HEADER: usize = 8;
const VXLAN_HEADER: usize = 8;
const FRAGMENT_HEADER: u32 = 8;
/// The most headers behind IPv6 that are gone through, UDP with them: each is work for the verifier.
const MAX_HEADERS: u32 = 5;

// Ethertypes and flags as a little-endian load of the wire's bytes gives them.
const ETH_P_IP: u16 = 0x0800_u16.to_be();
const ETH_P_IPV6: u16 = 0x86dd_u16.to_be();
const ETH_P_8021Q: u16 = 0x8100_u16.to_be();
const ETH_P_8021AD: u16 = 0x88a8_u16.to_be();
/// More-fragments flag and fragment offset (RFC 791 section 3.1); don't-fragment is left out.
const IP_FRAGMENT: u16 = 0x3fff_u16.to_be();
/// Of those the more-fragments flag.
const IP_MORE: u16 = 0x2000;
const IPPROTO_UDP: u8 = 17;
const IPPROTO_FRAGMENT: u8 = 44;
const IPPROTO_ESP: u8 = 50;
const IPPROTO_AH: u8 = 51;
/// First byte of 127.0.0.0/8 (RFC 1122 section 3.2.1.3).
const LOOPBACK_NET: u8 = 127;
/// Four bytes of a frame from an offset on: those under a mask, as a little-endian load gives them, have one
/// value.
struct Fields {
    at: usize,
    mask: u32,
    value: u32,
}
/// Ethertype IPv4; version 4 and a header of 5 words.
const PLAIN_KIND: Fields =
    Fields { at: ETH_HEADER - 2, mask: 0xffff_ff00_u32.to_be(), value: 0x0800_4500_u32.to_be() };
/// No fragment, as [`IP_FRAGMENT`]; time to live; protocol UDP.
const PLAIN_PROTOCOL: Fields =
    Fields { at: ETH_HEADER + 6, mask: 0x3fff_00ff_u32.to_be(), value: (IPPROTO_UDP as u32).to_be() };
/// Where UDP starts behind an Ethernet header without tags and an IPv4 header without options.
const PLAIN_UDP: usize = ETH_HEADER + IPV4_HEADER;
/// The I flag: the VNI is valid (RFC 7348 section 5).
const VXLAN_FLAG_VNI: u8 = 0x08;

#[xdp]
fn mirror(ctx: XdpContext) -> u32 {
    run(&ctx)
}

#[xdp(frags)]
fn mirror_frags(ctx: XdpContext) -> u32 {
    run(&ctx)
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
    /// With the flags that were read on the way.
    Ours(u32),
    Pass(Counter),
    Drop(Counter),
}

#[inline(always)]
fn judge(ctx: &XdpContext) -> Verdict {
    let packet = Packet { start: ctx.data(), end: ctx.data_end() };
    if packet.is_plain() { udp_over_ipv4(&packet, ETH_HEADER, PLAIN_UDP) } else { by_headers(&packet) }
}

/// Header by header, for every shape there is and with a word for what is wrong.
#[inline(always)]
fn by_headers(packet: &Packet) -> Verdict {
    if !packet.holds(ETH_HEADER) {
        return Verdict::Pass(Counter::Malformed);
    }
    let mut ethertype = packet.u16(ETH_HEADER - 2);
    let mut network = ETH_HEADER;
    // At most two tags (802.1Q inside 802.1ad, or twice 802.1Q as some switches do).
    if ethertype == ETH_P_8021Q || ethertype == ETH_P_8021AD {
        network += VLAN_TAG;
        if !packet.holds(network) {
            return Verdict::Pass(Counter::Malformed);
        }
        ethertype = packet.u16(network - 2);
        if ethertype == ETH_P_8021Q || ethertype == ETH_P_8021AD {
            network += VLAN_TAG;
            if !packet.holds(network) {
                return Verdict::Pass(Counter::Malformed);
            }
            ethertype = packet.u16(network - 2);
        }
    }
    if ethertype == ETH_P_IP {
        ipv4(packet, network)
    } else if ethertype == ETH_P_IPV6 {
        ipv6(packet, network)
    } else {
        Verdict::Pass(Counter::NotTunnel)
    }
}

#[inline(always)]
fn ipv4(packet: &Packet, network: usize) -> Verdict {
    if !packet.holds(network + IPV4_HEADER) {
        return Verdict::Pass(Counter::Malformed);
    }
    let version_ihl = packet.u8(network);
    let header = usize::from(version_ihl & 0x0f) * 4;
    if version_ihl >> 4 != 4 || header < IPV4_HEADER {
        return Verdict::Pass(Counter::Malformed);
    }
    if packet.u8(network + 9) != IPPROTO_UDP {
        return Verdict::Pass(Counter::NotTunnel);
    }
    if packet.u16(network + 6) & IP_FRAGMENT != 0 {
        let flags = setting!(FLAGS);
        if flags & WANTS_FRAGMENTS == 0 {
            return Verdict::Pass(Counter::Fragment);
        }
        return verdict(ipv4_fragment(packet.start, packet.end, network, header), flags);
    }
    udp_over_ipv4(packet, network, network + header)
}

/// Flags with which fragments are looked into: to take those that are ours, or to drop those that are
/// refused.
const WANTS_FRAGMENTS: u32 = FLAG_FRAGMENTS | REFUSES;
/// Flags with which something is refused.
const REFUSES: u32 = FLAG_VNI_FILTER | FLAG_SOURCE_FILTER;

// Verdicts on fragments and behind extension headers as numbers: 0 where it is ours, else the counter. They
// are judged out of line, in functions of their own, so that what these take is neither in the way of whole
// packets nor multiplied by the shapes of headers in front of them; and a verdict with what belongs to it
// would come back through memory, where the verifier loses its bounds.
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

/// What UDP says of a first fragment; of those that are no tunnel's it is enough that they are fragments.
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
        offset: u32::from(fragment & 0x1fff) * 8,
        len: u32::from(u16::from_be(packet.u16(network + 2))).wrapping_sub(header as u32),
        more: fragment & IP_MORE != 0,
    };
    let mut key: FragmentKey = [0; 10];
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

/// Where in its datagram a fragment belongs, in bytes, as its header says.
struct Place {
    offset: u32,
    len: u32,
    more: bool,
}

/// A first fragment is judged as a whole packet is, by its UDP and VXLAN headers; what is ours or refused is
/// announced for those that follow. Those are so only by the announcement, never by their source: the host's
/// own fragments come from there too, and what is redirected or dropped cannot be given back. One that comes
/// before its first is passed.
#[inline(always)]
fn first_fragment(key: &FragmentKey, place: &Place, mut verdict: u32) -> u32 {
    if verdict == OURS && setting!(FLAGS) & FLAG_FRAGMENTS == 0 {
        verdict = FRAGMENT;
    }
    // Without more to come it is whole by itself, whatever else has its id (RFC 6946).
    if place.more {
        if verdict == OURS || is_refused(verdict) {
            announce(key, place.len, verdict);
        } else {
            // The id is another datagram's by now, and what follows is the host's. Nearly always there is
            // nothing to take back.
            let _ = FRAGMENTS.remove(key);
        }
    }
    verdict
}

/// A fragment that is no first one: as that was, if it was seen.
#[inline(always)]
fn later_fragment(key: &FragmentKey, place: &Place) -> u32 {
    let Some(announced) = FRAGMENTS.get_ptr_mut(key) else {
        return FRAGMENT;
    };
    // SAFETY: a value of the map; CPUs that write the same one at a time leave `next` at one of their values,
    // and then the announcement ends by its age and not with its last fragment.
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
            // All arrived in sequence, so none is left: from here on the key may be the host's own.
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

/// Whether an IPv4 packet is for this interface: by its MAC, and by one of its addresses if it has any of the
/// family. What says that it comes from a loopback address is for the kernel to refuse (RFC 1122 section
/// 3.2.1.3).
#[inline(always)]
fn is_own_v4(packet: &Packet, network: usize) -> bool {
    // Unreachable otherwise: key 0 of an array of one.
    let Some(own) = OWN.get(0) else { return true };
    if !packet.has_mac(own) || packet.u8(network + 12) == LOOPBACK_NET {
        return false;
    }
    own[OWN_FAMILIES] & HAS_V4 == 0
        || packet.u16(network + 16) == own[OWN_V4] && packet.u16(network + 18) == own[OWN_V4 + 1]
        // SAFETY: of the value nothing is read.
        || unsafe { ADDRESSES_V4.get(packet.bytes::<4>(network + 16)) }.is_some()
}

/// As [`is_own_v4`]; the loopback address is `::1` (RFC 4291 section 2.5.3).
#[inline(always)]
fn is_own_v6(packet: &Packet, network: usize) -> bool {
    const LOOPBACK: [u8; 16] = core::net::Ipv6Addr::LOCALHOST.octets();
    let Some(own) = OWN.get(0) else { return true };
    if !packet.has_mac(own) || packet.bytes::<16>(network + 8) == LOOPBACK {
        return false;
    }
    own[OWN_FAMILIES] & HAS_V6 == 0
        // SAFETY: of the value nothing is read.
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
        IPPROTO_UDP => udp_over_ipv6(packet, network, packet, network + IPV6_HEADER),
        header if header == IPPROTO_FRAGMENT || is_extension(header) => {
            let is_fragment = header == IPPROTO_FRAGMENT;
            let flags = setting!(FLAGS);
            if flags & (if is_fragment { WANTS_FRAGMENTS } else { REFUSES }) == 0 {
                return Verdict::Pass(if is_fragment { Counter::Fragment } else { Counter::Extension });
            }
            verdict(ipv6_chain(packet.start, packet.end, network), flags)
        }
        _ => Verdict::Pass(Counter::NotTunnel),
    }
}

/// Hop-by-hop, routing, ESP, AH, destination options, mobility, HIP, shim6 (IANA's list of RFC 7045);
/// fragment headers have a way of their own.
#[inline(always)]
fn is_extension(header: u8) -> bool {
    matches!(header, 0 | 43 | IPPROTO_ESP | IPPROTO_AH | 60 | 135 | 139 | 140)
}

/// UDP at `transport` of `segment`, the packet or the rest of it, whose IPv6 header is at `network` of
/// `packet`.
#[inline(always)]
fn udp_over_ipv6(packet: &Packet, network: usize, segment: &Packet, transport: usize) -> Verdict {
    let source_allowed = || SOURCES_V6.get(Key::new(128, packet.bytes(network + 8))).is_some();
    udp(segment, transport, || is_own_v6(packet, network), source_allowed)
}

/// Walks the headers between IPv6 and UDP (RFC 8200 section 4.1). Ours are fragments whose header is right
/// before and right behind the others, which is all that mirrors send. Else it is to drop what is refused:
/// passed, the kernel would answer it.
#[inline(never)]
fn ipv6_chain(start: usize, end: usize, network: usize) -> u32 {
    let packet = Packet { start, end };
    if !packet.holds(network + IPV6_HEADER) {
        return MALFORMED;
    }
    let mut header = packet.u8(network + 6);
    let passed = if header == IPPROTO_FRAGMENT { FRAGMENT } else { EXTENSION };
    let mut takes = true;
    // Not options, whose unset parts the compiler would spill and the verifier not have read.
    let mut key: FragmentKey = [0; 10];
    let mut place = Place { offset: 0, len: 0, more: false };
    let mut is_first = false;
    let mut here = packet.from(network + IPV6_HEADER);
    // The verifier knows the flags: it need not go through what nothing comes of.
    let most = if setting!(FLAGS) & REFUSES == 0 { 2 } else { MAX_HEADERS };
    for _ in 0..most {
        if header == IPPROTO_UDP {
            let mut verdict = number(udp_over_ipv6(&packet, network, &here, 0));
            if !takes && verdict == OURS {
                verdict = passed;
            }
            if is_first {
                verdict = first_fragment(&key, &place, verdict);
            }
            return if verdict == FRAGMENT { passed } else { verdict };
        }
        if header == IPPROTO_ESP || !(header == IPPROTO_FRAGMENT || is_extension(header)) {
            break;
        }
        if !here.holds(8) {
            return MALFORMED;
        }
        let len = if header == IPPROTO_FRAGMENT {
            let fragment = u16::from_be(here.u16(2));
            place = Place {
                offset: u32::from(fragment & 0xfff8),
                // What comes before is no extension header where it is ours.
                len: u32::from(u16::from_be(packet.u16(network + 4))).wrapping_sub(FRAGMENT_HEADER),
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
            FRAGMENT_HEADER as usize
        } else {
            takes = false;
            let units = usize::from(here.u8(1));
            // RFC 4302 section 2.2 counts otherwise than RFC 8200 section 4.
            if header == IPPROTO_AH { (units + 2) * 4 } else { (units + 1) * 8 }
        };
        header = here.u8(0);
        here = here.from(len);
    }
    if is_first {
        first_fragment(&key, &place, FRAGMENT);
    }
    passed
}

/// What the fragments of a datagram share, here of one over IPv6 with an identification as on the wire.
#[inline(always)]
fn ipv6_key(packet: &Packet, network: usize, id: u32) -> FragmentKey {
    let mut key: FragmentKey = [0; 10];
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

#[inline(always)]
fn announce(key: &FragmentKey, next: u32, refused: u32) {
    // SAFETY: a helper without arguments.
    let time = unsafe { bpf_ktime_get_ns() };
    // A full map gives up its oldest entries; where even that fails, those that follow are passed.
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
    let tunnel = |i: usize| {
        let wanted = setting!(PORTS[i]);
        wanted != 0 && wanted == port
    };
    if !(tunnel(0) || tunnel(1) || tunnel(2) || tunnel(3)) {
        let geneve = port == GENEVE_PORT.to_be();
        return Verdict::Pass(if geneve { Counter::Geneve } else { Counter::NotTunnel });
    }
    // The verifier prunes what is off; the read itself stays, so there is one for all.
    let flags = setting!(FLAGS);
    // Before anything is refused: what is not ours is not ours to drop.
    if flags & FLAG_OWN != 0 && !is_own() {
        return Verdict::Pass(Counter::NotLocal);
    }
    if flags & REFUSES == 0 {
        return Verdict::Ours(flags);
    }
    let vni = if flags & FLAG_VNI_FILTER != 0 { packet.from(transport + UDP_HEADER).vni() } else { None };
    if flags & FLAG_SOURCE_FILTER != 0 && !source_allowed() {
        return Verdict::Drop(Counter::SourceRefused);
    }
    if let Some(vni) = vni {
        // SAFETY: the set is written once, before the program is attached.
        if unsafe { VNIS.get(vni) }.is_none() {
            return Verdict::Drop(Counter::VniRefused);
        }
    }
    Verdict::Ours(flags)
}

#[inline(always)]
fn redirect(ctx: &XdpContext, flags: u32, counters: *mut PerCpu) -> u32 {
    if flags & FLAG_STAMP != 0 {
        stamp(ctx, counters);
    }
    let map = (&raw const XSKS).cast_mut().cast();
    // Without a socket on the queue, the helper returns the fallback action in the flags.
    // SAFETY: an XSKMAP, which the helper does not write to. `XskMap::redirect` is the same, and takes the
    // absolute value of what comes back first: five instructions more, beside the 58 between a frame and its
    // ring.
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

/// The argument of `bpf_xdp_adjust_meta` that makes room for the receive time.
#[expect(clippy::cast_possible_truncation, clippy::cast_possible_wrap, reason = "the length is 8")]
const STAMP_ROOM: i32 = -(STAMP_LEN as i32);

/// Writes the receive time in front of the frame where its turn has come. Elsewhere the place keeps what is
/// in it, and so it does with a driver without a metadata area, which refuses to make room: user space
/// distinguishes that from a stamp.
#[inline(always)]
fn stamp(ctx: &XdpContext, words: *mut PerCpu) {
    if !is_due(words) {
        return;
    }
    // SAFETY: the context is the one the kernel gave, and no packet pointer is used after the call.
    let refused = unsafe { bpf_xdp_adjust_meta(ctx.ctx, STAMP_ROOM) } != 0;
    if refused {
        return;
    }
    // SAFETY: a helper without arguments.
    let now = unsafe { bpf_ktime_get_ns() };
    let place = ctx.metadata();
    if place + STAMP_LEN <= ctx.data() {
        // SAFETY: the bound was just checked, and metadata is aligned to 4 bytes, enough for BPF's 8-byte
        // stores.
        unsafe { *(place as *mut u64) = now };
    }
}

/// Places behind the counters: the tick of the kernel in which this CPU had its last frame of ours, what
/// [`Counter::Redirected`] was when it began, and by how much that had grown in the one before.
const TICK: usize = COUNTER_COUNT;
const AT_ITS_START: usize = TICK + 1;
const IN_THE_ONE_BEFORE: usize = TICK + 2;

/// Whether a frame gets a stamp: each while they are few, at a high rate every [`STAMP_EVERY`]th. To read the
/// clock keeps the CPU from working on the next frames before it is done with this one, which alone can take
/// a fifth of the time of a frame; and a worker that copies frames out need not fetch what is in front of
/// them.
#[inline(always)]
fn is_due(words: *mut PerCpu) -> bool {
    // SAFETY: this CPU's own copy, as in `count`.
    let words = unsafe { &mut *words };
    // SAFETY: a helper without arguments.
    let tick = unsafe { bpf_jiffies64() };
    let redirected = words[Counter::Redirected as usize];
    if words[TICK] != tick {
        let ended = redirected - words[AT_ITS_START];
        words[IN_THE_ONE_BEFORE] = if words[TICK] + 1 == tick { ended } else { 0 };
        words[TICK] = tick;
        words[AT_ITS_START] = redirected;
    }
    let so_far = redirected - words[AT_ITS_START];
    redirected % STAMP_EVERY == 0 || words[IN_THE_ONE_BEFORE] < STAMP_EACH && so_far < STAMP_EACH
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
        aya_log_ebpf::warn!(
            ctx,
            "no AF_XDP socket on queue {}: its frames go to the kernel",
            ctx.rx_queue_index()
        );
    }
}

/// The bytes of a frame, read only after `holds` proved them there: the shape the verifier follows.
struct Packet {
    start: usize,
    end: usize,
}

impl Packet {
    /// Whether it is what a mirror sends nearly always, untagged IPv4 without options and UDP: its fields lie
    /// at fixed offsets behind a single bounds check.
    #[inline(always)]
    fn is_plain(&self) -> bool {
        self.holds(PLAIN_UDP + UDP_HEADER) && self.has(&PLAIN_KIND) && self.has(&PLAIN_PROTOCOL)
    }

    #[inline(always)]
    fn holds(&self, len: usize) -> bool {
        self.start + len <= self.end
    }

    #[inline(always)]
    fn u8(&self, offset: usize) -> u8 {
        // SAFETY: the caller has asked `holds`; the verifier refuses the program otherwise.
        unsafe { *((self.start + offset) as *const u8) }
    }

    /// Two bytes as the wire has them. Every header here starts at an even offset of an even address.
    #[inline(always)]
    fn u16(&self, offset: usize) -> u16 {
        // SAFETY: as in `u8`.
        unsafe { *((self.start + offset) as *const u16) }
    }

    /// Four bytes as the wire has them, from any place.
    #[inline(always)]
    fn u32(&self, offset: usize) -> u32 {
        u32::from_ne_bytes(self.bytes(offset))
    }

    /// Whether the Ethernet destination is this interface's.
    #[inline(always)]
    fn has_mac(&self, own: &Own) -> bool {
        let ethernet = self.from(0);
        ethernet.u16(0) == own[0] && ethernet.u16(2) == own[1] && ethernet.u16(4) == own[2]
    }

    /// Several fields in one load and one comparison.
    #[inline(always)]
    fn has(&self, fields: &Fields) -> bool {
        // SAFETY: as in `u8`. Frames start at multiples of 4, and so do the fields; a CPU that could not load
        // them from elsewhere would have the verifier refuse the program.
        let bytes = unsafe { *((self.start + fields.at) as *const u32) };
        bytes & fields.mask == fields.value
    }

    /// The rest of the frame from a place on. The compiler must not see where its start came from: it would
    /// work the same address out anew for a read, and the verifier knows only that the other one's bound was
    /// checked.
    #[inline(always)]
    fn from(&self, offset: usize) -> Self {
        Self { start: core::hint::black_box(self.start + offset), end: self.end }
    }

    /// The VNI where a VXLAN header starts here. Without a readable one there is nothing to refuse: user
    /// space names what is wrong with the header.
    #[inline(always)]
    fn vni(&self) -> Option<u32> {
        if !self.holds(VXLAN_HEADER) || self.u8(0) & VXLAN_FLAG_VNI == 0 {
            return None;
        }
        let [_, a, b, c] = self.bytes::<4>(3);
        Some(u32::from_be_bytes([0, a, b, c]))
    }

    #[inline(always)]
    fn bytes<const N: usize>(&self, offset: usize) -> [u8; N] {
        // SAFETY: as in `u8`, and an array of bytes has no alignment.
        unsafe { *((self.start + offset) as *const [u8; N]) }
    }
}

/// `xdp_redirect_err(dev, xdp, tgt, err, map_type, map_id, index)`, kernel 5.13 and later: fires for every
/// redirect that failed after the program chose it, on the whole host.
#[raw_tracepoint(tracepoint = "xdp_redirect_err")]
fn redirect_err(ctx: RawTracePointContext) -> i32 {
    const ENOMEM: i32 = 12;
    const ENOSPC: i32 = 28;
    const ENOBUFS: i32 = 105;
    let map: u32 = ctx.arg(5);
    let error: i32 = ctx.arg(3);
    let ours = XSKS_ID.get(0).is_some_and(|id| *id == map);
    // Those three the socket itself counts, as rx_dropped or rx_ring_full.
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
