//! Forwarding in the kernel: frames that are decapsulated by cutting off both ends go to a device, with other
//! outer headers if that leads to a tunnel; all others go to the ring, as without it.

use aya_ebpf::{
    bindings::xdp_action::{XDP_DROP, XDP_PASS, XDP_REDIRECT},
    helpers::{bpf_probe_read_kernel, bpf_redirect_map, bpf_xdp_adjust_head, bpf_xdp_adjust_tail},
    macros::{map, raw_tracepoint},
    maps::{Array, DevMap, HashMap, PerCpuArray},
    programs::{RawTracePointContext, XdpContext},
};
use mirror_ebpf::{
    mirror::{
        Counter, Device, FLAG_GENEVE, FLAG_GROUP, FLAG_ORIGINS, FLAG_TUNNELS, FORWARDED_INNER_BYTES,
        FORWARDED_OUTER_BYTES, Fate, FateCounts, MAX_MEMBERS, ORIGIN_VERSION_SHIFT, ORIGIN_VNI, OriginKey,
        PATH_FROM, PATH_IFINDEX_AT, PATH_INUM_AT, PATH_NET_AT, Path, PerCpu,
    },
    programs::{
        headers::{self, IPV4_FRAGMENT, PLAIN_UDP, ipv4_header_len, is_plain},
        packet::Packet,
    },
    setting,
    wire::{
        ETHERNET_HEADER, ETHERTYPE_IPV4, ETHERTYPE_IPV6, IPV6_HEADER, PROTOCOL_UDP, UDP_HEADER,
        VXLAN_FLAG_VNI, VXLAN_HEADER,
    },
};

use super::{
    COUNTERS, FLAGS, Verdict, by_headers, count, group, origins, redirect,
    split::{self, SPLITS},
    udp_over_ipv4, vxlan, zeroed,
};

#[map]
static TARGETS: DevMap = DevMap::with_max_entries(MAX_MEMBERS, 0);
#[map]
static TARGETS_ID: Array<u32> = Array::with_max_entries(1, 0);
#[map]
static DEVICES: HashMap<Device, u32> = HashMap::with_max_entries(MAX_MEMBERS, 0);
/// Addresses of an interface whose frames are forwarded and of a target, and the target's index.
#[map]
static KNOWN: PerCpuArray<[u64; 3]> = PerCpuArray::with_max_entries(MAX_MEMBERS, 0);
#[map]
static FATES: PerCpuArray<FateCounts> = PerCpuArray::with_max_entries(MAX_MEMBERS, 0);

#[unsafe(no_mangle)]
static PATH: Path = [0; 5];

/// Flags with which the origin of a frame is to be known.
const NEEDS_ORIGIN: u32 = FLAG_ORIGINS | SPLITS;

/// The least UDP length: VXLAN and an inner Ethernet header.
const LEAST_UDP_LENGTH: usize = UDP_HEADER + VXLAN_HEADER + ETHERNET_HEADER;

/// As the plain program, with frames of ours forwarded where that takes no more than cutting.
#[inline(always)]
pub(super) fn run(ctx: &XdpContext) -> u32 {
    let Some(counters) = COUNTERS.get_ptr_mut(0) else {
        // Unreachable: key 0 of an array of one.
        return XDP_PASS;
    };
    count(counters, Counter::Seen);
    let packet = Packet::new(ctx);
    let len = packet.end - packet.start;
    let plain = is_plain(&packet);
    let verdict =
        if plain { udp_over_ipv4(&packet, ETHERNET_HEADER, PLAIN_UDP) } else { by_headers(&packet) };
    let (action, reason) = match verdict {
        // What this program cuts off is VXLAN and what is around it: of GENEVE it knows no more than the
        // port.
        Verdict::Ours(flags) if flags & FLAG_GENEVE != 0 => return redirect(ctx, flags, counters),
        Verdict::Ours(flags) => {
            let mut route = Route::unknown();
            let ends = if plain {
                let total_len = usize::from(u16::from_be(packet.u16(ETHERNET_HEADER + 2)));
                route.note_ipv4(&packet, ETHERNET_HEADER, flags);
                ends(&packet, PLAIN_UDP, ETHERNET_HEADER + total_len, flags, &mut route)
            } else {
                ends_by_headers(packet.start, packet.end, &mut route)
            };
            let made = if ends == RING { Made::Nothing } else { make(ctx, len, ends, flags, &route) };
            return match made {
                Made::Frame => forward(counters, len, ends, flags, &route),
                Made::TooLarge => {
                    count_forwarded(counters, len, ends, flags, &route);
                    add(route.member, Fate::TooLarge, 1);
                    XDP_DROP
                }
                Made::Nothing => redirect(ctx, flags, counters),
            };
        }
        Verdict::Pass(reason) => (XDP_PASS, reason),
        Verdict::Drop(reason) => (XDP_DROP, reason),
    };
    count(counters, reason);
    action
}

