//! Views over the bytes of one protocol header each. No I/O, no allocation, no copy.
//!
//! A view is made once by `new_checked`, which proves that the header is there and whole; its accessors then
//! cannot fail. The header is kept as an array of the protocol's fixed length, so that this proof is the
//! compiler's, and reading a field costs no bounds check.
//!
//! Lengths declared by a header are given as they are on the wire, never trusted: users of one compare it
//! with what is there.

#[cfg(feature = "af-xdp")]
pub(crate) mod encapsulation;
pub mod ethernet;
pub mod geneve;
pub mod ipv4;
pub mod ipv6;
pub(crate) mod tcp;
pub mod udp;
pub mod vlan;
pub mod vxlan;

use std::ops::Range;

/// Why bytes are not the header that was expected.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The bytes end before the header does.
    #[error("header cut short: {needed} bytes needed, {present} present")]
    Truncated {
        /// Length of the header, as far as it is known.
        needed: usize,
        /// Bytes at hand.
        present: usize,
    },
    /// The header contradicts itself.
    #[error("malformed header: {0}")]
    Malformed(&'static str),
}

/// The XDP program reads frames by the same lengths and numbers.
#[cfg(feature = "af-xdp")]
const _: () = {
    use mirror_ebpf::wire as kernel;

    assert!(ethernet::HEADER_LEN == kernel::ETHERNET_HEADER);
    assert!(ethernet::ethertype::IPV4 == kernel::ETHERTYPE_IPV4);
    assert!(ethernet::ethertype::IPV6 == kernel::ETHERTYPE_IPV6);
    assert!(ethernet::ethertype::VLAN == kernel::ETHERTYPE_VLAN);
    assert!(ethernet::ethertype::SERVICE_VLAN == kernel::ETHERTYPE_SERVICE_VLAN);
    assert!(vlan::TAG_LEN == kernel::VLAN_TAG);
    assert!(ipv4::HEADER_LEN == kernel::IPV4_HEADER);
    assert!(ipv4::FRAGMENT_BITS == kernel::IPV4_MORE_FRAGMENTS | kernel::IPV4_FRAGMENT_OFFSET);
    assert!(ipv6::HEADER_LEN == kernel::IPV6_HEADER);
    assert!(ipv6::FRAGMENT_HEADER_LEN == kernel::FRAGMENT_HEADER);
    assert!(ipv6::FRAGMENT == kernel::PROTOCOL_FRAGMENT);
    assert!(udp::HEADER_LEN == kernel::UDP_HEADER);
    assert!(udp::PROTOCOL == kernel::PROTOCOL_UDP);
    assert!(geneve::PORT == kernel::GENEVE_PORT);
    assert!(vxlan::HEADER_LEN == kernel::VXLAN_HEADER);
    assert!(vxlan::PORT == kernel::VXLAN_PORT);
    assert!(vxlan::FLAG_VNI == (kernel::VXLAN_FLAG_VNI as u32) << 24);
    let mut next_header = 0;
    while next_header < 0xff {
        assert!(ipv6::is_extension(next_header) == kernel::is_extension(next_header));
        next_header += 1;
    }
};

/// Splits a header of fixed length off the front.
#[inline]
fn split<const LEN: usize>(bytes: &[u8]) -> Result<(&[u8; LEN], &[u8]), Error> {
    bytes.split_first_chunk().ok_or(Error::Truncated { needed: LEN, present: bytes.len() })
}

/// A field's bytes. Field ranges are constants within the header's length, so no check is left after
/// inlining.
#[inline]
pub(crate) fn array<const LEN: usize, const N: usize>(header: &[u8; LEN], field: Range<usize>) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&header[field]);
    bytes
}

/// A 16-bit field in network byte order.
#[inline]
pub(crate) fn be16<const LEN: usize>(header: &[u8; LEN], field: Range<usize>) -> u16 {
    u16::from_be_bytes(array(header, field))
}

/// A 32-bit field in network byte order.
#[inline]
pub(crate) fn be32<const LEN: usize>(header: &[u8; LEN], field: Range<usize>) -> u32 {
    u32::from_be_bytes(array(header, field))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_view_takes_or_refuses_any_bytes_without_a_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..80),
        ) {
            if let Ok(frame) = ethernet::Frame::new_checked(&bytes) {
                prop_assert_eq!(frame.payload().len() + ethernet::HEADER_LEN, bytes.len());
                let _ = (frame.destination(), frame.source(), frame.ethertype());
            }
            if let Ok(tag) = vlan::Tag::new_checked(&bytes) {
                let _ = (tag.priority(), tag.is_drop_eligible(), tag.id(), tag.ethertype(), tag.payload());
            }
            if let Ok(packet) = ipv4::Packet::new_checked(&bytes) {
                prop_assert_eq!(packet.header_len() + packet.payload().len(), bytes.len());
                prop_assert_eq!(packet.options().len(), packet.header_len() - ipv4::HEADER_LEN);
                let _ = (packet.total_len(), packet.is_fragment(), packet.protocol());
                let _ = (packet.source(), packet.destination());
            }
            if let Ok(packet) = ipv6::Packet::new_checked(&bytes) {
                let _ = (packet.payload_len(), packet.next_header(), packet.source(), packet.destination());
                let _ = packet.payload();
            }
            if let Ok(datagram) = udp::Datagram::new_checked(&bytes) {
                let _ = (datagram.source_port(), datagram.destination_port(), datagram.length());
                let _ = (datagram.checksum(), datagram.payload());
            }
            if let Ok(packet) = vxlan::Packet::new_checked(&bytes) {
                let _ = (packet.has_vni(), packet.vni(), packet.has_reserved_bits(), packet.payload());
            }
            if let Ok(packet) = geneve::Packet::new_checked(&bytes) {
                prop_assert_eq!(packet.payload().len() + packet.header_len(), bytes.len());
                let options = packet.options().map(|option| geneve::OPTION_HEAD + option.data.len());
                prop_assert_eq!(geneve::HEADER_LEN + options.sum::<usize>(), packet.header_len());
                let _ = (packet.is_control(), packet.protocol(), packet.vni(), packet.has_reserved_bits());
                let _ = (packet.gateway(), packet.has_unknown_critical_option());
            }
        }
    }

    #[test]
    fn a_cut_header_says_how_much_is_missing() {
        let error = udp::Datagram::new_checked(&[0; 5]).unwrap_err();
        assert_eq!(error.to_string(), "header cut short: 8 bytes needed, 5 present");
    }
}
