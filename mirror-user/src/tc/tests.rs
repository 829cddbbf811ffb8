//! The compiled programs, run by the kernel on frames of memory. Needs root.

use std::collections::BTreeMap;

use aya::{TestRunOptions, programs::TestRun as _};
use mirror_ebpf::source::{Count, Decision};

use super::*;
use crate::agent::cases::{self, Case};

/// Tells the kernel to go on with the programs behind this one: as the tc hook has it in `return_value`.
const TC_ACT_UNSPEC: u32 = u32::MAX;

/// Programs that write down what they decide, and are attached nowhere.
fn recording() -> Classifiers {
    Classifiers::load(abi::FLAG_RECORD).expect("the programs load; run this as root")
}

/// By rules that are overwritten in place: no packet comes between, and a map in a map waits for an RCU grace
/// period when it changes.
fn decided(programs: &mut Classifiers, rules: &mut RuleSetMap, case: &Case) -> Decision {
    rules.set(0, case.rules().bytes(), 0).unwrap();
    let options = TestRunOptions { data_in: Some(&case.frame), ..TestRunOptions::new() };
    let program = classifier(&mut programs.ebpf, case.direction).unwrap();
    assert_eq!(program.test_run(options).unwrap().return_value, TC_ACT_UNSPEC, "{case:?}");
    let decisions: Array<_, u32> = programs.ebpf.map(abi::MAP_DECISIONS).unwrap().try_into().unwrap();
    Decision(decisions.get(&index_of(case.direction), 0).unwrap())
}

/// `BPF_PROG_TEST_RUN` refuses frames without a byte behind the Ethernet header, or without the whole IP
/// header that they announce: the host's own tests have these.
fn kernel_takes(frame: &[u8]) -> bool {
    let least = match frame.get(12..14) {
        Some([0x08, 0x00]) => 34,
        Some([0x86, 0xdd]) => 54,
        _ => 15,
    };
    frame.len() >= least
}

#[test]
fn the_compiled_programs_decide_as_the_evaluator_in_100_000_cases() {
    const CASES: usize = 100_000;
    /// The least cases of each verdict by each rule of each session.
    const EACH: u32 = 100;
    let mut programs = recording();
    let present = &programs.rules.get_mut().unwrap().present;
    let mut rules = BOTH.map(|direction| present.get(&index_of(direction), 0).unwrap());
    let mut seen: BTreeMap<u32, u32> = BTreeMap::new();
    let (mut cases, mut counted) = (0, [0_u64; abi::COUNTS]);
    for case in (0..).map(Case::of).filter(|case| kernel_takes(&case.frame)).take(CASES) {
        let decision = decided(&mut programs, &mut rules[index_of(case.direction) as usize], &case);
        assert_eq!(decision, cases::expected(&case), "{case:#?}");
        *seen.entry(decision.0).or_default() += 1;
        cases += 1;
        let count = if decision.count() == Count::Cloned as u32 {
            Count::CloneFailed as u32
        } else {
            decision.count()
        };
        counted[count as usize] += 1;
        counted[Count::Seen as usize] += 1;
    }
    assert_eq!(cases, CASES);
    // No carrier is there, so that no packet could be cloned; all the rest is counted as decided.
    let both = BOTH.map(|direction| programs.counts(direction).unwrap());
    let sums: [u64; abi::COUNTS] = std::array::from_fn(|at| both[0][at] + both[1][at]);
    assert_eq!(sums, counted);
    for count in [Count::Cloned, Count::Rejected] {
        for session in (0_u32..).take(abi::MAX_SESSIONS) {
            for rule in (0_u32..).take(abi::MAX_RULES) {
                let times =
                    seen.get(&(count as u32 | session << 8 | rule << 16)).copied().unwrap_or_default();
                assert!(times >= EACH, "{count:?} by rule {rule} of session {session}: {times} times");
            }
        }
    }
    for count in [
        Count::NotIp,
        Count::NeighborDiscovery,
        Count::Dhcp,
        Count::Metadata,
        Count::Time,
        Count::WindowsActivation,
        Count::Resolver,
        Count::NoMatch,
    ] {
        assert!(seen.get(&(count as u32)).is_some_and(|times| *times >= EACH), "{count:?}: {seen:?}");
    }
}

/// The kernel gives up after a million instructions, and older kernels have counted more for the same
/// program.
#[test]
fn the_programs_leave_the_verifier_room() {
    const MOST: u32 = 200_000;
    for flags in [0, abi::FLAG_HEARTBEAT, abi::FLAG_RECORD] {
        let mut programs = Classifiers::load(flags).unwrap();
        for direction in BOTH {
            let info = classifier(&mut programs.ebpf, direction).unwrap().info().unwrap();
            // Kernels before 5.16 do not say.
            let verified = info.verified_instruction_count().unwrap_or_default();
            assert!(verified < MOST, "{direction:?} with flags {flags}: {verified} instructions");
        }
    }
}
