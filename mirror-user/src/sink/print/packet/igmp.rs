//! IGMP (RFC 1112, RFC 2236, RFC 3376).

use super::{
    checksum, groups,
    text::{Address, Printed, Text, put},
    view::View,
};

/// A message.
pub(super) fn print(text: &mut Text<'_>, message: View<'_>) -> Printed {
    text.protocol = "igmp";
    let (kind, len) = (message.u8(0)?, message.len());
    let other_len = |text: &mut Text<'_>| {
        if len != 8 {
            put!(text, " [len {len}]");
        }
    };
    match kind {
        0x11 => {
            put!(text, "igmp query");
            if len >= 12 {
                query_v3(text, message)?;
            } else {
                match message.u8(1)? {
                    0 => put!(text, " v1"),
                    100 => put!(text, " v2"),
                    tenths => put!(text, " v2 [max resp time {tenths}]"),
                }
                if message.u32(4)? != 0 {
                    put!(text, " [gaddr {}]", Address::v4(message, 4)?);
                }
                other_len(text);
            }
        }
        0x12 => {
            put!(text, "igmp v1 report {}", Address::v4(message, 4)?);
            other_len(text);
        }
        0x16 => {
            put!(text, "igmp v2 report {}", Address::v4(message, 4)?);
            other_len(text);
        }
        0x17 => {
            put!(text, "igmp leave {}", Address::v4(message, 4)?);
            other_len(text);
        }
        0x22 => {
            put!(text, "igmp v3 report");
            report_v3(text, message)?;
        }
        0x13 => put!(text, "igmp dvmrp"),
        0x14 => put!(text, "igmp pimv1"),
        _ => put!(text, "igmp-{kind}"),
    }
    if text.verbose()
        && let Some(whole) = message.whole()
        && len >= 4
    {
        let here = message.u16(2)?;
        if checksum::expected(&checksum::of(whole), here).is_some() {
            put!(text, " bad igmp cksum {here:x}!");
        }
    }
    Ok(())
}

fn query_v3(text: &mut Text<'_>, message: View<'_>) -> Printed {
    put!(text, " v3");
    let len = message.len();
    if len < 12 || !len.is_multiple_of(4) {
        put!(text, " [invalid len {len}]");
        return Ok(());
    }
    let code = u32::from(message.u8(1)?);
    // RFC 3376 section 4.1.1: a float from 128 up, in tenths of a second.
    let time = if code < 128 { code } else { (code & 0xf | 0x10) << ((code >> 4 & 7) + 3) };
    if code != 100 {
        put!(text, " [max resp time ");
        if time < 600 {
            put!(text, "{}.{}s", time / 10, time % 10);
        } else {
            text.seconds(time / 10);
        }
        put!(text, "]");
    }
    if message.u32(4)? == 0 {
        return Ok(());
    }
    put!(text, " [gaddr {}", Address::v4(message, 4)?);
    let sources = usize::from(message.u16(10)?);
    groups::IGMP.query_sources(text, message, 12, sources)
}

fn report_v3(text: &mut Text<'_>, message: View<'_>) -> Printed {
    let len = message.len();
    if len < 16 || !len.is_multiple_of(4) {
        put!(text, " [invalid len {len}]");
        return Ok(());
    }
    groups::IGMP.records(text, message)
}
