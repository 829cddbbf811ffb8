//! Any frame behind any virtio header through segmentation: no panic, no byte of the payload lost or changed,
//! and segments of which etherparse finds lengths and checksums correct.
#![no_main]

use std::sync::LazyLock;

use arrayvec::ArrayVec;
use etherparse::{NetSlice, SlicedPacket, TransportSlice, checksum::Sum16BitWords};
use libfuzzer_sys::fuzz_target;
use mirror_fuzz::Near;
use mirror_user::agent::segment::{MAX_HEADERS, Segments, VnetHeader};

static TEMPLATES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(mirror_fuzz::super_frames);

fuzz_target!(|near: Near<'_>| {
    let mut read = near.bytes(&TEMPLATES);
    let original = read.clone();
    let Some((vnet, frame)) = VnetHeader::split(&mut read) else {
        assert!(original.len() < VnetHeader::LEN);
        return;
    };
    let original = &original[VnetHeader::LEN..];
    let mut segments = Segments::of(vnet, frame);
    let (is_inconsistent, count) = (segments.is_inconsistent(), segments.left());
    let mut headers = ArrayVec::<u8, MAX_HEADERS>::new();
    let mut payload = Vec::new();
    let mut made = 0;
    while let Some(rest) = segments.next_into(&mut headers) {
        if !headers.is_empty() {
            check(&[&headers[..], rest].concat(), vnet);
        }
        payload.extend(rest);
        made += 1;
        if count == made {
            assert!(headers.len() + payload.len() == original.len());
            let is_same = original.ends_with(&payload);
            // Of a frame that is not segmented, two bytes are the checksum.
            assert!(is_same || headers.is_empty() && !is_inconsistent);
        }
        headers.clear();
    }
    assert_eq!(made, count);
});

/// Lengths of a segment, and its checksum if the super-frame's was not given: otherwise it is as wrong as it
/// was.
fn check(segment: &[u8], vnet: VnetHeader) {
    // It refuses some sequences of IPv6 extension headers.
    let Ok(sliced) = SlicedPacket::from_ethernet(segment) else { return };
    let (Some(net), Some(transport)) = (sliced.net, sliced.transport) else { return };
    let is_given = vnet.flags & VnetHeader::NEEDS_CSUM != 0;
    match (net, transport) {
        (NetSlice::Ipv4(ip), transport) => {
            let header = ip.header().to_header();
            // Over the bytes: etherparse's own has no room for the reserved flag.
            assert_eq!(Sum16BitWords::new().add_slice(ip.header().slice()).ones_complement(), 0);
            let sums = match transport {
                TransportSlice::Tcp(tcp) => {
                    (tcp.checksum(), tcp.calc_checksum_ipv4(header.source, header.destination).ok())
                }
                TransportSlice::Udp(udp) => {
                    (udp.checksum(), udp.to_header().calc_checksum_ipv4(&header, udp.payload()).ok())
                }
                _ => return,
            };
            assert!(is_given || Some(sums.0) == sums.1);
        }
        (NetSlice::Ipv6(ip), transport) => {
            let header = ip.header().to_header();
            let sums = match transport {
                TransportSlice::Tcp(tcp) => {
                    (tcp.checksum(), tcp.calc_checksum_ipv6(header.source, header.destination).ok())
                }
                TransportSlice::Udp(udp) => {
                    (udp.checksum(), udp.to_header().calc_checksum_ipv6(&header, udp.payload()).ok())
                }
                _ => return,
            };
            assert!(is_given || Some(sums.0) == sums.1);
        }
        _ => {}
    }
}
