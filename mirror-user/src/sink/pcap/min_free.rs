//! Free space: how much a capture keeps, and what it does when there is too little.

use std::io;

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
