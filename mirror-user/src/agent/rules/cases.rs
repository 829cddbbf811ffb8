//! Set-ups and frames at the edges of rules: each case aims at one rule of one session, which others in front
//! of it nearly match.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    ops::RangeInclusive,
};

use etherparse::PacketBuilder;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use mirror_ebpf::source::{Count, Decision, RuleSet};

use super::{Place, rule_set};
use crate::mirroring::{
    Action, Direction, Excluded, Filter, MAX_RULES, MAX_SESSIONS, Mirroring, Outcome, Packet, Rule, Session,
    testing,
};

/// A set-up and a frame of its source `eni-1`.
#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) mirroring: Mirroring,
    pub(crate) direction: Direction,
    pub(crate) frame: Vec<u8>,
}

/// Numbers that follow from a seed (splitmix64).
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    #[expect(clippy::cast_possible_truncation, reason = "below a small number")]
    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    fn one_in(&mut self, number: usize) -> bool {
        self.below(number) == 0
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }

    #[expect(clippy::cast_possible_truncation, reason = "any bytes")]
    fn byte(&mut self) -> u8 {
        self.next() as u8
    }
}

const PORTS: [u16; 12] = [0, 1, 22, 53, 67, 68, 80, 123, 443, 546, 547, 65535];
const PROTOCOLS: [u8; 10] = [6, 6, 6, 17, 17, 17, 1, 58, 47, 0];
/// Those of Amazon's services, their neighbours, and others.
const V4: [[u8; 4]; 9] = [
    [10, 0, 0, 9],
    [10, 0, 0, 9],
    [198, 51, 100, 7],
    [255, 255, 255, 255],
    [0, 0, 0, 0],
    [169, 254, 169, 253],
    [169, 254, 169, 254],
    [169, 254, 169, 123],
    [169, 254, 169, 251],
];
const V6: [[u16; 8]; 7] = [
    [0x2001, 0xdb8, 0, 0, 0, 0, 0, 9],
    [0x2001, 0xdb8, 0, 0, 0, 0, 0, 9],
    [0xfe80, 0, 0, 0, 1, 2, 3, 4],
    [0; 8],
    [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x253],
    [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254],
    [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x123],
];

/// What a frame is made of.
struct Fields {
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    ports: (u16, u16),
}

impl Case {
    pub(crate) fn of(seed: u64) -> Self {
        let dice = &mut Dice(seed);
        let fields = Fields::any(dice);
        let frame = fields.frame(dice);
        let direction = dice.of(&[Direction::Ingress, Direction::Egress]);
        let (at, place) = (dice.below(MAX_SESSIONS), dice.below(MAX_RULES));
        let mut mirroring = Mirroring::default();
        for number in 0..MAX_SESSIONS {
            if number > at && dice.one_in(2) {
                break;
            }
            let filter = format!("tmf-{number}");
            let mut session: Session = testing::session(&format!("tms-{number}"), 0);
            // The last is asked first, and sessions in a file have no sequence.
            session.number = u16::try_from(number).expect("few") + 1;
            session.filter.clone_from(&filter);
            session.packet_length =
                dice.one_in(2).then(|| 64 + u32::try_from(dice.below(1500)).expect("few"));
            mirroring.sessions.insert(dice.below(number + 1), session);
            let mut filter: Filter = testing::filter(&filter, &[], &[]);
            filter.amazon_dns = dice.one_in(8);
            let count = if number == at {
                place + 1 + dice.below(MAX_RULES - place)
            } else {
                dice.below(MAX_RULES + 1)
            };
            let rules = (0..count).map(|rule| {
                let aims = number == at && rule == place;
                let behind = number > at || number == at && rule > place;
                let mut made = fields.matching(dice, rule);
                let may_match = aims || behind && dice.one_in(2);
                if !may_match {
                    fields.miss(dice, &mut made);
                }
                made
            });
            let rules: Vec<_> = rules.collect();
            match direction {
                Direction::Ingress => filter.ingress = rules,
                Direction::Egress => filter.egress = rules,
            }
            if dice.one_in(4) {
                // Of the other direction: rules that must not count.
                let others = vec![fields.matching(dice, 0)];
                match direction {
                    Direction::Ingress => filter.egress = others,
                    Direction::Egress => filter.ingress = others,
                }
            }
            mirroring.filters.push(filter);
        }
        Self { mirroring, direction, frame }
    }

    /// As the programs read them.
    pub(crate) fn rules(&self) -> RuleSet {
        let place = |_: &Session| Place { place: 0, carrier: 0, overhead: 50 };
        rule_set(&self.mirroring, "eni-1", self.direction, place, &[])
    }
}

