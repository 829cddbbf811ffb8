//! OSI's network layer: IS-IS (ISO 10589), ES-IS (ISO 9542) and CLNP (ISO 8473), by their first byte.

use std::fmt;

use super::super::{
    hex, ipv4, ipv6,
    text::{Printed, Text, put},
    tunnels,
    view::View,
};

const CLNP: u8 = 0x81;
const ES_IS: u8 = 0x82;
const IS_IS: u8 = 0x83;
const IPV4: u8 = 0xcc;
const IPV6: u8 = 0x8e;
const PPP: u8 = 0xcf;

pub(in super::super) fn print(text: &mut Text<'_>, packet: View<'_>) -> Printed {
    text.protocol = "isoclns";
    let first = packet.u8(0)?;
    if text.style.link {
        put!(text, "OSI NLPID ");
        put_name(text, first);
        put!(text, " (0x{first:02x}): ");
    }
    let separator = if text.style.link { "" } else { ", " };
    match first {
        CLNP => {
            if !connectionless(text, packet, separator)? {
                hex::indented(text, packet.here(), false, "\t");
            }
        }
        ES_IS => end_systems(text, packet, separator)?,
        IS_IS => {
            if !intermediate_systems(text, packet, separator)? {
                hex::indented(text, packet.here(), false, "\t");
            }
        }
        0 => put!(text, "{separator}length: {}", packet.len()),
        IPV4 => ipv4::print(text, packet.after(1))?,
        IPV6 => ipv6::print(text, packet.after(1))?,
        PPP => tunnels::ppp(text, packet.after(1))?,
        _ => {
            if !text.style.link {
                put!(text, "OSI NLPID 0x{first:02x} unknown");
            }
            put!(text, "{separator}length: {}", packet.len());
            if packet.len() > 1 {
                hex::indented(text, packet.here(), false, "\t");
            }
        }
    }
    Ok(())
}

fn put_name(text: &mut Text<'_>, number: u8) {
    const NAMES: [(u32, &str); 15] = [
        (0x00, "NULL"),
        (0x08, "Q.933"),
        (0x09, "LMI"),
        (0x80, "SNAP"),
        (0x81, "CLNP"),
        (0x82, "ES-IS"),
        (0x83, "IS-IS"),
        (0x84, "CONS"),
        (0x85, "IDRP"),
        (0xc1, "ISIS_SPB"),
        (0xb1, "FRF.15"),
        (0xcc, "IPv4"),
        (0xcf, "PPP"),
        (0x8a, "X25 ES-IS"),
        (0x8e, "IPv6"),
    ];
    text.name_or(&NAMES, number, format_args!("Unknown"));
}

/// A system's name: two bytes each, then a pseudonode's number, then a fragment's.
struct System<'a>(&'a [u8]);

impl fmt::Display for System<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, byte) in self.0.iter().enumerate() {
            let separator = match place {
                2 | 4 | 6 => ".",
                7 => "-",
                _ => "",
            };
            write!(f, "{separator}{byte:02x}")?;
        }
        Ok(())
    }
}

/// An NSAP address.
struct Nsap<'a>(&'a [u8]);

impl fmt::Display for Nsap<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MAX: usize = 20;
        if !(1..=MAX).contains(&self.0.len()) {
            return f.write_str("isonsap_string: illegal length");
        }
        for (place, byte) in self.0.iter().enumerate() {
            let separator = if place % 2 == 0 && place + 1 < self.0.len() { "." } else { "" };
            write!(f, "{byte:02x}{separator}")?;
        }
        Ok(())
    }
}

/// Prints IS-IS; returns whether its header is valid.
fn intermediate_systems(text: &mut Text<'_>, packet: View<'_>, separator: &str) -> Printed<bool> {
    const COMMON: usize = 8;
    text.protocol = "isis";
    packet.get(0, COMMON)?;
    if packet.len() < COMMON {
        text.cut();
        return Ok(true);
    }
    put!(text, "{}", if text.style.link { "" } else { "IS-IS" });
    let (fixed_len, version, id_len) = (packet.u8(1)?, packet.u8(2)?, packet.u8(3)?);
    let (kind, other_version, areas) = (packet.u8(4)?, packet.u8(5)?, packet.u8(7)?);
    if version != 1 {
        put!(text, "version {version} packet not supported");
    } else if id_len != 6 && id_len != 0 {
        put!(text, "system ID length of {id_len} is not supported");
    } else if other_version != 1 {
        put!(text, "version {other_version} packet not supported");
    } else if packet.len() < fixed_len.into() {
        put!(text, "fixed header length {fixed_len} > packet length {}", packet.len());
    } else if usize::from(fixed_len) < COMMON {
        put!(text, "fixed header length {fixed_len} < minimum header size {COMMON}");
    } else if areas == 255 {
        put!(text, "bad packet -- 255 areas");
    } else {
        return contents(text, packet, separator, kind, fixed_len);
    }
    Ok(false)
}

