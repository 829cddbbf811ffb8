//! How runs end: by a signal, a limit, a kill, or the loss of their interface. Needs root.

mod common;

use std::{fs, path::Path};

use common::{
    CAPTURE, Cable, SENDER,
    mirror::{
        Mirror, assert_next_run_works, balanced_report, burst, ingest, inject, names, program,
        readable_capture, sink, state, until, whole_capture,
    },
};
use mirror_lab::{Traffic, VethEnd, VethOptions, VethPair};
use nix::sys::{
    signal::Signal,
    wait::{WaitPidFlag, WaitStatus, waitpid},
};

const FILES: &str = "-w out.pcapng --report report.json";
const HIDDEN: &str = ".out.pcapng.partial";

/// A run that gets 100 frames, and is then stopped by `end`.
fn ends_in_order(arguments: &str, end: impl FnOnce(Mirror) -> common::mirror::Ending) {
    let cable = Cable::with_queues(1);
    let before = state(&cable);
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    let run = Mirror::ingest(&cable, path, &format!("{FILES} {arguments}"));
    assert!(names(path).contains(&HIDDEN.to_owned()), "hidden until it is complete: {:?}", names(path));
    let inner = inject(&cable, 100);
    end(run).expect_code(0).expect_words(&["100 packets captured", "residue 0"]);
    assert_eq!(state(&cable), before, "the interface is as it was");
    assert_eq!(names(path), ["out.pcapng", "report.json"]);
    assert_eq!(whole_capture(&path.join("out.pcapng")).frames(), inner);
    let report = balanced_report(&path.join("report.json"));
    assert_eq!(report["frames"]["decapsulated"], 100);
    assert!(report["ended_by"].is_null());
    assert_next_run_works(&cable);
}

fn ends_by(signal: Signal) {
    ends_in_order("", |run| {
        run.has(100);
        run.end_by(signal)
    });
}

#[test]
fn sigint_shuts_down_cleanly() {
    ends_by(Signal::SIGINT);
}

#[test]
fn sigterm_shuts_down_cleanly() {
    ends_by(Signal::SIGTERM);
}

/// As when a terminal closes, and there is no file to rotate.
#[test]
fn sighup_without_a_capture_file_shuts_down_cleanly() {
    let cable = Cable::with_queues(1);
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    let run = Mirror::ingest(&cable, path, "--report report.json");
    inject(&cable, 100);
    run.has(100);
    run.end_by(Signal::SIGHUP).expect_code(0).expect_words(&["100 packets captured", "residue 0"]);
    assert_eq!(names(path), ["report.json"]);
    assert_next_run_works(&cable);
}

#[test]
fn a_duration_shuts_down_cleanly() {
    // Long enough that the frames arrive first, even on a busy machine.
    ends_in_order("--duration 10s", Mirror::end);
}

#[test]
fn a_count_shuts_down_cleanly() {
    ends_in_order("-c 100", Mirror::end);
}

#[test]
fn a_count_is_exact_over_two_queues() {
    const COUNT: u64 = 12_345;
    let cable = Cable::with_queues(2);
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    let run = Mirror::ingest(&cable, path, &format!("{FILES} -c {COUNT}"));
    // At full rate, so that both workers compete for the last frames.
    let generator = cable.generator(Traffic { cpus: vec![0, 1], ..Traffic::default() }).start(u64::MAX);
    run.end().expect_code(0);
    generator.stop().expect("generated");
    let report = balanced_report(&path.join("report.json"));
    let pcap = sink(&report, "pcap");
    assert_eq!((&pcap["offered"], &pcap["written"]), (&COUNT.into(), &COUNT.into()), "{pcap}");
    assert_eq!(whole_capture(&path.join("out.pcapng")).packets.len() as u64, COUNT);
    for queue in report["interfaces"][0]["queues"].as_array().expect("queues") {
        assert_ne!(queue["received"], 0, "each queue had a part in it");
    }
    assert_next_run_works(&cable);
}

