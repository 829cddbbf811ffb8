//! One fact per table.

use std::net::IpAddr;

use super::{
    super::{decapsulate, decapsulate_frame, fast},
    Packet, TUNNELS, inner_ipv4, inner_ipv6, tagged, whole,
};
use crate::{account::Reject, frame::Captured};

fn verdict(bytes: &[u8]) -> Option<Reject> {
    decapsulate(&whole(bytes), &TUNNELS).err()
}

/// Inner length, captured and before truncation.
fn lengths(captured: Captured<'_>) -> (usize, usize) {
    let frame = decapsulate_frame(captured, &TUNNELS).unwrap();
    (frame.inner().len(), usize::try_from(frame.wire_len()).unwrap())
}

#[test]
fn a_mirrored_packet_is_decapsulated() {
    let packet = Packet::default();
    let bytes = packet.bytes();
    let frame = decapsulate_frame(whole(&bytes), &TUNNELS).unwrap();
    assert_eq!(frame.inner().first(), packet.inner);
    assert_eq!((frame.vni(), frame.source_port()), (5_569_041, 0xff80));
    assert_eq!(frame.source(), IpAddr::from([10, 10, 10, 252]));
    assert_eq!(frame.destination(), IpAddr::from([10, 10, 10, 20]));
    assert_eq!((frame.wire_len(), frame.outer_wire_len()), (74, 124));
    assert!(!frame.has_reserved_bits() && !frame.is_truncated());
}

#[test]
fn tags_options_and_ipv6_move_the_inner_frame_and_nothing_else() {
    for tags in [vec![], vec![0x8100], vec![0x88a8], vec![0x88a8, 0x8100], vec![0x8100, 0x8100]] {
        for (v6, options) in [(false, 0), (false, 1), (false, 10), (true, 0)] {
            let packet = Packet { tags: tags.clone(), v6, options, ..Packet::default() };
            let bytes = packet.bytes();
            let frame = decapsulate_frame(whole(&bytes), &TUNNELS).expect("a valid packet");
            assert_eq!(frame.inner().first(), packet.inner, "{packet:?}");
            let source = if v6 { IpAddr::from([0x20; 16]) } else { IpAddr::from([10, 10, 10, 252]) };
            let target = if v6 { IpAddr::from([0x21; 16]) } else { IpAddr::from([10, 10, 10, 20]) };
            assert_eq!((frame.source(), frame.destination(), frame.vni()), (source, target, 5_569_041));
        }
    }
}

#[test]
fn traffic_that_is_not_ours_is_rejected_by_kind() {
    let v4 = Packet::default();
    let v6 = Packet { v6: true, ..Packet::default() };
    let cases = [
        ("ARP", v4.damaged(|b| b[13] = 6), Reject::NotTunnel),
        ("three tags", Packet { tags: vec![0x8100; 3], ..Packet::default() }.bytes(), Reject::NotTunnel),
        ("a tag of another kind", v4.damaged(|b| b[12..14].copy_from_slice(&[0x91, 0])), Reject::NotTunnel),
        ("TCP", v4.damaged(|b| b[23] = 6), Reject::NotTunnel),
        ("a fragment of TCP", v4.damaged(|b| (b[20], b[23]) = (0x20, 6)), Reject::NotTunnel),
        ("TCP over IPv6", v6.damaged(|b| b[20] = 6), Reject::NotTunnel),
        ("hop-by-hop options", v6.damaged(|b| b[20] = 0), Reject::Extension),
        ("destination options", v6.damaged(|b| b[20] = 60), Reject::Extension),
        ("GENEVE", Packet { port: 6081, ..Packet::default() }.bytes(), Reject::Geneve),
        ("another port", Packet { port: 53, ..Packet::default() }.bytes(), Reject::NotTunnel),
        (
            "our port as the source port",
            Packet { source_port: 4789, port: 9, ..Packet::default() }.bytes(),
            Reject::NotTunnel,
        ),
        ("first fragment", Packet { fragment: 0x2000, ..Packet::default() }.bytes(), Reject::Fragment),
        ("last fragment", Packet { fragment: 0x00b9, ..Packet::default() }.bytes(), Reject::Fragment),
        ("fragment header", v6.damaged(|b| b[20] = 44), Reject::Fragment),
    ];
    for (what, bytes, reject) in cases {
        assert_eq!(verdict(&bytes), Some(reject), "{what}");
    }
    assert_eq!(verdict(&Packet { port: 8472, ..Packet::default() }.bytes()), None, "the second port");
    assert_eq!(verdict(&Packet { fragment: 0x4000, ..Packet::default() }.bytes()), None, "do not fragment");
}

