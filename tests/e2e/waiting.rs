//! Outputs that cannot write: temporarily, without space, inode or file descriptor, and permanently. Needs
//! root.

mod common;

use std::{
    fs::{self, File},
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use common::{
    Cable,
    disk::SmallDisk,
    mirror::{
        MIRROR, Mirror, assert_next_run_works, balanced_report, burst, frames, ingest, inject, names, sink,
        until, whole_capture,
    },
};
use mirror_lab::{capture, run as run_command};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

/// A directory with a small file system.
struct Place {
    disk: SmallDisk,
    directory: tempfile::TempDir,
}

impl Place {
    fn new(bytes: u64, options: &str) -> Self {
        let directory = tempfile::tempdir().expect("directory");
        let at = directory.path().join("disk");
        fs::create_dir(&at).expect("mount point");
        Self { disk: SmallDisk::mount_with(&at, bytes, options), directory }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn disk(&self) -> PathBuf {
        self.path().join("disk")
    }

    fn report(&self) -> Value {
        balanced_report(&self.path().join("report.json"))
    }
}

/// Sends until the run prints this in its statistics.
#[track_caller]
fn burst_until(cable: &Cable, run: &Mirror, what: &str, is_so: impl Fn(&str) -> bool) {
    until(what, || {
        burst(cable, 1_000);
        is_so(&run.statistics()).then_some(())
    });
}

fn waits(line: &str) -> bool {
    line.contains(", pcap waiting")
}

#[test]
fn a_capture_waits_while_the_disk_is_full_and_resumes_when_there_is_space() {
    let cable = Cable::with_queues(1);
    let place = Place::new(1 << 20, "");
    fs::write(place.disk().join("theirs"), vec![0; 700 << 10]).expect("written");
    let run = Mirror::ingest(&cable, place.path(), "-w disk/out.pcapng --report report.json");
    burst_until(&cable, &run, "it waits", waits);
    run.says("frames are dropped until then (no_space)");
    assert!(run.said().contains("pcap waiting: disk/out.pcapng: No space left on device"), "{}", run.said());
    fs::remove_file(place.disk().join("theirs")).expect("removed");
    burst_until(&cable, &run, "it resumes", |line| !waits(line));
    run.says("output resumed; ");
    let before = run.frames();
    inject(&cable, 10);
    run.has(before + 10);
    run.end_by(Signal::SIGINT).expect_code(0).expect_words(&["dropped: no_space", "residue 0"]);
    let report = place.report();
    let pcap = sink(&report, "pcap");
    assert_eq!((&pcap["state"], &pcap["failed"]), (&json!("done"), &json!({})));
    assert!(pcap["dropped"]["no_space"].as_u64() > Some(0), "{pcap}");
    // One file, with whole packets from before and after; those of the injector are the last.
    assert_eq!(names(&place.disk()), ["out.pcapng"]);
    let capture = whole_capture(&place.disk().join("out.pcapng"));
    assert_eq!(pcap["written"], capture.packets.len());
    let last = capture.packets.iter().rev().take(10).rev().map(|packet| packet.bytes.clone());
    assert_eq!(last.collect::<Vec<_>>(), frames(10).1);
    drop(place.disk);
    assert_next_run_works(&cable);
}

#[test]
fn a_disk_that_is_full_at_the_end_makes_the_exit_code_1() {
    let cable = Cable::with_queues(1);
    let place = Place::new(256 << 10, "");
    let run = Mirror::ingest(&cable, place.path(), "-w disk/out.pcapng --report report.json");
    burst_until(&cable, &run, "it waits", waits);
    run.end_by(Signal::SIGINT).expect_code(1).expect_words(&[
        "sink pcap still waiting",
        "No space left",
        "free space to continue",
    ]);
    let report = place.report();
    let pcap = sink(&report, "pcap");
    assert_eq!(pcap["state"], "waiting");
    assert_eq!(pcap["written"], whole_capture(&place.disk().join("out.pcapng")).packets.len());
}

#[test]
fn a_capture_waits_while_inodes_or_descriptors_are_missing() {
    let cable = Cable::with_queues(1);
    // The root directory takes one, and each file one.
    let place = Place::new(64 << 20, ",nr_inodes=4");
    let flags = "-w disk/out.pcapng -C 20k --report report.json";
    let run = Mirror::ingest(&cable, place.path(), flags);
    burst_until(&cable, &run, "it waits", waits);
    assert!(run.said().contains("No space left on device"), "{}", run.said());
    let more = "remount,nr_inodes=1000";
    run_command(Command::new("mount").args(["-o", more]).arg(place.disk())).expect("remounted");
    // It retries by itself.
    until("it resumes", || (!waits(&run.statistics())).then_some(()));
    run.end_by(Signal::SIGINT).expect_code(0);
    fs::remove_file(place.path().join("report.json")).expect("removed");

    let path = place.path();
    let run = Mirror::ingest(&cable, path, "-w out.pcapng -C 20k --report report.json");
    let limit = |files: &str| {
        let pid = run.pid().to_string();
        run_command(Command::new("prlimit").args(["--pid", &pid, &format!("--nofile={files}")]))
            .expect("prlimit");
    };
    limit("3:1024");
    burst_until(&cable, &run, "it waits", waits);
    assert!(run.said().contains("Too many open files"), "{}", run.said());
    assert!(run.said().contains("raise RLIMIT_NOFILE"), "{}", run.said());
    limit("1024:1024");
    until("it resumes", || (!waits(&run.statistics())).then_some(()));
    run.end_by(Signal::SIGINT).expect_code(0).expect_words(&["dropped: no_space"]);
    let report = place.report();
    let pcap = sink(&report, "pcap");
    let files: Vec<_> = names(path).into_iter().filter(|name| name.contains("pcapng")).collect();
    let packets: usize = files.iter().map(|file| whole_capture(&path.join(file)).packets.len()).sum();
    assert_eq!(pcap["written"], packets);
}

#[test]
fn text_resumes_at_a_line_and_a_capture_at_a_packet() {
    let cable = Cable::with_queues(1);
    for output in ["--print", "-w -"] {
        let place = Place::new(1 << 20, "");
        fs::write(place.disk().join("theirs"), vec![0; 900 << 10]).expect("written");
        let mut command = ingest(&cable, place.path(), &format!("{output} --report report.json"));
        command.stdout(File::create(place.disk().join("out")).expect("created"));
        let run = Mirror::start(command).attached(&cable);
        burst_until(&cable, &run, "it waits", |line| line.contains(" waiting"));
        assert!(run.said().contains("standard output: No space left on device"), "{}", run.said());
        fs::remove_file(place.disk().join("theirs")).expect("removed");
        burst_until(&cable, &run, "it resumes", |line| !line.contains(" waiting"));
        run.end_by(Signal::SIGINT).expect_code(0);
        let report = place.report();
        let file = place.disk().join("out");
        if output == "--print" {
            let text = fs::read_to_string(file).expect("text");
            let (notes, packets): (Vec<_>, Vec<_>) = text.lines().partition(|line| line.starts_with('['));
            let is_whole = |line: &&str| {
                let end = line.ends_with(", length 22") || line.ends_with(", li-id 0");
                end && line.matches(" IP 10.").count() == 1
            };
            assert_eq!(packets.iter().find(|line| !is_whole(line)), None, "{notes:?}");
            let lines = packets.len();
            assert_eq!(sink(&report, "print")["written"], lines);
        } else {
            assert_eq!(sink(&report, "pcap")["written"], whole_capture(&file).packets.len());
        }
    }
}

#[test]
fn a_run_ends_with_its_last_output_and_names_outputs_that_ended_before() {
    let cable = Cable::with_queues(1);
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    // The only output loses its reader.
    let (run, reader) = Mirror::ingest_to_pipe(&cable, path, "-w -");
    drop(reader);
    burst(&cable, 1_000);
    run.end().expect_code(1).expect_words(&[
        "every output has ended",
        "the reader has closed it",
        "residue 0",
    ]);

    // Another output continues, and so does the run.
    let (mut run, reader) =
        Mirror::ingest_to_pipe(&cable, path, "--print -w out.pcapng --report report.json");
    drop(reader);
    burst_until(&cable, &run, "it is said", |line| line.contains(", print ended"));
    assert!(run.said().contains("  print ended: standard output: Broken pipe"), "{}", run.said());
    assert!(run.is_running());
    run.end_by(Signal::SIGINT).expect_code(1);
    let report = balanced_report(&path.join("report.json"));
    assert_eq!(
        (&sink(&report, "print")["state"], &sink(&report, "pcap")["state"]),
        (&json!("ended"), &json!("done"))
    );
    assert_eq!(sink(&report, "pcap")["written"], whole_capture(&path.join("out.pcapng")).packets.len());

    // On request, counting continues.
    let (mut run, reader) = Mirror::ingest_to_pipe(&cable, path, "--print --on-output-end continue");
    drop(reader);
    burst_until(&cable, &run, "it is said", |line| line.contains(", print ended"));
    let before = run.frames();
    burst(&cable, 1_000);
    run.has(before + 500);
    assert!(run.is_running());
    run.end_by(Signal::SIGINT).expect_code(1);
    assert_next_run_works(&cable);
}

#[test]
fn a_replay_stops_with_its_last_output_and_a_full_disk_makes_its_exit_code_1() {
    let place = Place::new(256 << 10, "");
    let path = place.path();
    capture::write_pcap(&path.join("in.pcap"), &frames(5_000).0).expect("written");
    // The input is endless; the reader of the output reads a little.
    let mut command = Command::new(MIRROR);
    command
        .args(["replay", "-r", "-", "--print"])
        .current_dir(path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut child = command.stderr(Stdio::piped()).spawn().expect("mirror");
    let mut input = child.stdin.take().expect("standard input");
    input.write_all(&fs::read(path.join("in.pcap")).expect("capture")).expect("written");
    let mut output = child.stdout.take().expect("standard output");
    output.read_exact(&mut [0; 100]).expect("text");
    drop(output);
    let records = fs::read(path.join("in.pcap")).expect("capture")[24..].to_vec();
    let status = until("it ends", || {
        // Nobody reads after it has ended.
        let _ = input.write_all(&records[..records.len() / 4]);
        std::thread::sleep(Duration::from_millis(50));
        child.try_wait().expect("wait")
    });
    let mut said = String::new();
    child.stderr.take().expect("standard error").read_to_string(&mut said).expect("text");
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("every output has ended"), "{said}");

    let output = Command::new(MIRROR)
        .args(["replay", "-r", "in.pcap", "-w", "disk/out.pcapng", "--json"])
        .current_dir(path)
        .output()
        .expect("mirror");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("sink pcap still waiting"), "{said}");
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let pcap = sink(&report, "pcap");
    let packets = whole_capture(&place.disk().join("out.pcapng")).packets.len();
    assert_eq!((&pcap["state"], &pcap["written"]), (&json!("waiting"), &json!(packets)));
    assert_eq!(pcap["dropped"]["no_space"], 5_000 - packets);
}

#[test]
fn when_full_stop_ends_the_capture_and_delete_keeps_the_latest_files() {
    let cable = Cable::with_queues(1);
    let place = Place::new(1 << 20, "");
    let path = place.path();
    let run = Mirror::ingest(&cable, path, "-w disk/out.pcapng --when-full stop");
    until("it has ended", || {
        burst(&cable, 1_000);
        run.said().contains("every output has ended").then_some(())
    });
    run.end().expect_code(1).expect_words(&["No space left", "free space and start again"]);
    fs::remove_file(place.disk().join("out.pcapng")).expect("removed");

    // Without --min-free, files are deleted when the disk is full.
    let run =
        Mirror::ingest(&cable, path, "-w disk/out.pcapng -C 100k --when-full delete --report report.json");
    burst(&cable, 40_000);
    run.has(20_000);
    run.end_by(Signal::SIGINT).expect_code(0);
    let report = place.report();
    assert_eq!(sink(&report, "pcap")["failed"], json!({}));
    let files = names(&place.disk());
    assert!(files.len() > 3 && !files.contains(&"out.pcapng".to_owned()), "{files:?}");
    let packets: usize = files.iter().map(|file| whole_capture(&place.disk().join(file)).packets.len()).sum();
    assert!(packets > 3_000, "{packets} in {files:?}");
}
