//! ICMPv6 (RFC 4443), multicast listener discovery (RFC 2710, RFC 3810).

use etherparse::{IpNumber, icmpv6};

use super::{
    checksum, groups, hex, neighbours,
    network::Network,
    text::{Address, Printed, Text, put},
    view::{Truncated, View},
};

/// Offset of a quoted packet.
const QUOTED: usize = 8;
/// Multicast listener report, version 2 (RFC 3810 section 5.2).
const LISTENER_REPORT_V2: u8 = 143;

/// A message.
pub(super) fn print(text: &mut Text<'_>, message: View<'_>, below: &Network) -> Printed {
    text.protocol = "icmp6";
    if message.len() == 0 {
        put!(text, "ICMP6, length 0");
        text.invalid();
        return Ok(());
    }
    if text.verbose()
        && !below.fragment
        && let Some(whole) = message.whole()
    {
        let here = message.u16(2)?;
        match checksum::expected(&checksum::with_pseudo_header(whole, below, IpNumber::IPV6_ICMP), here) {
            None => put!(text, "[icmp6 sum ok] "),
            Some(expected) => put!(text, "[bad icmp6 cksum 0x{here:04x} -> 0x{expected:04x}!] "),
        }
    }
    let kind = message.u8(0)?;
    put!(text, "ICMP6, ");
    match name(kind) {
        Some(name) => put!(text, "{name}"),
        None => put!(text, "unknown icmp6 type ({kind})"),
    }
    if text.verbose() && matches!(kind, 133..=137 | 145 | 147) {
        put!(text, ", length {}", message.len());
    }
    let code = message.u8(1)?;
    if !what(text, message, kind, code)? {
        return Ok(());
    }
    if !text.verbose() {
        put!(text, ", length {}", message.len());
    }
    Ok(())
}

/// Prints a message after its name; returns whether its length is still to be printed.
fn what(text: &mut Text<'_>, message: View<'_>, kind: u8, code: u8) -> Printed<bool> {
    match kind {
        icmpv6::TYPE_DST_UNREACH => return unreachable(text, message, code),
        icmpv6::TYPE_PACKET_TOO_BIG => put!(text, ", mtu {}", message.u32(4)?),
        icmpv6::TYPE_TIME_EXCEEDED => match code {
            0 => put!(text, " for {}", Address::v6(message, QUOTED + 24)?),
            1 => put!(text, " (reassembly)"),
            _ => put!(text, ", unknown code ({code})"),
        },
        icmpv6::TYPE_PARAMETER_PROBLEM => {
            Address::v6(message, QUOTED + 24)?;
            let place = message.u32(4)?;
            match code {
                0 => put!(text, ", erroneous - octet {place}"),
                1 => put!(text, ", next header - octet {place}"),
                2 => put!(text, ", option - octet {place}"),
                3 => put!(text, ", incomplete header chain - octet {place}"),
                _ => put!(text, ", code-#{code}"),
            }
        }
        icmpv6::TYPE_ECHO_REQUEST | icmpv6::TYPE_ECHO_REPLY => {
            put!(text, ", id {}, seq {}", message.u16(4)?, message.u16(6)?);
        }
        icmpv6::TYPE_MULTICAST_LISTENER_QUERY => match message.len() {
            24 => listener(text, message)?,
            28.. => listener_query_v2(text, message)?,
            len => put!(text, " unknown-version (len {len}) "),
        },
        icmpv6::TYPE_MULTICAST_LISTENER_REPORT | icmpv6::TYPE_MULTICAST_LISTENER_REDUCTION => {
            listener(text, message)?;
        }
        LISTENER_REPORT_V2 => listener_report_v2(text, message)?,
        icmpv6::TYPE_ROUTER_SOLICITATION
        | icmpv6::TYPE_ROUTER_ADVERTISEMENT
        | icmpv6::TYPE_NEIGHBOR_SOLICITATION
        | icmpv6::TYPE_NEIGHBOR_ADVERTISEMENT
        | icmpv6::TYPE_REDIRECT_MESSAGE => neighbours::print(text, message, kind)?,
        // Known by name only.
        138..=147 | 155 => {}
        _ => {
            put!(text, ", length {}", message.len());
            dump(text, message);
            return Ok(false);
        }
    }
    Ok(true)
}

