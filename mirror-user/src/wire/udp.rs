//! User Datagram Protocol (RFC 768).

use super::{Error, be16, split};

/// Length of the header, in bytes.
pub const HEADER_LEN: usize = 8;

/// UDP's number among IP protocols.
pub const PROTOCOL: u8 = 17;

pub(crate) mod field {
    use std::ops::Range;

    pub(crate) const SOURCE_PORT: Range<usize> = 0..2;
    pub(crate) const DESTINATION_PORT: Range<usize> = 2..4;
    pub(crate) const LENGTH: Range<usize> = 4..6;
    pub(crate) const CHECKSUM: Range<usize> = 6..8;
}

/// A UDP datagram.
#[derive(Clone, Copy, Debug)]
pub struct Datagram<'a> {
    header: &'a [u8; HEADER_LEN],
    payload: &'a [u8],
}

impl<'a> Datagram<'a> {
    /// Takes bytes that start with a UDP header.
    ///
    /// # Errors
    ///
    /// [`Error::Truncated`] below 8 bytes.
    #[inline]
    pub fn new_checked(bytes: &'a [u8]) -> Result<Self, Error> {
        split(bytes).map(|(header, payload)| Self { header, payload })
    }

    /// Source port.
    #[inline]
    #[must_use]
    pub fn source_port(&self) -> u16 {
        be16(self.header, field::SOURCE_PORT)
    }

    /// Destination port.
    #[inline]
    #[must_use]
    pub fn destination_port(&self) -> u16 {
        be16(self.header, field::DESTINATION_PORT)
    }

    /// Length of header and payload as the header says, in bytes. 0 in jumbograms (RFC 2675 section 4).
    #[inline]
    #[must_use]
    pub fn length(&self) -> u16 {
        be16(self.header, field::LENGTH)
    }

    /// Checksum over pseudo-header, header and payload; 0 if the sender computed none, as VXLAN senders do
    /// (RFC 7348 section 5).
    #[inline]
    #[must_use]
    pub fn checksum(&self) -> u16 {
        be16(self.header, field::CHECKSUM)
    }

    /// All bytes after the header, whatever the length says.
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
    fn fields_are_read_where_rfc_768_puts_them() {
        let datagram = Datagram::new_checked(&[0xff, 0x80, 0x12, 0xb5, 0, 9, 0xab, 0xcd, 5]).unwrap();
        assert_eq!((datagram.source_port(), datagram.destination_port()), (0xff80, 4789));
        assert_eq!((datagram.length(), datagram.checksum(), datagram.payload()), (9, 0xabcd, &[5][..]));
    }
}
