//! Captures with several writers: every frame is in exactly one part, and each part is a capture by itself.
//! Needs root.

mod common;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::Command,
    thread,
    time::Duration,
};

use common::{
    CAPTURE, Cable, assert_explained,
    disk::SmallDisk,
    mirror::{
        MIRROR, Mirror, assert_next_run_works, balanced_report, ingest, inject, names, sink, threads, until,
        whole_capture,
    },
};
use mirror_lab::{
    Sequence, SequenceLedger, Traffic,
    capture::{self, CaptureFile},
    run,
};
use mirror_user::Report;
use nix::sys::signal::Signal;

/// A sending thread for each of two queues.
fn both_queues() -> Traffic {
    Traffic { cpus: vec![0, 1], vnis: 3, ..Traffic::default() }
}

/// A part whose statistics and packets agree, and that our parser and tshark read to its end.
#[track_caller]
fn complete(file: &Path) -> CaptureFile {
    let capture = whole_capture(file);
    let delivered: u64 = capture.statistics.iter().filter_map(|statistics| statistics.delivered).sum();
    assert_eq!(delivered, capture.packets.len() as u64, "{}", file.display());
    capture
}

/// The frames of captures, each of which has the frames of one sender in their sequence.
#[track_caller]
fn in_sequence(captures: &[CaptureFile]) -> SequenceLedger {
    let mut ledger = SequenceLedger::new();
    let mut senders = BTreeSet::new();
    for capture in captures {
        let mut last: BTreeMap<u16, u64> = BTreeMap::new();
        for packet in &capture.packets {
            let sequence = Sequence::of_inner(&packet.bytes).expect("a generated frame");
            let before = last.insert(sequence.cpu, sequence.number);
            assert!(before < Some(sequence.number), "{sequence:?} is after {before:?}");
            ledger.enter(Some(sequence));
        }
        assert_eq!(last.len(), 1, "a queue, and with it a sender, has one part");
        assert!(last.keys().all(|sender| senders.insert(*sender)), "no two parts have the same sender");
    }
    ledger
}

#[test]
fn every_frame_of_two_queues_is_in_one_of_two_parts_in_its_sequence() {
    /// Fewer than the blocks of the sinks hold, so that none is dropped for want of one.
    const FRAMES: u64 = 100_000;
    let cable = Cable::with_queues(2);
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    let sent_errors = cable.sender_counters().xdp_xmit_errors();
    let capture = Mirror::ingest(&cable, path, "-w all.pcapng --writers 2 --report report.json");
    assert_eq!(names(path), [".all-0.pcapng.partial", ".all-1.pcapng.partial", ".report.json.partial"]);
    let generated = cable.generator(both_queues()).send(FRAMES).expect("generated");
    capture.settled();
    let ending = capture.end_by(Signal::SIGINT).expect_code(0);
    ending.expect_words(&["writing to all-0.pcapng", "capture: all-0.pcapng", "capture: all-1.pcapng"]);
    assert_eq!(names(path), ["all-0.pcapng", "all-1.pcapng", "report.json"]);

    let parts = ["all-0.pcapng", "all-1.pcapng"].map(|part| path.join(part));
    let captures: Vec<_> = parts.iter().map(|part| complete(part)).collect();
    let ledger = in_sequence(&captures);
    let report = balanced_report(&path.join("report.json"));
    let pcap = sink(&report, "pcap");
    let typed: Report = serde_json::from_value(report.clone()).expect("report");
    assert_explained(&cable, sent_errors, &typed, &generated, &ledger);
    assert_eq!(pcap["written"], ledger.received());
    // One sink, with a member for each part.
    let members = pcap["members"].as_array().expect("members");
    let shown: Vec<_> = members
        .iter()
        .map(|member| (member["target"].as_str(), member["written"].as_u64().expect("count")))
        .collect();
    let counts: Vec<_> = captures.iter().map(|capture| capture.packets.len() as u64).collect();
    assert_eq!(shown, [(Some("all-0.pcapng"), counts[0]), (Some("all-1.pcapng"), counts[1])]);

    run(Command::new("mergecap").arg("-w").arg(path.join("all.pcapng")).args(&parts)).expect("mergecap");
    let merged = complete_merge(&path.join("all.pcapng"));
    assert_eq!((merged.received(), merged.duplicates()), (ledger.received(), 0));
    assert_next_run_works(&cable);
}

/// The frames of a file that mergecap wrote, which our parser and tshark read to its end.
#[track_caller]
fn complete_merge(file: &Path) -> SequenceLedger {
    let mut ledger = SequenceLedger::new();
    whole_capture(file).packets.iter().for_each(|packet| ledger.inner(&packet.bytes));
    assert_eq!(ledger.unreadable(), 0);
    ledger
}

