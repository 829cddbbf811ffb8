//! GRE (RFC 2784, RFC 2890).

use etherparse::EtherType;

use super::{
    ipv4, ipv6, link, routing,
    text::{Printed, Text, put},
    tunnels,
    view::View,
};

const FLAGS: [(u32, &str); 6] = [
    (0x8000, "checksum present"),
    (0x4000, "routing present"),
    (0x2000, "key present"),
    (0x1000, "sequence# present"),
    (0x0800, "source routing present"),
    (0x0080, "ack present"),
];
const CHECKSUM: u16 = 0x8000;
const ROUTING: u16 = 0x4000;
const KEY: u16 = 0x2000;
const SEQUENCE: u16 = 0x1000;
const ACKNOWLEDGMENT: u16 = 0x0080;
/// Transparent Ethernet bridging.
const ETHERNET: EtherType = EtherType(0x6558);
const PPP: u16 = 0x880b;

/// A packet and what it carries.
pub(super) fn print(text: &mut Text<'_>, packet: View<'_>) -> Printed {
    text.protocol = "gre";
    let flags = packet.u16(0)?;
    let version = flags & 7;
    put!(text, "GREv{version}");
    match version {
        0 => {}
        1 => return point_to_point(text, packet, flags),
        _ => {
            put!(text, " ERROR: unknown-version");
            return Ok(());
        }
    }
    put_flags(text, flags);
    let kind = packet.u16(2)?;
    let mut at = 4;
    if flags & (CHECKSUM | ROUTING) != 0 {
        if text.verbose() {
            put!(text, ", sum 0x{:x}", packet.u16(at)?);
        }
        put!(text, ", off 0x{:x}", packet.u16(at + 2)?);
        at += 4;
    }
    if flags & KEY != 0 {
        put!(text, ", key=0x{:x}", packet.u32(at)?);
        at += 4;
    }
    if flags & SEQUENCE != 0 {
        put!(text, ", seq {}", packet.u32(at)?);
        at += 4;
    }
    if text.style.link {
        put!(text, ", proto {} (0x{kind:04x})", link::ethertype_name(kind).unwrap_or("unknown"));
    }
    put!(text, ", length {}{}", packet.len(), if text.verbose() { "\n\t" } else { ": " });
    let payload = packet.after(at);
    match EtherType(kind) {
        // Source routes (RFC 1701) are gone from the standard, and what follows them cannot be found without.
        _ if flags & ROUTING != 0 => put!(text, "gre-proto-0x{kind:x}"),
        EtherType::IPV4 => ipv4::print(text, payload)?,
        EtherType::IPV6 => ipv6::print(text, payload)?,
        EtherType(0x8847) => tunnels::mpls(text, payload)?,
        EtherType(0x00fe) => routing::osi(text, payload)?,
        ETHERNET => link::carried(text, payload),
        _ => put!(text, "gre-proto-0x{kind:x}"),
    }
    Ok(())
}

fn put_flags(text: &mut Text<'_>, flags: u16) {
    if text.verbose() {
        put!(text, ", Flags [");
        text.bits(flags.into(), &FLAGS, ", ");
        put!(text, "]");
    }
}

/// Version 1, that of PPTP (RFC 2637 section 4.1).
fn point_to_point(text: &mut Text<'_>, packet: View<'_>, flags: u16) -> Printed {
    put_flags(text, flags);
    let kind = packet.u16(2)?;
    let mut at = 4;
    if flags & KEY != 0 {
        put!(text, ", call {}", packet.u32(at)? & 0xffff);
        at += 4;
    }
    for (flag, name) in [(SEQUENCE, "seq"), (ACKNOWLEDGMENT, "ack")] {
        if flags & flag != 0 {
            put!(text, ", {name} {}", packet.u32(at)?);
            at += 4;
        }
    }
    let empty = flags & SEQUENCE == 0;
    put!(text, "{}", if empty { ", no-payload" } else { "" });
    if text.style.link {
        put!(text, ", proto {} (0x{kind:04x})", link::ethertype_name(kind).unwrap_or("unknown"));
    }
    put!(text, ", length {}", packet.len());
    if empty {
        return Ok(());
    }
    put!(text, "{}", if text.verbose() { "\n\t" } else { ": " });
    if kind == PPP {
        return tunnels::ppp(text, packet.after(at));
    }
    put!(text, "gre-proto-0x{kind:x}");
    Ok(())
}
