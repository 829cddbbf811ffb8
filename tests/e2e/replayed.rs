//! Captures of mirrored traffic: what `mirror replay` and live ingest make of them is what tshark makes of them. Live
//! ingest needs root.

mod common;

use std::{
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
};

use common::{Cable, SENDER, assert_balanced, builder, captures, settle};
use mirror_lab::{Injector, aws_twin, capture, tshark};
use mirror_user::sink::pcap::{Pcap, Target};
use serde_json::Value;

/// Runs `mirror replay` on a file; gives its report and the inner frames it wrote.
fn replay(file: &Path, directory: &Path) -> (Value, capture::CaptureFile) {
    let (out, report) = (directory.join("inner.pcapng"), directory.join("report.json"));
    let mirror = Command::new(env!("CARGO_BIN_EXE_mirror"))
        .arg("replay")
        .arg("-r")
        .arg(file)
        .arg("-w")
        .arg(&out)
        .arg("--report")
        .arg(&report)
        .output()
        .expect("mirror");
    assert!(mirror.status.success(), "{}", String::from_utf8_lossy(&mirror.stderr));
    let report = serde_json::from_slice(&std::fs::read(&report).expect("report")).expect("JSON");
    (report, capture::read(&out).expect("the capture written"))
}

fn check(file: &Path, vni: u32) {
    let directory = tempfile::tempdir().expect("directory");
    let witness = tshark::decapsulate(file).expect("tshark");
    assert_eq!(witness.len(), 100);
    assert!(witness.iter().all(|inner| inner.vni == vni));
    let expected: Vec<_> = witness.into_iter().map(|inner| inner.bytes).collect();

    let (report, written) = replay(file, directory.path());
    assert_eq!(report["source"], "file");
    assert_eq!(report["frames"]["decapsulated"], 100);
    assert_eq!(report["accounting"]["residue"], 0);
    assert_eq!(report["origins"][0]["vni"], vni);
    assert_eq!(report["origins"].as_array().map(Vec::len), Some(1));
    assert!(written.frames() == expected, "replay wrote other inner frames than tshark sees");
    let read = capture::read(file).expect("the capture read");
    let times =
        |file: &capture::CaptureFile| file.packets.iter().map(|packet| packet.time_ns).collect::<Vec<_>>();
    assert_eq!(times(&written), times(&read), "replay keeps the times of the file");

    let cable = Cable::with_queues(1);
    let live = directory.path().join("live.pcapng");
    let pcap = Pcap::builder(Target::file(&live)).build().expect("capture file");
    let running = cable.engine(builder().sink(Arc::new(pcap)));
    let sent =
        Injector::new(&cable.sender, SENDER).expect("injector").send_all(&read.frames()).expect("sent");
    settle(&running);
    let report = running.stop();
    assert_balanced(&report);
    assert_eq!((report.interfaces[0].xdp.seen, report.frames.decapsulated), (sent, 100));
    assert!(
        capture::read(&live).expect("live capture").frames() == expected,
        "live ingest wrote other inner frames than tshark sees"
    );
}

#[test]
fn the_twin_of_an_aws_capture_gives_what_tshark_gives() {
    let directory = tempfile::tempdir().expect("directory");
    let file = directory.path().join("twin.pcap");
    capture::write_pcap(&file, &aws_twin::aws_twin().expect("frames")).expect("written");
    check(&file, aws_twin::VNI);
}

#[test]
fn the_aws_capture_gives_what_tshark_gives() {
    let Some(folder) = captures() else { return };
    check(&folder.join("aws-traffic-mirroring-2019.pcap"), 5_569_041);
}

