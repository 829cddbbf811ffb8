//! Internet Protocol version 4 (RFC 791 section 3.1).

use std::net::Ipv4Addr;

use super::{Error, array, be16, split};

/// Length of the header without options, in bytes.
pub const HEADER_LEN: usize = 20;

pub(crate) mod field {
    use std::ops::Range;

    pub(crate) const VERSION_IHL: usize = 0;
    pub(crate) const TOTAL_LENGTH: Range<usize> = 2..4;
    pub(crate) const IDENTIFICATION: Range<usize> = 4..6;
    pub(crate) const FLAGS_FRAGMENT_OFFSET: Range<usize> = 6..8;
    pub(crate) const PROTOCOL: usize = 9;
    pub(crate) const CHECKSUM: Range<usize> = 10..12;
    pub(crate) const SOURCE: Range<usize> = 12..16;
    pub(crate) const DESTINATION: Range<usize> = 16..20;
}

/// The more-fragments flag alone.
const MORE_FRAGMENTS: u16 = 0x2000;

/// The fragment offset alone.
const OFFSET_BITS: u16 = 0x1fff;

/// The more-fragments flag and the fragment offset; without the don't-fragment flag.
pub(crate) const FRAGMENT_BITS: u16 = 0x3fff;

/// An IPv4 packet.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    header: &'a [u8; HEADER_LEN],
    options: &'a [u8],
    payload: &'a [u8],
}

impl<'a> Packet<'a> {
    /// Takes bytes that start with an IPv4 header.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] where the version is not 4 or the header length is below 20 bytes,
    /// [`Error::Truncated`] where the bytes end within the header or its options.
    #[inline]
    pub fn new_checked(bytes: &'a [u8]) -> Result<Self, Error> {
        let (header, rest) = split::<HEADER_LEN>(bytes)?;
        let version_ihl = header[field::VERSION_IHL];
        if version_ihl >> 4 != 4 {
            return Err(Error::Malformed("IP version is not 4"));
        }
        let header_len = usize::from(version_ihl & 0x0f) * 4;
        let Some(options_len) = header_len.checked_sub(HEADER_LEN) else {
            return Err(Error::Malformed("IPv4 header length is below 20 bytes"));
        };
        match rest.split_at_checked(options_len) {
            Some((options, payload)) => Ok(Self { header, options, payload }),
            None => Err(Error::Truncated { needed: header_len, present: bytes.len() }),
        }
    }

    /// Length of the header with its options, in bytes: 20 to 60.
    #[inline]
    #[must_use]
    pub fn header_len(&self) -> usize {
        HEADER_LEN + self.options.len()
    }

    /// Length of header and payload as the header says, in bytes. 0 in segments that the sender has yet to
    /// cut up (TSO, BIG TCP).
    #[inline]
    #[must_use]
    pub fn total_len(&self) -> u16 {
        be16(self.header, field::TOTAL_LENGTH)
    }

    /// Whether this is a part of a datagram: the more-fragments flag is set or the fragment offset is not 0.
    #[inline]
    #[must_use]
    pub fn is_fragment(&self) -> bool {
        be16(self.header, field::FLAGS_FRAGMENT_OFFSET) & FRAGMENT_BITS != 0
    }

    /// Whether further fragments follow this one.
    #[inline]
    #[must_use]
    pub fn has_more_fragments(&self) -> bool {
        be16(self.header, field::FLAGS_FRAGMENT_OFFSET) & MORE_FRAGMENTS != 0
    }

    /// Where in its datagram the payload of a fragment belongs, in units of 8 bytes; 0 for a whole one and
    /// the first.
    #[inline]
    #[must_use]
    pub fn fragment_offset(&self) -> u16 {
        be16(self.header, field::FLAGS_FRAGMENT_OFFSET) & OFFSET_BITS
    }

    /// Identification, which the fragments of a datagram share.
    #[inline]
    #[must_use]
    pub fn identification(&self) -> u16 {
        be16(self.header, field::IDENTIFICATION)
    }

    /// Protocol of the payload (IANA "Protocol Numbers").
    #[inline]
    #[must_use]
    pub fn protocol(&self) -> u8 {
        self.header[field::PROTOCOL]
    }

    /// Source address.
    #[inline]
    #[must_use]
    pub fn source(&self) -> Ipv4Addr {
        Ipv4Addr::from(array::<HEADER_LEN, 4>(self.header, field::SOURCE))
    }

    /// Destination address.
    #[inline]
    #[must_use]
    pub fn destination(&self) -> Ipv4Addr {
        Ipv4Addr::from(array::<HEADER_LEN, 4>(self.header, field::DESTINATION))
    }

    /// The options, padding included: 0 to 40 bytes.
    #[inline]
    #[must_use]
    pub fn options(&self) -> &'a [u8] {
        self.options
    }

    /// All bytes after the header, whatever the total length says.
    #[inline]
    #[must_use]
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: [u8; 24] = [
        0x46, 0, 0x12, 0x34, 0, 0, 0x40, 0, 255, 17, 0, 0, 10, 1, 2, 3, 192, 0, 2, 9, // fixed
        0x94, 4, 0, 0, // router alert
    ];

    fn with(change: impl Fn(&mut [u8; 24])) -> [u8; 24] {
        let mut bytes = HEADER;
        change(&mut bytes);
        bytes
    }

    #[test]
    fn fields_are_read_where_rfc_791_puts_them() {
        let packet = Packet::new_checked(&HEADER).unwrap();
        assert_eq!((packet.header_len(), packet.total_len(), packet.protocol()), (24, 0x1234, 17));
        assert_eq!(packet.source(), Ipv4Addr::new(10, 1, 2, 3));
        assert_eq!(packet.destination(), Ipv4Addr::new(192, 0, 2, 9));
        assert_eq!((packet.options(), packet.payload()), (&[0x94, 4, 0, 0][..], &[][..]));
    }

    #[test]
    fn do_not_fragment_is_no_fragment_but_more_fragments_and_any_offset_are() {
        assert!(!Packet::new_checked(&HEADER).unwrap().is_fragment());
        assert!(Packet::new_checked(&with(|b| b[6] = 0x20)).unwrap().is_fragment());
        assert!(Packet::new_checked(&with(|b| b[6] = 0x20)).unwrap().has_more_fragments());
        assert!(!Packet::new_checked(&with(|b| b[6] = 0xdf)).unwrap().has_more_fragments());
        assert!(Packet::new_checked(&with(|b| b[7] = 1)).unwrap().is_fragment());
        assert!(Packet::new_checked(&with(|b| b[6] = 0x10)).unwrap().is_fragment());
        let later = with(|b| b[4..8].copy_from_slice(&[0xab, 0xcd, 0x30, 7]));
        let later = Packet::new_checked(&later).unwrap();
        assert_eq!((later.identification(), later.fragment_offset()), (0xabcd, 0x1007));
    }

    #[test]
    fn another_version_and_a_header_below_20_bytes_are_malformed() {
        assert!(matches!(Packet::new_checked(&with(|b| b[0] = 0x66)), Err(Error::Malformed(_))));
        assert!(matches!(Packet::new_checked(&with(|b| b[0] = 0x44)), Err(Error::Malformed(_))));
    }

    #[test]
    fn options_that_are_not_there_are_truncated() {
        let error = Packet::new_checked(&with(|b| b[0] = 0x4f)).unwrap_err();
        assert_eq!(error, Error::Truncated { needed: 60, present: 24 });
    }
}
