//! Prints packets, protocol by protocol, in tcpdump's words.
//!
//! Each protocol has a file with one function, which prints the header and calls the next protocol's
//! function. Fields are read one by one from a [`View`]; if one is missing, [`Truncated`](view::Truncated)
//! ends the packet with `[|protocol]`, so that a truncated packet is printed as far as it goes. Invalid
//! headers are printed as by tcpdump.

mod app;
mod arp;
mod bridge;
mod checksum;
mod dns;
mod gre;
mod groups;
mod hex;
mod icmp;
mod icmpv6;
mod igmp;
mod ipsec;
mod ipv4;
mod ipv4_options;
mod ipv6;
mod ipv6_extensions;
mod link;
mod llc;
mod memory;
mod neighbours;
mod network;
mod routing;
mod sctp;
mod tcp;
mod tcp_multipath;
mod tcp_options;
mod text;
mod tunnel;
mod tunnels;
mod udp;
mod view;

pub(super) use memory::Memory;

use super::style::{Dump, Style};
use crate::frame::Frame;
use text::Text;
use view::View;

/// Appends the inner packet, and below it its bytes if the style has them.
pub(super) fn inner(frame: &Frame<'_>, style: Style, memory: &mut Memory, out: &mut String) {
    memory.turn_to(frame);
    let mut text = Text::new(out, style, memory);
    let bytes = &*frame.inner().to_contiguous();
    let header_len = link::ethernet(&mut text, View::new(bytes, frame.wire_len() as usize));
    let dumped = if style.dump_link { bytes } else { bytes.get(header_len..).unwrap_or_default() };
    match style.dump {
        _ if dumped.is_empty() => {}
        Dump::None => {}
        Dump::Hex => hex::hex(&mut text, dumped, false),
        Dump::HexAscii => hex::hex(&mut text, dumped, true),
        Dump::Ascii => hex::ascii(&mut text, dumped),
    }
}

/// Appends a summary of the outer headers.
pub(super) fn outer(frame: &Frame<'_>, style: Style, memory: &mut Memory, out: &mut String) {
    tunnel::print(&mut Text::new(out, style, memory), frame);
}
