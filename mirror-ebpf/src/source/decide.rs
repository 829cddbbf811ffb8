//! What becomes of a packet.

use super::{
    Address, Block, Count, Destination, Frame, MAX_COPIES, MAX_RULES, MAX_SESSIONS, Packet, Ports, Rule,
    RuleSet,
    packet::{METADATA, RESOLVER, TIME, WINDOWS_ACTIVATION, words},
};
use crate::wire::{IPV6_HEADER, PROTOCOL_ICMP, PROTOCOL_ICMPV6, PROTOCOL_UDP};

/// What becomes of a packet, in a word: a [`Count`], and for [`Count::Cloned`] and [`Count::Rejected`] which
/// session and rule decide.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(transparent)]
pub struct Decision(pub u32);

impl Decision {
    /// In the place of a rule: `amazon-dns`, for which none is asked.
    pub const AMAZON_DNS: usize = 0xff;

    #[inline(always)]
    const fn without_rule(count: Count) -> Self {
        Self(count as u32)
    }

    #[expect(clippy::cast_possible_truncation, reason = "there are 3 sessions and 10 rules")]
    #[inline(always)]
    const fn by(count: Count, session: usize, rule: usize) -> Self {
        Self(count as u32 | (session as u32) << 8 | (rule as u32) << 16)
    }

    /// As a number, [`Count::Cloned`] for a packet that is to be mirrored.
    #[inline(always)]
    #[must_use]
    pub const fn count(self) -> u32 {
        self.0 & 0xff
    }

    /// Index of the session.
    #[inline(always)]
    #[must_use]
    pub const fn session(self) -> usize {
        (self.0 >> 8 & 0xff) as usize
    }
}

/// What becomes of a frame of which this is the packet; without one it is not IP. The first rule that matches
/// decides, by sessions and in each by rules in their sequence.
#[inline(always)]
pub fn decide<F: Frame + ?Sized>(rules: &RuleSet, frame: &F, packet: Option<&Packet>) -> Decision {
    let Some(packet) = packet else {
        return Decision::without_rule(Count::NotIp);
    };
    if is_copy(rules, packet) || quotes_copy(rules, frame, packet) {
        return Decision::without_rule(Count::Copy);
    }
    let excluded = excluded(packet);
    let is_query = matches!(excluded, Some(Count::Resolver));
    if let Some(reason) = excluded
        && !is_query
    {
        return Decision::without_rule(reason);
    }
    let mut at = 0;
    while at < MAX_SESSIONS && at < rules.session_count as usize {
        let session = &rules.sessions[at];
        if is_query {
            if session.amazon_dns != 0 {
                return Decision::by(Count::Cloned, at, Decision::AMAZON_DNS);
            }
        } else {
            let mut place = 0;
            while place < MAX_RULES && place < session.rule_count as usize {
                let rule = &session.rules[place];
                if matches(rule, packet) {
                    let count = if rule.rejects == 0 { Count::Cloned } else { Count::Rejected };
                    return Decision::by(count, at, place);
                }
                place += 1;
            }
        }
        at += 1;
    }
    Decision::without_rule(if is_query { Count::Resolver } else { Count::NoMatch })
}

#[inline(always)]
fn matches(rule: &Rule, packet: &Packet) -> bool {
    let Block { address: from, mask: from_mask } = &rule.source;
    let Block { address: to, mask: to_mask } = &rule.destination;
    let differs = |word: usize| {
        (packet.source[word] & from_mask[word] ^ from[word])
            | (packet.destination[word] & to_mask[word] ^ to[word])
    };
    let [from_port, to_port] = packet.ports;
    packet.kind & rule.kind_mask == rule.kind
        && are_in(rule.destination_ports, to_port)
        && are_in(rule.source_ports, from_port)
        && differs(0) == 0
        && (packet.version == 4 || differs(1) | differs(2) | differs(3) == 0)
}

#[inline(always)]
fn are_in(ports: Ports, port: u32) -> bool {
    port.wrapping_sub(ports.first) <= ports.span
}

const DOMAIN: u32 = 53;
const NTP: u32 = 123;

