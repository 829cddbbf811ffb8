//! GENEVE (RFC 8926) within the packet.

use etherparse::EtherType;

use super::super::{
    link,
    text::{Printed, Text, put},
    view::View,
};

const HEADER: usize = 8;
const ETHERNET: u16 = 0x6558;

pub(in super::super) fn print(text: &mut Text<'_>, packet: View<'_>) -> Printed {
    const FLAGS: [(u32, &str); 8] = [
        (0x80, "O"),
        (0x40, "C"),
        (0x20, "R1"),
        (0x10, "R2"),
        (0x08, "R3"),
        (0x04, "R4"),
        (0x02, "R5"),
        (0x01, "R6"),
    ];
    text.protocol = "geneve";
    put!(text, "Geneve");
    if packet.len() < HEADER {
        put!(text, " [length {} < {HEADER}]", packet.len());
        text.invalid();
        return Ok(());
    }
    packet.get(0, HEADER)?;
    let first = packet.u8(0)?;
    if first >> 6 != 0 {
        put!(text, " ERROR: unknown-version {}", first >> 6);
        return Ok(());
    }
    put!(text, ", Flags [");
    text.bits(packet.u8(1)?.into(), &FLAGS, "");
    put!(text, "], vni 0x{:x}", packet.u24(4)?);
    let reserved = packet.u8(7)?;
    if reserved != 0 {
        put!(text, ", rsvd 0x{reserved:x}");
    }
    let kind = packet.u16(2)?;
    if text.style.link {
        put!(text, ", proto {} (0x{kind:04x})", link::ethertype_name(kind).unwrap_or("unknown"));
    }
    let options = packet.after(HEADER);
    let options_len = usize::from(first & 0x3f) * 4;
    if options.len() < options_len {
        put!(text, " truncated-geneve - {} bytes missing", options_len - options.len());
        return Ok(());
    }
    options.get(0, options_len)?;
    if options_len > 0 {
        put!(text, ", options [");
        if text.verbose() {
            put_options(text, options, options_len)?;
        } else {
            put!(text, "{options_len} bytes");
        }
        put!(text, "]");
    }
    put!(text, "{}", if text.verbose() { "\n\t" } else { ": " });
    let payload = options.after(options_len);
    if !link::payload(text, EtherType(kind), payload)? {
        if kind == ETHERNET {
            link::carried(text, payload);
        } else {
            put!(text, "geneve-proto-0x{kind:x}");
        }
    }
    Ok(())
}

fn put_options(text: &mut Text<'_>, options: View<'_>, len: usize) -> Printed {
    let mut at = 0;
    while at < len {
        let (class, kind) = (options.u16(at)?, options.u8(at + 2)?);
        let option_len = 4 + usize::from(options.u8(at + 3)? & 0x1f) * 4;
        let name = match class {
            ..=0x00ff => "Standard",
            0x0100 => "Linux",
            0x0101 => "Open vSwitch",
            0x0102 => "Open Virtual Networking (OVN)",
            0x0103 => "In-band Network Telemetry (INT)",
            0x0104 => "VMware",
            0xfff0.. => "Experimental",
            _ => "Unknown",
        };
        let separator = if at == 0 { "" } else { ", " };
        let critical = if kind & 0x80 == 0 { "" } else { "(C)" };
        put!(text, "{separator}class {name} (0x{class:x}) type 0x{kind:x}{critical} len {option_len}");
        if option_len > len - at {
            put!(text, " [bad length]");
            break;
        }
        if text.style.verbosity > 1 && option_len > 4 {
            put!(text, " data");
            for word in (at + 4..at + option_len).step_by(4) {
                put!(text, " {:08x}", options.u32(word)?);
            }
        }
        at += option_len;
    }
    Ok(())
}
