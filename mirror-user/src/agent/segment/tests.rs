//! Super-frames of every kind, and etherparse as a second opinion.

use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use mirror_lab::super_frames::{SuperFrame, TCP_HEADER};
use proptest::prelude::*;

use super::*;

fn supers() -> impl Strategy<Value = SuperFrame> {
    let shape = (0..=2_usize, any::<bool>(), 0..=10_usize, any::<bool>(), any::<bool>());
    let numbers = (1..2000_u16, any::<u16>(), any::<u32>(), any::<u8>());
    (shape, numbers, prop::collection::vec(any::<u8>(), 1..9000)).prop_map(|(shape, numbers, payload)| {
        let (tags, is_v4, options, is_tcp, is_partial) = shape;
        let (size, id, sequence, flags) = numbers;
        SuperFrame { tags, is_v4, options, is_tcp, size, payload, id, sequence, flags, is_partial }
    })
}

/// The frame and its header, as the kernel hands them out.
fn taken_apart(one: &SuperFrame) -> (VnetHeader, Vec<u8>) {
    let mut bytes = one.bytes().unwrap();
    let (vnet, frame) = VnetHeader::split(&mut bytes).unwrap();
    (vnet, frame.to_vec())
}

fn split(vnet: VnetHeader, frame: &mut [u8]) -> (bool, Vec<Vec<u8>>) {
    let mut segments = Segments::of(vnet, frame);
    let is_inconsistent = segments.is_inconsistent();
    let expected = segments.left();
    let mut all = Vec::new();
    let mut headers = ArrayVec::<u8, MAX_HEADERS>::new();
    while let Some(rest) = segments.next_into(&mut headers) {
        all.push([&headers[..], rest].concat());
        headers.clear();
    }
    assert_eq!(all.len(), expected);
    (is_inconsistent, all)
}

/// Checks lengths and checksums of one frame, and returns its payload.
fn checked(frame: &[u8]) -> Vec<u8> {
    let sliced = SlicedPacket::from_ethernet(frame).unwrap();
    let transport = sliced.transport.unwrap();
    let net = sliced.net.unwrap();
    if let NetSlice::Ipv4(ip) = &net {
        let header = ip.header().to_header();
        assert_eq!(header.header_checksum, header.calc_header_checksum());
        let header_len = usize::from(ip.header().ihl()) * 4;
        let trailing = frame.len() - header_len - ip.payload().payload.len();
        assert!(matches!(trailing, 14 | 18 | 22), "the length is that of the frame");
    }
    match (&transport, &net) {
        (TransportSlice::Tcp(tcp), NetSlice::Ipv4(ip)) => {
            let sum = tcp.calc_checksum_ipv4(ip.header().source(), ip.header().destination()).unwrap();
            assert_eq!(tcp.checksum(), sum);
            tcp.payload().to_vec()
        }
        (TransportSlice::Tcp(tcp), NetSlice::Ipv6(ip)) => {
            let sum = tcp.calc_checksum_ipv6(ip.header().source(), ip.header().destination()).unwrap();
            assert_eq!(tcp.checksum(), sum);
            tcp.payload().to_vec()
        }
        (TransportSlice::Udp(udp), NetSlice::Ipv4(ip)) => {
            let header = udp.to_header();
            let sum = header.calc_checksum_ipv4(&ip.header().to_header(), udp.payload()).unwrap();
            assert_eq!(usize::from(udp.length()), 8 + udp.payload().len());
            assert_eq!(header.checksum, sum);
            udp.payload().to_vec()
        }
        (TransportSlice::Udp(udp), NetSlice::Ipv6(ip)) => {
            let header = udp.to_header();
            let sum = header.calc_checksum_ipv6(&ip.header().to_header(), udp.payload()).unwrap();
            assert_eq!(header.checksum, sum);
            udp.payload().to_vec()
        }
        other => panic!("{other:?}"),
    }
}