/// What is to be known of a frame before it is cut, besides its [`Ends`].
pub(super) struct Route {
    /// With [`NEEDS_ORIGIN`].
    origin: OriginKey,
    /// Index in [`TARGETS`].
    pub(super) member: u32,
    /// Hash of the flow, with [`FLAG_GROUP`] or [`FLAG_TUNNELS`].
    pub(super) flow: u64,
}

impl Route {
    #[inline(always)]
    fn unknown() -> Self {
        let ([member], [flow]) = (zeroed(), zeroed());
        Self { origin: zeroed(), member, flow }
    }

    /// Notes the source of a frame over IPv4.
    #[inline(always)]
    fn note_ipv4(&mut self, packet: &Packet, network: usize, flags: u32) {
        if flags & NEEDS_ORIGIN != 0 {
            self.origin[0] = packet.u32_le(network + 12).into();
            self.origin[ORIGIN_VNI] = 4 << ORIGIN_VERSION_SHIFT;
        }
    }
}

/// Bytes before and after an inner frame, in the upper and lower half: an `Option` of a struct would be
/// returned through memory.
pub(super) type Ends = u64;

/// The frame is for the ring: what its worker does with it takes more than cutting, or is to reject it.
const RING: Ends = 0;

/// The same verdict as the decapsulation in user space has on a whole frame: everything declared is there,
/// and VXLAN has no bits set but that of the VNI. `end` is the declared end of the IP packet.
#[inline(always)]
fn ends(packet: &Packet, udp: usize, end: usize, flags: u32, route: &mut Route) -> Ends {
    let len = packet.end - packet.start;
    let udp_len = usize::from(u16::from_be(packet.u16(udp + 4)));
    let udp_end = udp + udp_len;
    if udp_len < LEAST_UDP_LENGTH || udp_end > end || end > len {
        return RING;
    }
    let vxlan = packet.from(udp + UDP_HEADER);
    if !vxlan.holds(VXLAN_HEADER + ETHERNET_HEADER)
        || vxlan.u16(0) != u16::from_be_bytes([VXLAN_FLAG_VNI, 0]).to_be()
        || vxlan.u16(2) != 0
        || vxlan.u8(7) != 0
    {
        return RING;
    }
    if flags & NEEDS_ORIGIN != 0 {
        route.origin[ORIGIN_VNI] |= u64::from(vxlan.u32_le(4));
    }
    if flags & SPLITS != 0 && !split::is_for_target(&route.origin, flags) {
        return RING;
    }
    if flags & (FLAG_GROUP | FLAG_TUNNELS) != 0 {
        let inner = vxlan.from(VXLAN_HEADER);
        let flow = group::flow(inner.start, inner.end, udp_len - UDP_HEADER - VXLAN_HEADER);
        if flow == group::NO_FLOW {
            return RING;
        }
        route.flow = flow;
        if flags & FLAG_GROUP != 0 {
            let member = group::member(flow);
            if member == group::NONE {
                return RING;
            }
            route.member = member;
        }
    }
    ((udp + UDP_HEADER + VXLAN_HEADER) as Ends) << 32 | (len - udp_end) as Ends
}

