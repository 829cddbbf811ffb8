//! Which session mirrors a packet, and why.
//!
//! The choices that AWS's pages leave open: a fragment behind the first has no ports, so no rule with ports
//! matches it, nor a packet that ends before them; protocol 0 is HOPOPT, and only an absent one is "all"; of
//! IPv6, the protocol is the one behind the extension headers, of which six are looked behind.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use etherparse::{
    EtherType, IpAuthHeaderSlice, IpNumber, Ipv6FragmentHeaderSlice, Ipv6HeaderSlice, Ipv6RawExtHeaderSlice,
    LaxIpv4Slice, LaxLinkExtSlice, LaxSlicedPacket,
};
use ipnet::IpNet;

use super::{Action, Filter, Mirroring, Rule, Session};

/// As seen by the source.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Direction {
    /// It receives the packet.
    Ingress,
    /// It sends the packet.
    Egress,
}

/// What rules look at in an IP packet.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Packet {
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// The protocol's number (IANA), behind IPv6 extension headers.
    pub protocol: u8,
    /// Source and destination port of TCP and UDP; `None` of what has none, or has been cut before them.
    pub ports: Option<(u16, u16)>,
    /// Type of an ICMPv6 message.
    pub icmpv6: Option<u8>,
    /// Bytes of the frame, from its Ethernet header on.
    pub length: u32,
}

/// Why a packet is never mirrored.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum Excluded {
    /// IPv6's ARP (RFC 4861).
    NeighborDiscovery,
    /// DHCP and DHCPv6.
    Dhcp,
    /// Instance metadata: 169.254.169.254 and fd00:ec2::254.
    Metadata,
    /// Time from the link-local address: 169.254.169.123 and fd00:ec2::123.
    Time,
    /// Activation of Windows: 169.254.169.250 and .251.
    WindowsActivation,
    /// Queries to Amazon's resolver at 169.254.169.253 and fd00:ec2::253, unless a filter has `amazon-dns`.
    Resolver,
}

/// What becomes of a packet.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Outcome<'m> {
    /// It is mirrored.
    Mirrored {
        /// By this session.
        session: &'m Session,
        /// Because of this rule of its filter; `None` for `amazon-dns`, for which no rule is asked.
        rule: Option<&'m Rule>,
        /// In VXLAN with this identifier.
        vni: u32,
        /// So many bytes of it.
        length: u32,
    },
    /// A rule rejects it, and no later session is asked.
    Rejected {
        /// In this session.
        session: &'m Session,
        /// This one.
        rule: &'m Rule,
    },
    /// No rule of any session matches.
    NoMatch,
    /// Such packets are never mirrored.
    Excluded(Excluded),
}

const METADATA: [IpAddr; 2] = [amazon_v4(254), amazon_v6(0x254)];
const TIME: [IpAddr; 2] = [amazon_v4(123), amazon_v6(0x123)];
const RESOLVER: [IpAddr; 2] = [amazon_v4(253), amazon_v6(0x253)];
const WINDOWS_ACTIVATION: [IpAddr; 2] = [amazon_v4(250), amazon_v4(251)];
const TCP: u8 = IpNumber::TCP.0;
const UDP: u8 = IpNumber::UDP.0;
const DOMAIN: u16 = 53;
const NTP: u16 = 123;
const DHCP: [u16; 2] = [67, 68];
const DHCPV6: [u16; 2] = [546, 547];
/// The most VLAN tags that are looked behind.
const MAX_TAGS: usize = 2;
/// The most IPv6 extension headers that are looked behind.
const MAX_EXTENSIONS: usize = 6;
/// Router and neighbour solicitations and advertisements, and redirects (RFC 4861 section 4).
const NEIGHBOR_DISCOVERY: std::ops::RangeInclusive<u8> = 133..=137;

const fn amazon_v4(last: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, last))
}

const fn amazon_v6(last: u16) -> IpAddr {
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, last))
}

impl Direction {
    /// As in the EC2 API.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        }
    }
}

impl Packet {
    /// Of its fields.
    #[must_use]
    pub fn new(
        source: IpAddr,
        destination: IpAddr,
        protocol: u8,
        ports: Option<(u16, u16)>,
        length: u32,
    ) -> Self {
        Self { source, destination, protocol, ports, icmpv6: None, length }
    }

