//! DNS messages (RFC 1035), unicast and multicast, read field by field: of an answer that a mirror session
//! cut, what is there is printed.

mod edns;
pub(super) mod name;
mod record;

use super::{
    text::{Printed, Text, put},
    view::{Truncated, View},
};

const HEADER: usize = 12;
/// EDNS (RFC 6891).
const OPT: u16 = 41;

const RESPONSE: u16 = 0x8000;
const AUTHORITATIVE: u16 = 0x0400;
const TRUNCATED: u16 = 0x0200;
const RECURSION_DESIRED: u16 = 0x0100;
const RECURSION_AVAILABLE: u16 = 0x0080;
const AUTHENTIC_DATA: u16 = 0x0020;
const CHECKING_DISABLED: u16 = 0x0010;
/// All fields that a query does not use.
const ODD_IN_QUERY: u16 = 0x06cf;
const INVERSE_QUERY: usize = 1;

const OPERATIONS: [&str; 16] = [
    "",
    " inv_q",
    " stat",
    " op3",
    " notify",
    " update",
    " op6",
    " op7",
    " op8",
    " updateA",
    " updateD",
    " updateDA",
    " updateM",
    " updateMA",
    " zoneInit",
    " zoneRef",
];

/// Prints a message after its length (RFC 1035 section 4.2.2), if it is the whole segment.
pub(super) fn over_tcp(text: &mut Text<'_>, payload: View<'_>) -> Printed {
    text.protocol = "domain";
    let Some(len) = payload.len().checked_sub(2) else {
        put!(text, " [DNS over TCP: length {} < 2]", payload.len());
        text.invalid();
        return Ok(());
    };
    let announced = payload.u16(0)?;
    if usize::from(announced) != len {
        put!(text, " [prefix length({announced}) != length({len})]");
        text.invalid();
        return Ok(());
    }
    put!(text, " ");
    print(text, payload.after(2), false)
}

/// Prints a message, as far as it is captured.
pub(super) fn print(text: &mut Text<'_>, message: View<'_>, multicast: bool) -> Printed {
    text.protocol = "domain";
    let len = message.len();
    if len < HEADER {
        put!(text, "domain [length {len} < {HEADER}]");
        text.invalid();
        return Ok(());
    }
    message.get(0, HEADER)?;
    let flags = message.u16(2)?;
    let operation = usize::from(flags >> 11 & 0xf);
    put!(text, "{}{}", message.u16(0)?, OPERATIONS[operation]);
    if flags & RESPONSE != 0 {
        response(text, message, flags, multicast)?;
    } else {
        query(text, message, flags, multicast)?;
    }
    put!(text, " ({len})");
    Ok(())
}

fn counts(message: View<'_>) -> Printed<[u16; 4]> {
    Ok([message.u16(4)?, message.u16(6)?, message.u16(8)?, message.u16(10)?])
}

fn response(text: &mut Text<'_>, message: View<'_>, flags: u16, multicast: bool) -> Printed {
    let [questions, answers, authorities, additional] = counts(message)?;
    let code = u16::from(extended_code(message).unwrap_or_default()) << 4 | flags & 0xf;
    match code_name(code) {
        Some(name) => put!(text, "{name}"),
        None => put!(text, " Resp{code}"),
    }
    put!(text, "{}", if flags & AUTHORITATIVE == 0 { "" } else { "*" });
    put!(text, "{}", if flags & RECURSION_AVAILABLE == 0 { "-" } else { "" });
    put!(text, "{}", if flags & TRUNCATED == 0 { "" } else { "|" });
    put!(text, "{}", if flags & AUTHENTIC_DATA == 0 { "" } else { "$" });
    if questions != 1 {
        put!(text, " [{questions}q]");
    }
    let mut at = HEADER;
    for place in 0..questions {
        if place > 0 {
            put!(text, ",");
        }
        at = if text.style.verbosity > 1 {
            put!(text, " q:");
            record::question(text, message, at, multicast)?
        } else {
            name::skip(message, at)? + 4
        };
    }
    put!(text, " {answers}/{authorities}/{additional}");
    at = section(text, message, at, answers, "", multicast)?;
    if text.style.verbosity > 1 {
        at = section(text, message, at, authorities, " ns:", multicast)?;
        section(text, message, at, additional, " ar:", multicast)?;
    }
    Ok(())
}

