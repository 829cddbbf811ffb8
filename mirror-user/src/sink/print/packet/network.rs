//! The fields of an IP header that upper layers use, and the dispatch to these.

use etherparse::IpNumber;

use super::{
    gre, icmp, icmpv6, igmp, ipsec, ipv4, ipv6, link, routing, sctp, tcp,
    text::{Address, Printed, Text, put},
    udp,
    view::View,
};

/// Ethernet in IPv6 (RFC 8986 section 10.1).
const ETHERNET: IpNumber = IpNumber(143);

/// The fields of an IP header that upper layers use.
#[derive(Clone, Copy, Debug)]
pub(super) struct Network {
    pub(super) source: Address,
    pub(super) destination: Address,
    /// The source, and the last address of a source route: checksums cover these.
    pub(super) first_source: Address,
    pub(super) last_destination: Address,
    /// The protocol in the fixed header.
    pub(super) protocol: IpNumber,
    /// Time to live, or hop limit.
    pub(super) ttl: u8,
    /// A fragment: its checksum cannot be verified.
    pub(super) fragment: bool,
}

impl Network {
    pub(super) fn is_v6(&self) -> bool {
        self.source.0.is_ipv6()
    }

    /// Addresses, for protocols without ports.
    pub(super) fn put_hosts(&self, text: &mut Text<'_>) {
        put!(text, "{} > {}:", self.source, self.destination);
    }

    /// Addresses and ports; only ports after extension headers, because the addresses are printed before
    /// them.
    pub(super) fn put_endpoints(
        &self,
        text: &mut Text<'_>,
        protocol: IpNumber,
        source: u16,
        destination: u16,
    ) {
        if self.protocol == protocol {
            put!(text, "{}.{source} > {}.{destination}: ", self.source, self.destination);
        } else {
            put!(text, "{source} > {destination}: ");
        }
    }
}

/// Whether a protocol prints the addresses together with its ports.
pub(super) fn has_ports(protocol: IpNumber) -> bool {
    matches!(protocol, IpNumber::TCP | IpNumber::UDP | IpNumber::SCTP)
}

/// Prints the payload of an IP packet.
pub(super) fn payload(
    text: &mut Text<'_>,
    payload: View<'_>,
    below: &Network,
    mut protocol: IpNumber,
) -> Printed {
    let mut payload = payload;
    while protocol == IpNumber::AUTHENTICATION_HEADER {
        let header;
        (protocol, header) = ipsec::authentication(text, payload)?;
        payload = payload.after(header);
    }
    match protocol {
        IpNumber::TCP => tcp::print(text, payload, below),
        IpNumber::UDP => udp::print(text, payload, below),
        IpNumber::SCTP => sctp::print(text, payload, below),
        IpNumber::ICMP if !below.is_v6() => icmp::print(text, payload, below),
        IpNumber::IPV6_ICMP if below.is_v6() => icmpv6::print(text, payload, below),
        IpNumber::IGMP if !below.is_v6() => igmp::print(text, payload),
        ETHERNET if below.is_v6() => {
            link::carried(text, payload);
            Ok(())
        }
        IpNumber::ICMP | IpNumber::IGMP => wrong_version(text, protocol, 4),
        IpNumber::IPV6_ICMP | ETHERNET => wrong_version(text, protocol, 6),
        IpNumber::IPV4 => ipv4::print(text, payload),
        IpNumber::IPV6 => ipv6::print(text, payload),
        IpNumber::GRE => gre::print(text, payload),
        IpNumber::ENCAPSULATING_SECURITY_PAYLOAD => ipsec::encapsulating(text, payload),
        IpNumber::IP_COMP => ipsec::compressed(text, payload),
        // Sun's net disk.
        IpNumber(77) => {
            put!(text, " nd {}", payload.len());
            Ok(())
        }
        IpNumber::EIGRP => routing::eigrp(text, payload),
        IpNumber::OSPFIGP if below.is_v6() => routing::ospf_3(text, payload),
        IpNumber::OSPFIGP => routing::ospf(text, payload),
        IpNumber::PIM => routing::pim(text, payload),
        IpNumber::VRRP => routing::vrrp(text, payload, below.ttl),
        IpNumber::IPV6_NO_NEXT_HEADER => {
            put!(text, "no next header");
            Ok(())
        }
        IpNumber(number) => {
            put!(text, " ip-proto-{number} {}", payload.len());
            Ok(())
        }
    }
}

fn wrong_version(text: &mut Text<'_>, protocol: IpNumber, version: u8) -> Printed {
    put!(text, "[{} requires IPv{version}]", name(protocol));
    text.invalid();
    Ok(())
}

/// A protocol as tcpdump names it.
pub(super) fn name(protocol: IpNumber) -> &'static str {
    match protocol {
        IpNumber::IPV6_HEADER_HOP_BY_HOP => "Options",
        IpNumber::ICMP => "ICMP",
        IpNumber::IGMP => "IGMP",
        IpNumber::IPV4 => "IPIP",
        IpNumber::TCP => "TCP",
        IpNumber::EGP => "EGP",
        IpNumber::IGP => "IGRP",
        IpNumber::UDP => "UDP",
        IpNumber::DCCP => "DCCP",
        IpNumber::IPV6 => "IPv6",
        IpNumber::IPV6_ROUTE_HEADER => "Routing",
        IpNumber::IPV6_FRAGMENTATION_HEADER => "Fragment",
        IpNumber::RSVP => "RSVP",
        IpNumber::GRE => "GRE",
        IpNumber::ENCAPSULATING_SECURITY_PAYLOAD => "ESP",
        IpNumber::AUTHENTICATION_HEADER => "AH",
        IpNumber::MOBILE => "Mobile IP",
        IpNumber::IPV6_ICMP => "ICMPv6",
        // The number in early drafts of RFC 3775; CFTP in IANA's list.
        IpNumber(62) => "Mobile IP (old)",
        IpNumber::EIGRP => "EIGRP",
        IpNumber::OSPFIGP => "OSPF",
        IpNumber::PIM => "PIM",
        IpNumber::IP_COMP => "Compressed IP",
        IpNumber::VRRP => "VRRP",
        IpNumber::PGM => "PGM",
        IpNumber::SCTP => "SCTP",
        IpNumber::MOBILITY_HEADER => "Mobility",
        ETHERNET => "Ethernet",
        _ => "unknown",
    }
}
