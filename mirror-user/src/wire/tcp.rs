//! Transmission Control Protocol (RFC 9293 section 3.1), as far as segments are made of it.

/// Length of the header without options, in bytes.
pub(crate) const HEADER_LEN: usize = 20;

/// TCP's number among IP protocols.
pub(crate) const PROTOCOL: u8 = 6;

/// No more data from the sender.
pub(crate) const FIN: u8 = 0x01;
/// Push.
pub(crate) const PSH: u8 = 0x08;
/// Congestion window reduced (RFC 3168 section 6.1).
pub(crate) const CWR: u8 = 0x80;

pub(crate) mod field {
    use std::ops::Range;

    pub(crate) const SEQUENCE: Range<usize> = 4..8;
    pub(crate) const DATA_OFFSET: usize = 12;
    pub(crate) const FLAGS: usize = 13;
    pub(crate) const CHECKSUM: Range<usize> = 16..18;
}

/// Length of the header with its options, in bytes: 20 to 60. `None` if it says less; what it says may not be
/// there.
pub(crate) fn header_len(segment: &[u8]) -> Option<usize> {
    let len = usize::from(segment.get(field::DATA_OFFSET)? >> 4) * 4;
    (len >= HEADER_LEN).then_some(len)
}
