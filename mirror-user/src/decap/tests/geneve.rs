//! GENEVE: with VXLAN inside, as from an AWS Gateway Load Balancer, and with an Ethernet frame.

use std::{net::IpAddr, sync::LazyLock};

use mirror_lab::{
    aws_twin,
    frames::{Outer, OuterIp},
    geneve::{ATTACHMENT, ENCAPSULATION, ENDPOINT, ETHERNET, Geneve, geneve_twin},
};
use proptest::prelude::*;

use super::{
    super::{decapsulate, decapsulate_frame, fast, general},
    inner_ipv4, inner_ipv6, tagged, whole,
};
use crate::{
    account::Reject,
    frame::{Captured, Layout, Oddities, Slices},
    tunnels::{Encapsulation, Tunnels},
    wire::geneve::Gateway,
};

static TUNNELS: LazyLock<Tunnels> = LazyLock::new(|| [4789, 6081].into());
const VNI: u32 = 0x54fa11;

fn verdict(bytes: &[u8]) -> Option<Reject> {
    decapsulate(&whole(bytes), &TUNNELS).err()
}

/// A frame of a mirror session behind a load balancer.
fn mirrored(geneve: &Geneve) -> Vec<u8> {
    geneve.encapsulate_mirrored(&vxlan(), &inner_ipv4(60, 60)).unwrap()
}

fn vxlan() -> Outer {
    Outer::sample(VNI).between([172, 31, 0, 238], [172, 31, 9, 9])
}

fn aws() -> Geneve {
    Geneve::aws(ENDPOINT, ATTACHMENT, 7)
}

fn damaged(mut bytes: Vec<u8>, at: usize, value: u8) -> Vec<u8> {
    bytes[at] = value;
    bytes
}

#[test]
fn a_mirrored_packet_behind_a_load_balancer_is_decapsulated_to_the_mirrors_frame() {
    let bytes = mirrored(&aws());
    let frame = decapsulate_frame(whole(&bytes), &TUNNELS).unwrap();
    assert_eq!(frame.inner().first(), inner_ipv4(60, 60));
    assert_eq!(bytes.len() - frame.inner_len(), ENCAPSULATION);
    assert_eq!((frame.vni(), frame.encapsulation()), (VNI, Encapsulation::Vxlan));
    assert_eq!(frame.source(), IpAddr::from([172, 31, 0, 238]), "the mirror source, not the balancer");
    assert_eq!(frame.destination(), IpAddr::from([172, 31, 9, 9]));
    assert_eq!((frame.source_port(), frame.destination_port()), (0xff80, 4789));
    let gateway = frame.gateway().unwrap();
    assert_eq!((gateway.endpoint, gateway.attachment), (Some(ENDPOINT), Some(ATTACHMENT)));
    assert_eq!(gateway.flow_cookie, Some(7));
    assert!(!frame.is_odd() && !frame.is_truncated());
    assert!(fast::decapsulate_geneve(&bytes, TUNNELS.geneve()).is_some());
}

#[test]
fn an_ethernet_frame_in_geneve_has_the_vni_and_addresses_of_geneve() {
    let inner = inner_ipv4(60, 60);
    let mut with_options = Geneve::plain(0x00ab_cdef);
    with_options.add_option(0xffff, 5, &[1; 124]);
    with_options.add_option(0x0102, 0, &[]);
    for geneve in [Geneve::plain(0x00ab_cdef), with_options] {
        let bytes = geneve.encapsulate(ETHERNET, &inner).unwrap();
        let frame = decapsulate_frame(whole(&bytes), &TUNNELS).unwrap();
        assert_eq!(frame.inner().first(), inner);
        assert_eq!((frame.vni(), frame.encapsulation()), (0x00ab_cdef, Encapsulation::Geneve));
        assert_eq!((frame.source(), frame.destination_port()), (IpAddr::from([10, 10, 10, 5]), 6081));
        assert_eq!(frame.gateway(), Some(Gateway::default()));
        assert!(!frame.is_odd());
    }
}

