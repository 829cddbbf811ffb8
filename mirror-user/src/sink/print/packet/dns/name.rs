//! Domain names, which may point back to others (RFC 1035 section 4.1.4).

use super::super::{
    text::{Printed, Text, put},
    view::{Truncated, View},
};

const KIND: u8 = 0xc0;
const LABEL: u8 = 0x00;
const POINTER: u8 = 0xc0;
/// Extended labels (RFC 6891 section 5), of which none is in use.
const EXTENDED: u8 = 0x40;
/// The longest name (RFC 1035 section 3.1).
const MAX_NAME: usize = 255;

/// Prints the name at this offset of the message; returns the offset after it.
pub(in super::super) fn print(text: &mut Text<'_>, message: View<'_>, start: usize) -> Printed<usize> {
    let (mut at, mut end, mut limit, mut printed) = (start, None, start, 0);
    loop {
        let first = message.u8(at)?;
        let len = usize::from(first);
        match first & KIND {
            LABEL if first == 0 => {
                // Not after a pointer, where tcpdump prints nothing.
                if at == start {
                    put!(text, ".");
                } else if printed > MAX_NAME {
                    put!(text, "<DOMAIN NAME TOO LONG>");
                }
                return Ok(end.unwrap_or(at + 1));
            }
            LABEL => {
                // The length byte is present, so the label's end is missing.
                let label = message.after(at + 1).ending_at(len.min(MAX_NAME.saturating_sub(printed)));
                text.escaped(label.bytes());
                message.get(at + 1, len)?;
                printed += len;
                if printed <= MAX_NAME {
                    put!(text, ".");
                }
                printed += 1;
                at += 1 + len;
            }
            POINTER => {
                end = end.or(Some(at + 2));
                let target = usize::from(message.u16(at)? & 0x3fff);
                // Pointers must go backwards, so that every name ends.
                if target >= limit {
                    put!(text, "<BAD PTR>");
                    return Err(Truncated);
                }
                (at, limit) = (target, target);
            }
            EXTENDED => {
                put!(text, "<ELT {}>", first & !KIND);
                return Err(Truncated);
            }
            _ => {
                put!(text, "<BAD LABEL TYPE>");
                return Err(Truncated);
            }
        }
    }
}

/// The offset after the name at this one.
pub(super) fn skip(message: View<'_>, mut at: usize) -> Printed<usize> {
    loop {
        let first = message.u8(at)?;
        match first & KIND {
            LABEL if first == 0 => return Ok(at + 1),
            LABEL => at += 1 + usize::from(first),
            POINTER => return Ok(at + 2),
            _ => return Err(Truncated),
        }
    }
}
