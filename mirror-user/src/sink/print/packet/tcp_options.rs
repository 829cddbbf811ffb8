//! Options of TCP.

use super::{
    tcp_multipath,
    text::{Printed, Text, put},
    view::{Truncated, View},
};

const END: u8 = 0;
const NOP: u8 = 1;
const MAXIMUM_SEGMENT_SIZE: u8 = 2;
const WINDOW_SCALE: u8 = 3;
const SACK_PERMITTED: u8 = 4;
const SACK: u8 = 5;
const TIMESTAMPS: u8 = 8;
/// RFC 2385.
const MD5: u8 = 19;
const SCPS: u8 = 20;
/// RFC 5482.
const USER_TIMEOUT: u8 = 28;
/// RFC 5925.
const AUTHENTICATION: u8 = 29;
/// RFC 8684.
const MULTIPATH: u8 = 30;
/// RFC 7413.
const FAST_OPEN: u8 = 34;
/// RFC 4727, shared by RFC 6994.
const EXPERIMENT: u8 = 254;

/// The segment of the options.
#[derive(Clone, Copy)]
pub(super) struct Segment {
    pub(super) flags: u8,
    /// The base of the edges of selective acknowledgments.
    pub(super) blocks: u32,
    /// All of it is captured.
    pub(super) is_whole: bool,
}

/// An option whose length does not match its kind: nothing after it can be read.
struct Bad;

/// Prints the options of this segment; the view's length is their space in the header. Returns whether all
/// were readable.
pub(super) fn print(text: &mut Text<'_>, mut options: View<'_>, segment: Segment) -> Printed<bool> {
    let mut separator = "";
    while options.len() > 0 {
        put!(text, "{separator}");
        let kind = options.u8(0)?;
        let len = match kind {
            END | NOP => 1,
            _ => usize::from(options.u8(1)?),
        };
        if len == 0 || len > options.len() || (len == 1 && !matches!(kind, END | NOP)) {
            bad(text, separator);
            return Ok(false);
        }
        match name(kind) {
            Some(name) => put!(text, "{name}"),
            None => put!(text, "unknown-{kind}"),
        }
        let data = options.after(2.min(len));
        let value = match kind {
            // It gets its own bytes only; a missing byte ends the packet.
            MULTIPATH if options.has(len) => {
                let is_right = tcp_multipath::print(text, options.ending_at(len), segment.flags)?;
                Ok(if is_right { Ok(len - 2) } else { Err(Bad) })
            }
            _ => value(text, kind, data.of_len(len.saturating_sub(2)), options.len(), segment),
        };
        let printed = match value {
            Ok(Ok(printed)) => printed,
            Ok(Err(Bad)) => {
                bad(text, separator);
                return Ok(false);
            }
            Err(Truncated) => {
                text.cut();
                put!(text, "{}", if separator.is_empty() { "" } else { ">" });
                return Ok(false);
            }
        };
        let read = printed + if len == 1 { 1 } else { 2 };
        if read != len {
            put!(text, "[len {len}]");
        }
        if kind == END {
            break;
        }
        separator = ",";
        options = options.after(read);
    }
    Ok(true)
}

/// Marks the rest of the segment as unreadable; after other options with their end, as tcpdump.
fn bad(text: &mut Text<'_>, separator: &str) {
    put!(text, "[bad opt]{}", if separator.is_empty() { "" } else { "]" });
}

