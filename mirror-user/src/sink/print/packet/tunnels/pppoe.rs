//! PPP over Ethernet (RFC 2516).

use super::super::{
    text::{Printed, Text, put},
    view::View,
};

const HEADER: usize = 6;
const INITIATION: u8 = 0x09;
/// The most that an initiation may be long (RFC 2516 section 5.1).
const MAX_INITIATION: usize = 1484;
/// The most characters of a tag that are printed.
const MAX_TAG: usize = 79;

pub(in super::super) fn print(text: &mut Text<'_>, packet: View<'_>) -> Printed {
    text.protocol = "pppoe";
    if packet.len() < HEADER {
        put!(text, " (length {} < {HEADER})", packet.len());
        text.invalid();
        return Ok(());
    }
    packet.get(0, HEADER)?;
    let (first, code, session) = (packet.u8(0)?, packet.u8(1)?, packet.u16(2)?);
    let payload = packet.after(HEADER);
    let mut len = usize::from(packet.u16(4)?);
    if first >> 4 != 1 {
        put!(text, " [ver {}]", first >> 4);
    }
    if first & 0xf != 1 {
        put!(text, " [type {}]", first & 0xf);
    }
    put!(text, "PPPoE ");
    match code {
        INITIATION => put!(text, "PADI"),
        0x07 => put!(text, "PADO"),
        0x19 => put!(text, "PADR"),
        0x65 => put!(text, "PADS"),
        0xa7 => put!(text, "PADT"),
        0 => {}
        _ => put!(text, "PAD-{code:x}"),
    }
    if code == INITIATION && len > MAX_INITIATION - HEADER {
        put!(text, " [len {len}!]");
    }
    if len > payload.len() {
        put!(text, " [len {len} > {}!]", payload.len());
        len = payload.len();
    }
    if session != 0 {
        put!(text, " [ses 0x{session:x}]");
    }
    if code != 0 {
        return tags(text, payload, len);
    }
    put!(text, " ");
    super::ppp(text, payload.of_len(len))
}

fn tags(text: &mut Text<'_>, payload: View<'_>, len: usize) -> Printed {
    let mut at = 0;
    while at < len {
        let (kind, tag_len) = (payload.u16(at)?, usize::from(payload.u16(at + 2)?));
        let value = payload.get(at + 4, tag_len)?;
        put!(text, " [");
        match tag(kind) {
            Some(name) => put!(text, "{name}"),
            None => put!(text, "TAG-0x{kind:x}"),
        }
        let shown = &value[..value.len().min(MAX_TAG)];
        let is_printable = |byte: &&u8| matches!(byte, b' '..=b'~');
        if shown.iter().filter(is_printable).count() * 2 > shown.len() {
            put!(text, " \"");
            for byte in shown {
                put!(text, "{}", if is_printable(&byte) { char::from(*byte) } else { '.' });
            }
            put!(text, "\"");
        } else if !value.is_empty() {
            put!(text, " 0x");
            value.iter().for_each(|byte| put!(text, "{byte:02X}"));
        }
        put!(text, "]");
        if kind == 0 {
            break;
        }
        at += 4 + tag_len;
    }
    Ok(())
}

fn tag(kind: u16) -> Option<&'static str> {
    Some(match kind {
        0x0000 => "EOL",
        0x0101 => "Service-Name",
        0x0102 => "AC-Name",
        0x0103 => "Host-Uniq",
        0x0104 => "AC-Cookie",
        0x0105 => "Vendor-Specific",
        0x0110 => "Relay-Session-ID",
        0x0120 => "PPP-Max-Payload",
        0x0201 => "Service-Name-Error",
        0x0202 => "AC-System-Error",
        0x0203 => "Generic-Error",
        _ => return None,
    })
}
