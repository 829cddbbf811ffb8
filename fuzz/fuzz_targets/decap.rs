//! Any bytes through decapsulation: no panic, offsets within them, and outer headers as etherparse reads
//! them.
#![no_main]

use std::{net::IpAddr, sync::LazyLock};

use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use libfuzzer_sys::fuzz_target;
use mirror_fuzz::Near;
use mirror_user::{Captured, Frame, Tunnels, account::Reject, decap, wire::vxlan};

static TUNNELS: LazyLock<Tunnels> = LazyLock::new(Tunnels::default);

static TEMPLATES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(mirror_fuzz::packets);

fuzz_target!(|input: (u16, Near<'_>)| {
    let (beyond, near) = input;
    let bytes = &near.bytes(&TEMPLATES)[..];
    let present = u32::try_from(bytes.len()).expect("the fuzzer makes no inputs of 4 GiB");
    // Bytes that a snap length cut off, or none.
    let cut = Captured::new(bytes, present + u32::from(beyond), 0);
    if let Ok(frame) = decap::decapsulate_frame(cut, &TUNNELS) {
        check(&frame);
    }

    let whole = Captured::new(bytes, present, 0);
    match decap::decapsulate_frame(whole, &TUNNELS) {
        Ok(frame) => {
            check(&frame);
            agree(&frame, bytes);
        }
        Err(reject) => justified(reject, bytes),
    }
});

/// Invariants of every frame. The accessors read at the offsets of the layout, which proves that these are in
/// bounds.
fn check(frame: &Frame<'_>) {
    let (inner, outer) = (frame.inner(), frame.outer());
    assert!(inner.len() >= 14, "an Ethernet header is there");
    assert!(inner.len() + 14 + 20 + 8 + 8 <= outer.len(), "after the smallest outer headers");
    assert!(frame.vni() < 1 << 24);
    let least = u32::try_from(inner.len()).expect("no input is so long");
    // If an outer length is 0, the length on the wire counts.
    let most = frame.outer_wire_len().max(14 + 8 + 40 + 65535);
    assert!((least..=most).contains(&frame.wire_len()));
    assert_eq!(frame.is_truncated(), frame.wire_len() > least);
    let _ = (frame.source(), frame.destination(), frame.source_port(), frame.has_reserved_bits());
}

/// What we accept, etherparse must accept and read alike, except for an IPv4 total length of 0: it refuses
/// that, and we use the bytes present.
fn agree(frame: &Frame<'_>, bytes: &[u8]) {
    let tags =
        bytes[12..].chunks_exact(4).take_while(|tag| matches!(tag[..2], [0x81, 0x00] | [0x88, 0xa8])).count();
    if frame.source().is_ipv4() && bytes[14 + 4 * tags + 2..][..2] == [0, 0] {
        return;
    }
    let sliced = SlicedPacket::from_ethernet(bytes).expect("etherparse accepts what we accept");
    let (source, destination) = match &sliced.net {
        Some(NetSlice::Ipv4(ip)) => {
            (IpAddr::from(ip.header().source_addr()), IpAddr::from(ip.header().destination_addr()))
        }
        Some(NetSlice::Ipv6(ip)) => {
            (IpAddr::from(ip.header().source_addr()), IpAddr::from(ip.header().destination_addr()))
        }
        other => panic!("etherparse sees {other:?}"),
    };
    assert_eq!((frame.source(), frame.destination()), (source, destination));
    let Some(TransportSlice::Udp(udp)) = &sliced.transport else { panic!("etherparse sees no UDP") };
    assert_eq!(frame.source_port(), udp.source_port());
    assert_eq!(udp.destination_port(), vxlan::PORT);
    let Some((header, inner)) = udp.payload().split_at_checked(8) else { panic!("no VXLAN header") };
    assert_eq!(frame.vni(), u32::from_be_bytes([0, header[4], header[5], header[6]]));
    assert_eq!(frame.inner().first(), inner);
}

/// In what we reject, etherparse must not find a whole VXLAN packet with a valid VNI and an inner Ethernet
/// header.
///
/// Three differences are intended. We accept up to two VLAN tags, of 802.1Q and 802.1ad, and no MACsec;
/// etherparse three link extensions of either kind, and the older 0x9100 too. We accept UDP right after IP;
/// etherparse skips IPv6 extension headers and the IPv4 authentication header. We reject VXLAN-GPE other than
/// Ethernet.
fn justified(reject: Reject, bytes: &[u8]) {
    let Ok(sliced) = SlicedPacket::from_ethernet(bytes) else { return };
    let plain = match &sliced.net {
        Some(NetSlice::Ipv4(ip)) => ip.extensions().is_empty(),
        Some(NetSlice::Ipv6(ip)) => ip.extensions().is_empty(),
        _ => false,
    };
    let tags = sliced.link_exts.len();
    let known_tags = sliced.vlan_ids().len() == tags
        && tags <= 2
        && (0..tags).all(|tag| matches!(bytes[12 + 4 * tag..][..2], [0x81, 0x00] | [0x88, 0xa8]));
    let Some(TransportSlice::Udp(udp)) = &sliced.transport else { return };
    if !plain || !known_tags || udp.destination_port() != vxlan::PORT {
        return;
    }
    let payload = udp.payload();
    let is_ethernet = |header: &[u8]| header[0] & 0x04 == 0 || header[3] == 3;
    let taken = payload.len() >= 8 + 14 && payload[0] & 0x08 != 0 && is_ethernet(payload);
    assert!(!taken, "refused as {reject:?} what etherparse reads as a VXLAN packet");
}
