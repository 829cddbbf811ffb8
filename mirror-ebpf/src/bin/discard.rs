//! Programs on devices that are made for readers.
#![no_std]
#![no_main]

use aya_ebpf::{
    bindings::{TC_ACT_SHOT, xdp_action::XDP_PASS},
    macros::{classifier, xdp},
    programs::{TcContext, XdpContext},
};

/// Drops every frame at tc ingress, behind the readers and before the host's stack.
#[classifier]
fn discard(_: TcContext) -> i32 {
    TC_ACT_SHOT
}

/// The far end of a veth takes redirected frames only if it has a program; without `frags`, not at the MTU
/// that it has for the longest of the others.
#[xdp(frags)]
fn pass(_: XdpContext) -> u32 {
    XDP_PASS
}

mirror_ebpf::object_frame!();
