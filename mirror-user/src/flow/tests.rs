//! Published Community IDs, and frames of every kind.

use std::net::IpAddr;

use etherparse::PacketBuilder;
use proptest::prelude::*;

use super::*;

fn flow(source: &str, destination: &str, protocol: u8, ports: Ports) -> Flow {
    let address = |text: &str| text.parse::<IpAddr>().unwrap();
    Flow { source: address(source), destination: address(destination), protocol, ports }
}

#[test]
fn community_ids_are_the_published_ones() {
    use Ports::{Icmp, Pair};
    // Of the specification's own implementation, whose tests and example captures have these flows.
    let vectors = [
        ("128.232.110.120", "66.35.250.204", 6, Pair(34855, 80), "LQU9qZlK+B5F3KDmev6m5PMibrg="),
        ("66.35.250.204", "128.232.110.120", 6, Pair(80, 34855), "LQU9qZlK+B5F3KDmev6m5PMibrg="),
        ("10.0.0.1", "10.0.0.2", 6, Pair(10, 11569), "SXBGMX1lBOwhhoDrZynfROxnhnM="),
        ("192.168.1.52", "8.8.8.8", 17, Pair(54585, 53), "d/FP5EW3wiY1vCndhwleRRKHowQ="),
        ("192.168.0.89", "192.168.0.1", 1, Icmp(8, 0), "X0snYXpgwiv9TZtqg64sgzUn6Dk="),
        ("192.168.0.1", "192.168.0.89", 1, Icmp(0, 0), "X0snYXpgwiv9TZtqg64sgzUn6Dk="),
        ("192.168.0.89", "192.168.0.1", 1, Icmp(20, 0), "3o2RFccXzUgjl7zDpqmY7yJi8rI="),
        ("192.168.0.89", "192.168.0.1", 1, Icmp(20, 1), "tz/fHIDUHs19NkixVVoOZywde+I="),
        ("192.168.170.8", "192.168.170.56", 132, Pair(7, 80), "jQgCxbku+pNGw8WPbEc/TS/uTpQ="),
        (
            "fe80::200:86ff:fe05:80da",
            "fe80::260:97ff:fe07:69ea",
            58,
            Icmp(135, 0),
            "dGHyGvjMfljg6Bppwm3bg0LO8TY=",
        ),
        (
            "3ffe:507:0:1:260:97ff:fe07:69ea",
            "3ffe:507:0:1:200:86ff:fe05:80da",
            58,
            Icmp(3, 0),
            "NdobDX8PQNJbAyfkWxhtL2Pqp5w=",
        ),
        ("10.1.24.4", "10.1.12.1", 46, Ports::None, "/nQI4Rh/TtY3mf0R2gJFBkVlgS4="),
    ];
    for (source, destination, protocol, ports, expected) in vectors {
        let flow = flow(source, destination, protocol, ports);
        assert_eq!(flow.community_id(0).to_string(), format!("1:{expected}"), "{flow:?}");
    }
    let seeded = flow("192.168.1.52", "8.8.8.8", 17, Pair(54585, 53)).community_id(1);
    assert_eq!(seeded.as_str(), "1:Q9We8WO3piVF8yEQBNJF4uiSVrI=");
}

/// Of `mixed()`: how many frames have ports, are fragments, have no IP.
#[test]
fn frames_of_every_kind_are_distinguished() {
    let frames = mirror_lab::mixed::mixed().unwrap();
    let packets: Vec<_> = frames.iter().map(|frame| Packet::of(frame)).collect();
    let count = |wanted: &dyn Fn(&Packet) -> bool| packets.iter().flatten().filter(|p| wanted(p)).count();
    assert!(count(&|p| matches!(p.flow.ports, Ports::Pair(..))) > 10);
    assert!(count(&|p| matches!(p.flow.ports, Ports::Icmp(..))) >= 4);
    assert!(count(&|p| p.fragment.is_some_and(|f| f.is_first)) >= 1);
    assert!(count(&|p| p.fragment.is_some_and(|f| !f.is_first && p.flow.ports == Ports::None)) >= 1);
    assert!(packets.iter().filter(|p| p.is_none()).count() >= 2, "ARP is no IP");
}

#[test]
fn ports_are_found_behind_tags_and_extension_headers() {
    let udp = PacketBuilder::ethernet2([2; 6], [4; 6]).ipv6([1; 16], [2; 16], 64).udp(53, 4000);
    let mut plain = Vec::new();
    udp.write(&mut plain, b"hello").unwrap();
    let expected = Packet::of(&plain).unwrap();
    assert_eq!(expected.flow.ports, Ports::Pair(53, 4000));
    // Hop-by-hop, destination options of 16 bytes, an atomic fragment.
    let mut extended = plain.clone();
    extended[20] = 0;
    let headers = [
        &[60, 0, 1, 4, 0, 0, 0, 0][..],
        &[44, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        &[17, 0, 0, 0, 9, 9, 9, 9],
    ];
    extended.splice(54..54, headers.concat());
    assert_eq!(Packet::of(&extended), Some(expected));
    for cut in 54..54 + 32 + 3 {
        assert_eq!(Packet::of(&extended[..cut]).unwrap().flow.ports, Ports::None, "cut to {cut}");
    }
    let mut tagged = plain.clone();
    tagged.splice(12..12, [0x88, 0xa8, 0, 5, 0x81, 0, 0, 7]);
    assert_eq!(Packet::of(&tagged), Some(expected));
}

#[test]
fn padding_is_not_parsed_as_ports() {
    let mut frame = vec![0; 60];
    PacketBuilder::ethernet2([2; 6], [4; 6])
        .ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
        .write(&mut frame.as_mut_slice(), 17.into(), &[])
        .unwrap();
    frame[34..].fill(7);
    assert_eq!(Packet::of(&frame).unwrap().flow.ports, Ports::None);
}

fn any_flow() -> impl Strategy<Value = Flow> {
    let v4 = || any::<[u8; 4]>().prop_map(IpAddr::from);
    let v6 = || any::<[u8; 16]>().prop_map(IpAddr::from);
    let ends = prop_oneof![(v4(), v4()), (v6(), v6())];
    let ports =
        prop_oneof![Just(Ports::None), any::<(u16, u16)>().prop_map(|(from, to)| Ports::Pair(from, to)),];
    (ends, any::<u8>(), ports).prop_map(|((source, destination), protocol, ports)| Flow {
        source,
        destination,
        protocol,
        ports,
    })
}

proptest! {
    #[test]
    fn both_directions_have_one_hash_and_one_community_id(flow in any_flow()) {
        let ports = match flow.ports {
            Ports::Pair(from, to) => Ports::Pair(to, from),
            other => other,
        };
        let back = Flow { source: flow.destination, destination: flow.source, ports, ..flow };
        prop_assert_eq!(flow.hash(5), back.hash(5));
        prop_assert_ne!(flow.hash(5), flow.hash(6));
        prop_assert_eq!(flow.community_id(7), back.community_id(7));
    }

    #[test]
    fn any_bytes_are_accepted(bytes in prop::collection::vec(any::<u8>(), 0..200), kind in 0usize..3) {
        let mut frame = bytes;
        if frame.len() > 15 {
            frame[12..15].copy_from_slice(&[[8, 0, 0x45], [0x86, 0xdd, 0x60], [0x81, 0, 0]][kind]);
        }
        if let Some(packet) = Packet::of(&frame) {
            prop_assert_eq!(packet.flow.hash(1), packet.flow.hash(1));
            prop_assert!(packet.flow.community_id(0).as_str().starts_with("1:"));
        }
    }
}
