//! Link layers: the same tunnel packet, however it was captured.

use super::{
    Endian::{Big, Little},
    *,
};
use crate::{
    decap::{decapsulate_frame, tests::Packet},
    frame::Captured,
    tunnels::Tunnels,
};

const COOKED: [u8; 16] = [0, 0, 0, 1, 0, 6, 2, 2, 2, 2, 2, 2, 0, 0, 8, 0];
const COOKED2: [u8; 20] = [8, 0, 0, 0, 0, 0, 0, 2, 0, 1, 0, 6, 2, 2, 2, 2, 2, 2, 0, 0];

/// A packet's bytes under each supported link type.
fn captures() -> Vec<(u16, Vec<u8>)> {
    let ethernet = Packet::default().bytes();
    let ip = &ethernet[14..];
    vec![
        (1, ethernet.clone()),
        (113, [&COOKED, ip].concat()),
        (276, [&COOKED2, ip].concat()),
        (0, [&[2, 0, 0, 0], ip].concat()),
        (0, [&[0, 0, 0, 2], ip].concat()),
        (108, [&[0, 0, 0, 2], ip].concat()),
        (12, ip.to_vec()),
        (14, ip.to_vec()),
        (101, ip.to_vec()),
        (228, ip.to_vec()),
    ]
}

/// Every frame of the capture decapsulates to the packet's inner frame.
fn check(bytes: &[u8], count: usize) {
    let seen = frames(bytes);
    assert_eq!(seen.len(), count);
    for (bytes, wire_len, time) in &seen {
        assert_eq!(*wire_len as usize, bytes.len(), "the wire length counts an Ethernet header too");
        let captured = Captured::new(bytes, *wire_len, *time);
        let frame = decapsulate_frame(captured, &Tunnels::default()).unwrap();
        assert_eq!(frame.inner().first(), Packet::default().inner);
        assert_eq!(frame.source(), std::net::IpAddr::from([10, 10, 10, 252]));
    }
}

#[test]
fn every_link_type_gives_the_same_inner_frames() {
    for (link_type, data) in captures() {
        let len = u32::try_from(data.len()).unwrap();
        for endian in [Little, Big] {
            let record = pcap_record(endian, (1, 1), len, 0, &data);
            check(&[pcap_header(endian, 0xa1b2_c3d4, u32::from(link_type)), record.repeat(3)].concat(), 3);
            // Simple packet blocks follow each other with fewer bytes between the frames than an Ethernet
            // header has.
            let head = [section(endian), interface(endian, link_type, 0, &[])].concat();
            let enhanced = enhanced(endian, 0, 1, len, &data, &[]);
            let simple = simple(endian, len, &data);
            let obsolete = obsolete(endian, 0, 1, len, &data);
            check(&[head, enhanced.repeat(2), simple.repeat(3), obsolete.repeat(2)].concat(), 7);
        }
    }
}

#[test]
fn ipv6_over_cooked_and_raw_links() {
    let packet = Packet { v6: true, ..Packet::default() };
    let ip = &packet.bytes()[14..];
    let mut cooked = COOKED;
    cooked[14..].copy_from_slice(&[0x86, 0xdd]);
    for (link_type, data) in [
        (113_u32, [&cooked, ip].concat()),
        (101, ip.to_vec()),
        (229, ip.to_vec()),
        (0, [&[30, 0, 0, 0], ip].concat()),
    ] {
        let record = pcap_record(Little, (1, 1), 0, 0, &data);
        let seen = frames(&[pcap_header(Little, 0xa1b2_c3d4, link_type), record].concat());
        let (bytes, wire_len, time) = &seen[0];
        let captured = Captured::new(bytes, *wire_len, *time);
        assert_eq!(decapsulate_frame(captured, &Tunnels::default()).unwrap().inner().first(), packet.inner);
    }
}

#[test]
fn packets_of_other_link_types_are_counted_by_number_and_the_others_read() {
    let radio = [pcap_header(Little, 0xa1b2_c3d4, 127), pcap_record(Little, (1, 1), 9, 0, &[0; 9]).repeat(3)];
    let (seen, unread) = passed_over(&radio.concat());
    assert_eq!((seen.len(), unread.broken), (0, 0));
    assert_eq!(unread.link_types, [(127, 3)].into());
    let packet = |id| enhanced(Little, id, 0, 60, &[1; 60], &[]);
    let bytes = [
        section(Little),
        interface(Little, 127, 0, &[]),
        interface(Little, 1, 0, &[]),
        interface(Little, 220, 0, &[]),
        [packet(0), packet(1), packet(2), packet(1), packet(0)].concat(),
    ];
    let (seen, unread) = passed_over(&bytes.concat());
    assert_eq!((seen.len(), unread.broken), (2, 0));
    assert_eq!(unread.link_types, [(127, 2), (220, 1)].into());
}

#[test]
fn an_interface_without_packets_may_have_any_link_type() {
    let bytes = [
        section(Little),
        interface(Little, 220, 0, &[]),
        interface(Little, 1, 0, &[]),
        enhanced(Little, 1, 0, 60, &[1; 60], &[]),
    ];
    assert_eq!(frames(&bytes.concat()).len(), 1);
}
