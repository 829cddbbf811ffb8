//! A file in memory that keeps only its end, so that a capture of any length fits.

use std::{
    fs::File,
    io::{self, Write},
};

use rustix::fs::{FallocateFlags, MemfdFlags, fallocate, memfd_create};

/// Bytes that are kept.
const KEPT: u64 = 256 << 20;
/// Bytes that are freed at a time: every page is still allocated and written once, as in any capture.
const STEP: u64 = 1 << 20;

/// Accepts writes like a file on tmpfs.
#[derive(Debug)]
pub(super) struct Window {
    file: File,
    written: u64,
    given_back: u64,
}

impl Window {
    /// An empty file, gone when it is dropped.
    ///
    /// # Errors
    ///
    /// If the kernel cannot create one.
    pub(super) fn new() -> io::Result<Self> {
        let file = memfd_create("mirror-bench", MemfdFlags::CLOEXEC)?;
        Ok(Self { file: file.into(), written: 0, given_back: 0 })
    }
}

impl Write for Window {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = self.file.write(bytes)?;
        self.written += taken as u64;
        while self.written - self.given_back > KEPT {
            let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            fallocate(&self.file, flags, self.given_back, STEP)?;
            self.given_back += STEP;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
