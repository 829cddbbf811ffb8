//! Any program over any frame: refused, or run to its end.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mirror_user::select::Filter;

fuzz_target!(|input: (Vec<(u16, u8, u8, u32)>, &[u8], u32)| {
    let (program, frame, wire_len) = input;
    if let Ok(filter) = Filter::from_bpf("fuzzed", program) {
        filter.matches(frame, wire_len);
    }
});