impl Fields {
    fn any(dice: &mut Dice) -> Self {
        let is_v6 = dice.one_in(3);
        let mut address = || -> IpAddr {
            if is_v6 { Ipv6Addr::from(dice.of(&V6)).into() } else { Ipv4Addr::from(dice.of(&V4)).into() }
        };
        let (source, destination) = (address(), address());
        Self {
            source,
            destination,
            protocol: dice.of(&PROTOCOLS),
            ports: (dice.of(&PORTS), if dice.one_in(2) { dice.of(&PORTS) } else { 40_000 }),
        }
    }

    fn frame(&self, dice: &mut Dice) -> Vec<u8> {
        let Self { source, destination, protocol, ports } = *self;
        let builder = PacketBuilder::ethernet2([2; 6], [4; 6]);
        let payload = vec![0xa5; dice.below(60)];
        let mut frame = Vec::new();
        let builder = match (source, destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                builder.ipv4(source.octets(), destination.octets(), 64)
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                builder.ipv6(source.octets(), destination.octets(), 64)
            }
            _ => unreachable!("both are of one version"),
        };
        match protocol {
            6 => builder.tcp(ports.0, ports.1, 1, 1000).write(&mut frame, &payload),
            17 => builder.udp(ports.0, ports.1).write(&mut frame, &payload),
            58 if source.is_ipv6() => builder
                .icmpv6_raw(dice.of(&[128, 132, 133, 135, 137, 138]), 0, [0; 4])
                .write(&mut frame, &payload),
            _ => builder.write(&mut frame, etherparse::IpNumber::IPV6_NO_NEXT_HEADER, &payload),
        }
        .expect("a frame");
        let network = 14;
        frame[network + if source.is_ipv4() { 9 } else { 6 }] = protocol;
        if source.is_ipv4() {
            if dice.one_in(8) {
                // Options, one word or ten.
                let words: u8 = dice.of(&[1, 10]);
                frame.splice(network + 20..network + 20, vec![1; usize::from(words) * 4]);
                frame[network] += words;
                let length =
                    u16::from_be_bytes([frame[network + 2], frame[network + 3]]) + u16::from(words) * 4;
                frame[network + 2..network + 4].copy_from_slice(&length.to_be_bytes());
            }
            if dice.one_in(8) {
                // A fragment: the first, or one behind it; and a reserved bit.
                frame[network + 6..network + 8].copy_from_slice(&dice.of(&[
                    [0x20, 0],
                    [0x20, 1],
                    [0, 1],
                    [0x80, 0],
                ]));
            }
            if dice.one_in(16) {
                // A length that contradicts the frame.
                let length: u16 = dice.of(&[0, 19, 21, 23, 24, u16::MAX]);
                frame[network + 2..network + 4].copy_from_slice(&length.to_be_bytes());
            }
        } else {
            let mut chain: Vec<u8> =
                (0..dice.of(&[0, 0, 0, 1, 2, 6, 7])).map(|_| dice.of(&[0, 43, 44, 51, 60, 135])).collect();
            while let Some(kind) = chain.pop() {
                let next = std::mem::replace(&mut frame[network + 6], kind);
                let mut header = match kind {
                    44 => {
                        let mut fragment = [0; 8];
                        fragment[2..4].copy_from_slice(&dice.of(&[[0, 0], [0, 1], [0, 8], [0, 7]]));
                        fragment.to_vec()
                    }
                    51 => {
                        let units = dice.of(&[0, 1, 4]);
                        let mut header = vec![0; (usize::from(units) + 2) * 4];
                        header[1] = units;
                        header
                    }
                    _ => {
                        let units = dice.of(&[0, 0, 1]);
                        let mut header = vec![0; (usize::from(units) + 1) * 8];
                        header[1] = units;
                        header
                    }
                };
                header[0] = next;
                let length = u16::from_be_bytes([frame[network + 4], frame[network + 5]])
                    + u16::try_from(header.len()).expect("short");
                frame[network + 4..network + 6].copy_from_slice(&length.to_be_bytes());
                frame.splice(network + 40..network + 40, header);
            }
            if dice.one_in(16) {
                let length: u16 = dice.of(&[0, 1, 3, 4, 9, u16::MAX]);
                frame[network + 4..network + 6].copy_from_slice(&length.to_be_bytes());
            }
        }
        for _ in 0..dice.of(&[0, 0, 0, 0, 0, 1, 2, 3]) {
            let tag = dice.of(&[[0x81, 0, 0, 5], [0x88, 0xa8, 0, 6]]);
            frame.splice(12..12, tag);
        }
        if dice.one_in(16) {
            frame.truncate(14 + dice.below(frame.len() - 13));
        }
        if dice.one_in(16) {
            let at = 12 + dice.below(frame.len() - 12);
            frame[at] = dice.byte();
        }
        frame
    }

    /// A rule that the packet matches, if it has what its headers say.
    fn matching(&self, dice: &mut Dice, place: usize) -> Rule {
        let block = |dice: &mut Dice, address: IpAddr| -> IpNet {
            match address {
                IpAddr::V4(address) => {
                    Ipv4Net::new_assert(address, dice.of(&[0, 0, 1, 24, 31, 32])).trunc().into()
                }
                IpAddr::V6(address) => {
                    Ipv6Net::new_assert(address, dice.of(&[0, 0, 1, 32, 33, 64, 127, 128])).trunc().into()
                }
            }
        };
        let mut rule = testing::rule("1 accept any 0.0.0.0/0 0.0.0.0/0");
        rule.number = u32::try_from(place).expect("few") + 1;
        rule.action = dice.of(&[Action::Accept, Action::Reject]);
        (rule.source, rule.destination) = (block(dice, self.source), block(dice, self.destination));
        rule.protocol = (!dice.one_in(3)).then_some(self.protocol);
        if matches!(rule.protocol, Some(6 | 17)) {
            let ports = |dice: &mut Dice, port: u16| -> Option<RangeInclusive<u16>> {
                dice.of(&[
                    None,
                    Some((port, port)),
                    Some((0, port)),
                    Some((port, u16::MAX)),
                    Some((0, u16::MAX)),
                ])
                .map(|(first, last)| first..=last)
            };
            rule.source_ports = ports(dice, self.ports.0);
            rule.destination_ports = ports(dice, self.ports.1);
        }
        rule
    }

    /// Changes one thing of a rule, so that the packet just does not match.
    fn miss(&self, dice: &mut Dice, rule: &mut Rule) {
        let beside = |port: u16| if port == 0 { 1..=u16::MAX } else { 0..=port - 1 };
        let is_v4 = self.source.is_ipv4();
        match dice.below(6) {
            0 if matches!(rule.protocol, Some(6 | 17)) => rule.source_ports = Some(beside(self.ports.0)),
            1 if matches!(rule.protocol, Some(6 | 17)) => rule.destination_ports = Some(beside(self.ports.1)),
            2 => {
                let other = if self.protocol == 6 { 17 } else { 6 };
                rule.protocol = Some(other);
            }
            3 => rule.source = other_bit(self.source, dice),
            4 => rule.destination = other_bit(self.destination, dice),
            // Of the other version.
            _ => {
                let all: IpNet = if is_v4 { Ipv6Net::default().into() } else { Ipv4Net::default().into() };
                (rule.source, rule.destination) = (all, all);
            }
        }
    }
}

