//! The least that programs of XDP and tc can do: the lower bound of ours in benchmarks.
#![no_std]
#![no_main]
#![expect(clippy::needless_pass_by_value, reason = "the macros of aya-ebpf hand the context over by value")]

use aya_ebpf::{
    bindings::{
        TC_ACT_UNSPEC,
        xdp_action::{XDP_DROP, XDP_PASS},
    },
    macros::{classifier, map, xdp},
    maps::XskMap,
    programs::{TcContext, XdpContext},
};

#[map]
static XSKS: XskMap = XskMap::with_max_entries(64, 0);

#[xdp]
fn drop(_: XdpContext) -> u32 {
    XDP_DROP
}

#[xdp]
fn redirect(ctx: XdpContext) -> u32 {
    XSKS.redirect(ctx.rx_queue_index(), u64::from(XDP_PASS)).unwrap_or_else(|action| action)
}

#[classifier]
fn empty(_: TcContext) -> i32 {
    TC_ACT_UNSPEC
}

mirror_ebpf::object_frame!();