#[test]
fn each_part_has_a_ring_of_its_own_and_a_second_run_replaces_none() {
    let cable = Cable::with_queues(2);
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    let flags = "-w all.pcapng -C 100k -W 3 --writers 2";
    let capture = Mirror::ingest(&cable, path, &format!("{flags} --report report.json"));
    let writers = || threads(capture.pid()).iter().filter(|(name, _)| name == "mirror-pcap").count();
    assert_eq!(writers(), 2);
    let generator = cable.generator(both_queues()).start(u64::MAX);
    capture.has(200_000);
    let ending = capture.end_by(Signal::SIGINT).expect_code(0);
    generator.stop().expect("generated");
    ending.expect_words(&["files, the last all-0.pcapng", "files, the last all-1.pcapng"]);
    let rings: Vec<_> = [
        "all-0.pcapng0",
        "all-0.pcapng1",
        "all-0.pcapng2",
        "all-1.pcapng0",
        "all-1.pcapng1",
        "all-1.pcapng2",
    ]
    .map(str::to_owned)
    .into();
    let mut ledger = SequenceLedger::new();
    for file in &rings {
        let capture = complete(&path.join(file));
        capture.packets.iter().for_each(|packet| ledger.inner(&packet.bytes));
        let senders: BTreeSet<_> = capture
            .packets
            .iter()
            .filter_map(|packet| Sequence::of_inner(&packet.bytes))
            .map(|s| s.cpu)
            .collect();
        assert_eq!(senders.len(), 1, "{file}");
    }
    assert_eq!((ledger.duplicates(), ledger.unreadable()), (0, 0));
    balanced_report(&path.join("report.json"));
    let after = [rings, vec!["report.json".to_owned()]].concat();
    assert_eq!(names(path), after);
    Mirror::start(ingest(&cable, path, flags))
        .end()
        .expect_code(1)
        .expect_words(&["already exists; remove it"]);
    assert_eq!(names(path), after, "the parts that could be created are gone, too");
    assert_next_run_works(&cable);
}

#[test]
fn all_parts_together_keep_the_minimum_of_free_space() {
    const MINIMUM: u64 = 8 << 20;
    let cable = Cable::with_queues(2);
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    let at = path.join("disk");
    fs::create_dir(&at).expect("mount point");
    let disk = SmallDisk::mount(&at, 4 * MINIMUM);
    let free = || {
        let space = run(Command::new("stat").args(["-f", "-c", "%a %S"]).arg(&at)).expect("stat");
        space.split_whitespace().map(|word| word.parse::<u64>().expect("number")).product::<u64>()
    };
    let flags = "-w disk/all.pcapng -C 2m --min-free 8m --when-full delete --writers 2 --report report.json";
    let capture = Mirror::ingest(&cable, path, flags);
    let generator = cable.generator(both_queues()).start(u64::MAX);
    let mut least = u64::MAX;
    for _ in 0..100 {
        least = least.min(free());
        thread::sleep(Duration::from_millis(20));
    }
    let ending = capture.end_by(Signal::SIGINT);
    generator.stop().expect("generated");
    // It comes down to the minimum. Headers and statistics of a few KiB are written in any case.
    assert!(
        least < MINIMUM + (4 << 20) && least > MINIMUM - (128 << 10),
        "{least} of {MINIMUM}:\n{}",
        ending.said
    );
    balanced_report(&path.join("report.json"));
    for file in names(&at) {
        complete(&at.join(file));
    }
    drop(disk);
}

#[test]
fn sighup_starts_the_next_file_of_every_part_and_sigterm_completes_all() {
    let cable = Cable::with_queues(2);
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    let table = "write = 'all.pcapng.zst'\nwriters = 2\n\
        [[sink]]\nname = 'udp'\nwrite = 'udp.pcapng'\nwriters = 2\nfilter = 'udp'\n";
    fs::write(path.join("mirror.toml"), table).expect("written");
    let capture = Mirror::ingest(&cable, path, "--config mirror.toml --report report.json");
    let mut inner = inject(&cable, 20);
    capture.has(20);
    capture.signal(Signal::SIGHUP);
    let first = ["all-0.pcapng.zst", "all-1.pcapng.zst", "udp-0.pcapng", "udp-1.pcapng"];
    until("the first file of each is complete", || {
        first.iter().all(|name| path.join(name).exists()).then_some(())
    });
    inner.extend(inject(&cable, 20));
    capture.has(40);
    capture.end_by(Signal::SIGTERM).expect_code(0);
    let udp = ["udp-0.pcapng", "udp-0.pcapng1", "udp-1.pcapng", "udp-1.pcapng1"];
    let all = ["all-0.pcapng.zst", "all-0.pcapng1.zst", "all-1.pcapng.zst", "all-1.pcapng1.zst"];
    let wanted: Vec<_> = all.iter().chain(&["mirror.toml", "report.json"]).chain(&udp).copied().collect();
    assert_eq!(names(path), wanted);
    let frames = udp.iter().flat_map(|file| complete(&path.join(file)).frames()).collect();
    assert_eq!(capture::multiset(frames), capture::multiset(inner));
    let report = balanced_report(&path.join("report.json"));
    assert_eq!(sink(&report, "pcap")["written"], sink(&report, "udp")["written"]);
    assert_next_run_works(&cable);
}

