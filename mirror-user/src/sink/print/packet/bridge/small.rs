//! Protocols over Ethernet that need one line: AoE, CFM, EAPOL, loopback, MS NLB.

use super::super::{
    text::{Address, Mac, Printed, Text, put},
    view::View,
};

pub(in super::super) fn ata(text: &mut Text<'_>, packet: View<'_>) -> Printed {
    const FLAGS: [(u32, &str); 4] = [(0x08, "Response"), (0x04, "Error"), (0x02, "MBZ-1"), (0x01, "MBZ-0")];
    const HEADER: usize = 10;
    text.protocol = "aoe";
    put!(text, "AoE length {}", packet.len());
    if packet.len() < 1 {
        return text.invalid_of(packet);
    }
    let first = packet.u8(0)?;
    put!(text, ", Ver {}", first >> 4);
    if first >> 4 == 1 {
        if packet.len() < HEADER {
            return text.invalid_of(packet);
        }
        put!(text, ", Flags: [");
        text.bits((first & 0xf).into(), &FLAGS, ", ");
        put!(text, "]");
    }
    Ok(())
}

pub(in super::super) fn fault_management(text: &mut Text<'_>, packet: View<'_>) -> Printed {
    const OPERATIONS: [(u32, &str); 5] = [
        (1, "Continuity Check Message"),
        (2, "Loopback Reply"),
        (3, "Loopback Message"),
        (4, "Linktrace Reply"),
        (5, "Linktrace Message"),
    ];
    text.protocol = "cfm";
    if packet.len() < 4 {
        put!(text, "\n\t\t packet is too short");
        return Ok(());
    }
    packet.get(0, 4)?;
    let (first, operation) = (packet.u8(0)?, packet.u8(1)?);
    let version = first & 0x1f;
    if version != 0 {
        put!(text, "CFMv{version} not supported, length {}", packet.len());
        return Ok(());
    }
    put!(text, "CFMv0 ");
    text.name_or(&OPERATIONS, operation, format_args!("unknown ({operation})"));
    put!(text, ", MD Level {}, length {}", first >> 5, packet.len());
    Ok(())
}

pub(in super::super) fn authentication(text: &mut Text<'_>, packet: View<'_>) -> Printed {
    const KINDS: [(u32, &str); 5] = [
        (0, "EAP packet"),
        (1, "EAPOL start"),
        (2, "EAPOL logoff"),
        (3, "EAPOL key"),
        (4, "Encapsulated ASF alert"),
    ];
    text.protocol = "eap";
    packet.get(0, 4)?;
    let kind = packet.u8(1)?;
    text.name_or(&KINDS, kind, format_args!("unknown"));
    put!(text, " ({kind}) v{}, len {}", packet.u8(0)?, packet.u16(2)?);
    Ok(())
}

/// The loopback protocol of the first Ethernet (DEC, Intel and Xerox, section 8).
pub(in super::super) fn loopback(text: &mut Text<'_>, packet: View<'_>) -> Printed {
    text.protocol = "loopback";
    put!(text, "Loopback");
    if packet.len() < 2 {
        return text.invalid_of(packet);
    }
    let skipped = packet.u16_le(0)?;
    put!(text, ", skipCount {skipped}{}", if skipped % 8 == 0 { "" } else { " (bogus)" });
    let rest = packet.after(2);
    if usize::from(skipped) > rest.len() {
        return text.invalid_of(rest);
    }
    rest.get(0, skipped.into())?;
    let message = rest.after(skipped.into());
    if message.len() < 2 {
        return text.invalid_of(message);
    }
    let function = message.u16_le(0)?;
    let rest = message.after(2);
    let data = match function {
        1 => {
            put!(text, ", Reply");
            if rest.len() < 2 {
                return text.invalid_of(rest);
            }
            put!(text, ", receipt number {}", rest.u16_le(0)?);
            rest.after(2)
        }
        2 => {
            put!(text, ", Forward Data");
            if rest.len() < 6 {
                return text.invalid_of(rest);
            }
            put!(text, ", forwarding address {}", Mac(rest.array(0)?));
            rest.after(6)
        }
        _ => {
            put!(text, ",  invalid ({function})");
            rest.get(0, rest.len())?;
            return Ok(());
        }
    };
    put!(text, ", data ({} octets)", data.len());
    data.get(0, data.len())?;
    Ok(())
}

/// Heartbeats of Microsoft's load balancing.
pub(in super::super) fn load_balancing(text: &mut Text<'_>, packet: View<'_>) -> Printed {
    text.protocol = "msnlb";
    put!(text, "MS NLB heartbeat");
    put!(text, ", host priority: {}", packet.u32_le(8)?);
    put!(text, ", cluster IP: {}", Address::v4(packet, 12)?);
    put!(text, ", host IP: {}", Address::v4(packet, 16)?);
    Ok(())
}