#[test]
fn a_signal_before_the_first_frame_shuts_down_cleanly() {
    let cable = Cable::with_queues(1);
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    let mut run = Mirror::start(ingest(&cable, path, FILES));
    // The hidden file is the first thing that a run creates.
    until("the capture file is opened", || {
        assert!(run.is_running(), "{}", run.said());
        names(path).contains(&HIDDEN.to_owned()).then_some(())
    });
    run.end_by(Signal::SIGINT).expect_code(0);
    assert_eq!(names(path), ["out.pcapng", "report.json"]);
    assert_eq!(whole_capture(&path.join("out.pcapng")).packets.len(), 0);
    balanced_report(&path.join("report.json"));
    assert_next_run_works(&cable);
}

/// A tracer stops the writer thread, the only way to make a write to a file last as long as needed: disks
/// have no such switch, and freezing a file system needs a block device.
#[test]
fn a_second_sigint_exits_at_once() {
    let cable = Cable::with_queues(1);
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    let mut run = Mirror::ingest(&cable, path, &format!("{FILES} -U"));
    let first = inject(&cable, 50);
    until("the first frames are in the file", || {
        (readable_capture(&path.join(HIDDEN)).packets.len() == 50).then_some(())
    });
    let writer = run.stop_thread("mirror-pcap");
    inject(&cable, 50);
    run.has(100);

    run.signal(Signal::SIGINT);
    until("the program is detached", || program(&cable).is_none().then_some(()));
    assert!(run.is_running(), "it waits for its file");
    run.signal(Signal::SIGINT);
    run.says("stopped at once");
    // The tracer is notified first of the thread's end, and the process ends after its threads.
    until("the writer thread ends", || {
        let status = waitpid(writer, Some(WaitPidFlag::__WALL)).expect("the writer thread");
        matches!(status, WaitStatus::Exited(..) | WaitStatus::Signaled(..)).then_some(())
    });
    run.end().expect_code(1).expect_words(&["hidden"]);

    assert_eq!(names(path), [HIDDEN], "no report, and no trace of one");
    let capture = readable_capture(&path.join(HIDDEN));
    assert_eq!((capture.frames(), capture.torn), (first, false));
    assert_next_run_works(&cable);
}

/// Nobody reads standard output, a pipe, so that the end blocks on it.
#[test]
fn a_second_sigint_exits_at_once_with_a_stuck_pipe() {
    let cable = Cable::with_queues(1);
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    let (run, reader) = Mirror::ingest_to_pipe(&cable, path, "-w - --report report.json");
    // More than a pipe holds.
    burst(&cable, 5_000);
    run.has(2_500);
    run.signal(Signal::SIGINT);
    until("the program is detached", || program(&cable).is_none().then_some(()));
    run.signal(Signal::SIGINT);
    run.end().expect_code(1);
    drop(reader);
    assert_eq!(names(path), [""; 0]);
    assert_next_run_works(&cable);
}

#[test]
fn sigkill_leaves_a_readable_file_and_a_clean_interface() {
    let cable = Cable::with_queues(1);
    let before = state(&cable);
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    let run = Mirror::ingest(&cable, path, &format!("{FILES} -U"));
    let inner = inject(&cable, 50);
    until("the frames are in the file", || {
        (readable_capture(&path.join(HIDDEN)).packets.len() == 50).then_some(())
    });
    let ending = run.end_by(Signal::SIGKILL);
    assert_eq!(ending.status.code(), None);
    until("the kernel takes the program back", || program(&cable).is_none().then_some(()));
    assert_eq!(state(&cable), before);
    assert_eq!(whole_capture(&path.join(HIDDEN)).frames(), inner);
    assert!(!path.join("out.pcapng").exists() && !path.join("report.json").exists(), "{:?}", names(path));
    // The same names again: the file of the killed run is kept and does not block the new one.
    same_names_again(&cable, path);
    assert_eq!(whole_capture(&path.join(HIDDEN)).frames(), inner);
    assert_next_run_works(&cable);
}

fn same_names_again(cable: &Cable, path: &Path) {
    let run = Mirror::ingest(cable, path, &format!("{FILES} -c 10"));
    let inner = inject(cable, 10);
    run.end().expect_code(0).expect_words(&["kept: an unfinished file", HIDDEN]);
    assert_eq!(whole_capture(&path.join("out.pcapng")).frames(), inner);
    balanced_report(&path.join("report.json"));
}

