//! A summary of the outer headers.

use super::text::{Address, Text, put};
use crate::frame::Frame;

/// The outer headers of a frame: addresses and ports, VXLAN flags and VNI (RFC 7348 section 5).
pub(super) fn print(text: &mut Text<'_>, frame: &Frame<'_>) {
    let (source, destination) = (frame.source(), frame.destination());
    let [flags, ..] = frame.vxlan();
    put!(
        text,
        "{} {}.{} > {}.{}: VXLAN, flags [{}] (0x{flags:02x}), vni {}",
        if source.is_ipv4() { "IP" } else { "IP6" },
        Address(source),
        frame.source_port(),
        Address(destination),
        frame.destination_port(),
        if flags & 0x08 == 0 { "invalid" } else { "I" },
        frame.vni()
    );
}