/// A block that an address is not in because of its last bit.
fn other_bit(address: IpAddr, dice: &mut Dice) -> IpNet {
    match address {
        IpAddr::V4(address) => {
            let length = dice.of(&[1, 8, 31, 32]);
            let flipped = u32::from(address) ^ 1 << (32 - u32::from(length));
            Ipv4Net::new_assert(flipped.into(), length).trunc().into()
        }
        IpAddr::V6(address) => {
            let length = dice.of(&[1, 32, 33, 96, 127, 128]);
            let flipped = u128::from(address) ^ 1 << (128 - u32::from(length));
            Ipv6Net::new_assert(flipped.into(), length).trunc().into()
        }
    }
}

/// What the evaluator says, in the form of the programs.
pub(crate) fn expected(case: &Case) -> Decision {
    let Some(packet) = Packet::of_frame(&case.frame) else {
        return Decision(Count::NotIp as u32);
    };
    let sessions = case.mirroring.sessions_of("eni-1");
    let place = |session: &Session, rule: Option<&Rule>| {
        let at = sessions.iter().position(|other| other.id == session.id).expect("one of them");
        let filter = case.mirroring.filter(&session.filter).expect("its filter");
        let rules = filter.rules(case.direction);
        let rule = rule.map_or(Decision::AMAZON_DNS, |rule| {
            rules.iter().position(|other| std::ptr::eq(other, rule)).expect("one of its filter")
        });
        u32::try_from(at << 8 | rule << 16).expect("a word")
    };
    Decision(match case.mirroring.evaluate("eni-1", case.direction, &packet) {
        Outcome::Mirrored { session, rule, .. } => Count::Cloned as u32 | place(session, rule),
        Outcome::Rejected { session, rule } => Count::Rejected as u32 | place(session, Some(rule)),
        Outcome::NoMatch => Count::NoMatch as u32,
        Outcome::Excluded(reason) => reason_of(reason) as u32,
    })
}

fn reason_of(reason: Excluded) -> Count {
    match reason {
        Excluded::NeighborDiscovery => Count::NeighborDiscovery,
        Excluded::Dhcp => Count::Dhcp,
        Excluded::Metadata => Count::Metadata,
        Excluded::Time => Count::Time,
        Excluded::WindowsActivation => Count::WindowsActivation,
        Excluded::Resolver => Count::Resolver,
    }
}
