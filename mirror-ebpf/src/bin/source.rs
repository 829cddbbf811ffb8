//! The tc programs of a mirror source: each packet of an interface is judged by the rules of its sessions,
//! and cloned to the carrier of the first that mirrors it. Whatever happens, production's packet goes on, and
//! so do the programs behind this one.
#![no_std]
#![no_main]
#![feature(core_intrinsics)]
#![expect(internal_features, reason = "the target has no type of an atomic word")]
#![expect(clippy::needless_pass_by_value, reason = "the macros of aya-ebpf hand the context over by value")]

use core::{
    hint::black_box,
    intrinsics::{AtomicOrdering, atomic_xadd},
};

use aya_ebpf::{
    EbpfContext as _,
    bindings::TC_ACT_UNSPEC,
    btf_maps::{Array as BtfArray, ArrayOfMaps},
    helpers::{bpf_clone_redirect, bpf_ktime_get_coarse_ns, bpf_ktime_get_ns, bpf_skb_load_bytes},
    macros::{btf_map, classifier, map},
    maps::{Array, PerCpuArray},
    programs::TcContext,
};
use mirror_ebpf::{
    programs::packet::Packet as Linear,
    setting,
    source::{
        Count, Counts, DIRECTIONS, EGRESS, FLAG_COARSE_CLOCK, FLAG_HEARTBEAT, FLAG_RECORD, Frame,
        HEARTBEAT_LIFETIME, INGRESS, MAX_PLACES, MAX_SESSIONS, OfSession, Packet, RuleSet, Session,
        SessionCounts, decide,
    },
    wire::{PROTOCOL_TCP, UDP_HEADER},
};

#[btf_map]
static RULES: ArrayOfMaps<BtfArray<RuleSet, 1>, { DIRECTIONS as usize }> = ArrayOfMaps::new();
// Nothing here refers to them: user space puts them into the map above.
#[btf_map]
static INGRESS_RULES: BtfArray<RuleSet, 1> = BtfArray::new();
#[btf_map]
static OTHER_INGRESS_RULES: BtfArray<RuleSet, 1> = BtfArray::new();
#[btf_map]
static EGRESS_RULES: BtfArray<RuleSet, 1> = BtfArray::new();
#[btf_map]
static OTHER_EGRESS_RULES: BtfArray<RuleSet, 1> = BtfArray::new();
#[map]
static COUNTS: PerCpuArray<Counts> = PerCpuArray::with_max_entries(DIRECTIONS, 0);
#[map]
static SESSIONS: PerCpuArray<SessionCounts> = PerCpuArray::with_max_entries(MAX_PLACES, 0);
#[map]
static PACE: Array<u64> = Array::with_max_entries(2, 0);
#[map]
static HEARTBEAT: Array<u64> = Array::with_max_entries(1, 0);
#[map]
static DECISIONS: Array<u32> = Array::with_max_entries(DIRECTIONS, 0);

#[map]
static PACKETS: PerCpuArray<Packet> = PerCpuArray::with_max_entries(DIRECTIONS, 0);

#[unsafe(no_mangle)]
static FLAGS: u32 = 0;

/// How much may be mirrored at once after a pause, as time at the highest rate: the kernel's coarse clock has
/// steps of up to 10 ms.
const BURST: u64 = 20_000_000;
/// The furthest that headers are read where they lie: the verifier wants a bound.
const MAX_DIRECT: usize = 0x3fff;
/// Bytes of a TCP header with time stamps, as each segment of a super-frame has one.
const TCP_HEADER: usize = 32;

#[classifier]
fn source_ingress(ctx: TcContext) -> i32 {
    run(&ctx, INGRESS);
    TC_ACT_UNSPEC
}

#[classifier]
fn source_egress(ctx: TcContext) -> i32 {
    run(&ctx, EGRESS);
    TC_ACT_UNSPEC
}

/// A frame as the kernel holds it: not all of it need be in one piece.
struct Skb<'c>(&'c TcContext);

impl Frame for Skb<'_> {
    #[inline(always)]
    fn len(&self) -> usize {
        self.0.len() as usize
    }

    #[expect(clippy::cast_possible_truncation, reason = "offsets and lengths of headers")]
    #[inline(always)]
    fn read<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        if at <= MAX_DIRECT {
            let rest = Linear::new(self.0).from(at);
            if rest.holds(N) {
                return Some(rest.bytes(0));
            }
        }
        let mut bytes = [0; N];
        // SAFETY: the helper writes N bytes to an array of N, or fails.
        let failed =
            unsafe { bpf_skb_load_bytes(self.0.as_ptr(), at as u32, bytes.as_mut_ptr().cast(), N as u32) };
        if failed == 0 { Some(bytes) } else { None }
    }
}

