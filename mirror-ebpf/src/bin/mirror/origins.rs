//! Forwarded frames by origin, in bounded memory.

use aya_ebpf::{
    bindings::BPF_NOEXIST,
    macros::map,
    maps::{PerCpuArray, PerCpuHashMap},
};
use mirror_ebpf::{
    flow::hash,
    mirror::{OTHER_BITS, OriginKey, OtherOrigins, Run, Tally},
    setting,
};

use super::SEED;

/// Its entries are allocated with the map: nothing is allocated for a frame. Its size is set by user space.
#[map]
static ORIGINS: PerCpuHashMap<OriginKey, Tally> = PerCpuHashMap::with_max_entries(1, 0);
#[map]
static OTHER_ORIGINS: PerCpuArray<OtherOrigins> = PerCpuArray::with_max_entries(1, 0);
#[map]
static RUN: PerCpuArray<Run> = PerCpuArray::with_max_entries(1, 0);

/// Counts a frame: one lookup for each run of frames of one origin.
#[inline(always)]
pub(super) fn count(origin: &OriginKey, bytes: u64) {
    let Some(run) = RUN.get_ptr_mut(0) else { return };
    // SAFETY: this CPU's own copy, in a softirq that no other frame of the map interrupts.
    let run = unsafe { &mut *run };
    let [number, a, b, c, frames, inner_bytes] = run;
    if *a == origin[0] && *c == origin[2] && *b == origin[1] {
        *frames += 1;
        *inner_bytes += bytes;
        return;
    }
    if *frames > 0 {
        add(&[*a, *b, *c], &[*frames, *inner_bytes]);
    }
    *run = [*number + 1, origin[0], origin[1], origin[2], 1, bytes];
}

/// Whether the last frame that this CPU has counted was of this origin.
#[inline(always)]
pub(super) fn is_last(origin: &OriginKey) -> bool {
    let Some(run) = RUN.get_ptr(0) else { return false };
    // SAFETY: as in `count`.
    let [_, a, b, c, ..] = unsafe { &*run };
    *a == origin[0] && *c == origin[2] && *b == origin[1]
}

/// Adds a run.
#[inline(always)]
fn add(origin: &OriginKey, run: &Tally) {
    match ORIGINS.get_ptr_mut(origin) {
        Some(tally) => add_to(tally, run),
        None => add_new(origin, run),
    }
}

/// Not inlined, so that known origins do not pay for it.
#[inline(never)]
fn add_new(origin: &OriginKey, run: &Tally) {
    // Fails if another CPU was first, or if there is no room.
    if ORIGINS.insert(origin, run, u64::from(BPF_NOEXIST)).is_ok() {
        return;
    }
    if let Some(tally) = ORIGINS.get_ptr_mut(origin) {
        add_to(tally, run);
    } else if let Some(other) = OTHER_ORIGINS.get_ptr_mut(0) {
        #[expect(clippy::cast_possible_truncation, reason = "the remainder is below 2^16")]
        let bit = (hash(setting!(SEED), origin) % OTHER_BITS as u64) as usize;
        // SAFETY: as in `count`.
        let other = unsafe { &mut *other };
        other[0] += run[0];
        other[1] += run[1];
        other[2 + bit / 64] |= 1 << (bit % 64);
    }
}

#[inline(always)]
fn add_to(tally: *mut Tally, run: &Tally) {
    // SAFETY: this CPU's own copy, as in `count`.
    let tally = unsafe { &mut *tally };
    tally[0] += run[0];
    tally[1] += run[1];
}
