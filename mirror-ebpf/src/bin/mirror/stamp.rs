//! Receive times in front of frames.

use aya_ebpf::{
    helpers::{bpf_jiffies64, bpf_ktime_get_ns, bpf_xdp_adjust_meta},
    programs::XdpContext,
};
use mirror_ebpf::mirror::{COUNTERS as COUNTER_COUNT, Counter, PerCpu, STAMP_EACH, STAMP_EVERY, STAMP_LEN};

/// The argument of `bpf_xdp_adjust_meta` that makes room for the receive time.
#[expect(clippy::cast_possible_truncation, clippy::cast_possible_wrap, reason = "the length is 8")]
const STAMP_ROOM: i32 = -(STAMP_LEN as i32);

/// Writes the receive time in front of the frame if one is due. Otherwise, and where the driver has no
/// metadata area, these bytes stay as they are: user space can tell them from a stamp.
#[inline(always)]
pub(super) fn put(ctx: &XdpContext, words: *mut PerCpu) {
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

/// Words behind the counters: the kernel tick of this CPU's last frame of ours, [`Counter::Redirected`] at
/// the start of that tick, and its growth in the tick before.
const TICK: usize = COUNTER_COUNT;
const AT_ITS_START: usize = TICK + 1;
const IN_THE_ONE_BEFORE: usize = TICK + 2;

/// Whether a frame gets a stamp: every frame at a low rate, every `STAMP_EVERY`-th at a high one. Reading the
/// clock serialises the CPU, which can take a fifth of a frame's time; and without a stamp, a worker that
/// copies frames need not fetch the bytes in front of them.
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
