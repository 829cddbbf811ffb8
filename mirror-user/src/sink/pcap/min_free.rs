//! What a capture does about space: how much it leaves free, and what when there is none.

use std::io;

/// What to do when the file system is full, or less space is free than wanted.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum WhenFull {
    /// Drop frames, reason `no_space`, until there is space again.
    #[default]
    Wait,
    /// Delete the oldest completed files of this capture, and of this run; wait where there is none left.
    Delete,
    /// End the capture.
    Stop,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct MinFree {
    /// To be left free; 0 for no such wish.
    pub(super) bytes: u64,
    pub(super) when_full: WhenFull,
}

impl MinFree {
    pub(super) fn deletes(self) -> bool {
        self.when_full == WhenFull::Delete
    }

    /// Why nothing is written. `kept` files of this run could be deleted, were they not in use.
    pub(super) fn error(self, free: u64, kept: usize) -> io::Error {
        let none_left = match (self.deletes(), kept) {
            (false, _) => "",
            (true, 0) => ", and no file of this run is left to delete",
            (true, _) => ", and what is left of this run's files waits for the command that is run for each",
        };
        let message = format!("{free} bytes are free, and {} are to stay so{none_left}", self.bytes);
        io::Error::new(io::ErrorKind::StorageFull, message)
    }
}
