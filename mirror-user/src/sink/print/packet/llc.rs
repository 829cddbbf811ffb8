//! Logical link control (IEEE 802.2), in frames with a length instead of an EtherType.

use etherparse::EtherType;

use super::{
    bridge, hex, ipv4, link, routing,
    text::{Mac, Printed, Text, put},
    view::View,
};

const IP: u8 = 0x06;
const SPANNING_TREE: u8 = 0x42;
const SNAP: u8 = 0xaa;
const OSI: u8 = 0xfe;

type Print = fn(&mut Text<'_>, View<'_>) -> Printed;

const UNNUMBERED_INFORMATION: u16 = 0x03;
/// Poll or final, in the one byte of an unnumbered frame and in the two of the others.
const POLL: u16 = 0x10;
const POLL_NUMBERED: u16 = 0x100;

/// Prints a header and its payload; returns the header's length. `frame` is the Ethernet frame.
pub(super) fn print(text: &mut Text<'_>, payload: View<'_>, frame: View<'_>) -> Printed<usize> {
    text.protocol = "llc";
    let unnumbered = payload.u8(2).is_ok_and(|control| control & 3 == 3);
    let header_len = if unnumbered { 3 } else { 4 };
    if payload.bytes().len().min(payload.len()) < header_len {
        text.cut();
        hex::hex(text, payload.bytes(), true);
        return Ok(payload.bytes().len());
    }
    let (destination, source) = (payload.u8(0)?, payload.u8(1)?);
    let control = match payload.array(2) {
        Ok([low, high]) if !unnumbered => u16::from_le_bytes([low, high]),
        _ => payload.u8(2)?.into(),
    };
    let (to, from) = (destination & !1, source & !1);
    if text.style.link {
        put!(text, "LLC, dsap {} (0x{to:02x}) ", name(to).unwrap_or("Unknown"));
        put!(text, "{}, ", if destination & 1 == 0 { "Individual" } else { "Group" });
        put!(text, "ssap {} (0x{from:02x}) ", name(from).unwrap_or("Unknown"));
        put!(text, "{}, ctrl ", if source & 1 == 0 { "Command" } else { "Response" });
        if unnumbered { put!(text, "0x{control:02x}: ") } else { put!(text, "0x{control:04x}: ") }
    }
    let known = match (to, from, control) {
        (SNAP, SNAP, UNNUMBERED_INFORMATION) => {
            return snap(text, payload, header_len, frame).map(|()| header_len + 5);
        }
        (SPANNING_TREE, SPANNING_TREE, UNNUMBERED_INFORMATION) => Some(bridge::stp as Print),
        // RFC 948.
        (IP, IP, UNNUMBERED_INFORMATION) => Some(ipv4::print as Print),
        (OSI, OSI, UNNUMBERED_INFORMATION) => Some(routing::osi as Print),
        _ => None,
    };
    if let Some(print) = known {
        print(text, payload.after(header_len))?;
        return Ok(header_len);
    }
    if !text.style.link {
        put!(text, "{} ", Mac(frame.array(6)?));
        if to != from {
            put_name(text, from, 'S');
        }
        put!(text, "> {} ", Mac(frame.array(0)?));
        put_name(text, to, 'D');
    }
    if unnumbered {
        put!(text, "Unnumbered, ");
        match command(control) {
            Some(command) => put!(text, "{command}"),
            None => put!(text, "{:02x}", control & !POLL),
        }
        put_flags(text, source, control & POLL != 0);
    } else if control & 1 == 1 {
        let kind = ["Receiver Ready", "Receiver not Ready", "Reject", "?"][usize::from(control >> 2 & 3)];
        put!(text, "Supervisory, {kind}, rcv seq {}", control >> 9);
        put_flags(text, source, control & POLL_NUMBERED != 0);
    } else {
        put!(text, "Information, send seq {}, rcv seq {}", control >> 1 & 0x7f, control >> 9);
        put_flags(text, source, control & POLL_NUMBERED != 0);
    }
    put!(text, ", length {}", payload.len());
    if unnumbered || control & 1 == 0 {
        hex::hex(text, payload.bytes(), true);
    }
    Ok(header_len)
}