/// Prints the fixed part of an IS-IS packet, by kind.
fn contents(
    text: &mut Text<'_>,
    packet: View<'_>,
    separator: &str,
    kind: u8,
    fixed_len: u8,
) -> Printed<bool> {
    let (name, needed) = match kind {
        15 => ("L1 Lan IIH", 27),
        16 => ("L2 Lan IIH", 27),
        17 => ("p2p IIH", 20),
        18 => ("L1 LSP", 27),
        20 => ("L2 LSP", 27),
        24 => ("L1 CSNP", 33),
        25 => ("L2 CSNP", 33),
        26 => ("L1 PSNP", 17),
        27 => ("L2 PSNP", 17),
        _ => {
            put!(text, "{separator}unknown PDU-Type {kind}, length {}", packet.len());
            return Ok(true);
        }
    };
    put!(text, "{separator}{name}");
    if usize::from(fixed_len) != needed {
        // For link states tcpdump prints a number other than the one it expects.
        let named = if matches!(kind, 18 | 20) { needed - 8 } else { needed };
        put!(text, "{}", if matches!(kind, 26 | 27) { "- " } else { ", " });
        put!(text, "bogus fixed header length {fixed_len} should be {named}");
        return Ok(false);
    }
    packet.get(0, needed)?;
    match kind {
        15 | 16 => {
            put!(text, ", src-id {}", System(packet.get(9, 6)?));
            put!(text, ", lan-id {}, prio {}", System(packet.get(20, 7)?), packet.u8(19)?);
        }
        17 => put!(text, ", src-id {}", System(packet.get(9, 6)?)),
        18 | 20 => {
            put!(text, ", lsp-id {}, seq 0x{:08x}", System(packet.get(12, 8)?), packet.u32(20)?);
            put!(text, ", lifetime {:5}s", packet.u16(10)?);
        }
        _ => put!(text, ", src-id {}", System(packet.get(10, 7)?)),
    }
    put!(text, ", length {}", packet.len());
    Ok(true)
}

fn end_systems(text: &mut Text<'_>, packet: View<'_>, separator: &str) -> Printed {
    const HEADER: usize = 9;
    const KINDS: [(u32, &str); 3] = [(6, "redirect"), (2, "ESH"), (4, "ISH")];
    text.protocol = "esis";
    put!(text, "{}", if text.style.link { "" } else { "ES-IS" });
    if packet.len() <= 2 {
        put!(text, "no header at all!");
        return Ok(());
    }
    packet.get(0, HEADER)?;
    let (len, version, kind) = (packet.u8(1)?, packet.u8(2)?, packet.u8(4)? & 0x1f);
    if version != 1 {
        put!(text, " version {version} packet not supported");
    } else if usize::from(len) > packet.len() {
        put!(text, " length indicator({len}) > PDU size ({})!", packet.len());
    } else if usize::from(len) < HEADER + 2 {
        put!(text, " length indicator {len} < min PDU size:");
        packet.bytes().iter().for_each(|byte| put!(text, "{byte:02X}"));
    } else {
        put!(text, "{separator}");
        text.name_or(&KINDS, kind, format_args!("unknown type ({kind})"));
        put!(text, ", length {}", packet.len());
    }
    Ok(())
}

/// Prints CLNP; returns whether its header is valid.
fn connectionless(text: &mut Text<'_>, packet: View<'_>, separator: &str) -> Printed<bool> {
    const HEADER: usize = 9;
    const KINDS: [(u32, &str); 5] =
        [(1, "Error Report"), (29, "MD"), (28, "Data"), (30, "Echo Request"), (31, "Echo Response")];
    text.protocol = "clnp";
    packet.get(0, HEADER)?;
    let (len, version, kind) = (usize::from(packet.u8(1)?), packet.u8(2)?, packet.u8(4)? & 0x1f);
    put!(text, "{}", if text.style.link { "" } else { "CLNP" });
    if version != 1 {
        put!(text, "version {version} packet not supported");
        return Ok(false);
    }
    if len > packet.len() {
        put!(text, " length indicator({len}) > PDU size ({})!", packet.len());
        return Ok(false);
    }
    if len < HEADER {
        put!(text, " length indicator {len} < min PDU size:");
        packet.bytes().iter().for_each(|byte| put!(text, "{byte:02X}"));
        return Ok(false);
    }
    let mut at = HEADER;
    let mut addresses = [Nsap(&[]), Nsap(&[])];
    for address in &mut addresses {
        let address_len = if at < len { Some(usize::from(packet.u8(at)?)) } else { None };
        let Some(address_len) = address_len.filter(|address_len| at + 1 + address_len <= len) else {
            put!(text, "li < size of fixed part of CLNP header and addresses");
            return Ok(false);
        };
        *address = Nsap(packet.get(at + 1, address_len)?);
        at += 1 + address_len;
    }
    let [destination, source] = addresses;
    put!(text, "{separator}{source} > {destination}, ");
    text.name_or(&KINDS, kind, format_args!("unknown ({kind})"));
    put!(text, ", length {}", packet.len());
    Ok(true)
}