    /// Of an Ethernet frame, with VLAN tags or without; `None` of what is not IPv4 or IPv6, or cannot be read
    /// as such.
    #[must_use]
    pub fn of_frame(frame: &[u8]) -> Option<Self> {
        let sliced = LaxSlicedPacket::from_ethernet(frame).ok()?;
        let mut announced = EtherType(u16::from_be_bytes(*frame.get(12..)?.first_chunk()?));
        for tag in &sliced.link_exts {
            // Not 0x9100, which was in use before 802.1ad.
            let is_standard =
                [EtherType::VLAN_TAGGED_FRAME, EtherType::PROVIDER_BRIDGING].contains(&announced);
            let LaxLinkExtSlice::Vlan(tag) = tag else { return None };
            if !is_standard {
                return None;
            }
            announced = tag.ether_type();
        }
        let network = sliced.ether_payload().filter(|_| sliced.link_exts.len() <= MAX_TAGS)?;
        let (source, destination, Begin { protocol, is_first, payload }) = match network.ether_type {
            EtherType::IPV4 => {
                let (ip, _) = LaxIpv4Slice::from_slice(network.payload).ok()?;
                let header = ip.header();
                let behind = &network.payload[header.slice().len()..];
                let length = usize::from(header.total_len()).checked_sub(header.slice().len());
                let begin = Begin {
                    protocol: header.protocol(),
                    is_first: header.fragments_offset().value() == 0,
                    // A super-frame of over 64 KiB says 0.
                    payload: &behind[..length.unwrap_or(behind.len()).min(behind.len())],
                };
                (header.source_addr().into(), header.destination_addr().into(), begin)
            }
            EtherType::IPV6 => {
                let header = Ipv6HeaderSlice::from_slice(network.payload).ok()?;
                let behind = &network.payload[header.slice().len()..];
                let length = match header.payload_length() {
                    0 => behind.len(),
                    length => usize::from(length).min(behind.len()),
                };
                let begin = Begin::behind_extensions(header.next_header(), &behind[..length]);
                (header.source_addr().into(), header.destination_addr().into(), begin)
            }
            _ => return None,
        };
        let ports = match payload {
            [a, b, c, d, ..] if is_first && [TCP, UDP].contains(&protocol.0) => {
                Some((u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d])))
            }
            _ => None,
        };
        let is_icmpv6 = is_first && protocol == IpNumber::IPV6_ICMP;
        let icmpv6 = payload.first().copied().filter(|_| is_icmpv6);
        let length = u32::try_from(frame.len()).unwrap_or(u32::MAX);
        Some(Self { source, destination, protocol: protocol.0, ports, icmpv6, length })
    }

    /// Why it is never mirrored.
    fn excluded(&self) -> Option<Excluded> {
        let of_amazon =
            |addresses: &[IpAddr]| addresses.contains(&self.source) || addresses.contains(&self.destination);
        let both = |known: [u16; 2]| {
            self.protocol == UDP
                && self.ports.is_some_and(|(from, to)| known.contains(&from) && known.contains(&to))
        };
        let either = |known: u16| self.ports.is_some_and(|(from, to)| from == known || to == known);
        if self.icmpv6.is_some_and(|kind| NEIGHBOR_DISCOVERY.contains(&kind)) {
            Some(Excluded::NeighborDiscovery)
        } else if both(DHCP) || both(DHCPV6) {
            Some(Excluded::Dhcp)
        } else if of_amazon(&METADATA) {
            Some(Excluded::Metadata)
        } else if of_amazon(&TIME) && self.protocol == UDP && either(NTP) {
            Some(Excluded::Time)
        } else if of_amazon(&WINDOWS_ACTIVATION) {
            Some(Excluded::WindowsActivation)
        } else if of_amazon(&RESOLVER) && either(DOMAIN) {
            Some(Excluded::Resolver)
        } else {
            None
        }
    }
}

/// What is behind the headers of IP.
struct Begin<'f> {
    protocol: IpNumber,
    /// Whether it is the begin of the packet: not in a fragment behind the first.
    is_first: bool,
    payload: &'f [u8],
}

