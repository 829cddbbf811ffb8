//! The rules of sessions in the form that the tc programs read.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use mirror_ebpf::source::{self as abi, Block, Destination, Ports, RuleSet};

use crate::mirroring::{Action, Direction, Mirroring, Rule, Session};

#[cfg(test)]
pub(crate) mod cases;
#[cfg(test)]
mod tests;

/// What the programs know of a session beside its rules.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Place {
    /// Its index among the counters of sessions.
    pub(crate) place: u32,
    /// Index of the interface that its packets are cloned to.
    pub(crate) carrier: u32,
    /// Bytes of the headers around a copy.
    pub(crate) overhead: u32,
}

/// The rules of a source in one direction. `place_of` is asked for each of its sessions; `copies` are where
/// any copy of this host is sent to. Rates are not set.
///
/// The set-up has no [problem](Mirroring::problems) that is an error: what exceeds a limit is left out.
pub(crate) fn rule_set(
    mirroring: &Mirroring,
    interface: &str,
    direction: Direction,
    place_of: impl Fn(&Session) -> Place,
    copies: &[SocketAddr],
) -> RuleSet {
    let mut set = RuleSet::default();
    for (session, slot) in mirroring.sessions_of(interface).into_iter().zip(&mut set.sessions) {
        let Place { place, carrier, overhead } = place_of(session);
        (slot.place, slot.carrier, slot.overhead) = (place, carrier, overhead);
        slot.packet_length = session.packet_length.unwrap_or(u32::MAX);
        if let Some(filter) = mirroring.filter(&session.filter) {
            slot.amazon_dns = filter.amazon_dns.into();
            for (rule, place) in filter.rules(direction).iter().zip(&mut slot.rules) {
                *place = compiled(rule);
                slot.rule_count += 1;
            }
        }
        set.session_count += 1;
    }
    for (&copy, place) in copies.iter().zip(&mut set.copies) {
        let (version, address) = words(copy.ip());
        *place = Destination { address, version: version.into(), port: copy.port() };
        set.copy_count += 1;
    }
    set
}

fn compiled(rule: &Rule) -> abi::Rule {
    let Rule { action, protocol, source, destination, source_ports, destination_ports, .. } = rule;
    let range = |ports: &Option<std::ops::RangeInclusive<u16>>| {
        ports.as_ref().map_or(Ports::ALL, |ports| Ports {
            first: (*ports.start()).into(),
            span: ports.end().saturating_sub(*ports.start()).into(),
        })
    };
    let (version, source) = block(source);
    abi::Rule {
        kind: abi::Rule::kind(version, protocol.unwrap_or_default()),
        kind_mask: if protocol.is_some() { abi::Rule::OF_PROTOCOL } else { abi::Rule::OF_VERSION },
        source,
        destination: block(destination).1,
        source_ports: range(source_ports),
        destination_ports: range(destination_ports),
        rejects: (*action == Action::Reject).into(),
    }
}

fn block(net: &IpNet) -> (u8, Block) {
    let (version, address) = words(net.network());
    (version, Block { address, mask: words(net.netmask()).1 })
}

/// An address as it lies in a packet, and its IP version.
fn words(address: IpAddr) -> (u8, abi::Address) {
    match address {
        IpAddr::V4(address) => (4, [u32::from_ne_bytes(address.octets()), 0, 0, 0]),
        IpAddr::V6(address) => {
            let octets = address.octets();
            let (words, _) = octets.as_chunks::<4>();
            let mut all = [0; 4];
            all.iter_mut().zip(words).for_each(|(word, bytes)| *word = u32::from_ne_bytes(*bytes));
            (6, all)
        }
    }
}