#[test]
fn each_shape_of_headers_around_and_inside_geneve_is_decapsulated() {
    let inner = inner_ipv6(60, 20);
    for tags in [vec![], vec![(0x88a8, 7), (0x8100, 7)]] {
        for outer_v6 in [false, true] {
            for (inner_v6, options) in [(false, 0), (false, 40), (true, 0)] {
                let mut geneve = aws();
                geneve.add_option(0x1234, 1, &[9; 124]);
                geneve.outer = Outer {
                    tags: tags.clone(),
                    destination_port: 6081,
                    ..if outer_v6 { Outer::sample_v6(0, &[]) } else { geneve.outer }
                };
                let mut vxlan = if inner_v6 { Outer::sample_v6(VNI, &[]) } else { vxlan() };
                if let OuterIp::V4 { options: place, .. } = &mut vxlan.ip {
                    place.resize(options, 1);
                }
                let bytes = geneve.encapsulate_mirrored(&vxlan, &inner).unwrap();
                let frame = decapsulate_frame(whole(&bytes), &TUNNELS).unwrap();
                assert_eq!(frame.inner().first(), inner, "{tags:?} {outer_v6} {inner_v6} {options}");
                assert_eq!((frame.vni(), frame.source().is_ipv6()), (VNI, inner_v6));
                assert_eq!(frame.gateway().unwrap().endpoint, Some(ENDPOINT));
            }
        }
    }
}

#[test]
fn what_is_no_mirrored_frame_is_rejected_by_its_kind() {
    let of = |change: fn(&mut Geneve)| {
        let mut geneve = aws();
        change(&mut geneve);
        mirrored(&geneve)
    };
    let inside = |change: fn(&mut Outer)| {
        let mut vxlan = vxlan();
        change(&mut vxlan);
        aws().encapsulate_mirrored(&vxlan, &inner_ipv4(60, 60)).unwrap()
    };
    let fragment = |more, offset| {
        let mut vxlan = vxlan();
        if let OuterIp::V4 { more_fragments, fragment_offset, .. } = &mut vxlan.ip {
            (*more_fragments, *fragment_offset) = (more, offset);
        }
        aws().encapsulate_mirrored(&vxlan, &inner_ipv4(60, 60)).unwrap()
    };
    let cases = [
        ("version 1", of(|geneve| geneve.version = 1), Reject::BadGeneve),
        ("version 3", of(|geneve| geneve.version = 3), Reject::BadGeneve),
        ("an option beyond the options", damaged(mirrored(&aws()), 77, 31), Reject::BadGeneve),
        ("options that leave two words", damaged(mirrored(&aws()), 53, 0), Reject::BadGeneve),
        ("a control packet", of(|geneve| geneve.flags = 0x80), Reject::GeneveControl),
        ("ARP", aws().encapsulate(0x0806, &[0; 40]).unwrap(), Reject::GenevePayload),
        ("TCP inside", inside(|vxlan| vxlan.protocol = 6), Reject::GenevePayload),
        ("UDP to another port inside", inside(|vxlan| vxlan.destination_port = 53), Reject::GenevePayload),
        ("GENEVE inside", inside(|vxlan| vxlan.destination_port = 6081), Reject::GenevePayload),
        ("a first fragment inside", fragment(true, 0), Reject::GeneveFragment),
        ("a last fragment inside", fragment(false, 9), Reject::GeneveFragment),
        ("no VNI inside", inside(|vxlan| vxlan.vxlan_flags = 0), Reject::NoVniFlag),
        ("IPv6 by ethertype, IPv4 by version", damaged(mirrored(&aws()), 82, 0x65), Reject::BadOuter),
        ("an inner total length beyond the packet", damaged(mirrored(&aws()), 85, 255), Reject::BadOuter),
        ("an inner UDP length beyond its packet", damaged(mirrored(&aws()), 107, 255), Reject::BadOuter),
        ("nothing behind the header", aws().encapsulate(0x0800, &[]).unwrap(), Reject::Short),
        ("a runt", Geneve::plain(7).encapsulate(ETHERNET, &[0; 13]).unwrap(), Reject::Short),
        ("no header", aws().outer.frame_of_udp(&[0; 7]).unwrap(), Reject::Short),
    ];
    for (what, bytes, reason) in cases {
        assert_eq!(verdict(&bytes), Some(reason), "{what}");
    }
    assert_eq!(decapsulate(&whole(&mirrored(&aws())), &Tunnels::default()).err(), Some(Reject::Geneve));
}

