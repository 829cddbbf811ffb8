//! HSRP (RFC 2281).

use super::super::{
    text::{Address, Printed, Text, put},
    view::View,
};

pub(in super::super) fn print(text: &mut Text<'_>, packet: View<'_>) -> Printed {
    const OPERATIONS: [(u32, &str); 3] = [(0, "hello"), (1, "coup"), (2, "resign")];
    const STATES: [(u32, &str); 6] =
        [(0, "initial"), (1, "learn"), (2, "listen"), (4, "speak"), (8, "standby"), (16, "active")];
    text.protocol = "hsrp";
    let version = packet.u8(0)?;
    put!(text, "HSRPv{version}");
    if version != 0 {
        return Ok(());
    }
    put!(text, "-");
    let operation = packet.u8(1)?;
    text.name_or(&OPERATIONS, operation, format_args!("unknown ({operation})"));
    put!(text, " {}: ", packet.len());
    let state = packet.u8(2)?;
    put!(text, "state=");
    text.name_or(&STATES, state, format_args!("Unknown ({state})"));
    put!(text, " ");
    put!(text, "group={} ", packet.u8(6)?);
    let reserved = packet.u8(7)?;
    if reserved != 0 {
        put!(text, "[reserved={reserved}!] ");
    }
    put!(text, "addr={}", Address::v4(packet, 16)?);
    Ok(())
}