/// [`ends`] of a frame with VLAN tags, IPv4 options or IPv6, for which the verdict was that it is ours. Not
/// inlined, so that the verifier checks it once.
#[inline(never)]
fn ends_by_headers(start: usize, end: usize, route: &mut Route) -> Ends {
    let packet = Packet { start, end };
    let flags = setting!(FLAGS);
    let Some((ethertype, network)) = headers::network(&packet) else { return RING };
    let (transport, declared) = if ethertype == ETHERTYPE_IPV4.to_be() {
        let Some(header) = ipv4_header_len(&packet, network) else { return RING };
        if packet.u8(network + 9) != PROTOCOL_UDP || packet.u16(network + 6) & IPV4_FRAGMENT != 0 {
            return RING;
        }
        route.note_ipv4(&packet, network, flags);
        (network + header, network + usize::from(u16::from_be(packet.u16(network + 2))))
    } else if ethertype == ETHERTYPE_IPV6.to_be() {
        if !packet.holds(network + IPV6_HEADER) || packet.u8(network + 6) != PROTOCOL_UDP {
            return RING;
        }
        if flags & NEEDS_ORIGIN != 0 {
            route.origin[0] = packet.u64_le(network + 8);
            route.origin[1] = packet.u64_le(network + 16);
            route.origin[ORIGIN_VNI] = 6 << ORIGIN_VERSION_SHIFT;
        }
        let transport = network + IPV6_HEADER;
        (transport, transport + usize::from(u16::from_be(packet.u16(network + 4))))
    } else {
        return RING;
    };
    if !packet.holds(transport + UDP_HEADER) {
        return RING;
    }
    ends(&packet, transport, declared, flags, route)
}

/// What was made of a frame.
pub(super) enum Made {
    /// The frame for the target.
    Frame,
    /// Nothing, because the path to the target does not take it.
    TooLarge,
    /// Nothing: its outer datagram is still whole.
    Nothing,
}

/// Makes the frame for a target.
#[inline(always)]
fn make(ctx: &XdpContext, len: usize, ends: Ends, flags: u32, route: &Route) -> Made {
    if flags & FLAG_TUNNELS != 0
        && let Some(made) = vxlan::encapsulate(ctx, len, ends, route)
    {
        return made;
    }
    if cut_padding(ctx, ends) && move_start(ctx, before(ends)) { Made::Frame } else { Made::Nothing }
}

/// Bytes before the inner frame.
#[inline(always)]
pub(super) fn before(ends: Ends) -> i32 {
    (ends >> 32) as i32
}

/// Cuts off the padding behind the datagram. Where that fails, or what follows it, the outer datagram is
/// still whole.
#[expect(clippy::cast_possible_truncation, reason = "below 2^17")]
#[inline(always)]
pub(super) fn cut_padding(ctx: &XdpContext, ends: Ends) -> bool {
    let after = ends as i32;
    // SAFETY: the context is the one the kernel gave, and no packet pointer is used after the call.
    after == 0 || unsafe { bpf_xdp_adjust_tail(ctx.ctx, -after) == 0 }
}

/// Cuts off bytes at the start of the frame, or makes room there.
#[inline(always)]
pub(super) fn move_start(ctx: &XdpContext, by: i32) -> bool {
    // SAFETY: as in `cut_padding`.
    unsafe { bpf_xdp_adjust_head(ctx.ctx, by) == 0 }
}

#[inline(always)]
fn forward(counters: *mut PerCpu, len: usize, ends: Ends, flags: u32, route: &Route) -> u32 {
    let map = (&raw const TARGETS).cast_mut().cast();
    // The fallback must not be 0, which is XDP_ABORTED.
    // SAFETY: a DEVMAP, which the helper does not write to.
    let action = unsafe { bpf_redirect_map(map, u64::from(route.member), u64::from(XDP_DROP)) };
    if action == i64::from(XDP_REDIRECT) {
        count_forwarded(counters, len, ends, flags, route);
        XDP_REDIRECT
    } else {
        count(counters, Counter::NoTarget);
        XDP_DROP
    }
}

#[inline(always)]
fn count_forwarded(counters: *mut PerCpu, len: usize, ends: Ends, flags: u32, route: &Route) {
    count(counters, Counter::Forwarded);
    let outer = len as u64;
    let inner = outer - (ends >> 32) - (ends & 0xffff_ffff);
    // SAFETY: as in `count`.
    let counters = unsafe { &mut *counters };
    counters[FORWARDED_OUTER_BYTES] += outer;
    counters[FORWARDED_INNER_BYTES] += inner;
    if flags & FLAG_ORIGINS != 0 {
        origins::count(&route.origin, inner);
    }
}