#[test]
fn vxlan_gpe_in_geneve_is_accepted_with_ethernet_only() {
    for (next, reject) in
        [(3, None)].into_iter().chain([0, 1, 2, 4, 255].map(|next| (next, Some(Reject::NotEthernet))))
    {
        let vxlan = Outer { vxlan_flags: 0x0c, vxlan_reserved: [0, 0, next, 0], ..vxlan() };
        let bytes = aws().encapsulate_mirrored(&vxlan, &inner_ipv4(60, 60)).unwrap();
        assert_eq!(verdict(&bytes), reject, "next protocol {next}");
    }
}

#[test]
fn the_protocol_is_that_of_the_port_and_never_guessed() {
    let geneve = mirrored(&aws());
    let as_vxlan = Tunnels::default().with(6081, Encapsulation::Vxlan);
    // The first byte of 32 bytes of options is VXLAN's flag of the VNI.
    let frame = decapsulate_frame(whole(&geneve), &as_vxlan).unwrap();
    assert_eq!((frame.encapsulation(), frame.gateway()), (Encapsulation::Vxlan, None));
    assert_eq!(frame.inner_len(), geneve.len() - 50);
    let mut moved = aws();
    moved.outer.destination_port = 7000;
    let tunnels = Tunnels::none().with(7000, Encapsulation::Geneve);
    let moved = mirrored(&moved);
    assert_eq!(decapsulate_frame(whole(&moved), &tunnels).unwrap().vni(), VNI);
    // A listed port of VXLAN counts inside, too; 4789 always does.
    let vxlan = Outer { destination_port: 8472, ..vxlan() };
    let bytes = aws().encapsulate_mirrored(&vxlan, &inner_ipv4(60, 60)).unwrap();
    assert_eq!(verdict(&bytes), Some(Reject::GenevePayload));
    assert!(decapsulate(&whole(&bytes), &Tunnels::from([6081, 8472])).is_ok());
    assert!(decapsulate(&whole(&geneve), &Tunnels::from([6081])).is_ok());
}

#[test]
fn unknown_options_are_skipped_and_unknown_critical_ones_are_reported() {
    for (class, kind, critical) in [(0x0108, 9, false), (0x0100, 1, false), (0x0100, 0x81, true)] {
        let mut geneve = aws();
        geneve.add_option(class, kind, &[5; 8]);
        geneve.flags = if critical { 0x40 } else { 0 };
        let bytes = mirrored(&geneve);
        let frame = decapsulate_frame(whole(&bytes), &TUNNELS).unwrap();
        assert_eq!(frame.inner().first(), inner_ipv4(60, 60));
        assert_eq!(frame.has_unknown_critical_option(), critical);
        assert!(!frame.has_reserved_bits());
    }
    for reserved in [Geneve { flags: 0x20, ..aws() }, Geneve { reserved: 1, ..aws() }] {
        let bytes = mirrored(&reserved);
        assert!(decapsulate_frame(whole(&bytes), &TUNNELS).unwrap().has_reserved_bits());
    }
    let vxlan = Outer { vxlan_reserved: [0, 0, 0, 1], ..vxlan() };
    let bytes = aws().encapsulate_mirrored(&vxlan, &inner_ipv4(60, 60)).unwrap();
    assert!(decapsulate_frame(whole(&bytes), &TUNNELS).unwrap().has_reserved_bits());
}

