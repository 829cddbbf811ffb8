//! ARP (RFC 826) and its kin.

use super::{
    hex, link,
    text::{Address, Printed, Text, put},
    view::View,
};

const FIXED: usize = 8;

/// A packet.
pub(super) fn print(text: &mut Text<'_>, packet: View<'_>) -> Printed {
    text.protocol = "arp";
    packet.get(0, FIXED)?;
    let (hardware, protocol, operation) = (packet.u16(0)?, packet.u16(2)?, packet.u16(6)?);
    let (hardware_len, protocol_len) = (usize::from(packet.u8(4)?), usize::from(packet.u8(5)?));
    let source_protocol = FIXED + hardware_len;
    let target_hardware = source_protocol + protocol_len;
    let target_protocol = target_hardware + hardware_len;
    packet.get(target_protocol, protocol_len)?;
    if !text.style.link {
        put!(text, "ARP, ");
    }
    let is_ip = matches!(protocol, 0x0800 | TRAILERS);
    let known = is_ip && protocol_len == 4 && hardware_len != 0;
    if !known || text.verbose() {
        match hardware_name(hardware) {
            Some(name) => put!(text, "{name}"),
            None => put!(text, "Unknown Hardware ({hardware})"),
        }
        put!(text, " (len {hardware_len}), ");
        match link::ethertype_name(protocol) {
            Some(name) => put!(text, "{name}"),
            None => put!(text, "Unknown Protocol (0x{protocol:04x})"),
        }
        put!(text, " (len {protocol_len})");
    }
    if known || text.verbose() {
        put!(text, "{}", if text.verbose() { ", " } else { "" });
        match operation_name(operation) {
            Some(name) => put!(text, "{name} "),
            None => put!(text, "Unknown ({operation}) "),
        }
        let mac = |text: &mut Text<'_>, at| -> Printed {
            match packet.get(at, hardware_len)? {
                [] => put!(text, "<empty>"),
                address => text.hex(address, ":"),
            }
            Ok(())
        };
        let ip = |text: &mut Text<'_>, at| -> Printed {
            match (is_ip, protocol_len) {
                (false, _) => put!(text, "<wrong proto type>"),
                (true, 4) => put!(text, "{}", Address::v4(packet, at)?),
                (true, _) => put!(text, "<wrong len>"),
            }
            Ok(())
        };
        match operation {
            1 => {
                put!(text, "who-has ");
                ip(text, target_protocol)?;
                if packet.get(target_hardware, hardware_len)?.iter().any(|&byte| byte != 0) {
                    put!(text, " (");
                    mac(text, target_hardware)?;
                    put!(text, ")");
                }
                put!(text, " tell ");
                ip(text, source_protocol)?;
            }
            2 => {
                ip(text, source_protocol)?;
                put!(text, " is-at ");
                mac(text, FIXED)?;
            }
            3 | 8 => {
                put!(text, "who-is ");
                mac(text, target_hardware)?;
                put!(text, " tell ");
                mac(text, FIXED)?;
            }
            4 => {
                mac(text, target_hardware)?;
                put!(text, " at ");
                ip(text, target_protocol)?;
            }
            9 => {
                mac(text, FIXED)?;
                put!(text, " at ");
                ip(text, source_protocol)?;
            }
            _ => {
                hex::hex(text, packet.bytes(), true);
                return Ok(());
            }
        }
    }
    put!(text, ", length {}", packet.len());
    Ok(())
}

/// Trailer encapsulation (RFC 893), which asks with IPv4 addresses too.
const TRAILERS: u16 = 0x1000;

fn hardware_name(hardware: u16) -> Option<&'static str> {
    Some(match hardware {
        1 => "Ethernet",
        6 => "TokenRing",
        7 => "ArcNet",
        15 => "FrameRelay",
        19 => "ATM",
        23 => "Strip",
        24 => "IEEE 1394",
        32 => "InfiniBand",
        _ => return None,
    })
}

fn operation_name(operation: u16) -> Option<&'static str> {
    Some(match operation {
        1 => "Request",
        2 => "Reply",
        3 => "Reverse Request",
        4 => "Reverse Reply",
        8 => "Inverse Request",
        9 => "Inverse Reply",
        10 => "NACK Reply",
        _ => return None,
    })
}
