//! Traffic generator of the lab: edits a template frame and sends it out of an interface, in the kernel.
#![no_std]
#![no_main]
#![expect(clippy::needless_pass_by_value, reason = "the macros of aya-ebpf hand the context over by value")]

use aya_ebpf::{
    bindings::xdp_action::XDP_DROP,
    helpers::{bpf_get_smp_processor_id, bpf_ktime_get_ns, bpf_redirect},
    macros::{map, xdp},
    maps::PerCpuArray,
    programs::XdpContext,
};
use mirror_ebpf::{
    generator::{
        INNER_DESTINATION_LOW, INNER_PORT_BASE, INNER_SOURCE_LOW, INNER_SOURCE_PORT, MARK_EVERY, MAX_FLOWS,
        MIN_FRAME, Marks, OUTER_SOURCE_PORT, Pace, SEQUENCE, SEQUENCE_CPU_SHIFT, VNI,
    },
    setting,
};

#[map]
static GENERATED: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);
#[map]
static PACE: PerCpuArray<Pace> = PerCpuArray::with_max_entries(1, 0);
#[map]
static MARKS: PerCpuArray<Marks> = PerCpuArray::with_max_entries(1, 0);

/// Times the rate that is allowed while late frames are made up for.
const CATCH_UP: u64 = 4;
/// Readings of the clock that outlast `MAX_INTERVAL_NS`, at 13 ns or more each. The verifier follows 8192
/// jumps.
const LOOKS: u32 = 1 << 12;

#[unsafe(no_mangle)]
static IFINDEX: u32 = 0;
#[unsafe(no_mangle)]
static FLOWS: u32 = 1;
#[unsafe(no_mangle)]
static VNIS: u32 = 1;
#[unsafe(no_mangle)]
static VNI_BASE: u32 = 0;
#[unsafe(no_mangle)]
static INTERVAL_NS: u64 = 0;

#[xdp]
fn generate(ctx: XdpContext) -> u32 {
    let frame = ctx.data();
    if frame + MIN_FRAME > ctx.data_end() {
        return XDP_DROP;
    }
    let (Some(generated), Some(pace)) = (GENERATED.get_ptr_mut(0), PACE.get_ptr_mut(0)) else {
        return XDP_DROP;
    };
    let interval = setting!(INTERVAL_NS);
    if interval != 0 {
        // SAFETY: this CPU's own copy.
        let next = keep_pace(unsafe { pace.read() }, interval);
        // SAFETY: as above.
        unsafe { pace.write(next) };
    }
    // SAFETY: this CPU's own copy.
    let number = unsafe { generated.read() };
    // SAFETY: as above.
    unsafe { generated.write(number + 1) };
    if number % MARK_EVERY == 0 {
        mark();
    }
    // The mask keeps the ports in the dynamic range; user space refuses more flows than it holds.
    let flow = (remainder(number, setting!(FLOWS)) & (MAX_FLOWS - 1)) as u16;
    let vni = setting!(VNI_BASE) + remainder(number, setting!(VNIS));
    // SAFETY: a helper without arguments.
    let cpu = unsafe { bpf_get_smp_processor_id() };
    let sequence = u64::from(cpu) << SEQUENCE_CPU_SHIFT | number;
    let [_, vni @ ..] = vni.to_be_bytes();
    let frame = Frame(frame);
    frame.at(OUTER_SOURCE_PORT, (u16::MAX - flow).to_be_bytes());
    frame.at(VNI, vni);
    frame.at(INNER_SOURCE_LOW, flow.to_be_bytes());
    frame.at(INNER_DESTINATION_LOW, (!flow).to_be_bytes());
    frame.at(INNER_SOURCE_PORT, (INNER_PORT_BASE | flow).to_be_bytes());
    frame.at(SEQUENCE, sequence.to_be_bytes());
    let ifindex = setting!(IFINDEX);
    // SAFETY: a helper of two numbers.
    let action = unsafe { bpf_redirect(ifindex, 0) };
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "XDP actions are 0 to 4")]
    let action = action as u32;
    action
}

/// Records the time of a frame as the last mark, and as the first if user space has zeroed the marks.
#[inline(always)]
fn mark() {
    let Some(marks) = MARKS.get_ptr_mut(0) else { return };
    // SAFETY: a helper without arguments.
    let now = unsafe { bpf_ktime_get_ns() };
    // SAFETY: this CPU's own copy.
    let [first, _, count] = unsafe { marks.read() };
    let first = if count == 0 { now } else { first };
    // SAFETY: as above.
    unsafe { marks.write([first, now, count + 1]) };
}

/// Waits in a loop until a frame is due, and returns the pace after it. Frames that are late, because another
/// thread had the CPU or a system call had ended, are made up for at a bounded rate: a burst would overrun
/// any ring.
#[inline(always)]
fn keep_pace([due, last]: Pace, interval: u64) -> Pace {
    // SAFETY: a helper without arguments.
    let mut now = unsafe { bpf_ktime_get_ns() };
    let due = if due == 0 { now } else { due };
    let earliest = due.max(last + interval / CATCH_UP);
    let mut looks = 0;
    while now < earliest && looks < LOOKS {
        // SAFETY: as above.
        now = unsafe { bpf_ktime_get_ns() };
        looks += 1;
    }
    [due + interval, now]
}

/// `number` modulo `by`; 0 if `by` is 0, so that the object has no panic.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "a remainder is less than its divisor")]
fn remainder(number: u64, by: u32) -> u32 {
    number.checked_rem(u64::from(by)).unwrap_or(0) as u32
}

/// The start of a frame of at least [`MIN_FRAME`] bytes.
struct Frame(usize);

impl Frame {
    #[inline(always)]
    fn at<const N: usize>(&self, offset: usize, bytes: [u8; N]) {
        // SAFETY: every offset written ends within MIN_FRAME; the verifier refuses the program otherwise. An
        // array of bytes has no alignment.
        unsafe { *((self.0 + offset) as *mut [u8; N]) = bytes };
    }
}

mirror_ebpf::object_frame!();
