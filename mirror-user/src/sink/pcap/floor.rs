//! How much space a capture leaves free.

use std::io;

/// What to do when less space is free than wanted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum WhenFull {
    /// Delete the oldest completed files of this capture, and of this run; end the capture where there is none left.
    Delete,
    /// End the capture.
    Stop,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Floor {
    pub(super) bytes: u64,
    pub(super) when_full: WhenFull,
}

impl Floor {
    pub(super) fn deletes(self) -> bool {
        self.when_full == WhenFull::Delete
    }

    /// Why nothing more is written.
    pub(super) fn error(self, free: u64) -> io::Error {
        let none_left = if self.deletes() { ", and no file of this run is left to delete" } else { "" };
        let message = format!("{free} bytes are free, and {} are to stay so{none_left}", self.bytes);
        io::Error::new(io::ErrorKind::StorageFull, message)
    }
}