/// Why a packet is never mirrored.
#[inline(always)]
fn excluded(packet: &Packet) -> Option<Count> {
    let [from, to] = packet.ports;
    let is_udp = packet.protocol == PROTOCOL_UDP;
    // Router and neighbour solicitations and advertisements, and redirects (RFC 4861 section 4).
    if packet.protocol == PROTOCOL_ICMPV6 && packet.message >= 133 && packet.message <= 137 {
        return Some(Count::NeighborDiscovery);
    }
    let both = |one: u32, other: u32| (from == one || from == other) && (to == one || to == other);
    if is_udp && (both(67, 68) || both(546, 547)) {
        return Some(Count::Dhcp);
    }
    let [source, destination] = packet.services;
    if source | destination == 0 {
        return None;
    }
    let either = |service: u32| source == service || destination == service;
    let has_port = |port: u32| from == port || to == port;
    if either(METADATA) {
        Some(Count::Metadata)
    } else if either(TIME) && is_udp && has_port(NTP) {
        Some(Count::Time)
    } else if either(WINDOWS_ACTIVATION) {
        Some(Count::WindowsActivation)
    } else if either(RESOLVER) && has_port(DOMAIN) {
        Some(Count::Resolver)
    } else {
        None
    }
}

/// Whether a packet is a copy that this host has made.
#[inline(always)]
fn is_copy(rules: &RuleSet, packet: &Packet) -> bool {
    packet.protocol == PROTOCOL_UDP && is_sent_to(rules, &packet.destination, packet.version, packet.ports[1])
}

#[inline(always)]
fn is_sent_to(rules: &RuleSet, address: &Address, version: u8, port: u32) -> bool {
    let mut at = 0;
    while at < MAX_COPIES && at < rules.copy_count as usize {
        let to: &Destination = &rules.copies[at];
        if u32::from(to.port) == port && to.version == u16::from(version) && are_alike(&to.address, address) {
            return true;
        }
        at += 1;
    }
    false
}

/// Word by word: comparing arrays would call a function.
#[inline(always)]
fn are_alike(one: &Address, other: &Address) -> bool {
    let differs = |word: usize| one[word] ^ other[word];
    differs(0) | differs(1) | differs(2) | differs(3) == 0
}

/// Whether a packet is an ICMP error about a copy: mirrored, it could make another one.
#[inline(always)]
fn quotes_copy<F: Frame + ?Sized>(rules: &RuleSet, frame: &F, packet: &Packet) -> bool {
    let is_error = match packet.version {
        // Destination unreachable, time exceeded, parameter problem (RFC 792).
        4 => matches!(packet.message, 3 | 11 | 12) && packet.protocol == PROTOCOL_ICMP,
        // Error messages have types below 128 (RFC 4443 section 2.1).
        _ => packet.message < 128 && packet.protocol == PROTOCOL_ICMPV6,
    };
    if !is_error || rules.copy_count == 0 {
        return false;
    }
    // Behind type, code, checksum and a word.
    let quoted = packet.transport + 8;
    let found = if packet.version == 4 { quoted_ipv4(frame, quoted) } else { quoted_ipv6(frame, quoted) };
    found.is_some_and(|(address, port)| is_sent_to(rules, &address, packet.version, port.into()))
}

/// Where a quoted packet went to, if it is UDP without options.
#[inline(always)]
fn quoted_ipv4<F: Frame + ?Sized>(frame: &F, at: usize) -> Option<(Address, u16)> {
    let [a, .., protocol] = frame.read::<10>(at)?;
    if a != 0x45 || protocol != PROTOCOL_UDP {
        return None;
    }
    // The destination address, then the source port.
    let [a, b, c, d, _, _, high, low] = frame.read(at + 16)?;
    Some(([u32::from_ne_bytes([a, b, c, d]), 0, 0, 0], u16::from_be_bytes([high, low])))
}

#[inline(always)]
fn quoted_ipv6<F: Frame + ?Sized>(frame: &F, at: usize) -> Option<(Address, u16)> {
    let [next] = frame.read(at + 6)?;
    if next != PROTOCOL_UDP {
        return None;
    }
    // The source port is between them.
    let (address, port) = (words(frame, at + 24)?, frame.read(at + IPV6_HEADER + 2)?);
    Some((address, u16::from_be_bytes(port)))
}
