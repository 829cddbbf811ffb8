//! Cisco's protocols over SNAP: CDP, DTP, UDLD, VTP.

use std::ops::RangeInclusive;

use super::super::{
    hex,
    text::{Printed, Text, put},
    view::View,
};

pub(in super::super) fn discovery(text: &mut Text<'_>, packet: View<'_>) -> Printed {
    const HEADER: usize = 4;
    const DEVICE: u16 = 1;
    text.protocol = "cdp";
    if packet.len() < HEADER {
        put!(text, " (packet length {} < {HEADER})", packet.len());
        return text.invalid_of(packet);
    }
    put!(text, "CDPv{}, ttl: {}s", packet.u8(0)?, packet.u8(1)?);
    packet.u16(2)?;
    let mut rest = packet.after(HEADER);
    while rest.len() > 0 {
        if rest.len() < 4 {
            put!(text, " (remaining packet length {} < 4)", rest.len());
            return text.invalid_of(rest);
        }
        let (kind, len) = (rest.u16(0)?, usize::from(rest.u16(2)?));
        if len < 4 {
            put!(
                text,
                ", {} TLV length {len} too short",
                field(kind).map_or("unknown field type", |(name, _)| name)
            );
            return text.invalid_of(rest);
        }
        if len > rest.len() {
            put!(text, " (TLV length {len} > {})", rest.len());
            return text.invalid_of(rest);
        }
        if kind == DEVICE {
            put!(text, ", Device-ID ");
        }
        let value = rest.after(4).of_len(len - 4);
        if kind == DEVICE {
            put!(text, "'");
            text.escaped(value.here());
            value.get(0, value.len())?;
            put!(text, "'");
        } else {
            let (_, lengths) = field(kind).unwrap_or(("", 0..=usize::MAX));
            put!(text, "{}", if lengths.contains(&value.len()) { "" } else { " (malformed TLV)" });
            hex::indented(text, value.get(0, value.len())?, false, "\t  ");
        }
        rest = rest.after(len);
    }
    put!(text, ", length {}", packet.len());
    Ok(())
}

/// A field's name, and the maximum length of its value.
fn field(kind: u16) -> Option<(&'static str, RangeInclusive<usize>)> {
    const ANY: RangeInclusive<usize> = 0..=usize::MAX;
    Some(match kind {
        0x01 => ("Device-ID", ANY),
        0x02 => ("Address", ANY),
        0x03 => ("Port-ID", ANY),
        0x04 => ("Capability", 4..=4),
        0x05 => ("Version String", ANY),
        0x06 => ("Platform", ANY),
        0x07 => ("Prefixes", ANY),
        0x08 => ("Protocol-Hello option", ANY),
        0x09 => ("VTP Management Domain", ANY),
        0x0a => ("Native VLAN ID", 2..=2),
        0x0b => ("Duplex", 1..=1),
        0x0e => ("ATA-186 VoIP VLAN assignment", 3..=3),
        0x0f => ("ATA-186 VoIP VLAN request", 2..=3),
        0x10 => ("power consumption", 1..=3),
        0x11 => ("MTU", 4..=4),
        0x12 => ("AVVID trust bitmap", 1..=1),
        0x13 => ("AVVID untrusted ports CoS", 1..=1),
        0x14 => ("System Name", ANY),
        0x15 => ("System Object ID (not decoded)", ANY),
        0x16 => ("Management Addresses", 4..=usize::MAX),
        0x17 => ("Physical Location", 1..=usize::MAX),
        _ => return None,
    })
}

pub(in super::super) fn trunking(text: &mut Text<'_>, packet: View<'_>) -> Printed {
    text.protocol = "dtp";
    if packet.len() < 1 {
        put!(text, "[zero packet length]");
        text.invalid();
        return Ok(());
    }
    put!(text, "DTPv{}, length {}", packet.u8(0)?, packet.len());
    Ok(())
}

pub(in super::super) fn link_detection(text: &mut Text<'_>, packet: View<'_>) -> Printed {
    const FLAGS: [(u32, &str); 8] = [
        (0x01, "RT"),
        (0x02, "RSY"),
        (0x04, "MBZ-2"),
        (0x08, "MBZ-3"),
        (0x10, "MBZ-4"),
        (0x20, "MBZ-5"),
        (0x40, "MBZ-6"),
        (0x80, "MBZ-7"),
    ];
    const CODES: [&str; 4] = ["Reserved", "Probe message", "Echo message", "Flush message"];
    text.protocol = "udld";
    if packet.len() < 4 {
        return text.invalid_of(packet);
    }
    let (first, flags) = (packet.u8(0)?, packet.u8(1)?);
    let code = first & 0x1f;
    let name = CODES.get(usize::from(code)).unwrap_or(&"Reserved");
    put!(text, "UDLDv{}, Code {name} ({code:x}), Flags [", first >> 5);
    text.bits(flags.into(), &FLAGS, ", ");
    put!(text, "] (0x{flags:02x}), length {}", packet.len());
    packet.get(0, packet.len())?;
    Ok(())
}

pub(in super::super) fn vlans(text: &mut Text<'_>, packet: View<'_>) -> Printed {
    const HEADER: usize = 36;
    const KINDS: [(u32, &str); 4] = [
        (1, "Summary advertisement"),
        (2, "Subset advertisement"),
        (3, "Advertisement request"),
        (4, "Join message"),
    ];
    text.protocol = "vtp";
    if packet.len() < HEADER {
        return text.invalid_of(packet);
    }
    packet.get(0, HEADER)?;
    let kind = packet.u8(1)?;
    put!(text, "VTPv{}, Message ", packet.u8(0)?);
    text.name_or(&KINDS, kind, format_args!("Unknown message type"));
    put!(text, " (0x{kind:02x}), length {}", packet.len());
    packet.get(0, packet.len())?;
    Ok(())
}
