//! IPv4 (RFC 791).

use etherparse::IpNumber;

use super::{
    checksum, ipv4_options,
    network::{self, Network},
    text::{Address, Printed, Text, put},
    view::{Truncated, View},
};

const FIXED: usize = 20;

const FLAGS: [(u32, &str); 3] = [(0x2000, "+"), (0x4000, "DF"), (0x8000, "rsvd")];
const MORE_FRAGMENTS: u16 = 0x2000;
const OFFSET: u16 = 0x1fff;

/// Prints a packet; the view has the length that the lower layer has room for.
pub(super) fn print(text: &mut Text<'_>, packet: View<'_>) -> Printed {
    if !text.nest() {
        return Ok(());
    }
    text.protocol = "ip";
    match packet.u8(0)? >> 4 {
        4 => {}
        version => {
            put!(text, "IP{version}{}", if version == 6 { ", wrong link-layer encapsulation" } else { "" });
            text.invalid();
            return Ok(());
        }
    }
    if !text.style.link {
        put!(text, "IP ");
    }
    packet.get(0, FIXED)?;
    if packet.len() < FIXED {
        put!(text, "truncated-ip {}", packet.len());
        return Ok(());
    }
    let header_len = usize::from(packet.u8(0)? & 0xf) * 4;
    if header_len < FIXED {
        put!(text, "bad-hlen {header_len}");
        return Ok(());
    }
    let total = usize::from(packet.u16(2)?);
    if packet.len() < total {
        put!(text, "truncated-ip - {} bytes missing! ", total - packet.len());
    }
    if total < header_len {
        put!(text, "bad-len {total}");
        return Ok(());
    }
    let packet = packet.ending_at(total);
    let fragment = packet.u16(6)?;
    let below = Network {
        source: Address::v4(packet, 12)?,
        destination: Address::v4(packet, 16)?,
        first_source: Address::v4(packet, 12)?,
        last_destination: ipv4_options::last_destination(packet, header_len)?,
        protocol: IpNumber(packet.u8(9)?),
        ttl: packet.u8(8)?,
        fragment: fragment & MORE_FRAGMENTS != 0,
    };
    if text.verbose() {
        details(text, packet, header_len)?;
    }
    if fragment & OFFSET != 0 {
        below.put_hosts(text);
        put!(text, " ip-proto-{}", below.protocol.0);
        return Ok(());
    }
    if !network::has_ports(below.protocol) {
        below.put_hosts(text);
        put!(text, " ");
    }
    if !packet.has(header_len) {
        put!(text, " [remaining caplen({}) < header length({header_len})]", packet.bytes().len());
        return Err(Truncated);
    }
    network::payload(text, packet.after(header_len), &below, below.protocol)
}

/// The header's fields, on the first of two lines.
fn details(text: &mut Text<'_>, packet: View<'_>, header_len: usize) -> Printed {
    let (tos, ttl, fragment, protocol) = (packet.u8(1)?, packet.u8(8)?, packet.u16(6)?, packet.u8(9)?);
    put!(text, "(tos {tos:#x}{}", ["", ",ECT(1)", ",ECT(0)", ",CE"][usize::from(tos & 3)]);
    if ttl > 0 {
        put!(text, ", ttl {ttl}");
    }
    put!(text, ", id {}, offset {}, flags [", packet.u16(4)?, u32::from(fragment & OFFSET) * 8);
    text.bits((fragment & !OFFSET).into(), &FLAGS, ", ");
    put!(text, "], proto {} ({protocol}), length {}", network::name(IpNumber(protocol)), packet.u16(2)?);
    let mut whole = true;
    if header_len > FIXED {
        put!(text, ", options (");
        whole = ipv4_options::print(text, packet.after(FIXED).of_len(header_len - FIXED))?;
        put!(text, "{})", if whole { "" } else { " [truncated-option]" });
    }
    let here = packet.u16(10)?;
    if let Ok(header) = packet.get(0, header_len)
        && let Some(expected) = checksum::expected(&checksum::of(header), here)
    {
        put!(text, ", bad cksum {here:x} (->{expected:x})!");
    }
    put!(text, ")\n    ");
    if !whole {
        put!(text, "{} > {}: ", Address::v4(packet, 12)?, Address::v4(packet, 16)?);
        return Err(Truncated);
    }
    Ok(())
}
