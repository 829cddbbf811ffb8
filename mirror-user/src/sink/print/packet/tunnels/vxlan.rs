//! VXLAN (RFC 7348) within the packet, and its generic protocol extension (draft-ietf-nvo3-vxlan-gpe).

use super::{
    super::{
        ipv4, ipv6, link,
        text::{Printed, Text, put},
        view::View,
    },
    nsh,
};

const HEADER: usize = 8;

pub(in super::super) fn print(text: &mut Text<'_>, packet: View<'_>) -> Printed {
    text.protocol = "vxlan";
    put!(text, "VXLAN");
    if packet.len() < HEADER {
        text.invalid();
        return Ok(());
    }
    let flags = packet.u8(0)?;
    let name = if flags & 0x08 == 0 { "invalid" } else { "I" };
    put!(text, ", flags [{name}] (0x{flags:02x}), ");
    put!(text, "vni {}\n", packet.u24(4)?);
    packet.u8(7)?;
    link::carried(text, packet.after(HEADER));
    Ok(())
}

/// Overlay transport virtualization (draft-hasmit-otv), which looks like VXLAN and has its old port.
pub(in super::super) fn otv(text: &mut Text<'_>, packet: View<'_>) -> Printed {
    text.protocol = "otv";
    put!(text, "OTV, ");
    if packet.len() < HEADER {
        put!(text, "[length {} < {HEADER}]", packet.len());
        return text.invalid_of(packet);
    }
    let flags = packet.u8(0)?;
    put!(text, "flags [{}] (0x{flags:02x}), ", if flags & 0x08 == 0 { "." } else { "I" });
    put!(text, "overlay {}, ", packet.u24(1)?);
    put!(text, "instance {}\n", packet.u24(4)?);
    packet.u8(7)?;
    link::carried(text, packet.after(HEADER));
    Ok(())
}

pub(in super::super) fn gpe(text: &mut Text<'_>, packet: View<'_>) -> Printed {
    const FLAGS: [(u32, &str); 4] = [(0x08, "I"), (0x04, "P"), (0x02, "B"), (0x01, "O")];
    text.protocol = "vxlan_gpe";
    put!(text, "VXLAN-GPE, ");
    if packet.len() < HEADER {
        put!(text, " (len {} < {HEADER})", packet.len());
        text.invalid();
        return Ok(());
    }
    let flags = packet.u8(0)?;
    put!(text, "flags [");
    text.bits(flags.into(), &FLAGS, "");
    put!(text, "], ");
    let next = packet.u8(3)?;
    let vni = packet.u24(4)?;
    packet.u8(7)?;
    put!(text, "vni {vni}{}", if text.verbose() { "\n    " } else { ": " });
    let payload = packet.after(HEADER);
    match next {
        1 => ipv4::print(text, payload)?,
        2 => ipv6::print(text, payload)?,
        3 => link::carried(text, payload),
        4 => nsh(text, payload)?,
        _ => {
            put!(text, "ERROR: unknown-next-protocol");
            text.invalid();
        }
    }
    Ok(())
}
