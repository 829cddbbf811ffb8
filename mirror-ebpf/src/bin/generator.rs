//! Traffic generator of the lab: edits a template frame and sends it out of an interface, in the kernel.
#![no_std]
#![no_main]

use aya_ebpf::{
    bindings::xdp_action::XDP_DROP,
    helpers::{bpf_get_smp_processor_id, bpf_redirect},
    macros::{map, xdp},
    maps::PerCpuArray,
    programs::XdpContext,
};
use mirror_ebpf::generator::{
    INNER_SOURCE_LOW, INNER_SOURCE_PORT, MIN_FRAME, OUTER_PORT_MASK, OUTER_SOURCE_PORT, SEQUENCE,
    SEQUENCE_CPU_SHIFT, VNI,
};

#[map]
static GENERATED: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

#[unsafe(no_mangle)]
static IFINDEX: u32 = 0;
#[unsafe(no_mangle)]
static FLOWS: u32 = 1;
#[unsafe(no_mangle)]
static VNIS: u32 = 1;
#[unsafe(no_mangle)]
static VNI_BASE: u32 = 0;

/// A setting as user space left it; the plain initialiser would be folded into the program by the compiler.
macro_rules! setting {
    ($place:ident) => {
        // SAFETY: a reference to a static is valid to read.
        unsafe { core::ptr::read_volatile(&raw const $place) }
    };
}

#[xdp]
fn generate(ctx: XdpContext) -> u32 {
    let frame = ctx.data();
    if frame + MIN_FRAME > ctx.data_end() {
        return XDP_DROP;
    }
    let Some(generated) = GENERATED.get_ptr_mut(0) else {
        return XDP_DROP;
    };
    // SAFETY: this CPU's own copy.
    let number = unsafe {
        let number = *generated;
        *generated = number + 1;
        number
    };
    let flow = (number % u64::from(setting!(FLOWS))) as u16;
    let vni = setting!(VNI_BASE) + (number % u64::from(setting!(VNIS))) as u32;
    // SAFETY: a helper without arguments.
    let cpu = unsafe { bpf_get_smp_processor_id() };
    // SAFETY: every offset is below MIN_FRAME, which was checked against the end of the frame.
    unsafe {
        put(frame + OUTER_SOURCE_PORT, (u16::MAX - (flow & OUTER_PORT_MASK)).to_be_bytes());
        let [_, a, b, c] = vni.to_be_bytes();
        put(frame + VNI, [a, b, c]);
        put(frame + INNER_SOURCE_LOW, flow.to_be_bytes());
        put(frame + INNER_SOURCE_PORT, flow.to_be_bytes());
        put(frame + SEQUENCE, (u64::from(cpu) << SEQUENCE_CPU_SHIFT | number).to_be_bytes());
        bpf_redirect(setting!(IFINDEX), 0) as u32
    }
}

/// # Safety
///
/// `N` bytes at `place` must lie within the frame.
#[inline(always)]
unsafe fn put<const N: usize>(place: usize, bytes: [u8; N]) {
    // SAFETY: the caller's promise; an array of bytes has no alignment.
    unsafe { *(place as *mut [u8; N]) = bytes };
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// The licenses the kernel asks for before it lends GPL-only helpers.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
