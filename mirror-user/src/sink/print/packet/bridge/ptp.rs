//! PTP, version 2 (IEEE 1588).

use super::super::{
    text::{Printed, Text, put},
    view::View,
};

const HEADER: usize = 34;

pub(in super::super) fn print(text: &mut Text<'_>, message: View<'_>) -> Printed {
    text.protocol = "ptp";
    if message.len() < HEADER {
        put!(text, " [length {} < {HEADER}]", message.len());
        text.invalid();
        return Ok(());
    }
    let version = message.u16(0)? & 0xff;
    put!(text, "PTPv{version}");
    match version {
        1 => put!(text, " (not implemented)"),
        2 => fields(text, message)?,
        _ => {}
    }
    Ok(())
}

fn u48(message: View<'_>, at: usize) -> Printed<u64> {
    Ok(u64::from(message.u16(at)?) << 32 | u64::from(message.u32(at + 2)?))
}

fn fields(text: &mut Text<'_>, message: View<'_>) -> Printed {
    const KINDS: [(u32, &str); 10] = [
        (0x0, "sync msg"),
        (0x1, "delay req msg"),
        (0x2, "peer delay req msg"),
        (0x3, "peer delay resp msg"),
        (0x8, "follow up msg"),
        (0x9, "delay resp msg"),
        (0xa, "pdelay resp fup msg"),
        (0xb, "announce msg"),
        (0xc, "signalling msg"),
        (0xd, "management msg"),
    ];
    const FLAGS: [(u32, &str); 12] = [
        (0x1, "l1 61"),
        (0x2, "l1 59"),
        (0x4, "utc reasonable"),
        (0x8, "timescale"),
        (0x10, "time tracable"),
        (0x20, "frequency tracable"),
        (0x100, "alternate master"),
        (0x200, "two step"),
        (0x400, "unicast"),
        (0x1000, "profile specific 1"),
        (0x2000, "profile specific 2"),
        (0x4000, "security mask"),
    ];
    const UNKNOWN_FLAGS: u32 = 0x18c0;
    const CONTROLS: [(u32, &str); 6] =
        [(0, "Sync"), (1, "Delay_Req"), (2, "Follow_Up"), (3, "Delay_Resp"), (4, "Management"), (5, "Other")];
    let first = message.u8(0)?;
    let kind = first & 0xf;
    put!(text, ", v1 compat : {}, msg type : ", if first & 0x10 == 0 { "no" } else { "yes" });
    text.name_or(&KINDS, kind, format_args!("Reserved"));
    put!(text, ", length : {}", message.u16(2)?);
    put!(text, ", domain : {}, reserved1 : {}", message.u16(4)? >> 8, message.u8(5)?);
    let flags = message.u16(6)?.into();
    put!(text, ", Flags [");
    let known = FLAGS.iter().fold(0, |known, (bit, _)| known | bit);
    if flags & known != 0 || flags & UNKNOWN_FLAGS != UNKNOWN_FLAGS {
        text.bits(flags, &FLAGS, ", ");
    }
    if flags & UNKNOWN_FLAGS == UNKNOWN_FLAGS {
        put!(text, "{}unknown", if flags & known == 0 { "" } else { ", " });
    }
    put!(text, "]");
    put!(text, ", NS correction : {}", u48(message, 8)?);
    put!(text, ", sub NS correction : {}", message.u16(14)?);
    put!(text, ", reserved2 : {}", message.u32(16)?);
    put!(text, ", clock identity : 0x{:x}", message.u64(20)?);
    put!(text, ", port id : {}", message.u16(28)?);
    put!(text, ", seq id : {}", message.u16(30)?);
    let control = message.u8(32)?;
    put!(text, ", control : {control} (");
    text.name_or(&CONTROLS, control, format_args!("Reserved"));
    put!(text, ")");
    put!(text, ", log message interval : {}", message.u16(32)? & 0xff);
    let rest = message.after(HEADER);
    match kind {
        0x0 | 0x1 => timestamp(text, rest, "originTimeStamp")?,
        0x8 => timestamp(text, rest, "preciseOriginTimeStamp")?,
        0x2 | 0xa => {
            timestamp(text, rest, "preciseOriginTimeStamp")?;
            port(text, rest.after(10))?;
        }
        0x3 | 0x9 => {
            timestamp(text, rest, "receiveTimeStamp")?;
            port(text, rest.after(10))?;
        }
        0xb => announcement(text, rest)?,
        0xc => port(text, rest)?,
        0xd => management(text, rest)?,
        _ => {}
    }
    Ok(())
}

fn timestamp(text: &mut Text<'_>, rest: View<'_>, name: &str) -> Printed {
    put!(text, ", {name} :");
    put!(text, " {} seconds,", u48(rest, 0)?);
    put!(text, " {} nanoseconds", rest.u32(6)?);
    Ok(())
}

fn port(text: &mut Text<'_>, rest: View<'_>) -> Printed {
    put!(text, ", port identity : 0x{:x}", rest.u64(0)?);
    put!(text, ", port id : {}", rest.u16(8)?);
    Ok(())
}

fn announcement(text: &mut Text<'_>, rest: View<'_>) -> Printed {
    put!(text, ", originTimeStamp :");
    put!(text, " {} seconds", u48(rest, 0)?);
    put!(text, " {} nanoseconds", rest.u32(6)?);
    put!(text, ", origin cur utc :{}", rest.u16(10)?);
    put!(text, ", rsvd : {}", rest.u8(12)?);
    put!(text, ", gm priority_1 : {}", rest.u8(13)?);
    put!(text, ", gm clock class : {}", rest.u8(14)?);
    put!(text, ", gm clock accuracy : {}", rest.u8(15)?);
    put!(text, ", gm clock variance : {}", rest.u16(16)?);
    put!(text, ", gm priority_2 : {}", rest.u8(18)?);
    put!(text, ", gm clock id : 0x{:x}", rest.u64(19)?);
    put!(text, ", steps removed : {}", rest.u16(27)?);
    put!(text, ", time source : 0x{:x}", rest.u8(29)?);
    Ok(())
}

fn management(text: &mut Text<'_>, rest: View<'_>) -> Printed {
    port(text, rest)?;
    // tcpdump reads all of them from the first byte.
    let byte = rest.u8(0)?;
    put!(text, ", , start boundary hops  {byte}, , boundary hops  {byte}");
    put!(text, ", , flags  0x{byte:x}, , reserved  0x{byte:x}");
    Ok(())
}