/// Prints an option; returns its length. `room` is the bytes up to the end of the header.
fn value(
    text: &mut Text<'_>,
    kind: u8,
    data: View<'_>,
    room: usize,
    segment: Segment,
) -> Printed<Result<usize, Bad>> {
    let fixed = match kind {
        END | NOP | SACK_PERMITTED => return Ok(Ok(0)),
        WINDOW_SCALE => 1,
        MAXIMUM_SEGMENT_SIZE | SCPS | USER_TIMEOUT => 2,
        // Echo (RFC 1072) and T/TCP's connection counts (RFC 1644).
        6 | 7 | 11..=13 => 4,
        TIMESTAMPS => 8,
        MD5 => 16,
        _ => data.len(),
    };
    if fixed + 2 > room {
        return Ok(Err(Bad));
    }
    // Only these are printed only if complete.
    let bytes = match kind {
        SACK | AUTHENTICATION => &[],
        _ if name(kind).is_none() => &[],
        _ => data.get(0, fixed)?,
    };
    match kind {
        WINDOW_SCALE => put!(text, " {}", data.u8(0)?),
        MAXIMUM_SEGMENT_SIZE => put!(text, " {}", data.u16(0)?),
        6 | 7 | 11..=13 => put!(text, " {}", data.u32(0)?),
        TIMESTAMPS => put!(text, " val {} ecr {}", data.u32(0)?, data.u32(4)?),
        SCPS => put!(text, " cap {:02x} id {}", data.u8(0)?, data.u8(1)?),
        SACK if !fixed.is_multiple_of(8) => put!(text, " invalid sack"),
        SACK => {
            put!(text, " {} ", fixed / 8);
            for at in (0..fixed).step_by(8) {
                let [start, end] =
                    [data.u32(at)?, data.u32(at + 4)?].map(|edge| edge.wrapping_sub(segment.blocks));
                put!(text, "{{{start}:{end}}}");
            }
        }
        MD5 => {
            let why =
                if segment.is_whole { "shared secret not supplied with -M" } else { "snaplen too short" };
            put!(text, " {why}, can't check - ");
            text.hex(bytes, "");
        }
        USER_TIMEOUT => {
            let value = data.u16(0)?;
            let unit = if value & 1 == 0 { 1 } else { 60 };
            put!(text, " 0x{value:x} {}", u32::from(value >> 1) * unit);
        }
        AUTHENTICATION => authentication(text, data)?,
        FAST_OPEN => {
            put!(text, " ");
            fast_open(text, data)?;
        }
        EXPERIMENT if fixed < 2 => return Ok(Err(Bad)),
        EXPERIMENT => {
            put!(text, "-");
            match data.u16(0)? {
                0xf989 => {
                    put!(text, "tfo");
                    fast_open(text, data.after(2))?;
                }
                identifier => put!(text, "{identifier:04x}"),
            }
        }
        _ => {
            if fixed > 0 {
                put!(text, " 0x");
            }
            for at in 0..fixed {
                put!(text, "{:02x}", data.u8(at)?);
            }
        }
    }
    Ok(Ok(fixed))
}

fn authentication(text: &mut Text<'_>, data: View<'_>) -> Printed {
    if data.len() < 2 {
        text.invalid();
        return Ok(());
    }
    put!(text, " keyid {}", data.u8(0)?);
    put!(text, " rnextkeyid {}", data.u8(1)?);
    if data.len() > 2 {
        put!(text, " mac 0x");
        for at in 2..data.len() {
            put!(text, "{:02x}", data.u8(at)?);
        }
    }
    Ok(())
}

fn fast_open(text: &mut Text<'_>, data: View<'_>) -> Printed {
    match data.len() {
        0 => put!(text, " cookiereq"),
        len @ (4 | 6 | 8 | 10 | 12 | 14 | 16) => {
            put!(text, " cookie ");
            text.hex(data.get(0, len)?, "");
        }
        _ => text.invalid(),
    }
    Ok(())
}

fn name(kind: u8) -> Option<&'static str> {
    Some(match kind {
        END => "eol",
        NOP => "nop",
        MAXIMUM_SEGMENT_SIZE => "mss",
        WINDOW_SCALE => "wscale",
        SACK_PERMITTED => "sackOK",
        SACK => "sack",
        6 => "echo",
        7 => "echoreply",
        TIMESTAMPS => "TS",
        11 => "cc",
        12 => "ccnew",
        13 => "",
        MD5 => "md5",
        SCPS => "scps",
        USER_TIMEOUT => "uto",
        AUTHENTICATION => "tcp-ao",
        MULTIPATH => "mptcp",
        FAST_OPEN => "tfo",
        EXPERIMENT => "exp",
        _ => return None,
    })
}
