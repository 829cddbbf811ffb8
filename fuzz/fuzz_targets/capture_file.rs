//! Any bytes as a capture file: the reader ends, every frame it lends is within its limits, and the result
//! does not depend on how the bytes are split.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use mirror_fuzz::{Near, Pieces, read};

static TEMPLATES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(mirror_fuzz::captures);

fuzz_target!(|near: Near<'_>| {
    let bytes = &near.bytes(&TEMPLATES)[..];
    // Compressed captures are tested by `packed_capture`.
    if matches!(bytes, [0x1f, 0x8b, ..] | [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..])
    {
        return;
    }
    let whole = read(bytes, 64, bytes.len());
    let pieces = read(Pieces { bytes, most: 7 }, 1, bytes.len());
    assert_eq!(whole, pieces);
});