#[test]
fn all_parts_have_their_last_file_when_the_time_is_over() {
    let cable = Cable::with_queues(2);
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    let capture = Mirror::ingest(
        &cable,
        path,
        "-w all-%s.pcap -G 1 -W 2 --writers 2 -z /bin/true --report report.json",
    );
    inject(&cable, 10);
    capture.end().expect_code(0);
    let files: Vec<_> = names(path).into_iter().filter(|name| name != "report.json").collect();
    for part in ["-0.pcap", "-1.pcap"] {
        assert_eq!(files.iter().filter(|name| name.ends_with(part)).count(), 2, "{files:?}");
    }
    files.iter().for_each(|file| drop(whole_capture(&path.join(file))));
    balanced_report(&path.join("report.json"));
    assert_next_run_works(&cable);
}

#[test]
fn there_are_no_more_writers_than_queues() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    let cable = Cable::with_queues(1);
    let few = Mirror::ingest(&cable, path, "-w few.pcapng --writers 3");
    inject(&cable, 10);
    few.has(10);
    few.end_by(Signal::SIGINT)
        .expect_code(0)
        .expect_words(&["--writers 3: 1 queues are read, so the capture has 1 writers"]);
    let auto = Mirror::ingest(&cable, path, "-w auto.pcapng --writers auto");
    auto.end_by(Signal::SIGINT).expect_code(0);
    assert_eq!(names(path), ["auto.pcapng", "few.pcapng"]);
    assert_eq!(whole_capture(&path.join("few.pcapng")).packets.len(), 10);
}

#[test]
fn by_auto_there_are_no_more_writers_than_cpus_that_are_left() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    // The only CPU that this process may use is the workers'.
    let cable = Cable::with_queues(2);
    let command = format!("taskset -c 1 {MIRROR} ingest -i {CAPTURE} -w busy.pcapng --writers auto");
    let mut busy = cable.target.command("sh");
    busy.args(["-c", &format!("exec {command}")]).current_dir(path);
    Mirror::start(busy).attached(&cable).end_by(Signal::SIGINT).expect_code(0);
    assert_eq!(names(path), ["busy.pcapng"]);
}

#[test]
fn parts_need_files_that_are_free_and_a_source_with_queues() {
    let cable = Cable::with_queues(2);
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    let refused = |arguments: &str, code: i32, words: &[&str]| {
        let before = names(path);
        Mirror::start(ingest(&cable, path, arguments)).end().expect_code(code).expect_words(words);
        assert_eq!(names(path), before, "{arguments} left a file");
    };
    refused("-w - --writers 2", 2, &["--writers asks for files, and -w - writes none; name a file"]);
    refused("--writers 2", 2, &["--writers goes with -w FILE"]);
    refused("-w a.pcapng --writers 0", 2, &["\"0\" is neither a number in 1..=1024 nor `auto`"]);
    refused(
        "-w a.pcapng --writers 2 --report a-1.pcapng",
        2,
        &["-w a.pcapng and --report a-1.pcapng: one is among the names of the other's"],
    );
    fs::write(path.join("a-1.pcapng"), "precious").expect("written");
    refused("-w a.pcapng --writers 2", 1, &["a-1.pcapng", "already exists; remove it"]);
    // What `auto` chooses is right for streams.
    let stream = Mirror::ingest(&cable, path, "-w /dev/null --writers auto");
    thread::sleep(Duration::from_millis(100));
    stream.end_by(Signal::SIGINT).expect_code(0);

    let replay = |writers: &str| {
        let mut replay = Command::new(MIRROR);
        replay.args(["replay", "-r", "in.pcap", "-w", "out.pcapng", "--writers", writers]).current_dir(path);
        Mirror::start(replay).end()
    };
    capture::write_pcap(&path.join("in.pcap"), &common::mirror::frames(5).0).expect("written");
    replay("2").expect_code(2).expect_words(&["--writers: capture files are read by one thread"]);
    replay("auto").expect_code(0);
    assert_eq!(whole_capture(&path.join("out.pcapng")).packets.len(), 5);
    assert_next_run_works(&cable);
}