#[test]
fn truncation_within_the_headers_is_rejected_and_later_truncation_is_accepted() {
    let inner = inner_ipv4(60, 1500);
    for bytes in
        [aws().encapsulate_mirrored(&vxlan(), &inner).unwrap(), aws().encapsulate(ETHERNET, &inner).unwrap()]
    {
        let start = bytes.len() - inner.len();
        for cut in 0..=bytes.len() {
            let captured = Captured::new(&bytes[..cut], whole(&bytes).wire_len(), 0);
            let result = decapsulate_frame(captured, &TUNNELS);
            if cut < start + 14 {
                assert_eq!(result.unwrap_err(), Reject::Snapped, "cut at {cut}");
            } else {
                let frame = result.expect("headers are whole");
                assert_eq!(frame.inner().first(), &inner[..cut - start]);
                // Up to the inner header's length field, only what was sent is known.
                let wire_len = if cut < start + 18 { 74 } else { 1514 };
                assert_eq!((frame.wire_len(), frame.is_truncated()), (wire_len, true));
            }
        }
    }
}

#[test]
fn the_inner_frame_ends_where_the_inner_udp_length_says_and_a_length_of_0_is_the_outer_ones() {
    let mut bytes = mirrored(&aws());
    bytes.extend([0xaa; 18]);
    let frame = decapsulate_frame(whole(&bytes), &TUNNELS).unwrap();
    assert_eq!(frame.inner().first(), inner_ipv4(60, 60));
    // Total length and UDP length of the packet inside.
    for at in [84, 106] {
        bytes[at..at + 2].fill(0);
        let frame = decapsulate_frame(whole(&bytes), &TUNNELS).unwrap();
        assert_eq!(frame.inner().first(), inner_ipv4(60, 60));
    }
}

#[test]
fn the_twin_behind_a_load_balancer_has_the_inner_frames_of_the_one_without() {
    let (twin, plain) = (geneve_twin().unwrap(), aws_twin::aws_twin().unwrap());
    assert_eq!(twin.len(), plain.len());
    for (nested, plain) in twin.iter().zip(&plain) {
        assert!(fast::decapsulate_geneve(nested, TUNNELS.geneve()).is_some());
        let (nested, plain) =
            (decapsulate_frame(whole(nested), &TUNNELS), decapsulate_frame(whole(plain), &TUNNELS));
        let (nested, plain) = (nested.unwrap(), plain.unwrap());
        assert_eq!(nested.inner().first(), plain.inner().first());
        assert_eq!((nested.vni(), nested.source()), (plain.vni(), plain.source()));
        assert_eq!((nested.source_port(), nested.wire_len()), (plain.source_port(), plain.wire_len()));
        assert_eq!(nested.gateway().and_then(|gateway| gateway.endpoint), Some(ENDPOINT));
        assert_eq!(plain.gateway(), None);
    }
}

#[test]
fn a_frame_of_vxlan_knows_no_load_balancer() {
    let bytes = vxlan().encapsulate(&inner_ipv4(60, 60)).unwrap();
    let frame = decapsulate_frame(whole(&bytes), &TUNNELS).unwrap();
    assert_eq!((frame.gateway(), frame.encapsulation()), (None, Encapsulation::Vxlan));
}

/// Frames that are or resemble those of a load balancer.
fn packets() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
    let inner =
        (any::<bool>(), 0_usize..80, any::<u16>(), 0_usize..2).prop_map(|(v6, present, length, tags)| {
            let frame = if v6 { inner_ipv6(present, length) } else { inner_ipv4(present, length) };
            tagged(frame, &vec![0x8100; tags])
        });
    let options = prop::collection::vec((any::<u16>(), any::<u8>(), 0_usize..32), 0..4);
    let shape = prop_oneof![2 => Just((false, false)), 1 => any::<(bool, bool)>()];
    (inner, prop_oneof![2 => Just(Vec::new()), 1 => options], shape, 0_usize..20, any::<bool>()).prop_map(
        |(inner, options, (outer_v6, inner_v6), padding, is_plain)| {
            let mut geneve = aws();
            for (class, kind, words) in options {
                if geneve.options.len() + 4 + words * 4 <= 252 {
                    geneve.add_option(class, kind, &vec![kind; words * 4]);
                }
            }
            if outer_v6 {
                geneve.outer = Outer { destination_port: 6081, ..Outer::sample_v6(0, &[]) };
            }
            let vxlan = if inner_v6 { Outer::sample_v6(VNI, &[]) } else { vxlan() };
            let mut bytes = if is_plain {
                geneve.encapsulate(ETHERNET, &inner).unwrap()
            } else {
                geneve.encapsulate_mirrored(&vxlan, &inner).unwrap()
            };
            bytes.extend(std::iter::repeat_n(0xaa, padding));
            (bytes, inner)
        },
    )
}