#[test]
fn contradictions_are_named_bad_outer() {
    let v4 = Packet::default();
    let v6 = Packet { v6: true, ..Packet::default() };
    let set = |packet: &Packet, at: usize, value: u16| {
        packet.damaged(|b| b[at..at + 2].copy_from_slice(&value.to_be_bytes()))
    };
    let cases = [
        ("IPv4 by ethertype, 6 by version", v4.damaged(|b| b[14] = 0x65)),
        ("IPv6 by ethertype, 4 by version", v6.damaged(|b| b[14] = 0x45)),
        ("header length 16", v4.damaged(|b| b[14] = 0x44)),
        ("total length 19", set(&v4, 16, 19)),
        ("total length of the header alone", set(&v4, 16, 20)),
        ("total length beyond the wire", set(&v4, 16, 111)),
        ("total length below the UDP length", set(&v4, 16, 109)),
        ("payload length 7", set(&v6, 18, 7)),
        ("payload length beyond the wire", set(&v6, 18, 91)),
        ("payload length below the UDP length", set(&v6, 18, 89)),
        ("UDP length 7", set(&v4, 38, 7)),
        ("UDP length beyond the total length", set(&v4, 38, 91)),
        ("UDP length 65535", set(&v4, 38, 65535)),
    ];
    for (what, bytes) in cases {
        assert_eq!(verdict(&bytes), Some(Reject::BadOuter), "{what}");
    }
}

#[test]
fn a_declared_length_beyond_any_mtu_is_not_taken_for_truncation() {
    for (v6, tags) in [(false, vec![]), (false, vec![0x8100]), (true, vec![])] {
        let inner = |length: u16| {
            let frame = if v6 { inner_ipv6(126, length - 40) } else { inner_ipv4(126, length) };
            tagged(frame, &tags)
        };
        for (length, lies) in [(9001, false), (9024, true), (9999, true), (65535, true)] {
            let bytes = Packet { inner: inner(length), ..Packet::default() }.bytes();
            let mut frame = decapsulate_frame(whole(&bytes), &TUNNELS).unwrap();
            let disbelieved = frame.ignore_impossible_len();
            assert_eq!((disbelieved, frame.is_truncated()), (lies, !lies), "{length} {tags:?}");
            let wire = if lies { frame.inner().len() } else { 14 + 4 * tags.len() + usize::from(length) };
            assert_eq!(frame.wire_len() as usize, wire);
        }
    }
    // As large as a sender's packets are before its NIC segments them, and all of it captured.
    let bytes = Packet { inner: inner_ipv4(20_000, 20_000), ..Packet::default() }.bytes();
    assert!(!decapsulate_frame(whole(&bytes), &TUNNELS).unwrap().ignore_impossible_len());
}

