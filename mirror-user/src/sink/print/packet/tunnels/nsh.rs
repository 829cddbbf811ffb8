//! Network service headers (RFC 8300).

use super::super::{
    ipv4, ipv6, link,
    text::{Printed, Text, put},
    view::View,
};

/// The base header and the service path header.
const HEADERS: usize = 8;
const WORD: usize = 4;

pub(in super::super) fn print(text: &mut Text<'_>, packet: View<'_>) -> Printed {
    const FLAGS: [(u32, &str); 2] = [(2, "O"), (1, "U")];
    text.protocol = "nsh";
    if packet.len() < HEADERS {
        put!(text, " (packet length {} < {HEADERS})", packet.len());
        text.invalid();
        return Ok(());
    }
    let base = packet.u32(0)?;
    put!(text, "NSH, ");
    if base >> 30 != 0 {
        return Ok(());
    }
    put!(text, "flags [");
    text.bits(base >> 28 & 3, &FLAGS, "");
    put!(text, "], ");
    let words = usize::from(packet.u8(1)? & 0x3f);
    if packet.len() < words * WORD {
        put!(text, " (too many headers for packet length {})", packet.len());
        text.invalid();
        return Ok(());
    }
    put!(text, "service-path-id 0x{:06x}, ", packet.u24(4)?);
    put!(text, "service-index 0x{:x}", packet.u8(7)?);
    if words < 2 {
        put!(text, " (less than two headers)");
        text.invalid();
        return Ok(());
    }
    packet.get(0, words * WORD)?;
    put!(text, "{}", if text.verbose() { "\n    " } else { ": " });
    let payload = packet.after(words * WORD);
    match base & 0xff {
        1 => ipv4::print(text, payload)?,
        2 => ipv6::print(text, payload)?,
        3 => link::carried(text, payload),
        _ => put!(text, "ERROR: unknown-next-protocol"),
    }
    Ok(())
}
