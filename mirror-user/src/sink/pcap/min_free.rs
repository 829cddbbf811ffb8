//! Free space: how much a capture keeps, and what it does when there is too little.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

/// What to do when the file system is full, or less than the minimum is free.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum WhenFull {
    /// Drop frames, reason `no_space`, until there is space again.
    #[default]
    Wait,
    /// Delete the oldest completed files of this capture and run; wait if none is left.
    Delete,
    /// End the capture.
    Stop,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct MinFree {
    /// Bytes to keep free; 0 for no minimum.
    pub(super) bytes: u64,
    pub(super) when_full: WhenFull,
}

/// What captures are about to write, so that together they keep a minimum of free space: see
/// [`PcapBuilder::min_free_with`](super::PcapBuilder::min_free_with).
#[derive(Clone, Debug, Default)]
pub struct FreeSpace(Arc<AtomicU64>);

impl FreeSpace {
    /// Adds bytes that are written next, until the value is dropped.
    pub(super) fn claim(&self, bytes: u64) -> Claim {
        // Before the file system is asked, and in one order for all captures: of two that claim at the same
        // time one at least knows of both.
        self.0.fetch_add(bytes, Ordering::SeqCst);
        Claim { all: Arc::clone(&self.0), bytes }
    }
}

/// Bytes that a capture is about to write.
#[derive(Debug)]
pub(super) struct Claim {
    all: Arc<AtomicU64>,
    bytes: u64,
}

impl Claim {
    /// The bytes that all captures are about to write.
    pub(super) fn of_all(&self) -> u64 {
        self.all.load(Ordering::SeqCst)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.all.fetch_sub(self.bytes, Ordering::SeqCst);
    }
}

impl MinFree {
    pub(super) fn deletes(self) -> bool {
        self.when_full == WhenFull::Delete
    }

    /// Why nothing is written. `kept` files of this run cannot be deleted because they are in use.
    pub(super) fn error(self, free: u64, kept: usize) -> io::Error {
        let none_left = match (self.deletes(), kept) {
            (false, _) => "",
            (true, 0) => ", and no file of this run is left to delete",
            (true, _) => ", and the files of this run that are left are in use by a command",
        };
        let message = format!("{free} bytes are free, below the minimum of {}{none_left}", self.bytes);
        io::Error::new(io::ErrorKind::StorageFull, message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_of_all_captures_add_up_until_they_are_dropped() {
        let one = FreeSpace::default();
        let other = one.clone();
        let first = one.claim(5);
        let second = other.claim(7);
        assert_eq!((first.of_all(), second.of_all()), (12, 12));
        drop(first);
        assert_eq!(second.of_all(), 7);
    }
}
