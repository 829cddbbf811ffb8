//! When a file ends and the next one begins.

use std::time::Duration;

/// What ends a file, besides being asked to.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Rotation {
    /// No packet is added to a file that is larger, in bytes before compression.
    pub(super) size: Option<u64>,
    pub(super) every: Option<Duration>,
    /// With a size: how many files there are before the first is replaced. With a time alone: how many times there are.
    pub(super) files: Option<u32>,
}

impl Rotation {
    /// How many numbers there are before the first comes again.
    pub(super) fn ring(&self) -> Option<u32> {
        self.files.filter(|_| self.size.is_some())
    }

    /// How many times there are before the capture is complete.
    pub(super) fn periods(&self) -> Option<u32> {
        self.files.filter(|_| self.size.is_none() && self.every.is_some())
    }
}
