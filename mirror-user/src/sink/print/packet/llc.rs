//! Logical link control (IEEE 802.2), which follows a length in the place of a type.

use super::{
    hex, ipv4,
    text::{Mac, Printed, Text, put},
    view::View,
};

const IP: u8 = 0x06;
const UNNUMBERED_INFORMATION: u16 = 0x03;
/// Poll or final, in the one byte of an unnumbered frame and in the two of the others.
const POLL: u16 = 0x10;
const POLL_NUMBERED: u16 = 0x100;

/// A header and what it announces; gives its length. `frame` is that around it.
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
    if (to, from, control) == (IP, IP, UNNUMBERED_INFORMATION) {
        // RFC 948.
        ipv4::print(text, payload.after(header_len))?;
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