#[test]
fn sigkill_at_full_rate_leaves_a_file_readable_to_its_last_block() {
    let cable = Cable::with_queues(1);
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    let run = Mirror::ingest(&cable, path, FILES);
    let generator = cable.generator(Traffic::default()).start(u64::MAX);
    until("there are megabytes in the file", || {
        (fs::metadata(path.join(HIDDEN)).expect("file").len() > 4 << 20).then_some(())
    });
    assert_eq!(run.end_by(Signal::SIGKILL).status.code(), None);
    generator.stop().expect("generated");
    until("the kernel takes the program back", || program(&cable).is_none().then_some(()));
    let capture = readable_capture(&path.join(HIDDEN));
    assert!(capture.packets.len() > 10_000, "{}", capture.packets.len());
    assert!(capture.packets.iter().all(|packet| packet.bytes.len() == 64));
    assert_next_run_works(&cable);
}

#[test]
fn ingest_resumes_when_the_interface_comes_up_again() {
    let cable = Cable::with_queues(1);
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    let run = Mirror::ingest(&cable, path, FILES);
    let traffic = Traffic { rate: Some(50_000), ..Traffic::default() };
    let generator = cable.generator(traffic).start(u64::MAX);
    run.has(1_000);
    for round in 1..=3 {
        cable.target.ip(&format!("link set dev {CAPTURE} down")).expect("down");
        until("mirror notices", || (run.said().matches("the link is down").count() == round).then_some(()));
        let while_down = run.frames();
        cable.target.ip(&format!("link set dev {CAPTURE} up")).expect("up");
        until("mirror notices", || (run.said().matches("the link is up").count() == round).then_some(()));
        run.has(while_down + 1_000);
    }
    let generated = generator.stop().expect("generated");
    run.end_by(Signal::SIGINT).expect_code(0);
    let report = balanced_report(&path.join("report.json"));
    assert!(report["ended_by"].is_null());
    let decapsulated = report["frames"]["decapsulated"].as_u64().expect("count");
    assert!(decapsulated <= generated.total());
    assert_eq!(whole_capture(&path.join("out.pcapng")).packets.len() as u64, decapsulated);
    assert_next_run_works(&cable);
}

#[test]
fn a_run_on_an_interface_that_is_down_captures_once_it_is_up() {
    let cable = Cable::with_queues(1);
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    cable.target.ip(&format!("link set dev {CAPTURE} down")).expect("down");
    let run = Mirror::ingest(&cable, path, &format!("{FILES} -c 100"));
    run.says("the interface is down");
    cable.target.ip(&format!("link set dev {CAPTURE} up")).expect("up");
    run.says("the link is up");
    let inner = inject(&cable, 100);
    run.end().expect_code(0);
    assert_eq!(whole_capture(&path.join("out.pcapng")).frames(), inner);
    assert_next_run_works(&cable);
}

#[test]
fn a_deleted_interface_ends_the_run_with_complete_accounting() {
    let cable = Cable::with_queues(2);
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    let run = Mirror::ingest(&cable, path, FILES);
    let traffic = Traffic { cpus: vec![0, 1], ..Traffic::default() };
    let generator = cable.generator(traffic).start(u64::MAX);
    run.has(10_000);
    cable.target.ip(&format!("link delete dev {CAPTURE}")).expect("deleted");
    run.end().expect_code(1).expect_words(&[CAPTURE, "the interface was deleted", "residue 0"]);
    // Deleting one end deleted the other.
    drop(generator.stop());
    assert_eq!(names(path), ["out.pcapng", "report.json"]);
    let report = balanced_report(&path.join("report.json"));
    assert_eq!(report["ended_by"], format!("{CAPTURE}: the interface was deleted"));
    let pcap = sink(&report, "pcap");
    assert_eq!(pcap["state"], "done");
    let written = pcap["written"].as_u64().expect("written");
    assert_eq!(whole_capture(&path.join("out.pcapng")).packets.len() as u64, written);

    let ends = (VethEnd::new(&cable.sender, SENDER), VethEnd::new(&cable.target, CAPTURE));
    VethPair::create(ends.0, ends.1, &VethOptions::default()).expect("a new cable");
    assert_next_run_works(&cable);
}
