//! The witnesses' own bookkeeping. Needs no root.

use std::fs;

use mirror_lab::{
    Sequence, SequenceLedger,
    capture::{self, multiset},
    frames::inner_of_len,
    xdp_program::Counters,
};

fn at(cpu: u16, number: u64) -> Option<Sequence> {
    Some(Sequence { cpu, number })
}

#[test]
fn a_ledger_distinguishes_missing_duplicate_invented_and_unreadable_frames() {
    let mut ledger = SequenceLedger::new();
    for number in (0..200).filter(|number| ![0, 64, 127, 199].contains(number)) {
        ledger.enter(at(0, number));
    }
    ledger.enter(at(0, 5));
    ledger.enter(at(0, 201));
    ledger.enter(at(1, 0));
    ledger.enter(None);
    ledger.enter(at(0, u64::MAX >> 16));
    ledger.inner(&[0; 20]);
    assert_eq!(ledger.missing(0, 200), [0, 64, 127, 199]);
    assert_eq!(ledger.missing(1, 2), [1]);
    assert_eq!(ledger.missing(2, 1), [0]);
    assert_eq!((ledger.beyond(0, 200), ledger.beyond(1, 1), ledger.beyond(2, 0)), (1, 0, 0));
    assert_eq!((ledger.received(), ledger.duplicates(), ledger.unreadable()), (198, 1, 3));
}

#[test]
fn merged_ledgers_tell_what_came_to_both() {
    let (mut one, mut other) = (SequenceLedger::new(), SequenceLedger::new());
    for number in 0..100 {
        one.enter(at(0, number));
        other.enter(at(0, number + 90));
        other.enter(at(1, number));
    }
    one.merge(&other);
    assert_eq!((one.received(), one.duplicates()), (290, 10));
    assert!(one.missing(0, 190).is_empty() && one.missing(1, 100).is_empty());
}

#[test]
fn a_sequence_number_stands_where_the_generator_writes_it() {
    let mut inner = inner_of_len(64).expect("an inner frame");
    inner[42..50].copy_from_slice(&[0, 3, 0, 0, 0, 0, 1, 2]);
    assert_eq!(Sequence::of_inner(&inner), at(3, 258));
    let outer = [vec![0; 50], inner].concat();
    assert_eq!(Sequence::of_outer(&outer), at(3, 258));
    assert_eq!(Sequence::of_outer(&outer[..99]), None);
}

#[test]
fn a_capture_file_cut_within_a_packet_is_torn_and_gives_what_is_whole() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("cut.pcap");
    let frames: Vec<Vec<u8>> = (42..52).map(|len| inner_of_len(len).expect("an inner frame")).collect();
    capture::write_pcap(&file, &frames).expect("a capture file");
    let whole = capture::read(&file).expect("a capture file");
    assert!(!whole.torn);
    assert_eq!(whole.frames(), frames);
    assert_eq!(whole.packets[3].time_ns, 1_000_003_000);
    let bytes = fs::read(&file).expect("the file");
    for cut in [1, 51, 60] {
        fs::write(&file, &bytes[..bytes.len() - cut]).expect("the file");
        let read = capture::read(&file).expect("a capture file");
        assert!(read.torn, "cut by {cut}");
        assert_eq!(read.frames(), frames[..9], "cut by {cut}");
    }
    fs::write(&file, &bytes[..bytes.len() - 51 - 16]).expect("the file");
    assert!(!capture::read(&file).expect("a capture file").torn);
}

#[test]
fn a_file_that_is_not_a_capture_is_an_error_with_its_name() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("noise.pcap");
    for bytes in [&[][..], b"no capture file at all, only text"] {
        fs::write(&file, bytes).expect("the file");
        let error = capture::read(&file).expect_err("it is no capture file").to_string();
        assert!(error.contains("noise.pcap"), "{error}");
    }
}

#[test]
fn a_multiset_counts_repetitions() {
    let (a, b) = (vec![1], vec![2]);
    assert_eq!(
        multiset(vec![a.clone(), b.clone(), a.clone()]),
        multiset(vec![b.clone(), a.clone(), a.clone()])
    );
    assert_ne!(multiset(vec![a.clone(), b.clone()]), multiset(vec![a.clone(), a, b]));
}

#[test]
fn counters_differ_one_by_one() {
    use mirror_ebpf::mirror::Counter::{NotTunnel, Seen};
    let (one, two) = (Counters::of(&[Seen, NotTunnel]), Counters::of(&[Seen, Seen, NotTunnel, NotTunnel]));
    assert_eq!(two.since(&one), one);
    assert_eq!((two.get(Seen), two.verdicts()), (2, 2));
}