#[test]
fn a_capture_cut_short_is_replayed_up_to_there_and_exits_1() {
    let directory = tempfile::tempdir().expect("directory");
    let whole = directory.path().join("whole.pcap");
    capture::write_pcap(&whole, &aws_twin::aws_twin().expect("frames")).expect("written");
    let mut bytes = std::fs::read(&whole).expect("bytes");
    bytes.truncate(bytes.len() - 10);
    let cut = directory.path().join("cut.pcap");
    std::fs::write(&cut, bytes).expect("cut");
    let mirror = Command::new(env!("CARGO_BIN_EXE_mirror"))
        .args(["replay", "--json", "-r"])
        .arg(&cut)
        .output()
        .expect("mirror");
    assert_eq!(mirror.status.code(), Some(1));
    let report: Value = serde_json::from_slice(&mirror.stdout).expect("JSON");
    assert_eq!(report["frames"]["decapsulated"], 99);
    assert_eq!(report["accounting"]["residue"], 0);
    assert!(report["ended_by"].as_str().is_some_and(|why| why.contains("cut.pcap")), "{report}");
}

#[test]
fn replay_selects_counts_and_reads_standard_input() {
    let directory = tempfile::tempdir().expect("directory");
    let file = directory.path().join("twin.pcap");
    capture::write_pcap(&file, &aws_twin::aws_twin().expect("frames")).expect("written");
    let run = |arguments: &[&str]| {
        let mirror = Command::new(env!("CARGO_BIN_EXE_mirror"))
            .args(["replay", "--json", "-r", "-"])
            .args(arguments)
            .stdin(std::fs::File::open(&file).expect("file"))
            .output()
            .expect("mirror");
        assert!(mirror.status.success(), "{}", String::from_utf8_lossy(&mirror.stderr));
        serde_json::from_slice::<Value>(&mirror.stdout).expect("JSON")
    };
    assert_eq!(run(&["--vni", "1"])["frames"]["rejected"]["vni"], 100);
    assert_eq!(run(&["--source", "192.0.2.0/24"])["frames"]["rejected"]["source"], 100);
    assert_eq!(run(&["--port", "6081"])["frames"]["rejected"]["not_tunnel"], 100);
    let counted = run(&["-c", "42"]);
    assert_eq!(counted["sinks"][0]["offered"], 42);
    assert_eq!(counted["accounting"]["residue"], 0);
}

#[test]
fn a_reader_of_standard_error_that_has_gone_costs_neither_files_nor_report() {
    let directory = tempfile::tempdir().expect("directory");
    let file = directory.path().join("twin.pcap");
    capture::write_pcap(&file, &aws_twin::aws_twin().expect("frames")).expect("written");
    let mut mirror = Command::new(env!("CARGO_BIN_EXE_mirror"))
        .args(["replay", "-v", "-r", "twin.pcap", "-w", "inner.pcapng", "--report", "report.json"])
        .current_dir(directory.path())
        .stderr(Stdio::piped())
        .spawn()
        .expect("mirror");
    drop(mirror.stderr.take());
    assert!(mirror.wait().expect("ended").success());
    assert_eq!(capture::read(&directory.path().join("inner.pcapng")).expect("capture").packets.len(), 100);
    let report = std::fs::read(directory.path().join("report.json")).expect("report");
    assert_eq!(serde_json::from_slice::<Value>(&report).expect("JSON")["accounting"]["residue"], 0);
}

#[test]
fn a_limit_of_file_size_ends_the_capture_and_not_the_process() {
    let directory = tempfile::tempdir().expect("directory");
    capture::write_pcap(&directory.path().join("twin.pcap"), &aws_twin::aws_twin().expect("frames"))
        .expect("written");
    let script = r#"ulimit -f 8; exec "$0" replay -r twin.pcap -w inner.pcapng --json"#;
    let mirror = Command::new("sh")
        .args(["-c", script, env!("CARGO_BIN_EXE_mirror")])
        .current_dir(directory.path())
        .output()
        .expect("mirror");
    assert_eq!(mirror.status.code(), Some(1), "{}", String::from_utf8_lossy(&mirror.stderr));
    let report: Value = serde_json::from_slice(&mirror.stdout).expect("JSON");
    let pcap = &report["sinks"][1];
    assert_eq!((&pcap["state"], &report["accounting"]["residue"]), (&"ended".into(), &0.into()), "{pcap}");
    let kept = capture::read(&directory.path().join("inner.pcapng")).expect("capture");
    assert_eq!(pcap["written"], kept.packets.len());
}
