//! Real HTTP, mirrored by the kernel: `mirror ingest` captures the frames that tcpdump captures at the source
//! at the same time. Needs root.

use std::{
    path::Path,
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use mirror_lab::{
    Exchange, Lab, MirrorSource, MirrorSourceOptions, Testimony, Witness,
    capture::{self, multiset},
    mirror_source,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

const EXCHANGES: [Exchange; 4] =
    [Exchange::Get(0), Exchange::Get(300_000), Exchange::PostEcho(50_000), Exchange::Get(1)];

struct Seen {
    at_source: Testimony,
    inner: capture::CaptureFile,
    report: Value,
}

fn mirror(options: &MirrorSourceOptions) -> Seen {
    let directory = tempfile::tempdir().expect("directory");
    let lab = Lab::new().expect("lab");
    let source = MirrorSource::raise(&lab, options).expect("mirror source");
    let mut command = source.target().command(env!("CARGO_BIN_EXE_mirror"));
    command.args([
        "ingest",
        "-w",
        "inner.pcapng",
        "--report",
        "report.json",
        "-i",
        source.capture_interface(),
    ]);
    let mut ingest =
        command.current_dir(directory.path()).stdin(Stdio::null()).spawn().expect("mirror ingest");
    wait_until_attached(&source);
    let at_source = traffic(&source, directory.path());
    // Mirrored packets have passed the target's hook by now, in the same softirq. Stopping drains the ring.
    kill(Pid::from_raw(i32::try_from(ingest.id()).expect("pid")), Signal::SIGINT).expect("SIGINT");
    assert!(ingest.wait().expect("ended").success());
    let report = std::fs::read(directory.path().join("report.json")).expect("report");
    let report: Value = serde_json::from_slice(&report).expect("JSON");
    assert_eq!(report["accounting"]["residue"], 0, "{report}");
    Seen { at_source, inner: capture::read(&directory.path().join("inner.pcapng")).expect("capture"), report }
}

fn wait_until_attached(source: &MirrorSource) {
    let link = format!("-j link show dev {}", source.capture_interface());
    let deadline = Instant::now() + Duration::from_secs(60);
    while !source.target().ip(&link).expect("ip").contains("\"xdp\"") {
        assert!(Instant::now() < deadline, "mirror ingest was not attached");
        thread::sleep(Duration::from_millis(20));
    }
}

/// HTTP over the mirrored link, and tcpdump's capture of it there.
fn traffic(source: &MirrorSource, directory: &Path) -> Testimony {
    let file = directory.join("source.pcap");
    let witness = Witness::start(source.source(), source.mirrored_interface(), &file, "").expect("tcpdump");
    source.http(&EXCHANGES).expect("HTTP");
    let seen = witness.stop().expect("tcpdump");
    assert_eq!(seen.dropped, 0);
    seen
}

#[test]
fn inner_frames_equal_those_tcpdump_saw_at_the_source() {
    let Seen { at_source, inner, report } = mirror(&MirrorSourceOptions::default());
    assert!(at_source.frames.len() > 100, "only {} frames", at_source.frames.len());
    assert_eq!(report["frames"]["decapsulated"], at_source.frames.len());
    let name = format!("vni-12345@{}", mirror_source::SOURCE);
    assert!(inner.packets.iter().all(|packet| packet.interface_name.as_deref() == Some(&*name)));
    assert!(
        multiset(inner.frames()) == multiset(at_source.frames),
        "inner frames are not those of the source"
    );
}

/// With offloads on, as by an oversight: the source mirrors GSO frames, which the tunnel segments or the
/// target cannot receive. How many arrive varies; all that arrive are accounted for.
#[test]
fn with_offloads_on_all_arriving_frames_are_accounted_for() {
    let options = MirrorSourceOptions { offloads: true, ..MirrorSourceOptions::default() };
    let Seen { at_source, report, .. } = mirror(&options);
    let longest = at_source.frames.iter().map(Vec::len).max().unwrap_or(0);
    println!(
        "{} frames at the source, the longest of {longest} bytes; {} seen, {} decapsulated, {} truncated",
        at_source.frames.len(),
        report["accounting"]["seen"],
        report["frames"]["decapsulated"],
        report["frames"]["odd"]["truncated_inner"]
    );
    assert!(longest > 1514, "no super-frame at the source: offloads are not on");
    assert_ne!(report["frames"]["decapsulated"], 0);
}
