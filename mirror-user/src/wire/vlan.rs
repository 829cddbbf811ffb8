//! VLAN tags (IEEE 802.1Q clause 9.6), as they follow an ethertype of 0x8100 or 0x88a8.

use super::{
    Error, be16,
    ethernet::ethertype::{SERVICE_VLAN, VLAN},
    split,
};

/// Length of the tag after the ethertype that announces it, in bytes.
pub const TAG_LEN: usize = 4;

/// The most tags that are skipped: one of the customer in one of the provider (IEEE 802.1ad), or twice 802.1Q
/// as some switches do.
pub const MAX_TAGS: usize = 2;

/// The highest VLAN identifier of traffic; 0 is none, and 4095 reserved.
pub const MAX_VID: u16 = 4094;

mod field {
    use std::ops::Range;

    pub(super) const CONTROL: Range<usize> = 0..2;
    pub(super) const ETHERTYPE: Range<usize> = 2..4;
}

/// Whether a tag follows this ethertype.
#[inline]
#[must_use]
pub fn announces_tag(ethertype: u16) -> bool {
    matches!(ethertype, VLAN | SERVICE_VLAN)
}

/// A tag and what it tags.
#[derive(Clone, Copy, Debug)]
pub struct Tag<'a> {
    header: &'a [u8; TAG_LEN],
    payload: &'a [u8],
}

impl<'a> Tag<'a> {
    /// Takes bytes that start right after the ethertype that announced the tag.
    ///
    /// # Errors
    ///
    /// [`Error::Truncated`] below 4 bytes.
    #[inline]
    pub fn new_checked(bytes: &'a [u8]) -> Result<Self, Error> {
        split(bytes).map(|(header, payload)| Self { header, payload })
    }

    /// Priority code point, 0 to 7.
    #[inline]
    #[must_use]
    pub fn priority(&self) -> u8 {
        self.control().to_be_bytes()[0] >> 5
    }

    /// Drop eligible indicator.
    #[inline]
    #[must_use]
    pub fn is_drop_eligible(&self) -> bool {
        self.control() & 0x1000 != 0
    }

    /// VLAN identifier, 12 bits.
    #[inline]
    #[must_use]
    pub fn id(&self) -> u16 {
        self.control() & 0x0fff
    }

    /// What the payload is.
    #[inline]
    #[must_use]
    pub fn ethertype(&self) -> u16 {
        be16(self.header, field::ETHERTYPE)
    }

    /// The bytes after the tag.
    #[inline]
    #[must_use]
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }

    #[inline]
    fn control(&self) -> u16 {
        be16(self.header, field::CONTROL)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_information_is_taken_apart() {
        let tag = Tag::new_checked(&[0xb0 | 0x0a, 0xbc, 0x08, 0x00, 1]).unwrap();
        assert_eq!((tag.priority(), tag.is_drop_eligible(), tag.id()), (5, true, 0xabc));
        assert_eq!((tag.ethertype(), tag.payload()), (0x0800, &[1][..]));
    }

    #[test]
    fn both_kinds_of_tag_are_announced_and_nothing_else() {
        let announced: Vec<u16> = (0..=u16::MAX).filter(|ethertype| announces_tag(*ethertype)).collect();
        assert_eq!(announced, [0x8100, 0x88a8]);
    }
}