#[inline(always)]
fn run(ctx: &TcContext, direction: u32) {
    if setting!(FLAGS) & FLAG_HEARTBEAT != 0 && !is_alive() {
        return;
    }
    // A constant behind a reference would share the place of a setting that is 0 in the object.
    let only = black_box(0);
    // Unreachable otherwise: both have a value for each direction; the verifier asks for the branches.
    let (Some(counts), Some(rules)) = (COUNTS.get_ptr_mut(direction), RULES.get_value(direction, &only))
    else {
        return;
    };
    count(counts, Count::Seen as usize);
    let frame = Skb(ctx);
    let packet = parsed(&frame, direction);
    let decision = decide(rules, &frame, packet);
    if setting!(FLAGS) & FLAG_RECORD != 0 {
        let _ = DECISIONS.set(direction, decision.0, 0);
    }
    let mut outcome = decision.count();
    let is_mirrored = outcome == Count::Cloned as u32;
    if is_mirrored || outcome == Count::Rejected as u32 {
        let at = decision.session();
        if at >= MAX_SESSIONS {
            return;
        }
        let session = &rules.sessions[at];
        let of_session = if is_mirrored {
            let transport = packet.map_or(0, |packet| packet.transport);
            let is_tcp = packet.is_some_and(|packet| packet.protocol == PROTOCOL_TCP);
            #[expect(clippy::cast_possible_truncation, reason = "some hundred bytes at most")]
            let headers = (transport + if is_tcp { TCP_HEADER } else { UDP_HEADER }) as u32;
            mirror(ctx, rules, session, headers)
        } else {
            OfSession::Rejected
        };
        if let Some(counts) = SESSIONS.get_ptr_mut(session.place) {
            count(counts, of_session as usize);
        }
        outcome = match of_session {
            OfSession::Rejected => Count::Rejected,
            OfSession::Rate => Count::Rate,
            OfSession::Cloned => Count::Cloned,
            OfSession::CloneFailed => Count::CloneFailed,
        } as u32;
    }
    count(counts, outcome as usize);
}

/// What the rules look at, in a map: there the verifier knows nothing of it, and follows the rules once, not
/// once for each shape of the headers. Programs of a direction do not interrupt one another on a CPU: tc runs
/// them with softirqs disabled.
#[inline(always)]
fn parsed(frame: &Skb<'_>, direction: u32) -> Option<&'static Packet> {
    let packet = Packet::of(frame)?;
    let place = PACKETS.get_ptr_mut(direction)?;
    // SAFETY: this CPU's own copy, which nothing else reads or writes while this program runs.
    unsafe { place.write(packet) };
    // SAFETY: as above.
    Some(unsafe { &*black_box(place) })
}

#[inline(always)]
fn count<const N: usize>(counts: *mut [u64; N], which: usize) {
    if which < N {
        // SAFETY: this CPU's own copy of a value that user space only reads.
        unsafe { (*counts)[which] += 1 };
    }
}

/// Clones a packet to its session's carrier, unless that exceeds a rate.
#[inline(always)]
fn mirror(ctx: &TcContext, rules: &RuleSet, session: &Session, headers: u32) -> OfSession {
    if rules.byte_time | rules.packet_time != 0 && !may_send(ctx, rules, session, headers) {
        return OfSession::Rate;
    }
    // SAFETY: a helper of the context and two numbers.
    let cloned = unsafe { bpf_clone_redirect(ctx.skb.skb, session.carrier, 0) };
    // A positive number is of the carrier: it has dropped the clone, and counts that itself.
    if cloned < 0 { OfSession::CloneFailed } else { OfSession::Cloned }
}

/// Whether the copies of a packet stay below the highest rates, and then counts them as sent. Each rate is
/// the time until which all copies so far take, which may be a burst ahead of the present (as in GCRA, ITU-T
/// I.371): one word for all CPUs, which is added to without a lock. If two of them pass at once, both are
/// counted.
#[inline(always)]
fn may_send(ctx: &TcContext, rules: &RuleSet, session: &Session, headers: u32) -> bool {
    let (Some(bytes_until), Some(packets_until)) = (PACE.get_ptr_mut(0), PACE.get_ptr_mut(1)) else {
        return true;
    };
    let now = now();
    let bytes_ahead = rules.byte_time != 0 && is_ahead(bytes_until, now);
    if bytes_ahead || rules.packet_time != 0 && is_ahead(packets_until, now) {
        return false;
    }
    // SAFETY: the context is valid while the program runs.
    let segments = unsafe { (*ctx.skb.skb).gso_segs }.max(1);
    let len = ctx.len();
    // Each segment has the headers again.
    let bytes = len + headers * (segments - 1);
    let bytes = bytes.min(session.packet_length.saturating_mul(segments)) + session.overhead * segments;
    spend(bytes_until, (u64::from(bytes) * rules.byte_time) >> 16);
    spend(packets_until, (u64::from(segments) * rules.packet_time) >> 16);
    true
}

/// Whether a rate is used up. One that lies behind begins now.
#[inline(always)]
fn is_ahead(until: *mut u64, now: u64) -> bool {
    // SAFETY: an aligned word of a map; a write of another CPU between costs at most what that one has
    // counted.
    let so_far = unsafe { until.read_volatile() };
    if so_far < now {
        // SAFETY: as above.
        unsafe { until.write_volatile(now) };
    }
    so_far > now + BURST
}

#[inline(always)]
fn spend(until: *mut u64, time: u64) {
    // SAFETY: an aligned word of a map. Without a use of the value before, it is the one atomic instruction
    // that kernels before 5.12 have.
    unsafe { atomic_xadd::<_, _, { AtomicOrdering::Relaxed }>(until, time) };
}

/// CLOCK_MONOTONIC in ns, to the last tick if the kernel has that for less.
#[inline(always)]
fn now() -> u64 {
    if setting!(FLAGS) & FLAG_COARSE_CLOCK != 0 {
        // SAFETY: a helper without arguments.
        unsafe { bpf_ktime_get_coarse_ns() }
    } else {
        // SAFETY: as above.
        unsafe { bpf_ktime_get_ns() }
    }
}

#[inline(always)]
fn is_alive() -> bool {
    HEARTBEAT.get(0).is_some_and(|beat| now() < *beat + HEARTBEAT_LIFETIME)
}

mirror_ebpf::object_frame!();
