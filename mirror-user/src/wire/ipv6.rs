//! Internet Protocol version 6 (RFC 8200 section 3) and its fragment header.

use std::net::Ipv6Addr;

use super::{Error, array, be16, be32, split};

/// Length of the header, in bytes.
pub const HEADER_LEN: usize = 40;

/// Next header of a fragment (RFC 8200 section 4.5).
pub const FRAGMENT: u8 = 44;

/// Whether a next header is an extension header that may precede a transport header, other than [`FRAGMENT`]:
/// hop-by-hop options, routing, ESP, AH, destination options, mobility, HIP, shim6 (IANA's list of RFC 7045).
pub(crate) const fn is_extension(next_header: u8) -> bool {
    matches!(next_header, 0 | 43 | 50 | 51 | 60 | 135 | 139 | 140)
}

pub(crate) mod field {
    use std::ops::Range;

    pub(crate) const VERSION: usize = 0;
    pub(crate) const PAYLOAD_LENGTH: Range<usize> = 4..6;
    pub(crate) const NEXT_HEADER: usize = 6;
    pub(crate) const SOURCE: Range<usize> = 8..24;
    pub(crate) const DESTINATION: Range<usize> = 24..40;
}

/// An IPv6 packet.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    header: &'a [u8; HEADER_LEN],
    payload: &'a [u8],
}

impl<'a> Packet<'a> {
    /// Takes bytes that start with an IPv6 header.
    ///
    /// # Errors
    ///
    /// [`Error::Truncated`] below 40 bytes, [`Error::Malformed`] where the version is not 6.
    #[inline]
    pub fn new_checked(bytes: &'a [u8]) -> Result<Self, Error> {
        let (header, payload) = split(bytes)?;
        if header[field::VERSION] >> 4 != 6 {
            return Err(Error::Malformed("IP version is not 6"));
        }
        Ok(Self { header, payload })
    }

    /// Length of what follows the header, as the header says, in bytes. 0 in jumbograms (RFC 2675 section 2).
    #[inline]
    #[must_use]
    pub fn payload_len(&self) -> u16 {
        be16(self.header, field::PAYLOAD_LENGTH)
    }

    /// Protocol of the payload, or the first extension header (IANA "Protocol Numbers").
    #[inline]
    #[must_use]
    pub fn next_header(&self) -> u8 {
        self.header[field::NEXT_HEADER]
    }

    /// Source address.
    #[inline]
    #[must_use]
    pub fn source(&self) -> Ipv6Addr {
        Ipv6Addr::from(array::<HEADER_LEN, 16>(self.header, field::SOURCE))
    }

    /// Destination address.
    #[inline]
    #[must_use]
    pub fn destination(&self) -> Ipv6Addr {
        Ipv6Addr::from(array::<HEADER_LEN, 16>(self.header, field::DESTINATION))
    }

    /// All bytes after the header, whatever the payload length says.
    #[inline]
    #[must_use]
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }
}

/// Length of the fragment header, in bytes.
pub const FRAGMENT_HEADER_LEN: usize = 8;

mod fragment_field {
    use std::ops::Range;

    pub(super) const NEXT_HEADER: usize = 0;
    pub(super) const OFFSET_MORE: Range<usize> = 2..4;
    pub(super) const IDENTIFICATION: Range<usize> = 4..8;
}

/// A fragment header and what follows it (RFC 8200 section 4.5).
#[derive(Clone, Copy, Debug)]
pub struct FragmentHeader<'a> {
    header: &'a [u8; FRAGMENT_HEADER_LEN],
    payload: &'a [u8],
}

impl<'a> FragmentHeader<'a> {
    /// Takes bytes that start with a fragment header.
    ///
    /// # Errors
    ///
    /// [`Error::Truncated`] below 8 bytes.
    #[inline]
    pub fn new_checked(bytes: &'a [u8]) -> Result<Self, Error> {
        split(bytes).map(|(header, payload)| Self { header, payload })
    }

    /// First header of the fragmented part.
    #[inline]
    #[must_use]
    pub fn next_header(&self) -> u8 {
        self.header[fragment_field::NEXT_HEADER]
    }

    /// Where in the fragmented part the payload belongs, in units of 8 bytes.
    #[inline]
    #[must_use]
    pub fn offset(&self) -> u16 {
        be16(self.header, fragment_field::OFFSET_MORE) >> 3
    }

    /// Whether further fragments follow.
    #[inline]
    #[must_use]
    pub fn has_more(&self) -> bool {
        be16(self.header, fragment_field::OFFSET_MORE) & 1 != 0
    }

    /// Identification, which the fragments of a packet share.
    #[inline]
    #[must_use]
    pub fn identification(&self) -> u32 {
        be32(self.header, fragment_field::IDENTIFICATION)
    }

    /// All bytes after the header.
    #[inline]
    #[must_use]
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> [u8; 41] {
        let mut bytes = [0; 41];
        bytes[0] = 0x6f;
        bytes[4..7].copy_from_slice(&[0x12, 0x34, 17]);
        bytes[8..24].copy_from_slice(&"2001:db8::1".parse::<Ipv6Addr>().unwrap().octets());
        bytes[24..40].copy_from_slice(&"2001:db8::2".parse::<Ipv6Addr>().unwrap().octets());
        bytes[40] = 7;
        bytes
    }

    #[test]
    fn fields_are_read_where_rfc_8200_puts_them() {
        let bytes = header();
        let packet = Packet::new_checked(&bytes).unwrap();
        assert_eq!((packet.payload_len(), packet.next_header(), packet.payload()), (0x1234, 17, &[7][..]));
        assert_eq!(packet.source(), "2001:db8::1".parse::<Ipv6Addr>().unwrap());
        assert_eq!(packet.destination(), "2001:db8::2".parse::<Ipv6Addr>().unwrap());
    }

    #[test]
    fn another_version_is_malformed_and_39_bytes_are_truncated() {
        let mut bytes = header();
        assert_eq!(
            Packet::new_checked(&bytes[..39]).unwrap_err(),
            Error::Truncated { needed: 40, present: 39 }
        );
        bytes[0] = 0x45;
        assert!(matches!(Packet::new_checked(&bytes), Err(Error::Malformed(_))));
    }
}