impl<'f> Begin<'f> {
    /// Of IPv6. A header that is not all there, or out of its place, is taken for the protocol.
    fn behind_extensions(mut protocol: IpNumber, mut payload: &'f [u8]) -> Self {
        let mut is_first = true;
        for seen in 0..MAX_EXTENSIONS {
            let next = match protocol {
                IpNumber::IPV6_HEADER_HOP_BY_HOP if seen > 0 => break,
                IpNumber::IPV6_HEADER_HOP_BY_HOP
                | IpNumber::IPV6_ROUTE_HEADER
                | IpNumber::IPV6_DESTINATION_OPTIONS => Ipv6RawExtHeaderSlice::from_slice(payload)
                    .map(|header| (header.next_header(), header.slice().len()))
                    .ok(),
                IpNumber::IPV6_FRAGMENTATION_HEADER => Ipv6FragmentHeaderSlice::from_slice(payload)
                    .inspect(|header| is_first = header.fragment_offset().value() == 0)
                    .map(|header| (header.next_header(), header.slice().len()))
                    .ok(),
                IpNumber::AUTHENTICATION_HEADER => IpAuthHeaderSlice::from_slice(payload)
                    .map(|header| (header.next_header(), header.slice().len()))
                    .ok(),
                _ => break,
            };
            let Some((next, length)) = next else { break };
            (protocol, payload) = (next, &payload[length..]);
            if !is_first {
                break;
            }
        }
        Self { protocol, is_first, payload }
    }
}

impl Mirroring {
    /// What becomes of a packet of a source. Its sessions are asked by ascending number; the first rule that
    /// matches, by ascending number, decides for all of them.
    #[must_use]
    pub fn evaluate(&self, interface: &str, direction: Direction, packet: &Packet) -> Outcome<'_> {
        let excluded = packet.excluded();
        if let Some(reason) = excluded.filter(|reason| *reason != Excluded::Resolver) {
            return Outcome::Excluded(reason);
        }
        for session in self.sessions_of(interface) {
            let Some(filter) = self.filter(&session.filter) else { continue };
            if excluded.is_some() {
                if filter.amazon_dns {
                    return self.mirrored(session, None, packet);
                }
                continue;
            }
            if let Some(rule) = filter.rules(direction).iter().find(|rule| rule.matches(packet)) {
                return match rule.action {
                    Action::Accept => self.mirrored(session, Some(rule), packet),
                    Action::Reject => Outcome::Rejected { session, rule },
                };
            }
        }
        excluded.map_or(Outcome::NoMatch, Outcome::Excluded)
    }

    fn mirrored<'m>(&'m self, session: &'m Session, rule: Option<&'m Rule>, packet: &Packet) -> Outcome<'m> {
        // Those of all sessions are only needed to derive one.
        let derived = || self.vnis().get(session.id.as_str()).copied().unwrap_or_default();
        let vni = session.vni.unwrap_or_else(derived);
        let length = session.packet_length.unwrap_or(u32::MAX).min(packet.length);
        Outcome::Mirrored { session, rule, vni, length }
    }
}

impl Filter {
    /// The rules of a direction, by ascending number.
    #[must_use]
    pub fn rules(&self, direction: Direction) -> &[Rule] {
        match direction {
            Direction::Ingress => &self.ingress,
            Direction::Egress => &self.egress,
        }
    }
}

impl Rule {
    /// Whether a packet is of this kind.
    #[must_use]
    pub fn matches(&self, packet: &Packet) -> bool {
        let Self { protocol, source, destination, source_ports, destination_ports, .. } = self;
        let within = |block: &IpNet, address: &IpAddr| block.contains(address);
        let (from, to) = (packet.ports.map(|(from, _)| from), packet.ports.map(|(_, to)| to));
        protocol.is_none_or(|protocol| protocol == packet.protocol)
            && within(source, &packet.source)
            && within(destination, &packet.destination)
            && source_ports.as_ref().is_none_or(|ports| from.is_some_and(|port| ports.contains(&port)))
            && destination_ports.as_ref().is_none_or(|ports| to.is_some_and(|port| ports.contains(&port)))
    }
}

#[cfg(test)]
mod tests {
    use etherparse::PacketBuilder;

    use super::super::testing::{filter, session};
    use super::*;

    const CLIENT: [u8; 4] = [198, 51, 100, 7];
    const SERVER: [u8; 4] = [10, 0, 0, 9];

    fn tcp(source: [u8; 4], destination: [u8; 4], ports: (u16, u16)) -> Vec<u8> {
        let builder = PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4(source, destination, 64);
        let mut frame = Vec::new();
        builder.tcp(ports.0, ports.1, 1, 1000).write(&mut frame, &[0; 60]).unwrap();
        frame
    }

