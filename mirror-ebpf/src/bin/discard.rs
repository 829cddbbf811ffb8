//! Drops whatever comes in by an interface, at its tc ingress: for devices whose frames are for a reader alone.
#![no_std]
#![no_main]
#![expect(clippy::needless_pass_by_value, reason = "the macros of aya-ebpf hand the context over by value")]

use aya_ebpf::{bindings::TC_ACT_SHOT, macros::classifier, programs::TcContext};

#[classifier]
fn discard(_: TcContext) -> i32 {
    TC_ACT_SHOT
}

mirror_ebpf::object_frame!();
