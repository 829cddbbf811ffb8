//! Outer headers as AWS's captures have them, and etherparse as a second opinion.

use etherparse::{NetSlice, SlicedPacket, TransportSlice};

use super::*;
use crate::flow::frame_hash;

fn ends(from: &str, to: &str) -> Ends {
    let to = SocketAddr::new(to.parse().unwrap(), vxlan::PORT);
    Ends { mac: [2; 6], neighbour: [4; 6], from: from.parse().unwrap(), to }
}

fn complete(outer: &Outer, inner: &[u8], port: u16) -> Vec<u8> {
    let mut headers = outer.headers().to_vec();
    let (first, rest) = inner.split_at(inner.len() / 4 * 2);
    headers.extend(first);
    outer.complete(&mut headers, rest, port);
    headers.extend(rest);
    headers
}

#[test]
fn over_ipv4_they_are_those_of_aws() {
    let outer = Outer::new(&ends("10.10.10.252", "10.10.10.1"), 0x54_fa11, 9001).unwrap();
    for len in [0, 1, 35, 100, outer.room()] {
        let inner: Vec<u8> = (0..=255).cycle().take(len).collect();
        let frame = complete(&outer, &inner, 0xff81);
        let expected = mirror_lab::frames::Outer {
            source_mac: [2; 6],
            destination_mac: [4; 6],
            source_port: 0xff81,
            ..mirror_lab::frames::Outer::sample(0x54_fa11)
        };
        assert_eq!(frame, expected.encapsulate(&inner).unwrap(), "{len} bytes");
    }
}

#[test]
fn over_ipv6_there_is_a_checksum() {
    let outer = Outer::new(&ends("2001:db8::1", "2001:db8::2"), 7, 1500).unwrap();
    for len in [0, 1, 35, 1001, outer.room()] {
        let inner: Vec<u8> = (0..=255).cycle().take(len).collect();
        let frame = complete(&outer, &inner, 0xffff);
        let sliced = SlicedPacket::from_ethernet(&frame).unwrap();
        let (Some(NetSlice::Ipv6(ip)), Some(TransportSlice::Udp(udp))) = (sliced.net, sliced.transport)
        else {
            panic!("no UDP over IPv6");
        };
        let header = ip.header().to_header();
        assert_eq!((header.hop_limit, header.flow_label.value(), header.traffic_class), (255, 0, 0));
        assert_eq!((udp.source_port(), udp.destination_port()), (0xffff, 4789));
        let sum = udp.to_header().calc_checksum_ipv6(&header, udp.payload()).unwrap();
        assert_eq!(udp.checksum(), sum);
        assert_eq!(udp.payload(), [&[8, 0, 0, 0, 0, 0, 7, 0], &inner[..]].concat());
    }
}

#[test]
fn what_fits_is_the_mtu_less_encapsulation() {
    let of = |from, to, mtu| Outer::new(&ends(from, to), 7, mtu).unwrap().room();
    assert_eq!(of("10.0.0.1", "10.0.0.2", 1500), 1500 - 36);
    assert_eq!(of("::1", "::2", 1500), 1500 - 56);
    assert_eq!(of("10.0.0.1", "10.0.0.2", 20), 0);
    // The loopback's MTU, which is longer than any packet.
    assert_eq!(of("10.0.0.1", "10.0.0.2", 65_536), 65_535 - 36);
    assert!(Outer::new(&ends("10.0.0.1", "::2"), 7, 1500).is_none());
}

#[test]
fn both_directions_of_a_flow_have_one_of_128_ports() {
    let mut ports = std::collections::BTreeSet::new();
    for number in 0..2000_u16 {
        let frame = |a: u8, b: u8, from: u16, to: u16| {
            let mut frame = Vec::new();
            let builder = etherparse::PacketBuilder::ethernet2([a; 6], [b; 6]);
            let builder = builder.ipv4([10, 0, 0, a], [10, 0, 0, b], 64).udp(from, to);
            builder.write(&mut frame, &[0; 4]).unwrap();
            source_port(frame_hash(&frame, 5))
        };
        assert_eq!(frame(1, 2, number, 443), frame(2, 1, 443, number));
        ports.insert(frame(1, 2, number, 443));
    }
    assert_eq!((ports.len(), ports.first(), ports.last()), (128, Some(&0xff80), Some(&0xffff)));
    let without_ip = |to: u8, from: u8| {
        let frame = [&[to; 6][..], &[from; 6], &[0x88, 0xcc], &[0; 46]].concat();
        source_port(frame_hash(&frame, 5))
    };
    assert_eq!(without_ip(1, 2), without_ip(2, 1));
}