    fn udp(source: IpAddr, destination: IpAddr, ports: (u16, u16)) -> Vec<u8> {
        let builder = PacketBuilder::ethernet2([2; 6], [4; 6]);
        let builder = match (source, destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                builder.ipv4(source.octets(), destination.octets(), 64)
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                builder.ipv6(source.octets(), destination.octets(), 64)
            }
            _ => panic!("two families"),
        };
        let mut frame = Vec::new();
        builder.udp(ports.0, ports.1).write(&mut frame, &[0; 20]).unwrap();
        frame
    }

    fn packet(frame: &[u8]) -> Packet {
        Packet::of_frame(frame).unwrap()
    }

    /// Inbound 22 and 80 but from one network, all UDP outbound; after it, a session for all TCP inbound.
    fn set_up() -> Mirroring {
        let web = [
            "10 reject tcp 198.51.100.0/25 0.0.0.0/0:80-80",
            "20 accept tcp 0.0.0.0/0 10.0.0.0/8:22-22",
            "30 accept tcp 0.0.0.0/0 10.0.0.0/8:80-80",
        ];
        let mut second = session("tms-2", 2);
        (second.filter, second.packet_length, second.vni) = ("tmf-2".into(), Some(64), Some(77));
        let mut first = session("tms-1", 1);
        first.vni = Some(12345);
        Mirroring {
            filters: vec![
                filter("tmf-1", &web, &["10 accept udp 0.0.0.0/0 0.0.0.0/0"]),
                filter("tmf-2", &["10 accept tcp 0.0.0.0/0 0.0.0.0/0"], &[]),
            ],
            // As a file may have them.
            sessions: vec![second, first],
            ..Mirroring::default()
        }
    }

    fn said(all: &Mirroring, direction: Direction, frame: &[u8]) -> String {
        match all.evaluate("eni-1", direction, &packet(frame)) {
            Outcome::Mirrored { session, rule, vni, length } => {
                let rule = rule.map_or("amazon-dns".to_owned(), |rule| rule.number.to_string());
                format!("{} {rule}: VNI {vni}, {length} bytes", session.id)
            }
            Outcome::Rejected { session, rule } => format!("{} {}: rejected", session.id, rule.number),
            Outcome::NoMatch => "no match".into(),
            Outcome::Excluded(reason) => format!("{reason:?}"),
        }
    }

    #[test]
    fn the_first_rule_that_matches_decides_and_a_reject_is_final() {
        use Direction::{Egress, Ingress};
        let all = set_up();
        let to = |port| tcp(CLIENT, SERVER, (49152, port));
        assert_eq!(said(&all, Ingress, &to(22)), "tms-1 20: VNI 12345, 114 bytes");
        // The second session would take it.
        assert_eq!(said(&all, Ingress, &to(80)), "tms-1 10: rejected");
        assert_eq!(said(&all, Ingress, &to(443)), "tms-2 10: VNI 77, 64 bytes");
        assert_eq!(
            said(&all, Ingress, &tcp([203, 0, 113, 1], SERVER, (1, 80))),
            "tms-1 30: VNI 12345, 114 bytes"
        );
        // Without rules in a direction nothing is mirrored in it.
        assert_eq!(said(&all, Egress, &to(22)), "no match");
        let dns = udp(SERVER.into(), [8, 8, 8, 8].into(), (5353, 53));
        assert_eq!(said(&all, Egress, &dns), "tms-1 10: VNI 12345, 62 bytes");
        assert_eq!(said(&all, Ingress, &dns), "no match");
        assert_eq!(all.evaluate("eni-2", Ingress, &packet(&to(22))), Outcome::NoMatch);
    }

    #[test]
    fn what_aws_never_mirrors_is_excluded_whatever_the_rules_say() {
        let mut all = set_up();
        all.filters[0] = filter(
            "tmf-1",
            &["1 accept any 0.0.0.0/0 0.0.0.0/0", "2 accept any ::/0 ::/0"],
            &["1 accept any 0.0.0.0/0 0.0.0.0/0", "2 accept any ::/0 ::/0"],
        );
        let v4 = |last| IpAddr::from([169, 254, 169, last]);
        let v6 = |text: &str| text.parse::<IpAddr>().unwrap();
        let (host, host6) = (IpAddr::from(SERVER), v6("2001:db8::9"));
        for (frame, expected) in [
            (udp(host, v4(254), (5000, 80)), "Metadata"),
            (udp(host6, v6("fd00:ec2::254"), (5000, 80)), "Metadata"),
            (udp(host, v4(123), (123, 123)), "Time"),
            (udp(host6, v6("fd00:ec2::123"), (123, 123)), "Time"),
            (udp(host, v4(251), (5000, 1688)), "WindowsActivation"),
            (udp(host, v4(253), (5000, 53)), "Resolver"),
            (udp(host6, v6("fd00:ec2::253"), (5000, 53)), "Resolver"),
            (udp([0; 4].into(), [255; 4].into(), (68, 67)), "Dhcp"),
            (udp(host6, v6("ff02::1:2"), (546, 547)), "Dhcp"),
        ] {
            assert_eq!(said(&all, Direction::Egress, &frame), expected);
        }
        let mut solicitation = Vec::new();
        let builder = PacketBuilder::ethernet2([2; 6], [4; 6]).ipv6([1; 16], [2; 16], 255);
        builder.icmpv6_raw(135, 0, [0; 4]).write(&mut solicitation, &[0; 16]).unwrap();
        assert_eq!(said(&all, Direction::Ingress, &solicitation), "NeighborDiscovery");
        // Near, but not that.
        for frame in
            [udp(host, v4(252), (5000, 53)), udp(host, v4(253), (5000, 54)), udp(host, v4(123), (5, 6))]
        {
            assert_eq!(said(&all, Direction::Egress, &frame), "tms-1 1: VNI 12345, 62 bytes");
        }
    }

    #[test]
    fn with_amazon_dns_queries_are_mirrored_by_the_first_session_that_has_it() {
        let mut all = set_up();
        let query = udp(SERVER.into(), [169, 254, 169, 253].into(), (5000, 53));
        assert_eq!(said(&all, Direction::Egress, &query), "Resolver");
        all.filters[1].amazon_dns = true;
        assert_eq!(said(&all, Direction::Egress, &query), "tms-2 amazon-dns: VNI 77, 62 bytes");
    }

    #[test]
    fn a_fragment_behind_the_first_matches_no_rule_with_ports() {
        let mut all = set_up();
        all.sessions.retain(|session| session.id == "tms-1");
        let mut frame = tcp(CLIENT, SERVER, (49152, 22));
        // Offset 8 bytes: where it says 22, there is payload.
        frame[21] = 1;
        assert_eq!(packet(&frame).ports, None);
        assert_eq!(said(&all, Direction::Ingress, &frame), "no match");
        all.filters[0].ingress[1].destination_ports = None;
        assert_eq!(said(&all, Direction::Ingress, &frame), "tms-1 20: VNI 12345, 114 bytes");
    }

    #[test]
    fn tags_options_and_extension_headers_are_looked_behind() {
        let mut tagged = tcp(CLIENT, SERVER, (49152, 22));
        tagged.splice(12..12, [0x88, 0xa8, 0, 5, 0x81, 0, 0, 6]);
        assert_eq!(packet(&tagged).ports, Some((49152, 22)));
        assert_eq!(packet(&tagged).length, 122);
        // Destination options of 8 bytes.
        let mut extended = udp([1; 16].into(), [2; 16].into(), (1, 2));
        extended.splice(54..54, [17, 0, 1, 4, 0, 0, 0, 0]);
        extended[20] = 60;
        extended[19] += 8;
        let seen = packet(&extended);
        assert_eq!((seen.protocol, seen.ports), (17, Some((1, 2))));
        // Cut within the ports.
        let cut = &tcp(CLIENT, SERVER, (49152, 22))[..37];
        assert_eq!((packet(cut).protocol, packet(cut).ports), (6, None));
    }

    #[test]
    fn an_extension_header_that_is_not_all_there_is_the_protocol() {
        let mut frame = udp([1; 16].into(), [2; 16].into(), (1, 2));
        for kind in [0, 43, 44, 51, 60] {
            frame[20] = kind;
            for length in 54..62 {
                let seen = packet(&frame[..length]);
                assert_eq!((seen.protocol, seen.ports), (kind, None), "{length} bytes");
            }
        }
        // Two hop-by-hop headers: the second is out of its place.
        let mut frame = udp([1; 16].into(), [2; 16].into(), (1, 2));
        frame[20] = 0;
        frame.splice(54..54, [0; 8]);
        frame[19] += 8;
        assert_eq!(packet(&frame).protocol, 0);
    }

    #[test]
    fn any_bytes_are_a_packet_or_not() {
        let mut arp = vec![0xff; 12];
        arp.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
        arp.resize(42, 0);
        assert_eq!(Packet::of_frame(&arp), None);
        let frame = udp([1; 16].into(), [2; 16].into(), (1, 2));
        for length in 0..frame.len() {
            let _ = Packet::of_frame(&frame[..length]);
        }
        proptest::proptest!(|(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200))| {
            let _ = Packet::of_frame(&bytes);
        });
    }
}
