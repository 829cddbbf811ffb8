//! PPP (RFC 1661): its control protocols by kind, and what it carries.

use super::{
    super::{
        hex, ipv4, ipv6, routing,
        text::{Printed, Text, put},
        view::View,
    },
    mpls,
};

/// The address and control bytes of HDLC-like framing (RFC 1662), and what pppd puts in their place.
const FRAMING: [u16; 3] = [0xff03, 0x0003, 0x0103];

pub(in super::super) fn print(text: &mut Text<'_>, packet: View<'_>) -> Printed {
    if !text.nest() {
        return Ok(());
    }
    text.protocol = "ppp";
    let mut rest = packet;
    if rest.len() < 2 {
        text.cut();
        return Ok(());
    }
    let first = rest.u16(0)?;
    if FRAMING.contains(&first) {
        if text.style.link && first != FRAMING[0] {
            put!(text, "{}", if first == FRAMING[1] { "In " } else { "Out " });
        }
        rest = rest.after(2);
    }
    if rest.len() < 2 {
        text.cut();
        return Ok(());
    }
    // Compressed to one byte, which is odd (RFC 1661 section 6.5).
    let protocol;
    (protocol, rest) = match rest.u8(0)? {
        byte if byte % 2 == 1 => (byte.into(), rest.after(1)),
        _ => (rest.u16(0)?, rest.after(2)),
    };
    if text.style.link {
        let name = name(protocol);
        put!(text, "{} (0x{protocol:04x}), length {}", name.unwrap_or("unknown"), packet.len());
        if name.is_none() {
            return Ok(());
        }
        put!(text, ": ");
    }
    match protocol {
        0xc021 | 0x8021 | 0x8023 | 0x8281 | 0x8057 | 0x80fd | 0xc02b => control(text, protocol, rest),
        0x003d => multilink(text, rest),
        0xc223 => challenge(text, rest),
        0xc023 => password(text, rest),
        0x0021 | 0x002f | 0x0800 => ipv4::print(text, rest),
        0x0057 | 0x86dd => ipv6::print(text, rest),
        0x0023 => routing::osi(text, rest),
        0x0281 | 0x0283 => mpls(text, rest),
        0x00fd => {
            put!(text, "compressed PPP data");
            Ok(())
        }
        _ => {
            match name(protocol) {
                Some(name) => put!(text, "{name} "),
                None => put!(text, "unknown PPP protocol (0x{protocol:04x}) "),
            }
            hex::indented(text, rest.here(), false, "\t");
            Ok(())
        }
    }
}

/// Prints the kind of a control protocol's message.
fn control(text: &mut Text<'_>, protocol: u16, message: View<'_>) -> Printed {
    const KINDS: [&str; 16] = [
        "Vendor-Extension",
        "Conf-Request",
        "Conf-Ack",
        "Conf-Nack",
        "Conf-Reject",
        "Term-Request",
        "Term-Ack",
        "Code-Reject",
        "Prot-Reject",
        "Echo-Request",
        "Echo-Reply",
        "Disc-Req",
        "Ident",
        "Time-Rem",
        "Reset-Req",
        "Reset-Ack",
    ];
    put!(text, "{}, ", name(protocol).unwrap_or_default());
    let (true, Ok([kind, number])) = (message.len() >= 4, message.array(0)) else {
        put!(text, "[|{}]", name(protocol).unwrap_or_default());
        return Ok(());
    };
    let name = KINDS.get(usize::from(kind)).unwrap_or(&"Unknown Opcode");
    // With the protocol's number.
    put!(text, "{name} (0x{kind:02x}), id {number}, length {}", message.len() + 2);
    Ok(())
}

fn multilink(text: &mut Text<'_>, packet: View<'_>) -> Printed {
    const FLAGS: [(u32, &str); 2] = [(0x80, "begin"), (0x40, "end")];
    put!(text, "{}", if text.style.link { "" } else { "MLPPP, " });
    let (true, Ok(first)) = (packet.len() >= 2, packet.u16(0)) else {
        put!(text, "[|mlppp]");
        return Ok(());
    };
    put!(text, "seq 0x{:03x}, Flags [", first & 0xfff);
    text.bits(u32::from(first >> 8) & 0xc0, &FLAGS, ", ");
    put!(text, "], length {}", packet.len());
    Ok(())
}

