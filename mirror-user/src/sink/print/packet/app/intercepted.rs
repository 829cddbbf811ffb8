//! The shim of Broadcom's lawful interception.

use super::super::{
    text::{Printed, Text, put},
    view::View,
};

const SHIM: usize = 4;

pub(super) fn print(text: &mut Text<'_>, packet: View<'_>) -> Printed {
    const DIRECTIONS: [(u32, &str); 3] = [(1, "unused"), (2, "egress"), (3, "ingress")];
    const KINDS: [(u32, &str); 4] = [(4, "undecided"), (5, "ipv4"), (6, "ipv6"), (7, "ethernet")];
    const TAGS: [(u32, &str); 3] = [(1, "single VLAN tag"), (2, "double VLAN tag"), (3, "untagged")];
    text.protocol = "bcm_li";
    if packet.len() < SHIM {
        put!(text, " (length {} < {SHIM})", packet.len());
        text.invalid();
        return Ok(());
    }
    let shim = packet.u32(0)?;
    put!(text, "BCM-LI-SHIM: direction ");
    text.name_or(&DIRECTIONS, shim >> 29, format_args!("unknown"));
    put!(text, ", pkt-type ");
    text.name_or(&KINDS, shim >> 25 & 0xf, format_args!("unknown"));
    put!(text, ", pkt-subtype ");
    text.name_or(&TAGS, shim >> 22 & 7, format_args!("unknown"));
    put!(text, ", li-id {}", shim & 0x3f_ffff);
    packet.get(0, packet.len())?;
    Ok(())
}