#[test]
fn where_a_length_is_0_the_captured_bytes_count() {
    for inner in [inner_ipv4(60, 60), inner_ipv4(60, 0), inner_ipv6(60, 20), inner_ipv6(60, 0)] {
        for v6 in [false, true] {
            let packet = Packet { v6, inner: inner.clone(), ..Packet::default() };
            let (network, udp) = if v6 { (18, 58) } else { (16, 38) };
            for zeros in [&[network][..], &[udp], &[network, udp]] {
                let bytes = packet.damaged(|b| zeros.iter().for_each(|at| b[*at..*at + 2].fill(0)));
                assert_eq!(lengths(whole(&bytes)), (74, 74), "{packet:?} {zeros:?}");
            }
        }
    }
    // As tcpdump saves them at the source, before its NIC segments them.
    let inner = inner_ipv4(70_000, 0);
    let mut bytes = Packet { inner: inner[..1000].to_vec(), ..Packet::default() }.bytes();
    bytes.truncate(bytes.len() - 1000);
    bytes.extend(inner);
    bytes[16..18].fill(0);
    bytes[38..40].fill(0);
    assert_eq!(lengths(whole(&bytes)), (70_014, 70_014));
}

#[test]
fn the_i_flag_must_be_set_and_reserved_bits_are_accepted_and_reported() {
    for (header, reject) in
        [([0; 8], Some(Reject::NoVniFlag)), ([0xf7, 0, 0, 0, 0, 0, 9, 0], Some(Reject::NoVniFlag))]
    {
        assert_eq!(verdict(&Packet { vxlan: header, ..Packet::default() }.bytes()), reject);
    }
    for header in [[0x88, 0, 0, 0, 0, 0, 9, 0], [8, 0, 0, 1, 0, 0, 9, 0], [8, 0, 0, 0, 0, 0, 9, 1]] {
        let bytes = Packet { vxlan: header, ..Packet::default() }.bytes();
        let frame = decapsulate_frame(whole(&bytes), &TUNNELS).unwrap();
        assert!(frame.has_reserved_bits() && frame.vni() == 9, "{header:?}");
    }
}

#[test]
fn vxlan_gpe_is_accepted_with_ethernet_only() {
    for (next, reject) in
        [(3, None)].into_iter().chain([0, 1, 2, 4, 255].map(|next| (next, Some(Reject::NotEthernet))))
    {
        for flags in [0x0c, 0x0f] {
            let bytes = Packet { vxlan: [flags, 0, 0, next, 0, 0, 9, 0], ..Packet::default() }.bytes();
            assert_eq!(verdict(&bytes), reject, "flags {flags:#x}, next protocol {next}");
        }
    }
}

#[test]
fn checksums_are_not_verified() {
    for checksum in [0, 1, 0xffff] {
        assert_eq!(verdict(&Packet { checksum, ..Packet::default() }.bytes()), None);
    }
}

#[test]
fn truncation_within_the_headers_is_rejected_and_later_truncation_is_accepted() {
    for tags in [vec![], vec![0x88a8, 0x8100]] {
        for (v6, options) in [(false, 0), (false, 10), (true, 0)] {
            let packet = Packet { tags: tags.clone(), v6, options, ..Packet::default() };
            let bytes = packet.bytes();
            for cut in 0..=bytes.len() {
                let captured = Captured::new(&bytes[..cut], whole(&bytes).wire_len(), 0);
                let result = decapsulate_frame(captured, &TUNNELS);
                if cut < packet.inner_at() + 14 {
                    assert_eq!(result.unwrap_err(), Reject::Snapped, "cut at {cut} of {packet:?}");
                } else {
                    let frame = result.expect("headers are whole");
                    assert_eq!(frame.inner().first(), &packet.inner[..cut - packet.inner_at()]);
                    assert_eq!(frame.wire_len() as usize, packet.inner.len(), "cut at {cut}");
                    assert_eq!(frame.is_truncated(), cut < bytes.len());
                }
            }
        }
    }
}

#[test]
fn every_frame_too_short_on_the_wire_is_rejected() {
    let packet = Packet::default();
    let bytes = packet.bytes();
    for len in 0..bytes.len() {
        let reject = verdict(&bytes[..len]).expect("the IP header declares more than there is");
        // Once the UDP header is there, the lengths are known to be wrong.
        let expected = if len < packet.udp_at() + 8 { Reject::Short } else { Reject::BadOuter };
        assert_eq!(reject, expected, "{len} bytes");
    }
}

