//! Ethernet II frames (IEEE 802.3 clause 3, RFC 894), without preamble and frame check sequence.

use super::{Error, array, be16, split};

/// Length of the header, in bytes.
pub const HEADER_LEN: usize = 14;

/// What the payload is (IANA "IEEE 802 Numbers").
pub mod ethertype {
    /// Internet Protocol version 4 (RFC 894).
    pub const IPV4: u16 = 0x0800;
    /// Customer VLAN tag (IEEE 802.1Q).
    pub const VLAN: u16 = 0x8100;
    /// Internet Protocol version 6 (RFC 2464 section 3).
    pub const IPV6: u16 = 0x86dd;
    /// Service VLAN tag (IEEE 802.1ad).
    pub const SERVICE_VLAN: u16 = 0x88a8;
}

mod field {
    use std::ops::Range;

    pub(super) const DESTINATION: Range<usize> = 0..6;
    pub(super) const SOURCE: Range<usize> = 6..12;
    pub(super) const ETHERTYPE: Range<usize> = 12..14;
}

/// An Ethernet frame.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    header: &'a [u8; HEADER_LEN],
    payload: &'a [u8],
}

impl<'a> Frame<'a> {
    /// Takes bytes that start with an Ethernet header.
    ///
    /// # Errors
    ///
    /// [`Error::Truncated`] below 14 bytes.
    #[inline]
    pub fn new_checked(bytes: &'a [u8]) -> Result<Self, Error> {
        split(bytes).map(|(header, payload)| Self { header, payload })
    }

    /// Destination hardware address.
    #[inline]
    #[must_use]
    pub fn destination(&self) -> [u8; 6] {
        array(self.header, field::DESTINATION)
    }

    /// Source hardware address.
    #[inline]
    #[must_use]
    pub fn source(&self) -> [u8; 6] {
        array(self.header, field::SOURCE)
    }

    /// What the payload is; a length below 1536 in frames of IEEE 802.2.
    #[inline]
    #[must_use]
    pub fn ethertype(&self) -> u16 {
        be16(self.header, field::ETHERTYPE)
    }

    /// The bytes after the header, VLAN tags and padding included.
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
    fn fields_are_read_where_the_standard_puts_them() {
        let bytes = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 0x86, 0xdd, 99];
        let frame = Frame::new_checked(&bytes).unwrap();
        assert_eq!(frame.destination(), [1, 2, 3, 4, 5, 6]);
        assert_eq!(frame.source(), [7, 8, 9, 10, 11, 12]);
        assert_eq!(frame.ethertype(), ethertype::IPV6);
        assert_eq!(frame.payload(), [99]);
    }

    #[test]
    fn thirteen_bytes_are_no_frame() {
        assert_eq!(Frame::new_checked(&[0; 13]).unwrap_err(), Error::Truncated { needed: 14, present: 13 });
    }
}