/// A subnetwork access protocol header (IEEE 802 section 9.5): organization and protocol.
///
/// It is `at` bytes after the start of the LLC header.
fn snap(text: &mut Text<'_>, payload: View<'_>, at: usize, frame: View<'_>) -> Printed {
    const ETHERNET: u32 = 0x00_0000;
    const CISCO_BRIDGED: u32 = 0x00_00f8;
    const CISCO: u32 = 0x00_000c;
    const BRIDGED: u32 = 0x00_80c2;
    const HEADER: usize = 5;
    text.protocol = "snap";
    let packet = payload.after(at);
    packet.get(0, HEADER)?;
    if packet.len() < HEADER {
        text.cut();
        return Ok(());
    }
    let (whose, which) = (packet.u24(0)?, packet.u16(3)?);
    let rest = packet.after(HEADER);
    if text.style.link {
        put!(text, "oui {} (0x{whose:06x}), ", organization(whose).unwrap_or("Unknown"));
        put!(text, "{} ", if whose == ETHERNET { "ethertype" } else { "pid" });
        put!(text, "{} (0x{which:04x}), length {}: ", number(whose, which).unwrap_or("Unknown"), rest.len());
    }
    let source = frame.array(6).map(Mac)?;
    match (whose, which) {
        (ETHERNET | CISCO_BRIDGED, _) if link::payload_from(text, EtherType(which), rest, Some(source))? => {
            return Ok(());
        }
        (CISCO, 0x2000) => return bridge::cisco_discovery(text, rest),
        (CISCO, 0x2003) => return bridge::cisco_vlans(text, rest),
        (CISCO, 0x2004) => return bridge::cisco_trunking(text, rest),
        (CISCO, 0x0111) => return bridge::cisco_link_detection(text, rest),
        (CISCO, 0x010b | 0x010c) | (BRIDGED, 0x000e) => return bridge::stp(text, rest),
        (BRIDGED, 0x0001 | 0x0007) => {
            // After padding (RFC 2684 section 5.2).
            rest.get(0, 2)?;
            link::carried(text, rest.after(2));
            return Ok(());
        }
        _ => {}
    }
    if !text.style.link {
        put!(text, "{} > {} SNAP, ", Mac(frame.array(6)?), Mac(frame.array(0)?));
        if whose == ETHERNET {
            put!(text, "ethertype ");
        } else {
            put!(text, "oui {} (0x{whose:06x}), pid ", organization(whose).unwrap_or("Unknown"));
        }
        put!(text, "{} (0x{which:04x}), length {}: ", number(whose, which).unwrap_or("Unknown"), rest.len());
    }
    hex::hex(text, payload.bytes(), true);
    Ok(())
}

/// The organization, as tcpdump names it.
fn organization(whose: u32) -> Option<&'static str> {
    Some(match whose {
        0x00_0000 => "Ethernet",
        0x00_000c => "Cisco",
        0x00_0081 => "Nortel Networks SONMP",
        0x00_00f8 => "Cisco bridged",
        0x00_80c2 => "Ethernet bridged",
        0x08_0007 => "Appletalk",
        _ => return None,
    })
}

fn number(whose: u32, which: u16) -> Option<&'static str> {
    match whose {
        0x00_0000 | 0x00_00f8 | 0x08_0007 => link::ethertype_name(which),
        0x00_000c => Some(match which {
            0x010b => "PVST",
            0x010c => "VLAN Bridge",
            0x0111 => "UDLD",
            0x2000 => "CDP",
            0x2003 => "VTP",
            0x2004 => "DTP",
            _ => return None,
        }),
        0x00_80c2 => Some(match which {
            0x0001 => "Ethernet + FCS",
            0x0007 => "Ethernet w/o FCS",
            0x0002 => "802.4 + FCS",
            0x0008 => "802.4 w/o FCS",
            0x0003 => "Token Ring + FCS",
            0x0009 => "Token Ring w/o FCS",
            0x0004 => "FDDI + FCS",
            0x000a => "FDDI w/o FCS",
            0x000b => "802.6 + FCS",
            0x000c => "802.6 w/o FCS",
            0x000e => "BPDU",
            _ => return None,
        }),
        _ => None,
    }
}

fn put_name(text: &mut Text<'_>, address: u8, which: char) {
    match name(address) {
        Some(name) => put!(text, "{name} "),
        None => put!(text, "Unknown {which}SAP 0x{address:02x} "),
    }
}

fn put_flags(text: &mut Text<'_>, source: u8, poll: bool) {
    let flags = match (source & 1, poll) {
        (0, false) => "Command",
        (0, true) => "Poll",
        (_, false) => "Response",
        (_, true) => "Final",
    };
    put!(text, ", Flags [{flags}]");
}

fn command(control: u16) -> Option<&'static str> {
    Some(match control & !POLL {
        UNNUMBERED_INFORMATION => "ui",
        0xe3 => "test",
        0xaf => "xid",
        0x63 => "ua",
        0x43 => "disc",
        0x0f => "dm",
        0x6f => "sabme",
        0x87 => "frmr",
        _ => return None,
    })
}

fn name(address: u8) -> Option<&'static str> {
    Some(match address {
        0x00 => "Null",
        0x02 => "802.1B I",
        0x04 => "SNA",
        IP => "IP",
        0x0e => "ProWay NM",
        0x42 => "STP",
        0x4e => "RS511",
        0x7e => "ISO8208",
        0x8e => "ProWay",
        0xaa => "SNAP",
        0xe0 => "IPX",
        0xf0 => "NetBeui",
        0xfe => "OSI",
        _ => return None,
    })
}