/// Both paths agree on every frame that the fast one accepts; offsets are within the bytes.
fn check(captured: Captured<'_>) -> Result<(), TestCaseError> {
    let general = general::decapsulate(&captured.bytes(), captured.wire_len(), &TUNNELS);
    if let Some(layout) = fast::decapsulate_geneve(captured.first(), TUNNELS.geneve()) {
        prop_assert_eq!(general, Ok(layout));
    }
    prop_assert_eq!(decapsulate(&captured, &TUNNELS), general);
    let Ok(layout) = general else { return Ok(()) };
    let Layout { inner_len, inner_start, odd, headers, .. } = layout;
    let (geneve, header_len) = (headers.geneve(), inner_start - headers.udp() - 8);
    prop_assert!(inner_len >= 14 && usize::from(inner_start) + inner_len as usize <= captured.len());
    prop_assert!(header_len == 8 || geneve.is_some() && (8..=260).contains(&header_len));
    prop_assert!(geneve.is_some() || !odd.contains(Oddities::CRITICAL_OPTION));
    let frame = crate::Frame::new(captured, layout);
    let _ = (frame.inner().first(), frame.source(), frame.destination(), frame.source_port());
    prop_assert_eq!(frame.gateway().is_some(), geneve.is_some());
    prop_assert_eq!(
        frame.encapsulation() == Encapsulation::Geneve,
        geneve == Some(usize::from(headers.udp()) + 8)
    );
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn any_bytes_behind_our_port_have_the_same_result_on_both_paths_without_a_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..300), wire_len: u32, is_framed: bool,
    ) {
        let bytes = if is_framed { aws().outer.frame_of_udp(&bytes).unwrap() } else { bytes };
        check(Captured::new(&bytes, wire_len, 0))?;
    }

    #[test]
    fn valid_packets_give_back_their_inner_frame((bytes, inner) in packets()) {
        check(whole(&bytes))?;
        let frame = decapsulate_frame(whole(&bytes), &TUNNELS).expect("a valid packet");
        prop_assert_eq!(frame.inner().first(), inner);
    }

    #[test]
    fn damaged_packets_have_the_same_result_on_both_paths_and_however_they_are_split(
        (bytes, _) in packets(),
        edits in prop::collection::vec((30_usize..140, any::<u8>()), 0..4),
        cut in prop_oneof![2 => Just(usize::MAX), 1 => 0_usize..300],
        split in any::<prop::sample::Index>(),
        beyond in prop_oneof![2 => Just(0_u32), 1 => 0_u32..2000],
    ) {
        let mut bytes = bytes;
        for (at, value) in edits {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
        }
        bytes.truncate(cut);
        let wire_len = u32::try_from(bytes.len()).unwrap() + beyond;
        let captured = Captured::new(&bytes, wire_len, 0);
        check(captured)?;
        let (first, rest) = bytes.split_at(split.index(bytes.len() + 1));
        let slices = [first, rest];
        let slices = Slices::new(&slices);
        let in_two = Captured::in_several(&slices, wire_len, 0);
        check(in_two)?;
        match (decapsulate_frame(captured, &TUNNELS), decapsulate_frame(in_two, &TUNNELS)) {
            (Ok(one), Ok(two)) => {
                prop_assert_eq!(&*two.inner().to_contiguous(), one.inner().first());
                prop_assert_eq!((one.gateway(), one.source()), (two.gateway(), two.source()));
            }
            (one, two) => prop_assert_eq!(one.err(), two.err()),
        }
    }
}
