//! Virtual eXtensible Local Area Network (RFC 7348 section 5).

use super::{Error, be32, split};

/// Length of the header, in bytes.
pub const HEADER_LEN: usize = 8;

/// UDP destination port (RFC 7348 section 8, IANA); what AWS Traffic Mirroring sends to.
pub const PORT: u16 = 4789;

/// The I flag, "VNI is valid", in the header's first word.
pub(crate) const FLAG_VNI: u32 = 0x0800_0000;

/// The P flag of VXLAN-GPE: the last byte of the first word is the next protocol (draft-ietf-nvo3-vxlan-gpe
/// section 3).
const FLAG_NEXT_PROTOCOL: u32 = 0x0400_0000;

/// Next protocols of VXLAN-GPE.
pub(crate) mod gpe {
    pub(crate) const ETHERNET: u8 = 3;
}

/// The highest VNI.
pub const MAX_VNI: u32 = 0xff_ffff;

/// The header of a packet of this VNI, of which the low 24 bits are taken.
#[must_use]
pub fn header(vni: u32) -> [u8; HEADER_LEN] {
    let mut header = [0; HEADER_LEN];
    header[field::FLAGS_RESERVED].copy_from_slice(&FLAG_VNI.to_be_bytes());
    header[field::VNI_RESERVED].copy_from_slice(&(vni << 8).to_be_bytes());
    header
}

mod field {
    use std::ops::Range;

    pub(super) const FLAGS_RESERVED: Range<usize> = 0..4;
    pub(super) const VNI_RESERVED: Range<usize> = 4..8;
}

/// A VXLAN packet.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    header: &'a [u8; HEADER_LEN],
    payload: &'a [u8],
}

impl<'a> Packet<'a> {
    /// Takes bytes that start with a VXLAN header.
    ///
    /// # Errors
    ///
    /// [`Error::Truncated`] below 8 bytes.
    #[inline]
    pub fn new_checked(bytes: &'a [u8]) -> Result<Self, Error> {
        split(bytes).map(|(header, payload)| Self { header, payload })
    }

    /// Whether the I flag is set, without which the VNI means nothing.
    #[inline]
    #[must_use]
    pub fn has_vni(&self) -> bool {
        be32(self.header, field::FLAGS_RESERVED) & FLAG_VNI != 0
    }

    /// VXLAN network identifier, 24 bits.
    #[inline]
    #[must_use]
    pub fn vni(&self) -> u32 {
        be32(self.header, field::VNI_RESERVED) >> 8
    }

    /// The payload's protocol in VXLAN-GPE, whose flag is a reserved one in RFC 7348.
    #[must_use]
    pub(crate) fn next_protocol(&self) -> Option<u8> {
        let word = be32(self.header, field::FLAGS_RESERVED);
        (word & FLAG_NEXT_PROTOCOL != 0).then(|| word.to_be_bytes()[3])
    }

    /// Whether a flag other than I or a reserved bit is set. RFC 7348 requires them to be zero when sent and
    /// ignored on receipt.
    #[inline]
    #[must_use]
    pub fn has_reserved_bits(&self) -> bool {
        let flags = be32(self.header, field::FLAGS_RESERVED) & !FLAG_VNI;
        let last = be32(self.header, field::VNI_RESERVED) & 0xff;
        flags | last != 0
    }

    /// The inner Ethernet frame, and whatever follows it.
    #[inline]
    #[must_use]
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_that_is_made_is_read_back() {
        let header = header(MAX_VNI);
        let packet = Packet::new_checked(&header).unwrap();
        assert!(packet.has_vni() && !packet.has_reserved_bits());
        assert_eq!(packet.vni(), MAX_VNI);
    }

    #[test]
    fn fields_are_read_where_rfc_7348_puts_them() {
        let packet = Packet::new_checked(&[8, 0, 0, 0, 0x54, 0xfa, 0x11, 0, 3]).unwrap();
        assert!(packet.has_vni() && !packet.has_reserved_bits());
        assert_eq!((packet.vni(), packet.payload()), (5_569_041, &[3][..]));
    }

    #[test]
    fn every_bit_beside_flag_and_vni_is_reserved() {
        for bit in 0..64_u32 {
            let header = (0x0800_0000_0000_0000_u64 | 1 << bit).to_be_bytes();
            let packet = Packet::new_checked(&header).unwrap();
            let defined = bit == 59 || (8..32).contains(&bit);
            assert_eq!(packet.has_reserved_bits(), !defined, "bit {bit}");
        }
        assert!(!Packet::new_checked(&[0xf7, 0, 0, 0, 0, 0, 1, 0]).unwrap().has_vni());
    }

    #[test]
    fn a_next_protocol_is_one_only_with_the_flag_of_vxlan_gpe() {
        for next in [0, 1, gpe::ETHERNET, 255] {
            for (flags, expected) in [(0x0c, Some(next)), (0xff, Some(next)), (0x08, None), (0xfb, None)] {
                let packet = [flags, 0, 0, next, 0, 0, 9, 0];
                let packet = Packet::new_checked(&packet).unwrap();
                assert_eq!(packet.next_protocol(), expected, "flags {flags:#x}, next protocol {next}");
            }
        }
    }
}
