//! IPv6 (RFC 8200).

use etherparse::IpNumber;

use super::{
    ipv6_extensions::{self, Extension},
    network::{self, Network},
    text::{Address, Printed, Text, put},
    view::{Truncated, View},
};

const FIXED: usize = 40;

/// Prints a packet; the view has the length that the lower layer has room for.
pub(super) fn print(text: &mut Text<'_>, packet: View<'_>) -> Printed {
    if !text.nest() {
        return Ok(());
    }
    text.protocol = "ip6";
    packet.get(0, FIXED)?;
    if packet.len() < FIXED {
        put!(text, "truncated-ip6 {}", packet.len());
        return Ok(());
    }
    if !text.style.link {
        put!(text, "IP6 ");
    }
    let version = packet.u8(0)? >> 4;
    if version != 6 {
        put!(text, "version error: {version} != 6");
        return Ok(());
    }
    let payload_len = usize::from(packet.u16(4)?);
    let total = if payload_len == 0 {
        // No payload, or one whose length is in a jumbo option (RFC 2675).
        packet.len() + FIXED
    } else {
        let total = payload_len + FIXED;
        if packet.len() < total {
            put!(text, "truncated-ip6 - {} bytes missing!", total - packet.len());
        }
        total
    };
    let protocol = IpNumber(packet.u8(6)?);
    if text.verbose() {
        details(text, packet, protocol)?;
    }
    let below = Network {
        source: Address::v6(packet, 8)?,
        destination: Address::v6(packet, 24)?,
        first_source: Address::v6(packet, 8)?,
        last_destination: Address::v6(packet, 24)?,
        protocol,
        ttl: packet.u8(7)?,
        fragment: false,
    };
    let room = packet.len();
    let packet = packet.ending_at(total);
    upper(text, packet, &below, payload_len, room)
}

/// Prints the part after the fixed header: extension headers, then the payload.
fn upper(text: &mut Text<'_>, packet: View<'_>, below: &Network, payload_len: usize, room: usize) -> Printed {
    let mut below = *below;
    let mut next = below.protocol;
    let mut rest = packet.after(FIXED);
    if !network::has_ports(next) {
        below.put_hosts(text);
        put!(text, " ");
    }
    let mut seen = ipv6_extensions::Seen::new(payload_len);
    while let Some(kind) = Extension::of(next) {
        let Some(len) = ipv6_extensions::print(text, kind, rest, &mut seen, &mut below)? else {
            return Ok(());
        };
        next = IpNumber(rest.u8(0)?);
        below.fragment |= kind == Extension::Fragment;
        text.protocol = "ip6";
        if kind == Extension::Fragment && rest.bytes().len() <= len {
            return Ok(());
        }
        if rest.len() < len {
            return Err(Truncated);
        }
        rest = rest.after(len);
    }
    if let Some(jumbo) = seen.jumbo() {
        let total = usize::try_from(jumbo).map_err(|_| Truncated)? + FIXED;
        let advance = packet.len() - rest.len();
        if room < total {
            put!(text, "truncated-ip6 - {} bytes missing!", total - room);
        }
        rest = rest.of_len(total.checked_sub(advance).ok_or(Truncated)?);
    } else if payload_len == 0 {
        if seen.any() {
            return Err(Truncated);
        }
        rest = rest.ending_at(0);
    }
    network::payload(text, rest, &below, next)
}

/// The header's fields, before the addresses.
fn details(text: &mut Text<'_>, packet: View<'_>, protocol: IpNumber) -> Printed {
    let first = packet.u32(0)?;
    let (class, label) = ((first >> 20) & 0xff, first & 0xf_ffff);
    put!(text, "(");
    if class != 0 {
        put!(text, "class 0x{class:02x}, ");
    }
    if label != 0 {
        put!(text, "flowlabel 0x{label:05x}, ");
    }
    put!(
        text,
        "hlim {}, next-header {} ({}) payload length: {}) ",
        packet.u8(7)?,
        network::name(protocol),
        protocol.0,
        packet.u16(4)?
    );
    Ok(())
}
