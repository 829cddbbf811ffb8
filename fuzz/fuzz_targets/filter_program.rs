//! Any program over any frame: refused, or run to its end.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mirror_user::select::Filter;

/// Opcode, jump offsets, operand.
type Instruction = (u16, u8, u8, u32);

fuzz_target!(|input: (Vec<Instruction>, &[u8], u32)| {
    let (program, frame, wire_len) = input;
    if let Ok(filter) = Filter::from_bpf("fuzzed", program) {
        // Both ways of running it.
        let alone = filter.matches(frame, wire_len);
        assert_eq!(filter.matching([(&[][..], 0), (frame, wire_len)]) >> 1, u64::from(alone));
    }
});
