//! Drops every frame at the tc ingress of an interface: for devices whose frames are for a reader alone.
#![no_std]
#![no_main]

use aya_ebpf::{bindings::TC_ACT_SHOT, macros::classifier, programs::TcContext};

#[classifier]
fn discard(_: TcContext) -> i32 {
    TC_ACT_SHOT
}

mirror_ebpf::object_frame!();