#[test]
fn a_datagram_too_small_for_its_headers_is_short() {
    for inner in 0..14 {
        let packet = Packet { inner: vec![0; inner], padding: 30, ..Packet::default() };
        assert_eq!(verdict(&packet.bytes()), Some(Reject::Short), "{inner} bytes of inner frame");
    }
    let empty = Packet::default().damaged(|b| {
        b[16..18].copy_from_slice(&28_u16.to_be_bytes());
        b[38..40].copy_from_slice(&8_u16.to_be_bytes());
    });
    assert_eq!(verdict(&empty), Some(Reject::Short), "an empty datagram");
    assert_eq!(verdict(&Packet { inner: vec![0; 14], ..Packet::default() }.bytes()), None, "a bare header");
}

#[test]
fn the_inner_frame_ends_where_the_udp_length_says() {
    for padding in [0, 1, 18, 400] {
        let packet = Packet { padding, ..Packet::default() };
        assert_eq!(lengths(whole(&packet.bytes())), (packet.inner.len(), packet.inner.len()));
    }
}

#[test]
fn the_wire_length_is_what_the_inner_header_declares_if_that_is_more() {
    let cases = [
        ("truncated by the session", inner_ipv4(60, 1500), 1514),
        ("truncated to a bare IPv4 length field", inner_ipv4(4, 1500), 1514),
        ("truncated before the IPv4 length field", inner_ipv4(3, 1500), 17),
        ("padded to the least Ethernet frame", inner_ipv4(46, 28), 60),
        ("a length of 0", inner_ipv4(60, 0), 74),
        ("a length of 0 on a short frame", inner_ipv4(5, 0), 19),
        ("a length of 19 on a short frame", inner_ipv4(5, 19), 19),
        ("a length of 65535", inner_ipv4(60, 65535), 65549),
        ("truncated IPv6", inner_ipv6(60, 1460), 1514),
        ("truncated to a bare IPv6 length field", inner_ipv6(6, 1460), 1514),
        ("truncated before the IPv6 length field", inner_ipv6(5, 1460), 19),
        ("an IPv6 jumbogram", inner_ipv6(60, 0), 74),
        ("an IPv6 length of 65535", inner_ipv6(60, 65535), 65589),
        ("truncated within a VLAN", tagged(inner_ipv4(60, 1500), &[0x8100]), 1518),
        ("truncated within two VLANs", tagged(inner_ipv6(60, 1460), &[0x88a8, 0x8100]), 1522),
        ("truncated within a VLAN tag", tagged(inner_ipv4(0, 1500), &[0x8100])[..16].to_vec(), 16),
        (
            "ARP",
            tagged(inner_ipv4(46, 1500), &[])[..12].iter().copied().chain([8, 6]).chain([0; 46]).collect(),
            60,
        ),
        (
            "IPv4 by ethertype, 6 by version",
            {
                let mut b = inner_ipv4(60, 1500);
                b[14] = 0x65;
                b
            },
            74,
        ),
        (
            "IPv6 by ethertype, 4 by version",
            {
                let mut b = inner_ipv6(60, 1500);
                b[14] = 0x45;
                b
            },
            74,
        ),
    ];
    for (what, inner, wire_len) in cases {
        let packet = Packet { inner, ..Packet::default() };
        assert_eq!(lengths(whole(&packet.bytes())), (packet.inner.len(), wire_len), "{what}");
    }
}

#[test]
fn a_wire_length_below_the_captured_length_is_ignored() {
    let bytes = Packet::default().bytes();
    assert_eq!(lengths(Captured::new(&bytes, 0, 0)), (74, 74));
}

#[test]
fn the_fast_path_accepts_what_a_mirror_sends() {
    assert!(fast::decapsulate(&Packet::default().bytes(), TUNNELS.vxlan()).is_some());
    assert!(
        fast::decapsulate(
            &Packet { inner: inner_ipv6(40, 1460), ..Packet::default() }.bytes(),
            TUNNELS.vxlan()
        )
        .is_some()
    );
}
