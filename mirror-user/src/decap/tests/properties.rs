//! For any bytes: no panic, offsets within them, and agreement of both paths and etherparse.

use std::net::IpAddr;

use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use proptest::prelude::*;

use super::{
    super::{decapsulate, decapsulate_frame, fast, general},
    Packet, TUNNELS, inner_ipv4, inner_ipv6, tagged, whole,
};
use crate::{
    account::Reject,
    frame::{Captured, HeadBuffer, Layout, Network, Segments, Slices},
};

fn inners() -> impl Strategy<Value = Vec<u8>> {
    let tpids = prop::collection::vec(prop_oneof![Just(0x8100_u16), Just(0x88a8)], 0..4);
    let length = prop_oneof![any::<u16>(), 0_u16..200];
    let ip = (any::<bool>(), 0_usize..120, length, tpids).prop_map(|(v6, present, length, tpids)| {
        let frame = if v6 { inner_ipv6(present, length) } else { inner_ipv4(present, length) };
        tagged(frame, &tpids)
    });
    prop_oneof![4 => ip, 1 => prop::collection::vec(any::<u8>(), 14..120)]
}

fn packets() -> impl Strategy<Value = Packet> {
    let tpids = prop::collection::vec(prop_oneof![Just(0x8100_u16), Just(0x88a8)], 0..3);
    let options = (1_usize..11).prop_map(|words| (false, words));
    let network = prop_oneof![2 => Just((false, 0)), 1 => options, 1 => Just((true, 0))];
    // Any reserved bits but the P flag of VXLAN-GPE, with which the payload may be other than Ethernet.
    let reserved = any::<[u8; 4]>().prop_map(|[f, a, b, c]| [(f | 8) & !4, a, b, c]);
    let flags = prop_oneof![3 => Just([8, 0, 0, 0]), 1 => reserved];
    let udp = (any::<u16>(), prop_oneof![Just(4789_u16), Just(8472)], any::<u16>());
    (
        prop_oneof![2 => Just(Vec::new()), 1 => tpids],
        network,
        udp,
        flags,
        any::<[u8; 4]>(),
        inners(),
        0_usize..20,
    )
        .prop_map(
            |(
                tags,
                (v6, options),
                (source_port, port, checksum),
                [f, a, b, c],
                [x, y, z, w],
                inner,
                padding,
            )| Packet {
                tags,
                v6,
                options,
                fragment: 0,
                source_port,
                port,
                checksum,
                vxlan: [f, a, b, c, x, y, z, w],
                inner,
                padding,
            },
        )
}

/// Valid packets with a few bytes overwritten, biased to the headers, and a cut.
fn damaged_packets() -> impl Strategy<Value = (Vec<u8>, u32)> {
    let edits = prop::collection::vec((0_usize..110, any::<u8>()), 0..4);
    let cut = prop_oneof![2 => Just(usize::MAX), 1 => 0_usize..260];
    let beyond = prop_oneof![2 => Just(0_u32), 1 => 0_u32..2000];
    (packets(), edits, cut, beyond).prop_map(|(packet, edits, cut, beyond)| {
        let mut bytes = packet.bytes();
        for (at, value) in edits {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
        }
        bytes.truncate(cut);
        let wire_len = u32::try_from(bytes.len()).unwrap() + beyond;
        (bytes, wire_len)
    })
}

/// What must hold of any layout, whatever the bytes.
fn check_layout(captured: Captured<'_>, layout: &Layout) -> Result<(), TestCaseError> {
    let inner = layout.inner_len as usize;
    prop_assert!(usize::from(layout.inner_start) + inner <= captured.len());
    prop_assert!(inner >= 14);
    prop_assert_eq!(layout.headers.udp() + 16, layout.inner_start);
    prop_assert!(layout.vni < 1 << 24);
    let wire_len = layout.wire_len as usize;
    let most = (14 + 8 + 40 + 65535).max(inner);
    prop_assert!((inner..=most).contains(&wire_len), "{} of {}", wire_len, inner);
    let frame = crate::Frame::new(captured, *layout);
    let _ = (frame.inner().first(), frame.source(), frame.destination(), frame.source_port());
    Ok(())
}

/// Both paths agree on every frame that the fast one accepts.
fn check_ways(captured: Captured<'_>) -> Result<(), TestCaseError> {
    let general = general::decapsulate(&captured.bytes(), captured.wire_len(), &TUNNELS);
    if let Some(layout) = fast::decapsulate(captured.first(), TUNNELS.vxlan()) {
        prop_assert_eq!(general, Ok(layout));
    }
    prop_assert_eq!(decapsulate(&captured, &TUNNELS), general);
    if let Ok(layout) = general {
        check_layout(captured, &layout)?;
    }
    Ok(())
}

