//! A last check of a reassembled datagram, where the outer headers identify little: the checksum of the inner
//! packet.

use super::{fold, sum};
use crate::{
    decap::{inner_start, untag},
    tunnels::Tunnels,
    wire::{
        ethernet::{self, ethertype},
        ipv4, ipv6, udp,
    },
};

const ICMP: u8 = 1;
const TCP: u8 = 6;
const ICMPV6: u8 = 58;

/// Whether a datagram to one of these tunnels, UDP header included, holds a whole packet whose checksum is
/// wrong. This is false for packets that the mirror session truncated, for inner fragments, for protocols
/// without a checksum, and for checksums that the sender left to its NIC's offloads, as packets mirrored
/// before these have.
pub(super) fn contradicts(datagram: &[u8], tunnels: &Tunnels) -> bool {
    check(datagram, tunnels).is_some_and(|is_right| !is_right)
}

fn check(datagram: &[u8], tunnels: &Tunnels) -> Option<bool> {
    let inner = datagram.get(inner_start(datagram, tunnels)?..)?;
    let frame = ethernet::Frame::new_checked(inner).ok()?;
    let (ethertype, bytes) = untag(frame.ethertype(), frame.payload()).ok()?;
    let (addresses, protocol, transport) = match ethertype {
        ethertype::IPV4 => {
            let packet = ipv4::Packet::new_checked(bytes).ok()?;
            let len = usize::from(packet.total_len()).checked_sub(packet.header_len())?;
            let transport = packet.payload().get(..len).filter(|_| !packet.is_fragment())?;
            let addresses = sum(&packet.source().octets()) + sum(&packet.destination().octets());
            (addresses, packet.protocol(), transport)
        }
        ethertype::IPV6 => {
            let packet = ipv6::Packet::new_checked(bytes).ok()?;
            let transport = packet.payload().get(..packet.payload_len().into())?;
            let addresses = sum(&packet.source().octets()) + sum(&packet.destination().octets());
            (addresses, packet.next_header(), transport)
        }
        _ => return None,
    };
    let (place, pseudo) = match protocol {
        TCP => (16, true),
        udp::PROTOCOL => (6, true),
        ICMP => (2, false),
        ICMPV6 => (2, true),
        _ => return None,
    };
    let checksum = u16::from_be_bytes(*transport.get(place..)?.first_chunk()?);
    if protocol == udp::PROTOCOL {
        let datagram = udp::Datagram::new_checked(transport).ok()?;
        if checksum == 0 || usize::from(datagram.length()) != transport.len() {
            return None;
        }
    }
    // RFC 9293 section 3.1, RFC 768, RFC 8200 section 8.1; RFC 792 has no pseudo-header.
    let len = u64::try_from(transport.len()).ok()?;
    let pseudo = if pseudo { addresses + u64::from(protocol) + len } else { 0 };
    let is_unfinished = pseudo != 0 && checksum == fold(pseudo);
    Some(is_unfinished || fold(pseudo + sum(transport)) == 0xffff)
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use mirror_lab::{
        frames::{Outer, inner_of_len, inner_udp},
        geneve::Geneve,
    };

    use super::*;

    /// An inner frame behind UDP and VXLAN, and behind the headers of a Gateway Load Balancer too.
    fn datagrams(inner: &[u8]) -> [Vec<u8>; 2] {
        let gateway = Geneve::aws(0x0ab1, 2, 3);
        let outer = Outer::sample(7);
        let (vxlan, geneve) = (outer.encapsulate(inner), gateway.encapsulate_mirrored(&outer, inner));
        // Ethernet and IPv4.
        [vxlan, geneve].map(|frame| frame.unwrap()[34..].to_vec())
    }

    fn contradicted(inner: &[u8]) -> bool {
        let tunnels = Tunnels::from([4789, 6081]);
        let [vxlan, geneve] = datagrams(inner).map(|datagram| contradicts(&datagram, &tunnels));
        assert_eq!(vxlan, geneve);
        vxlan
    }

    #[test]
    fn a_byte_of_another_packet_is_detected() {
        let ends = [IpAddr::from([1; 16]), IpAddr::from([2; 16])].map(|address| (address, 9));
        let v6 = inner_udp(ends[0], ends[1], &[7; 33]).unwrap();
        for inner in [inner_of_len(100).unwrap(), inner_of_len(101).unwrap(), v6] {
            assert!(!contradicted(&inner));
            let mut other = inner.clone();
            *other.last_mut().unwrap() ^= 1;
            assert!(contradicted(&other));
            // Truncated: nothing to check.
            other.pop();
            assert!(!contradicted(&other));
        }
    }

    #[test]
    fn an_unfinished_or_missing_checksum_is_not_held_against_a_packet() {
        let inner = inner_of_len(100).unwrap();
        let pseudo = fold(sum(&inner[26..34]) + 17 + 66);
        for checksum in [0, pseudo] {
            let mut inner = inner.clone();
            inner[40..42].copy_from_slice(&checksum.to_be_bytes());
            assert!(!contradicted(&inner));
        }
    }
}
