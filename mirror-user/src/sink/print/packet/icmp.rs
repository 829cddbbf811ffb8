//! ICMP (RFC 792).

use etherparse::{IpNumber, icmpv4};

use super::{
    checksum, ipv4,
    network::Network,
    text::{Address, Printed, Text, put},
    view::{Truncated, View},
};

/// Offset of a quoted packet.
const QUOTED: usize = 8;

/// A message.
pub(super) fn print(text: &mut Text<'_>, message: View<'_>, below: &Network) -> Printed {
    text.protocol = "icmp";
    let (kind, code) = (message.u8(0)?, message.u8(1)?);
    // A line is printed only if all its bytes are captured.
    check(message, kind, code)?;
    put!(text, "ICMP ");
    what(text, message, kind, code)?;
    put!(text, ", length {}", message.len());
    if !text.verbose() {
        return Ok(());
    }
    if !below.fragment
        && let Some(whole) = message.whole()
    {
        let here = message.u16(2)?;
        if let Some(expected) = checksum::expected(&checksum::of(whole), here) {
            put!(text, " (wrong icmp cksum {here:x} (->{expected:x})!)");
        }
    }
    if matches!(
        kind,
        icmpv4::TYPE_DEST_UNREACH
            | icmpv4::TYPE_SOURCE_QUENCH
            | icmpv4::TYPE_REDIRECT
            | icmpv4::TYPE_TIME_EXCEEDED
            | icmpv4::TYPE_PARAMETER_PROBLEM
    ) {
        put!(text, "\n\t");
        let quoted = message.after(QUOTED);
        let len = usize::from(quoted.u16(2)?);
        if len < 4 {
            return Err(Truncated);
        }
        ipv4::print(text, quoted.ending_at(len))?;
    }
    Ok(())
}

/// Whether all bytes that [`what`] reads are captured.
fn check(message: View<'_>, kind: u8, code: u8) -> Printed {
    let needed = match (kind, code) {
        (icmpv4::TYPE_ECHO_REPLY | icmpv4::TYPE_ECHO_REQUEST | icmpv4::TYPE_TIMESTAMP, _) => 8,
        (icmpv4::TYPE_DEST_UNREACH, 3) => {
            message.u8(QUOTED + 9)?;
            (QUOTED + quoted_header_len(message)? + 4).max(QUOTED + 20)
        }
        (icmpv4::TYPE_DEST_UNREACH | icmpv4::TYPE_REDIRECT | icmpv4::TYPE_TIME_EXCEEDED, _) => QUOTED + 20,
        (icmpv4::TYPE_ROUTER_ADVERTISEMENT, _) => {
            let (addresses, words) = (usize::from(message.u8(4)?), message.u8(5)?);
            if words == 2 { 8 + 8 * addresses } else { 8 }
        }
        (icmpv4::TYPE_PARAMETER_PROBLEM, 0) => 5,
        (icmpv4::TYPE_ADDRESSREPLY, _) => 12,
        (icmpv4::TYPE_TIMESTAMP_REPLY, _) => 20,
        _ => 2,
    };
    message.get(0, needed).map(drop)
}

fn quoted_header_len(message: View<'_>) -> Printed<usize> {
    message.u8(QUOTED).map(|first| usize::from(first & 0xf) * 4)
}

