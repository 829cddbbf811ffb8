//! Spanning trees (IEEE 802.1D, 802.1Q): kind and sender of a message.

use super::super::{
    text::{Mac, Printed, Text, put},
    view::View,
};

const CONFIGURATION: u8 = 0x00;
const RAPID: u8 = 0x02;
/// A message without its version 1 length.
const MESSAGE: usize = 35;
const MULTIPLE_LEAST: usize = 102;
const SHORTEST_PATH_LEAST: usize = 87;

pub(in super::super) fn print(text: &mut Text<'_>, message: View<'_>) -> Printed {
    text.protocol = "stp";
    if message.len() < 4 {
        text.invalid();
        return Ok(());
    }
    if message.u16(0)? != 0 {
        put!(text, "unknown STP version, length {}", message.len());
        return Ok(());
    }
    let version = message.u8(2)?;
    put!(text, "STP ");
    match version {
        0 => put!(text, "802.1d"),
        2 => put!(text, "802.1w"),
        3 => put!(text, "802.1s"),
        4 => put!(text, "802.1aq"),
        _ => {
            put!(text, "Unknown STP protocol (0x{version:02x})");
            return Ok(());
        }
    }
    let kind = message.u8(3)?;
    put!(text, ", ");
    match kind {
        CONFIGURATION => put!(text, "Config"),
        RAPID => put!(text, "Rapid STP"),
        0x80 => put!(text, "Topology Change"),
        _ => put!(text, "Unknown BPDU Type (0x{kind:02x})"),
    }
    match (kind, version) {
        (CONFIGURATION, _) if message.len() < MESSAGE => text.invalid(),
        (CONFIGURATION, _) => configuration(text, message)?,
        (RAPID, 2) if message.len() < MESSAGE + 1 => text.invalid(),
        (RAPID, 2) => configuration(text, message)?,
        (RAPID, 3 | 4) => multiple(text, message, version == 4)?,
        _ => {}
    }
    Ok(())
}

fn put_flags(text: &mut Text<'_>, before: &str, message: View<'_>) -> Printed {
    const FLAGS: [(u32, &str); 6] = [
        (0x01, "Topology change"),
        (0x02, "Proposal"),
        (0x10, "Learn"),
        (0x20, "Forward"),
        (0x40, "Agreement"),
        (0x80, "Topology change ACK"),
    ];
    let flags = message.u8(4)?;
    put!(text, "{before}[");
    text.bits(flags.into(), &FLAGS, ", ");
    put!(text, "]");
    Ok(())
}

fn configuration(text: &mut Text<'_>, message: View<'_>) -> Printed {
    put_flags(text, ", Flags ", message)?;
    let priority = message.u16(17)?;
    put!(text, ", bridge-id {priority:04x}.{}.{:04x}", Mac(message.array(19)?), message.u16(25)?);
    put!(text, ", length {}", message.len());
    Ok(())
}

/// Multiple spanning trees, followed by shortest paths.
fn multiple(text: &mut Text<'_>, message: View<'_>, shortest_path: bool) -> Printed {
    if message.len() < MULTIPLE_LEAST || message.u8(MESSAGE)? != 0 {
        text.invalid();
        return Ok(());
    }
    let len = usize::from(message.u16(MESSAGE + 1)?) + 2;
    if message.len() < MESSAGE + 1 + len {
        text.invalid();
        return Ok(());
    }
    put_flags(text, ", CIST Flags ", message)?;
    put!(text, ", length {}", message.len());
    if shortest_path {
        let at = MESSAGE + 1 + len;
        let rest = usize::from(message.u16(at)?) + 2;
        if message.len() < at + rest || rest < SHORTEST_PATH_LEAST {
            text.invalid();
        }
    }
    Ok(())
}
