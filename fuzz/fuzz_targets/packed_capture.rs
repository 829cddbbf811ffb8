//! Any bytes as a compressed capture: the result does not depend on how the bytes are split, also if they are
//! damaged.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use mirror_fuzz::{Near, Pieces, read};

static TEMPLATES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(mirror_fuzz::packed);

fuzz_target!(|near: Near<'_>| {
    let bytes = &near.bytes(&TEMPLATES)[..];
    let (whole, _) = read(bytes, 64, bytes.len());
    let (pieces, _) = read(Pieces { bytes, most: 7 }, 64, bytes.len());
    // How much a decoder returns before damage depends on how the bytes are split.
    let common = whole.len().min(pieces.len());
    assert_eq!(whole[..common], pieces[..common]);
});
