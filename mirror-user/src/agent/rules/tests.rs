use mirror_ebpf::source::{Packet, decide};

use super::cases::{Case, expected};

#[test]
fn the_programs_decide_as_the_evaluator() {
    let config = proptest::test_runner::Config { cases: 50_000, ..Default::default() };
    proptest::proptest!(config, |(seed in proptest::num::u64::ANY)| {
        let case = Case::of(seed);
        let frame = case.frame.as_slice();
        let decision = decide(&case.rules(), frame, Packet::of(frame).as_ref());
        proptest::prop_assert_eq!(decision, expected(&case), "{:#?}", case);
    });
}

#[test]
fn any_bytes_are_decided_alike() {
    proptest::proptest!(|(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..120))| {
        let case = Case { frame: bytes, ..Case::of(7) };
        let frame = case.frame.as_slice();
        let decision = decide(&case.rules(), frame, Packet::of(frame).as_ref());
        proptest::prop_assert_eq!(decision, expected(&case));
    });
}
