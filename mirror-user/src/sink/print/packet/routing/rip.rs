//! RIP (RFC 1058, RFC 2453): the kind of a message; and RIPng (RFC 2080) with its routes.

use super::super::{
    hex,
    text::{Address, Printed, Text, put},
    view::View,
};

const HEADER: usize = 4;
const ENTRY: usize = 20;
const INFINITY: u8 = 16;

pub(in super::super) fn print(text: &mut Text<'_>, message: View<'_>) -> Printed {
    const COMMANDS: [(u32, &str); 6] =
        [(1, "Request"), (2, "Response"), (3, "Trace on"), (4, "Trace off"), (5, "Poll"), (6, "Poll Entry")];
    text.protocol = "rip";
    if message.here().len() < HEADER {
        text.cut();
        return Ok(());
    }
    let (command, version) = (message.u8(0)?, message.u8(1)?);
    put!(text, "RIPv{version}");
    if version == 0 {
        hex::indented(text, message.here(), false, "\t");
        return Ok(());
    }
    put!(text, ", ");
    text.name_or(&COMMANDS, command, format_args!("unknown command ({command})"));
    put!(text, ", length: {}", message.len());
    Ok(())
}

pub(in super::super) fn next_generation(text: &mut Text<'_>, message: View<'_>) -> Printed {
    text.protocol = "ripng";
    let version = message.u8(1)?;
    if version != 1 {
        put!(text, " [vers {version}]");
        text.invalid();
        return Ok(());
    }
    let name = match message.u8(0)? {
        1 => "req",
        2 => "resp",
        command => {
            put!(text, " ripng-{command} ?? {}", message.len());
            text.invalid();
            return Ok(());
        }
    };
    if message.len() < HEADER {
        text.invalid();
        return Ok(());
    }
    let mut entries = message.after(HEADER);
    let count = entries.len() / ENTRY;
    if name == "req" && count == 1 && entries.u8(19)? == INFINITY && entries.array(0)? == [0; 16] {
        put!(text, " ripng-req dump");
        return Ok(());
    }
    put!(text, " ripng-{name} {count}");
    if count * ENTRY != entries.len() {
        put!(text, "[{}]", message.len());
    }
    put!(text, ":");
    for _ in 0..count {
        put!(text, "{}", if text.style.verbosity > 1 { "\n\t" } else { " " });
        entry(text, entries, name == "resp")?;
        entries = entries.after(ENTRY);
    }
    if entries.len() > 0 {
        text.invalid();
    }
    Ok(())
}

fn entry(text: &mut Text<'_>, entry: View<'_>, is_response: bool) -> Printed {
    put!(text, "{}/{}", Address::v6(entry, 0)?, entry.u8(18)?);
    let tag = entry.u16(16)?;
    if tag != 0 {
        put!(text, " [{tag}]");
    }
    let metric = entry.u8(19)?;
    if is_response && metric != 0 {
        put!(text, " ({metric})");
    }
    Ok(())
}