/// etherparse reads the outer headers the same wherever we accept them.
fn check_etherparse(captured: Captured<'_>) -> Result<(), TestCaseError> {
    let Ok(frame) = decapsulate_frame(captured, &TUNNELS) else { return Ok(()) };
    // It refuses lengths beyond the captured bytes, so a truncated capture has no second opinion.
    if captured.wire_len() as usize > captured.len() {
        return Ok(());
    }
    // It refuses a total length of 0, for which we take the captured bytes.
    if let Network::Ipv4 { at } = frame.parts().1.headers.network()
        && captured.bytes().first()[usize::from(at) + 2..][..2] == [0, 0]
    {
        return Ok(());
    }
    let sliced = SlicedPacket::from_ethernet(captured.bytes().first())
        .map_err(|error| TestCaseError::fail(format!("etherparse refuses what we accept: {error}")))?;
    let (source, destination) = match sliced.net {
        Some(NetSlice::Ipv4(ip)) => {
            (IpAddr::from(ip.header().source_addr()), IpAddr::from(ip.header().destination_addr()))
        }
        Some(NetSlice::Ipv6(ip)) => {
            (IpAddr::from(ip.header().source_addr()), IpAddr::from(ip.header().destination_addr()))
        }
        other => return Err(TestCaseError::fail(format!("etherparse sees {other:?}"))),
    };
    prop_assert_eq!((frame.source(), frame.destination()), (source, destination));
    let Some(TransportSlice::Udp(udp)) = sliced.transport else {
        return Err(TestCaseError::fail("etherparse sees no UDP"));
    };
    prop_assert_eq!(frame.source_port(), udp.source_port());
    prop_assert!(TUNNELS.contains(udp.destination_port()));
    prop_assert_eq!(&udp.payload()[8..], frame.inner().first());
    Ok(())
}

/// The slices of `bytes` between these places, in any order and as often as they are given.
fn cut_up<'a>(bytes: &'a [u8], cuts: &[prop::sample::Index]) -> Vec<&'a [u8]> {
    let mut places: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    places.extend([0, bytes.len()]);
    places.sort_unstable();
    places.windows(2).map(|ends| &bytes[ends[0]..ends[1]]).collect()
}

/// A frame in several slices has the same result as in one slice, and the same bytes and addresses.
fn check_cut(bytes: &[u8], wire_len: u32, cuts: &[prop::sample::Index]) -> Result<(), TestCaseError> {
    let pieces = cut_up(bytes, cuts);
    let slices = Slices::new(&pieces);
    let cut = Captured::in_several(&slices, wire_len, 7);
    prop_assert_eq!(cut.len(), bytes.len());
    check_ways(cut)?;
    let (cut, whole) =
        (decapsulate_frame(cut, &TUNNELS), decapsulate_frame(Captured::new(bytes, wire_len, 7), &TUNNELS));
    let (cut, whole) = match (cut, whole) {
        (Ok(cut), Ok(whole)) => (cut, whole),
        (cut, whole) => {
            prop_assert_eq!(cut.err(), whole.err());
            return Ok(());
        }
    };
    prop_assert_eq!(&*cut.inner().to_contiguous(), whole.inner().first());
    prop_assert_eq!(cut.inner().iter().flatten().copied().collect::<Vec<_>>(), whole.inner().first());
    prop_assert_eq!(&*cut.outer().to_contiguous(), whole.outer().first());
    prop_assert_eq!((cut.inner().len(), cut.inner_len()), (whole.inner().len(), whole.inner_len()));
    prop_assert_eq!((cut.source(), cut.destination()), (whole.source(), whole.destination()));
    prop_assert_eq!(
        (cut.vni(), cut.source_port(), cut.destination_port(), cut.vxlan(), cut.wire_len(), cut.time()),
        (whole.vni(), whole.source_port(), whole.destination_port(), whole.vxlan(), whole.wire_len(), 7)
    );
    let mut buffer = HeadBuffer::default();
    let head = cut.inner().head(&mut buffer);
    prop_assert!(head.len() >= whole.inner().len().min(Segments::HEAD));
    prop_assert!(whole.inner().first().starts_with(head));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn a_frame_split_anywhere_is_read_like_a_contiguous_one(
        (bytes, wire_len) in damaged_packets(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        check_cut(&bytes, wire_len, &cuts)?;
    }

    #[test]
    fn any_bytes_have_the_same_result_on_both_paths_without_a_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..300), wire_len: u32,
    ) {
        check_ways(Captured::new(&bytes, wire_len, 0))?;
    }

    #[test]
    fn valid_packets_give_back_their_inner_frame(packet in packets()) {
        let bytes = packet.bytes();
        let captured = whole(&bytes);
        check_ways(captured)?;
        check_etherparse(captured)?;
        let frame = decapsulate_frame(captured, &TUNNELS);
        if packet.inner.len() < 14 {
            prop_assert_eq!(frame.unwrap_err(), Reject::Short);
        } else {
            let frame = frame.expect("a valid packet");
            prop_assert_eq!(frame.inner().first(), &packet.inner);
            let [flags, a, b, c, x, y, z, last] = packet.vxlan;
            prop_assert_eq!(frame.vni(), u32::from_be_bytes([0, x, y, z]));
            prop_assert_eq!(frame.has_reserved_bits(), [flags, a, b, c, last] != [8, 0, 0, 0, 0]);
            prop_assert_eq!(frame.source_port(), packet.source_port);
        }
    }

    #[test]
    fn damaged_packets_have_the_same_result_on_both_paths_and_with_etherparse(
        (bytes, wire_len) in damaged_packets(),
    ) {
        let captured = Captured::new(&bytes, wire_len, 0);
        check_ways(captured)?;
        check_etherparse(captured)?;
    }
}