fn query(text: &mut Text<'_>, message: View<'_>, flags: u16, multicast: bool) -> Printed {
    let [questions, answers, authorities, additional] = counts(message)?;
    put!(text, "{}", if flags & RECURSION_DESIRED == 0 { "" } else { "+" });
    put!(text, "{}", if flags & CHECKING_DISABLED == 0 { "" } else { "%" });
    if flags & ODD_IN_QUERY != 0 {
        put!(text, " [b2&3=0x{flags:x}]");
    }
    if usize::from(flags >> 11 & 0xf) == INVERSE_QUERY {
        for (count, letter, usual) in [(questions, "q", 0), (answers, "a", 1)] {
            put_unusual(text, count, letter, usual);
        }
    } else {
        for (count, letter, usual) in [(answers, "a", 0), (questions, "q", 1)] {
            put_unusual(text, count, letter, usual);
        }
    }
    put_unusual(text, authorities, "n", 0);
    put_unusual(text, additional, "au", 0);
    let mut at = HEADER;
    for place in 0..questions {
        if place > 0 && !message.has(at + 1) {
            return Err(Truncated);
        }
        at = record::question(text, message, at, multicast)?;
    }
    if text.style.verbosity > 1 {
        at = section(text, message, at, answers, "", multicast)?;
        at = section(text, message, at, authorities, " ns:", multicast)?;
        section(text, message, at, additional, " ar:", multicast)?;
    }
    Ok(())
}

fn put_unusual(text: &mut Text<'_>, count: u16, letter: &str, usual: u16) {
    if count != usual {
        put!(text, " [{count}{letter}]");
    }
}

/// Prints the records of a section; returns the offset of the next section.
fn section(
    text: &mut Text<'_>,
    message: View<'_>,
    mut at: usize,
    records: u16,
    title: &str,
    multicast: bool,
) -> Printed<usize> {
    for place in 0..records {
        // An answer is tried even if no bytes are left.
        if !message.has(at + 1) && (place > 0 || !title.is_empty()) {
            return Err(Truncated);
        }
        put!(text, "{}", if place == 0 { title } else { "," });
        at = record::print(text, message, at, multicast)?;
    }
    Ok(at)
}

/// The upper bits of the response code, which EDNS brings (RFC 6891 section 6.1.3).
fn extended_code(message: View<'_>) -> Printed<u8> {
    let [questions, answers, authorities, additional] = counts(message)?;
    let mut at = HEADER;
    for _ in 0..questions {
        at = name::skip(message, at)? + 4;
    }
    let before = u32::from(answers) + u32::from(authorities);
    for place in 0..before + u32::from(additional) {
        at = name::skip(message, at)?;
        if place >= before && message.u16(at)? == OPT {
            return message.u8(at + 4);
        }
        at += 10 + usize::from(message.u16(at + 8)?);
    }
    Ok(0)
}

/// A response code (RFC 6895 section 2.3) as tcpdump names it.
fn code_name(code: u16) -> Option<&'static str> {
    Some(match code {
        0 => "",
        1 => " FormErr",
        2 => " ServFail",
        3 => " NXDomain",
        4 => " NotImp",
        5 => " Refused",
        6 => " YXDomain",
        7 => " YXRRSet",
        8 => " NXRRSet",
        9 => " NotAuth",
        10 => " NotZone",
        15 => " NoChange",
        16 => " BadVers",
        23 => " BadCookie",
        _ => return None,
    })
}
