//! Any bytes as a capture file: the reader ends, every frame it lends is within its limits, and what it lends does not
//! depend on how the bytes come in.
#![no_main]

use std::{
    io::{self, Read},
    sync::LazyLock,
};

use libfuzzer_sys::fuzz_target;
use mirror_fuzz::Near;
use mirror_user::source::{CaptureReader, MAX_FRAME};

/// Gives a few bytes at a time.
struct Pieces<'a> {
    bytes: &'a [u8],
    most: usize,
}

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.most.min(buffer.len()).min(self.bytes.len());
        let (now, later) = self.bytes.split_at(len);
        buffer[..len].copy_from_slice(now);
        self.bytes = later;
        Ok(len)
    }
}

/// A frame summed up: captured length, a sum over its bytes, wire length, time.
type Sum = (usize, u64, u32, u64);

/// Every frame, summed up, and how the capture ended.
fn read(reader: impl Read, most: usize, len: usize) -> (Vec<Sum>, Option<String>) {
    let mut reader = CaptureReader::new(reader);
    let mut frames = Vec::new();
    for _ in 0..=len {
        match reader.next_batch(most) {
            Ok(Some(captures)) => frames.extend(captures.iter().map(|captured| {
                assert!(captured.len() <= MAX_FRAME + 14);
                let bytes = captured.bytes().first();
                let sum = bytes.iter().fold(0_u64, |sum, byte| sum.wrapping_mul(31) + u64::from(*byte));
                (bytes.len(), sum, captured.wire_len(), captured.time())
            })),
            Ok(None) => return (frames, None),
            Err(error) => return (frames, Some(error.to_string())),
        }
    }
    panic!("the reader gives batches without end");
}

static TEMPLATES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(mirror_fuzz::captures);

fuzz_target!(|near: Near<'_>| {
    let bytes = &near.bytes(&TEMPLATES)[..];
    // A batch takes at least a byte, and before each of them at most one read comes up empty.
    let whole = read(bytes, 64, bytes.len());
    let pieces = read(Pieces { bytes, most: 7 }, 1, bytes.len());
    assert_eq!(whole, pieces);
});