proptest! {
    #[test]
    fn any_bytes_behind_any_header_are_split_or_stay_whole(
        head in prop::array::uniform10(any::<u8>()),
        gso_type in prop::sample::select(vec![0_u8, 1, 3, 4, 5, 0x81, 0x84, 0x20]),
        bytes in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let mut read = [&head[..], &bytes].concat();
        read[1] = gso_type;
        let (vnet, frame) = VnetHeader::split(&mut read).unwrap();
        let (is_inconsistent, segments) = split(vnet, frame);
        prop_assert!(!is_inconsistent || segments == [bytes]);
    }

    #[test]
    fn a_header_that_was_changed_anywhere_is_survived(
        one in supers(),
        changes in prop::collection::vec((0..100_usize, any::<u8>()), 1..4),
    ) {
        let mut read = one.bytes().unwrap();
        for (at, value) in changes {
            read[at] = value;
        }
        let len = read.len() - VnetHeader::LEN;
        let (vnet, frame) = VnetHeader::split(&mut read).unwrap();
        let (_, segments) = split(vnet, frame);
        prop_assert!(segments.iter().all(|segment| segment.len() <= len));
    }

    #[test]
    fn a_super_frame_is_split_as_its_sender_would_have(one in supers()) {
        let (vnet, mut frame) = taken_apart(&one);
        let original = frame.clone();
        let (is_inconsistent, segments) = split(vnet, &mut frame);
        prop_assert!(!is_inconsistent);
        let size = usize::from(one.size);
        prop_assert_eq!(segments.len(), one.payload.len().div_ceil(size));
        let payloads: Vec<_> = segments.iter().map(|segment| checked(segment)).collect();
        prop_assert!(payloads[..payloads.len() - 1].iter().all(|payload| payload.len() == size));
        prop_assert_eq!(payloads.concat(), one.payload.clone());
        let network = one.network();
        let last = segments.len() - 1;
        for (number, segment) in segments.iter().enumerate() {
            prop_assert_eq!(&segment[..network], &original[..network]);
            let nth = u32::try_from(number).unwrap();
            if one.is_v4 {
                let id = u16::from_be_bytes([segment[network + 4], segment[network + 5]]);
                prop_assert_eq!(id, one.id.wrapping_add(u16::try_from(number).unwrap()));
            }
            if one.is_tcp {
                let tcp = segment.len() - payloads[number].len() - TCP_HEADER;
                let sequence = u32::from_be_bytes(bytes(segment, tcp + 4));
                prop_assert_eq!(sequence, one.sequence.wrapping_add(nth * u32::from(one.size)));
                let mut flags = one.flags;
                if number < last {
                    flags &= !0x09;
                }
                if number > 0 {
                    flags &= !0x80;
                }
                prop_assert_eq!(segment[tcp + 13], flags);
            }
        }
    }

    #[test]
    fn a_frame_without_gso_gets_its_checksum_alone(mut one in supers()) {
        one.is_partial = true;
        let (mut vnet, mut frame) = taken_apart(&one);
        vnet.gso_type = VnetHeader::GSO_NONE;
        // As it is without segmentation: etherparse fills both in.
        let (_, segments) = split(vnet, &mut frame);
        prop_assert_eq!(segments.len(), 1);
        prop_assert_eq!(checked(&segments[0]), one.payload);
    }
}

fn sample() -> SuperFrame {
    SuperFrame {
        tags: 0,
        is_v4: true,
        options: 0,
        is_tcp: true,
        size: 1448,
        payload: vec![7; 5000],
        id: 1,
        sequence: 1,
        flags: 0x10,
        is_partial: true,
    }
}

#[test]
fn what_contradicts_the_frame_or_is_not_known_leaves_it_whole() {
    let changes: [fn(&mut VnetHeader, &mut [u8]); 9] = [
        |vnet, _| vnet.gso_size = 0,
        |vnet, _| vnet.csum_start += 2,
        |vnet, _| vnet.csum_offset = 6,
        |vnet, _| vnet.gso_type = VnetHeader::GSO_TCPV6,
        |vnet, _| vnet.gso_type = VnetHeader::GSO_UDP_L4,
        // UFO, which the kernel no longer has.
        |vnet, _| vnet.gso_type = 3,
        // A TCP header of 16 bytes, a fragment, and another protocol.
        |_, frame| frame[14 + 20 + 12] = 0x40,
        |_, frame| frame[14 + 6] = 0x20,
        |_, frame| frame[14 + 9] = 132,
    ];
    for (number, change) in changes.iter().enumerate() {
        let (mut vnet, mut frame) = taken_apart(&sample());
        change(&mut vnet, &mut frame);
        let expected = frame.clone();
        assert_eq!(split(vnet, &mut frame), (true, vec![expected]), "change {number}");
    }
    let (vnet, mut frame) = taken_apart(&sample());
    assert_eq!(split(vnet, &mut frame).1.len(), 4);
}

#[test]
fn a_checksum_outside_of_the_frame_or_in_its_ethernet_header_is_not_completed() {
    for (csum_start, csum_offset) in [(0, 0), (13, 0), (60, 0), (59, 0), (34, 25), (u16::MAX, u16::MAX)] {
        let vnet =
            VnetHeader { flags: VnetHeader::NEEDS_CSUM, csum_start, csum_offset, ..VnetHeader::default() };
        assert_eq!(split(vnet, &mut [9; 60]), (true, vec![vec![9; 60]]), "{csum_start} + {csum_offset}");
    }
}

#[test]
fn less_than_a_header_is_none() {
    assert_eq!(VnetHeader::split(&mut [0; 9]), None);
    assert!(VnetHeader::split(&mut [0; 10]).is_some_and(|(_, frame)| frame.is_empty()));
}
