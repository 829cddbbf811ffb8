//! Length of a frame's headers, for captures without payloads.

use crate::wire::{ethernet, ethernet::ethertype, ipv4, ipv6, udp, vlan};

// IANA "Protocol Numbers".
const HOP_BY_HOP: u8 = 0;
const ICMP: u8 = 1;
const TCP: u8 = 6;
const ROUTING: u8 = 43;
const AUTHENTICATION: u8 = 51;
const ICMPV6: u8 = 58;
const DESTINATION_OPTIONS: u8 = 60;
const SCTP: u8 = 132;

/// Bytes of the Ethernet, VLAN, IP (with options and extension headers) and TCP, UDP, ICMP or SCTP headers
/// that a frame starts with. Ends before an unknown header, and at the end of a truncated one.
pub(super) fn len(frame: &[u8]) -> usize {
    reach(frame).unwrap_or(frame.len()).min(frame.len())
}

/// `None` if the frame ends within a header.
fn reach(frame: &[u8]) -> Option<usize> {
    let mut at = ethernet::HEADER_LEN;
    let mut ethertype = be16(frame, at - 2)?;
    while vlan::announces_tag(ethertype) {
        at += vlan::TAG_LEN;
        ethertype = be16(frame, at - 2)?;
    }
    match ethertype {
        ethertype::IPV4 => past_ipv4(frame, at),
        ethertype::IPV6 => past_ipv6(frame, at),
        _ => Some(at),
    }
}

/// RFC 791 section 3.1.
fn past_ipv4(frame: &[u8], at: usize) -> Option<usize> {
    let words = usize::from(frame.get(at)? & 0xf);
    let end = at + (words * 4).max(ipv4::HEADER_LEN);
    let is_first = be16(frame, at + 6)? & 0x1fff == 0;
    let protocol = *frame.get(at + 9)?;
    if is_first { past_transport(frame, protocol, end) } else { Some(end) }
}

/// RFC 8200 section 4.
fn past_ipv6(frame: &[u8], at: usize) -> Option<usize> {
    let mut next = *frame.get(at + 6)?;
    let mut at = at + ipv6::HEADER_LEN;
    loop {
        let units = || frame.get(at + 1).map(|&units| usize::from(units));
        let len = match next {
            HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS => (units()? + 1) * 8,
            // RFC 4302 section 2.2.
            AUTHENTICATION => (units()? + 2) * 4,
            ipv6::FRAGMENT if be16(frame, at + 2)? >> 3 != 0 => return Some(at + 8),
            ipv6::FRAGMENT => 8,
            protocol => return past_transport(frame, protocol, at),
        };
        next = *frame.get(at)?;
        at += len;
    }
}

fn past_transport(frame: &[u8], protocol: u8, at: usize) -> Option<usize> {
    Some(match protocol {
        // RFC 9293 section 3.1: data offset, in words of 32 bits.
        TCP => at + (usize::from(frame.get(at + 12)? >> 4) * 4).max(20),
        udp::PROTOCOL => at + udp::HEADER_LEN,
        // Type, code, checksum and the rest of the header: RFC 792, RFC 4443 section 2.1.
        ICMP | ICMPV6 => at + 8,
        // The common header, RFC 9260 section 3.1.
        SCTP => at + 12,
        _ => at,
    })
}

fn be16(frame: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*frame.get(at)?, *frame.get(at + 1)?]))
}

#[cfg(test)]
mod tests {
    use etherparse::{PacketBuilder, SlicedPacket};
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_bytes_have_headers_within_them(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(len(&bytes) <= bytes.len());
        }

        /// Bytes that begin like IP, so that the deeper ways are taken.
        #[test]
        fn the_length_does_not_depend_on_the_payload(
            v6: bool, next in prop::sample::select(vec![0_u8, 1, 6, 17, 43, 44, 50, 51, 58, 60, 132]),
            rest in proptest::collection::vec(any::<u8>(), 0..150), other: u8,
        ) {
            let mut frame = vec![0; 12];
            frame.extend(if v6 { [0x86, 0xdd] } else { [8, 0] });
            frame.extend(&rest);
            if let Some(place) = frame.get_mut(if v6 { 20 } else { 23 }) { *place = next }
            let headers = len(&frame);
            prop_assert!(headers <= frame.len());
            frame[headers..].fill(other);
            prop_assert_eq!(len(&frame), headers);
            frame.truncate(headers);
            prop_assert_eq!(len(&frame), headers);
        }

        #[test]
        fn headers_end_where_another_parser_finds_the_payload(
            tag in proptest::option::of(0_u16..4096), v6: bool, tcp: bool, options in 0_usize..10,
            payload in proptest::collection::vec(any::<u8>(), 0..64),
        ) {
            let tag = tag.map(|tag| etherparse::VlanId::try_new(tag).unwrap());
            let ethernet = PacketBuilder::ethernet2([2; 6], [4; 6]);
            let options = vec![1; options * 4];
            // Its types differ from one layer to the next.
            macro_rules! frame {
                ($ip:expr) => {{
                    let (ip, mut frame) = ($ip, Vec::new());
                    if tcp {
                        let tcp = ip.tcp(1, 2, 3, 4).options_raw(&options).unwrap();
                        tcp.write(&mut frame, &payload).unwrap();
                    } else {
                        ip.udp(1, 2).write(&mut frame, &payload).unwrap();
                    }
                    frame
                }};
            }
            let frame = match (tag, v6) {
                (None, false) => frame!(ethernet.ipv4([1; 4], [2; 4], 64)),
                (None, true) => frame!(ethernet.ipv6([1; 16], [2; 16], 64)),
                (Some(tag), false) => frame!(ethernet.single_vlan(tag).ipv4([1; 4], [2; 4], 64)),
                (Some(tag), true) => frame!(ethernet.single_vlan(tag).ipv6([1; 16], [2; 16], 64)),
            };
            prop_assert!(SlicedPacket::from_ethernet(&frame).unwrap().transport.is_some());
            prop_assert_eq!(len(&frame), frame.len() - payload.len());
        }
    }

    #[test]
    fn headers_of_mixed_frames_include_ports_and_types() {
        use etherparse::{LaxSlicedPacket, TransportSlice};

        let known = |transport: &TransportSlice<'_>| !matches!(transport, TransportSlice::Igmp(_));
        for frame in mirror_lab::mixed::mixed().unwrap() {
            let Ok(whole) = SlicedPacket::from_ethernet(&frame) else { continue };
            // Headers alone are shorter than their declared length.
            let cut = LaxSlicedPacket::from_ethernet(&frame[..len(&frame)]).unwrap();
            assert_eq!(
                cut.transport.is_some(),
                whole.transport.is_some_and(|found| known(&found)),
                "{frame:02x?}"
            );
        }
    }
}
