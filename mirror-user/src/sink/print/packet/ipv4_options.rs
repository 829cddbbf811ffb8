//! Options of IPv4 (RFC 791 section 3.1).

use super::{
    text::{Address, Printed, Text, put},
    view::{Truncated, View},
};

const END: u8 = 0;
const NOP: u8 = 1;
const RECORD_ROUTE: u8 = 7;
const TIMESTAMP: u8 = 68;
const LOOSE_ROUTE: u8 = 131;
const STRICT_ROUTE: u8 = 137;
/// RFC 2113.
const ROUTER_ALERT: u8 = 148;

/// The last address of a source route; the destination if there is none.
pub(super) fn last_destination(packet: View<'_>, header_len: usize) -> Printed<Address> {
    const FIXED: usize = 20;
    let destination = Address::v4(packet, 16)?;
    let mut options = packet.after(FIXED).of_len(header_len - FIXED);
    while options.len() > 0 {
        let len = match options.u8(0) {
            Ok(NOP) => 1,
            Ok(END) | Err(Truncated) => break,
            Ok(kind) => match options.u8(1).map(usize::from) {
                Ok(len @ 7..) if matches!(kind, LOOSE_ROUTE | STRICT_ROUTE) && options.has(len) => {
                    // The pointer is past the end: the route is used up, and the destination is the last.
                    let is_left = usize::from(options.u8(2)?) <= len;
                    return if is_left { Address::v4(options, len - 4) } else { Ok(destination) };
                }
                Ok(len @ 2..) => len,
                _ => break,
            },
        };
        options = options.after(len);
    }
    Ok(destination)
}

/// Prints the options; the view's length is their space in the header. Returns whether the last is complete.
pub(super) fn print(text: &mut Text<'_>, mut options: View<'_>) -> Printed<bool> {
    let mut separator = "";
    while options.len() > 0 {
        put!(text, "{separator}");
        separator = ",";
        let kind = options.u8(0)?;
        match name(kind) {
            Some(name) => put!(text, "{name}"),
            None => put!(text, "unknown {kind}"),
        }
        let len = if matches!(kind, END | NOP) { 1 } else { usize::from(options.u8(1)?) };
        if len > options.len() || len == 0 || (len == 1 && !matches!(kind, END | NOP)) {
            put!(text, " [bad length {len}]");
            return Ok(true);
        }
        if !options.has(len) {
            return Ok(false);
        }
        match kind {
            END => return Ok(true),
            TIMESTAMP => timestamps(text, options, len)?,
            RECORD_ROUTE | LOOSE_ROUTE | STRICT_ROUTE => route(text, options, len)?,
            ROUTER_ALERT if len < 4 => put!(text, " [bad length {len}]"),
            ROUTER_ALERT => match options.u16(2)? {
                0 => {}
                value => put!(text, " value {value}"),
            },
            _ => {}
        }
        options = options.after(len);
    }
    Ok(true)
}

fn route(text: &mut Text<'_>, option: View<'_>, len: usize) -> Printed {
    if len < 3 {
        put!(text, " [bad length {len}]");
        return Ok(());
    }
    if !(len + 1).is_multiple_of(4) {
        put!(text, " [bad length {len}]");
    }
    let pointer = option.u8(2)?;
    let next = usize::from(pointer).wrapping_sub(1);
    if next < 3 || !next.wrapping_add(1).is_multiple_of(4) || next > len + 1 {
        put!(text, " [bad ptr {pointer}]");
    }
    for at in (3..len).step_by(4) {
        put!(text, " {}{}", Address::v4(option, at)?, if next > at { "," } else { "" });
    }
    Ok(())
}

fn timestamps(text: &mut Text<'_>, option: View<'_>, len: usize) -> Printed {
    if len < 4 {
        put!(text, "[bad length {len}]");
        return Ok(());
    }
    put!(text, " TS{{");
    let (pointer, flags) = (option.u8(2)?, option.u8(3)?);
    let hop = if flags & 0xf == 0 { 4 } else { 8 };
    if !(len - 4).is_multiple_of(hop) {
        put!(text, "[bad length {len}]");
    }
    let next = usize::from(pointer).wrapping_sub(1);
    if next < 4 || !(next.wrapping_sub(4)).is_multiple_of(hop) || next > len + 1 {
        put!(text, "[bad ptr {pointer}]");
    }
    let kind = match flags & 0xf {
        0 => "TSONLY",
        1 => "TS+ADDR",
        3 => "PRESPEC",
        kind => {
            put!(text, "[bad ts type {kind}]");
            ""
        }
    };
    put!(text, "{kind}");
    let mut end = 0;
    if !kind.is_empty() {
        end = 4;
        while end < len {
            let mark = if next == end { " ^ " } else { " " };
            put!(text, "{mark}{}@", option.u32(end + hop - 4)?);
            if hop == 8 {
                put!(text, "{}", Address::v4(option, end)?);
            }
            end += hop;
        }
    }
    if next == end {
        put!(text, " ^ ");
    }
    match flags >> 4 {
        0 => put!(text, "}}"),
        hops => put!(text, " [{hops} hops not recorded]}} "),
    }
    Ok(())
}

fn name(kind: u8) -> Option<&'static str> {
    Some(match kind {
        END => "EOL",
        NOP => "NOP",
        TIMESTAMP => "timestamp",
        130 => "security",
        RECORD_ROUTE => "RR",
        STRICT_ROUTE => "SSRR",
        LOOSE_ROUTE => "LSRR",
        ROUTER_ALERT => "RA",
        82 => "traceroute",
        _ => return None,
    })
}