fn what(text: &mut Text<'_>, message: View<'_>, kind: u8, code: u8) -> Printed {
    let (identifier, sequence) = (message.u16(4), message.u16(6));
    match kind {
        icmpv4::TYPE_ECHO_REQUEST => put!(text, "echo request, id {}, seq {}", identifier?, sequence?),
        icmpv4::TYPE_ECHO_REPLY => put!(text, "echo reply, id {}, seq {}", identifier?, sequence?),
        icmpv4::TYPE_DEST_UNREACH => unreachable(text, message, code)?,
        icmpv4::TYPE_REDIRECT => {
            let (whom, gateway) = (Address::v4(message, QUOTED + 16)?, Address::v4(message, 4)?);
            match code {
                0 => put!(text, "redirect {whom} to net {gateway}"),
                1 => put!(text, "redirect {whom} to host {gateway}"),
                2 => put!(text, "redirect-tos {whom} to net {gateway}"),
                3 => put!(text, "redirect-tos {whom} to host {gateway}"),
                _ => put!(text, "redirect-#{code} {whom} to {gateway}"),
            }
        }
        icmpv4::TYPE_ROUTER_ADVERTISEMENT => router_advertisement(text, message)?,
        icmpv4::TYPE_TIME_EXCEEDED => match code {
            0 => put!(text, "time exceeded in-transit"),
            1 => put!(text, "ip reassembly time exceeded"),
            _ => put!(text, "time exceeded-#{code}"),
        },
        icmpv4::TYPE_PARAMETER_PROBLEM => match code {
            0 => put!(text, "parameter problem - octet {}", message.u8(4)?),
            _ => put!(text, "parameter problem - code {code}"),
        },
        icmpv4::TYPE_ADDRESSREPLY => put!(text, "address mask is 0x{:08x}", message.u32(8)?),
        icmpv4::TYPE_TIMESTAMP => put!(text, "time stamp query id {} seq {}", identifier?, sequence?),
        icmpv4::TYPE_TIMESTAMP_REPLY => {
            put!(text, "time stamp reply id {} seq {}", identifier?, sequence?);
            for (at, name) in [(8, ": org"), (12, ", recv"), (16, ", xmit")] {
                // ms since midnight UTC.
                let time = message.u32(at)?;
                let (seconds, ms) = (time / 1000, time % 1000);
                put!(
                    text,
                    "{name} {:02}:{:02}:{:02}.{ms:03}",
                    seconds / 3600,
                    seconds / 60 % 60,
                    seconds % 60
                );
            }
        }
        icmpv4::TYPE_SOURCE_QUENCH => put!(text, "source quench"),
        icmpv4::TYPE_ROUTER_SOLICITATION => put!(text, "router solicitation"),
        icmpv4::TYPE_INFO_REQUEST => put!(text, "information request"),
        icmpv4::TYPE_INFO_REPLY => put!(text, "information reply"),
        icmpv4::TYPE_ADDRESS => put!(text, "address mask request"),
        _ => put!(text, "type-#{kind}"),
    }
    Ok(())
}

/// Destination unreachable, whose quoted packet has the destination.
fn unreachable(text: &mut Text<'_>, message: View<'_>, code: u8) -> Printed {
    let whom = Address::v4(message, QUOTED + 16)?;
    match code {
        0 => put!(text, "net {whom} unreachable"),
        1 => put!(text, "host {whom} unreachable"),
        2 => put!(text, "{whom} protocol {} unreachable", message.u8(QUOTED + 9)?),
        3 => {
            let port = message.u16(QUOTED + quoted_header_len(message)? + 2)?;
            match IpNumber(message.u8(QUOTED + 9)?) {
                IpNumber::TCP => put!(text, "{whom} tcp port {port} unreachable"),
                IpNumber::UDP => put!(text, "{whom} udp port {port} unreachable"),
                IpNumber(protocol) => put!(text, "{whom} protocol {protocol} port {port} unreachable"),
            }
        }
        4 => {
            put!(text, "{whom} unreachable - need to frag");
            // RFC 1191 section 4; older routers leave it 0.
            match message.u16(6)? {
                0 => {}
                mtu => put!(text, " (mtu {mtu})"),
            }
        }
        5 => put!(text, "{whom} unreachable - source route failed"),
        6 => put!(text, "net {whom} unreachable - unknown"),
        7 => put!(text, "host {whom} unreachable - unknown"),
        8 => put!(text, "{whom} unreachable - source host isolated"),
        9 => put!(text, "net {whom} unreachable - admin prohibited"),
        10 => put!(text, "host {whom} unreachable - admin prohibited"),
        11 => put!(text, "net {whom} unreachable - tos prohibited"),
        12 => put!(text, "host {whom} unreachable - tos prohibited"),
        13 => put!(text, "host {whom} unreachable - admin prohibited filter"),
        14 => put!(text, "host {whom} unreachable - host precedence violation"),
        15 => put!(text, "host {whom} unreachable - precedence cutoff"),
        _ => put!(text, "{whom} unreachable - #{code}"),
    }
    Ok(())
}

/// RFC 1256.
fn router_advertisement(text: &mut Text<'_>, message: View<'_>) -> Printed {
    let (addresses, words, lifetime) = (message.u8(4)?, message.u8(5)?, message.u16(6)?);
    put!(text, "router advertisement lifetime ");
    let (hours, minutes, seconds) = (lifetime / 3600, lifetime / 60 % 60, lifetime % 60);
    match (hours, minutes) {
        (0, 0) => put!(text, "{seconds}"),
        (0, _) => put!(text, "{minutes}:{seconds:02}"),
        _ => put!(text, "{hours}:{minutes:02}:{seconds:02}"),
    }
    put!(text, " {addresses}:");
    if words != 2 {
        put!(text, " [size {words}]");
        return Ok(());
    }
    for place in 0..usize::from(addresses) {
        put!(text, " {{{} {}}}", Address::v4(message, 8 + 8 * place)?, message.u32(12 + 8 * place)?);
    }
    Ok(())
}