/// Prints the header of an authentication message; returns its kind and length, or `None` if it is
/// incomplete.
fn authentication(
    text: &mut Text<'_>,
    message: View<'_>,
    short: &str,
    name: &str,
    kinds: &[&str],
) -> Printed<Option<(u8, usize)>> {
    match message.len() {
        0 => put!(text, "[|{short}]"),
        1..=3 => put!(text, "[|{short} 0x{:02x}]", message.u8(0)?),
        _ => {
            let kind = message.u8(0)?;
            let known = usize::from(kind).checked_sub(1).and_then(|kind| kinds.get(kind));
            put!(text, "{name}, {} (0x{kind:02x})", known.unwrap_or(&"unknown"));
            put!(text, ", id {}", message.u8(1)?);
            return Ok(Some((kind, usize::from(message.u16(2)?))));
        }
    }
    Ok(None)
}

/// CHAP (RFC 1994).
fn challenge(text: &mut Text<'_>, message: View<'_>) -> Printed {
    const KINDS: [&str; 4] = ["Challenge", "Response", "Success", "Fail"];
    let Some((kind, len)) = authentication(text, message, "chap", "CHAP", &KINDS)? else { return Ok(()) };
    match kind {
        1 | 2 if message.len() > 4 => {
            let value_len = usize::from(message.u8(4)?);
            if message.len() - 5 < value_len {
                return Ok(());
            }
            put!(text, ", Value ");
            for at in 5..5 + value_len {
                put!(text, "{:02x}", message.u8(at)?);
            }
            put!(text, ", Name ");
            characters(text, message, 5 + value_len, len)
        }
        3 | 4 => {
            put!(text, ", Msg ");
            characters(text, message, 4, len)
        }
        _ => Ok(()),
    }
}

/// Characters up to the declared end of the message; all characters if that is before the start, as in
/// tcpdump.
fn characters(text: &mut Text<'_>, message: View<'_>, start: usize, end: usize) -> Printed {
    let end = if end < start { usize::MAX } else { end };
    for at in start..end {
        text.escaped(&[message.u8(at)?]);
    }
    Ok(())
}

/// PAP (RFC 1334 section 2).
fn password(text: &mut Text<'_>, message: View<'_>) -> Printed {
    const KINDS: [&str; 3] = ["Auth-Req", "Auth-ACK", "Auth-NACK"];
    let Some((kind, len)) = authentication(text, message, "pap", "PAP", &KINDS)? else { return Ok(()) };
    if len > message.len() {
        put!(text, ", length {len} > packet size");
        return Ok(());
    }
    if len < 4 {
        put!(text, ", length {len} < PAP header length");
        return Ok(());
    }
    let (least, titles): (_, &[&str]) = match kind {
        1 => (6, &[", Peer ", ", Name "]),
        2 | 3 => (5, &[", Msg "]),
        _ => return Ok(()),
    };
    if len < least {
        put!(text, "[|pap]");
        return Ok(());
    }
    let mut at = 4;
    for title in titles {
        if at >= len {
            break;
        }
        let field_len = usize::from(message.u8(at)?);
        at += 1;
        if len - at < field_len {
            break;
        }
        put!(text, "{title}");
        characters(text, message, at, at + field_len)?;
        at += field_len;
    }
    Ok(())
}

/// A protocol as tcpdump names it.
fn name(protocol: u16) -> Option<&'static str> {
    Some(match protocol {
        0x0021 => "IP",
        0x0023 => "OSI",
        0x0025 => "NS",
        0x0027 => "DECNET",
        0x0029 => "APPLE",
        0x002b => "IPX",
        0x002d => "VJC IP",
        0x002f => "VJNC IP",
        0x0031 => "BRPDU",
        0x0033 => "STII",
        0x0035 => "VINES",
        0x003d => "MLPPP",
        0x0057 => "IP6",
        0x00fd => "Compressed",
        0x0201 => "HELLO",
        0x0231 => "LUXCOM",
        0x0233 => "SNS",
        0x0281 | 0x0283 => "MPLS",
        0x8021 => "IPCP",
        0x8023 => "OSICP",
        0x8025 => "NSCP",
        0x8027 => "DECNETCP",
        0x8029 => "APPLECP",
        0x802b => "IPXCP",
        0x8033 => "STIICP",
        0x8035 => "VINESCP",
        0x8057 => "IP6CP",
        0x80fd => "CCP",
        0x8281 => "MPLSCP",
        0xc021 => "LCP",
        0xc023 => "PAP",
        0xc025 => "LQM",
        0xc027 => "SPAP",
        0xc02b => "BACP",
        0xc02d => "BAP",
        0xc03d => "MLPPP-CP",
        0xc123 => "Old-SPAP",
        0xc223 => "CHAP",
        0xc227 => "EAP",
        _ => return None,
    })
}