/// Destination unreachable, whose quoted packet has the destination.
fn unreachable(text: &mut Text<'_>, message: View<'_>, code: u8) -> Printed<bool> {
    let whom = Address::v6(message, QUOTED + 24);
    match code {
        0 => {
            put!(text, ", unreachable route");
            put!(text, " {}", whom?);
        }
        1 => {
            // Two spaces, as in tcpdump.
            put!(text, ",  unreachable prohibited");
            put!(text, " {}", whom?);
        }
        2 => {
            put!(text, ", beyond scope");
            put!(text, " {}, source address {}", whom?, Address::v6(message, QUOTED + 8)?);
        }
        3 => {
            put!(text, ", unreachable address");
            put!(text, " {}", whom?);
        }
        4 => {
            put!(text, ", unreachable port");
            let (protocol, port) = quoted_port(message.after(QUOTED))?;
            let protocol = if protocol == IpNumber::TCP { "tcp" } else { "udp" };
            put!(text, ", {} {protocol} port {port}", whom?);
        }
        _ => {
            put!(text, ", unknown unreach code ({code})");
            if text.style.verbosity <= 1 {
                dump(text, message);
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// The protocol and destination port of a quoted packet.
fn quoted_port(packet: View<'_>) -> Printed<(IpNumber, u16)> {
    const FIXED: usize = 40;
    let mut next = IpNumber(packet.u8(6)?);
    let mut rest = packet.after(FIXED);
    loop {
        let len = match next {
            IpNumber::TCP | IpNumber::UDP => return Ok((next, rest.u16(2)?)),
            IpNumber::IPV6_HEADER_HOP_BY_HOP
            | IpNumber::IPV6_DESTINATION_OPTIONS
            | IpNumber::IPV6_ROUTE_HEADER => (usize::from(rest.u8(1)?) + 1) * 8,
            IpNumber::IPV6_FRAGMENTATION_HEADER if rest.u16(2)? & 0xfff8 == 0 => 8,
            IpNumber::AUTHENTICATION_HEADER => (usize::from(rest.u8(1)?) + 2) * 4,
            _ => return Err(Truncated),
        };
        next = IpNumber(rest.u8(0)?);
        rest = rest.after(len);
    }
}

fn listener(text: &mut Text<'_>, message: View<'_>) -> Printed {
    if message.has(24) {
        put!(text, "max resp delay: {} addr: {}", message.u16(4)?, Address::v6(message, 8)?);
    }
    Ok(())
}

fn listener_query_v2(text: &mut Text<'_>, message: View<'_>) -> Printed {
    put!(text, " v2");
    let code = u32::from(message.u16(4)?);
    // RFC 3810 sections 5.1.3 and 5.1.9: floats, from 32,768 and 128 up.
    let delay = if code < 0x8000 { code } else { (code & 0xfff | 0x1000) << ((code >> 12 & 7) + 3) };
    if text.verbose() {
        put!(text, " [max resp delay={delay}]");
    }
    put!(text, " [gaddr {}", Address::v6(message, 8)?);
    if text.verbose() {
        let flags = message.u8(24)?;
        put!(text, "{}", if flags & 0x08 == 0 { "" } else { " sflag" });
        if flags & 0x07 != 0 {
            put!(text, " robustness={}", flags & 0x07);
        }
        let code = u32::from(message.u8(25)?);
        let interval = if code < 128 { code } else { (code & 0xf | 0x10) << ((code >> 4 & 7) + 3) };
        put!(text, " qqi={interval}");
    }
    let sources = usize::from(message.u16(26)?);
    groups::MLD.query_sources(text, message, 28, sources)
}

fn listener_report_v2(text: &mut Text<'_>, message: View<'_>) -> Printed {
    if message.len() < 8 {
        put!(text, " [invalid len {}]", message.len());
        return Ok(());
    }
    groups::MLD.records(text, message)
}

/// Prints the bytes of an unknown message.
pub(super) fn dump(text: &mut Text<'_>, message: View<'_>) {
    if text.style.verbosity <= 1 {
        hex::hex(text, message.ending_at(message.len()).bytes(), false);
    }
}

fn name(kind: u8) -> Option<&'static str> {
    Some(match kind {
        icmpv6::TYPE_DST_UNREACH => "destination unreachable",
        icmpv6::TYPE_PACKET_TOO_BIG => "packet too big",
        icmpv6::TYPE_TIME_EXCEEDED => "time exceeded in-transit",
        icmpv6::TYPE_PARAMETER_PROBLEM => "parameter problem",
        icmpv6::TYPE_ECHO_REQUEST => "echo request",
        icmpv6::TYPE_ECHO_REPLY => "echo reply",
        icmpv6::TYPE_MULTICAST_LISTENER_QUERY => "multicast listener query",
        icmpv6::TYPE_MULTICAST_LISTENER_REPORT => "multicast listener report",
        icmpv6::TYPE_MULTICAST_LISTENER_REDUCTION => "multicast listener done",
        icmpv6::TYPE_ROUTER_SOLICITATION => "router solicitation",
        icmpv6::TYPE_ROUTER_ADVERTISEMENT => "router advertisement",
        icmpv6::TYPE_NEIGHBOR_SOLICITATION => "neighbor solicitation",
        icmpv6::TYPE_NEIGHBOR_ADVERTISEMENT => "neighbor advertisement",
        icmpv6::TYPE_REDIRECT_MESSAGE => "redirect",
        icmpv6::TYPE_ROUTER_RENUMBERING => "router renumbering",
        icmpv6::TYPE_INVERSE_NEIGHBOR_DISCOVERY_SOLICITATION => "inverse neighbor solicitation",
        icmpv6::TYPE_INVERSE_NEIGHBOR_DISCOVERY_ADVERTISEMENT => "inverse neighbor advertisement",
        139 => "node information query",
        140 => "node information reply",
        LISTENER_REPORT_V2 => "multicast listener report v2",
        144 => "ha discovery request",
        145 => "ha discovery reply",
        146 => "mobile router solicitation",
        147 => "mobile router advertisement",
        155 => "RPL",
        200 => "mtrace response",
        201 => "mtrace message",
        _ => return None,
    })
}
