//! Slow protocols (IEEE 802.3 annex 57A): LACP, markers, OAM.

use super::super::{
    hex,
    text::{Printed, Text, put},
    view::View,
};

pub(in super::super) fn print(text: &mut Text<'_>, packet: View<'_>) -> Printed {
    text.protocol = "slow";
    if packet.len() < 1 {
        put!(text, " (packet is too short)");
        return Ok(());
    }
    let name = match packet.u8(0)? {
        1 => "LACP",
        2 => "MARKER",
        3 => {
            put!(text, "OAM, length {}", packet.len());
            return Ok(());
        }
        subtype => {
            put!(text, "unknown ({subtype}), length {}", packet.len());
            hex::indented(text, packet.here(), false, "\t");
            return Ok(());
        }
    };
    if packet.len() < 2 {
        put!(text, " (packet is too short)");
        return Ok(());
    }
    let version = packet.u8(1)?;
    if version == 1 {
        put!(text, "{name}v1, length {}", packet.len());
    } else {
        put!(text, "{name} version {version} packet not supported");
    }
    Ok(())
}
