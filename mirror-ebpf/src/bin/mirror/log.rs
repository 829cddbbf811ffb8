//! Messages of the program. Each has its line number in the object, so they are in a file that seldom
//! changes.

use aya_ebpf::programs::XdpContext;

/// No socket is bound to the queue of this frame.
#[inline(always)]
pub(super) fn queue_without_socket(ctx: &XdpContext) {
    aya_log_ebpf::warn!(
        ctx,
        "no AF_XDP socket on queue {}: its frames are passed to the kernel",
        ctx.rx_queue_index()
    );
}
