//! MPLS label stacks (RFC 3032). The first byte of the payload selects its type.

use super::super::{
    hex, ipv4, ipv6, routing,
    text::{Printed, Text, put},
    view::View,
};

const ENTRY: usize = 4;

pub(in super::super) fn print(text: &mut Text<'_>, packet: View<'_>) -> Printed {
    const NAMES: [&str; 4] = ["IPv4 explicit NULL", "router alert", "IPv6 explicit NULL", "implicit NULL"];
    text.protocol = "mpls";
    put!(text, "MPLS");
    let mut rest = packet;
    let label = loop {
        if rest.len() < ENTRY {
            return text.invalid_of(rest);
        }
        let entry = rest.u32(0)?;
        let label = entry >> 12;
        put!(
            text,
            "{}(label {label}",
            if text.verbose() && rest.len() < packet.len() { "\n\t" } else { " " }
        );
        if let Some(name) = NAMES.get(usize::try_from(label).unwrap_or(usize::MAX))
            && text.verbose()
        {
            put!(text, " ({name})");
        }
        let is_last = entry & 0x100 != 0;
        put!(text, ", tc {}{}, ttl {})", entry >> 9 & 7, if is_last { ", [S]" } else { "" }, entry & 0xff);
        rest = rest.after(ENTRY);
        if is_last {
            break label;
        }
    };
    let before = if text.verbose() { "\n\t" } else { " " };
    let first = match label {
        0 | 3 => 0x45,
        2 => 0x60,
        _ if rest.len() == 0 => return Ok(()),
        _ => rest.u8(0)?,
    };
    match first {
        0x45..=0x4f => {
            put!(text, "{before}");
            ipv4::print(text, rest)
        }
        0x60..=0x6f => {
            put!(text, "{before}");
            ipv6::print(text, rest)
        }
        0x81..=0x83 => {
            put!(text, "{before}");
            routing::osi(text, rest)
        }
        _ => {
            hex::hex(text, rest.here(), true);
            rest.get(0, rest.len()).map(|_| ())
        }
    }
}
