//! sFlow, version 5: the sender of a datagram.

use super::super::{
    text::{Address, Printed, Text, put},
    view::View,
};

const HEADER: usize = 28;

pub(super) fn print(text: &mut Text<'_>, datagram: View<'_>) -> Printed {
    text.protocol = "sflow";
    let family = datagram.u32(4)?;
    if (family == 1 && datagram.len() < HEADER) || (family == 2 && datagram.len() < HEADER + 12) {
        put!(text, "sFlowv{} [length {} < {HEADER}]", datagram.u32(0)?, datagram.len());
        text.invalid();
        return Ok(());
    }
    datagram.get(0, HEADER)?;
    let version = datagram.u32(0)?;
    if version != 5 {
        put!(text, "sFlow version {version} packet not supported");
        return Ok(());
    }
    let (name, agent, number) = if family == 1 {
        ("IPv4", Address::v4(datagram, 8)?, datagram.u32(12)?)
    } else {
        ("IPv6", Address::v6(datagram, 8)?, datagram.u32(24)?)
    };
    put!(text, "sFlowv5, {name} agent {agent}, agent-id {number}, length {}", datagram.len());
    Ok(())
}