/// `xdp_redirect_err(dev, xdp, tgt, err, map_type, map_id, index)`, kernel 5.13 and later: fires for frames
/// that are not even queued for the device.
#[raw_tracepoint(tracepoint = "xdp_redirect_err")]
fn forward_err(ctx: RawTracePointContext) -> i32 {
    const EMSGSIZE: i32 = 90;
    const EOPNOTSUPP: i32 = 95;
    const ENETDOWN: i32 = 100;
    let map: u32 = ctx.arg(5);
    if TARGETS_ID.get(0).is_some_and(|id| *id == map) {
        let error: i32 = ctx.arg(3);
        let fate = match -error {
            ENETDOWN => Fate::Down,
            EOPNOTSUPP => Fate::NoProgram,
            EMSGSIZE => Fate::TooLarge,
            _ => Fate::Other,
        };
        add(ctx.arg(6), fate, 1);
    }
    0
}

/// `xdp_devmap_xmit(from_dev, to_dev, sent, drops, err)`, kernel 5.6 and later: fires when a device was given
/// the frames that were queued for it, by anybody on the host.
#[raw_tracepoint(tracepoint = "xdp_devmap_xmit")]
fn forward_sent(ctx: RawTracePointContext) -> i32 {
    let (from, to): (*const u8, *const u8) = (ctx.arg(0), ctx.arg(1));
    if let Some(member) = member(from, to) {
        let (sent, dropped): (u32, u32) = (ctx.arg(2), ctx.arg(3));
        add(member, Fate::Sent, sent);
        add(member, Fate::Refused, dropped);
    }
    0
}

/// The target that is this `struct net_device`, for frames of ours: those that another one has received are
/// not. A pair of addresses is identified once. They may be those of other devices later, but only our
/// program forwards what our interface receives, and its index tells whether `from` still is that.
#[inline(always)]
fn member(from: *const u8, to: *const u8) -> Option<u32> {
    let path = setting!(PATH);
    let ours: Device = [path[PATH_FROM], path[PATH_FROM + 1]];
    let known = KNOWN.get_ptr_mut(slot(to))?;
    // SAFETY: this CPU's own copy, in a softirq that no other frame of the map interrupts.
    let known = unsafe { &mut *known };
    if known[0] == from as u64 && known[1] == to as u64 {
        #[expect(clippy::cast_possible_truncation, reason = "an index was put in")]
        let member = known[2] as u32;
        return if read(from, path[PATH_IFINDEX_AT]) == Some(ours[1]) { Some(member) } else { None };
    }
    if device(from, &path)? != ours {
        return None;
    }
    // SAFETY: written once, before the tracepoint is attached.
    let member = *unsafe { DEVICES.get(device(to, &path)?) }?;
    *known = [from as u64, to as u64, member.into()];
    Some(member)
}

/// Devices are allocated in pages.
#[inline(always)]
fn slot(device: *const u8) -> u32 {
    #[expect(clippy::cast_possible_truncation, reason = "the remainder is below 64")]
    let slot = ((device as u64 >> 12) % u64::from(MAX_MEMBERS)) as u32;
    slot
}

/// What identifies a `struct net_device`.
#[inline(always)]
fn device(device: *const u8, path: &Path) -> Option<Device> {
    let net: *const u8 = read(device, path[PATH_NET_AT])?;
    Some([read(net, path[PATH_INUM_AT])?, read(device, path[PATH_IFINDEX_AT])?])
}

#[inline(always)]
fn read<T>(object: *const u8, offset: u32) -> Option<T> {
    // SAFETY: the helper checks the address, and fails where nothing is mapped.
    unsafe { bpf_probe_read_kernel(object.wrapping_add(offset as usize).cast()) }.ok()
}

#[inline(always)]
fn add(member: u32, fate: Fate, frames: u32) {
    if let Some(fates) = FATES.get_ptr_mut(member) {
        // SAFETY: this CPU's own copy, in a softirq that no other frame of the map interrupts.
        unsafe { (*fates)[fate as usize] += u64::from(frames) };
    }
}
