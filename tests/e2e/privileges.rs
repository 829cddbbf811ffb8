//! Root only as long as needed: the privileges that the threads of a running `mirror` keep, and that they are
//! enough. Needs root.

mod common;

use std::{
    fs,
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _, chown},
    path::Path,
};

use common::{
    CAPTURE, Cable,
    mirror::{
        Mirror, assert_next_run_works, balanced_report, burst, ingest, inject, names, program, set_tunables,
        sink, state, threads, tunables, until, whole_capture,
    },
};
use mirror_lab::Traffic;
use nix::sys::signal::Signal;

/// Bits of capabilities(7), `linux/capability.h`.
const CAP_DAC_OVERRIDE: u64 = 1 << 1;
const CAP_NET_ADMIN: u64 = 1 << 12;

/// While frames flow, the threads that end a run hold exactly these capabilities, and the engine's threads
/// hold none.
fn assert_held(cable: &Cable, run: &Mirror, files: &Path, wanted: u64) {
    let generator = cable.generator(Traffic { rate: Some(25_000), ..Traffic::default() }).start(u64::MAX);
    run.has(1_000);
    // The writer thread drops its capabilities before its first frame.
    until("frames are in the file", || {
        let file = fs::metadata(files.join(".out.pcapng.partial")).expect("hidden file");
        (file.len() > 1_000).then_some(())
    });
    let threads = threads(run.pid());
    generator.stop().expect("generated");
    let names: Vec<_> = threads.iter().map(|(name, _)| name.as_str()).collect();
    for name in ["mirror", "q0-cap0", "q1-cap0", "mirror-links", "mirror-pcap", "mirror-signals"] {
        assert!(names.contains(&name), "{name} is not among {names:?}");
    }
    for (name, fields) in &threads {
        let ends_a_run = ["mirror", "mirror-pcap", "mirror-signals"].contains(&name.as_str());
        let wanted = if ends_a_run { wanted } else { 0 };
        for set in ["CapEff", "CapPrm", "CapBnd"] {
            assert_eq!(fields[set], wanted, "{set} of {name}: {fields:x?}");
        }
        assert_eq!(
            (fields["CapInh"], fields["CapAmb"], fields["NoNewPrivs"]),
            (0, 0, 1),
            "{name}: {fields:x?}"
        );
    }
}

/// Captures, with a report, to `files`, below a working directory, with exactly these capabilities.
fn captures(cable: &Cable, working: &Path, files: &str, arguments: &str, wanted: u64) {
    let run = Mirror::ingest(
        cable,
        working,
        &format!("-w {files}/out.pcapng --report {files}/report.json {arguments}"),
    );
    let files = working.join(files);
    assert_held(cable, &run, &files, wanted);
    run.end_by(Signal::SIGINT).expect_code(0);
    assert_eq!(names(&files), ["out.pcapng", "report.json"]);
    let report = balanced_report(&files.join("report.json"));
    let capture = whole_capture(&files.join("out.pcapng"));
    assert_eq!(report["frames"]["decapsulated"], capture.packets.len() as u64);
    for name in names(&files) {
        let mode = fs::metadata(files.join(&name)).expect("file").permissions().mode();
        assert_eq!(mode & 0o7777, 0o600, "{name}");
    }
}

fn private_directory(path: &Path, owner: u32) {
    fs::DirBuilder::new().mode(0o700).create(path).expect("directory");
    chown(path, Some(owner), Some(owner)).expect("owner");
}

#[test]
fn no_thread_keeps_a_capability_and_files_go_to_a_directory_of_root() {
    let cable = Cable::with_queues(2);
    let directory = tempfile::tempdir().expect("directory");
    private_directory(&directory.path().join("private"), 0);
    captures(&cable, directory.path(), "private", "", 0);
    assert_next_run_works(&cable);
}

#[test]
fn in_a_directory_of_another_user_the_capability_to_write_is_kept() {
    const ANOTHER: u32 = 12_345;
    let cable = Cable::with_queues(2);
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    private_directory(&path.join("theirs"), ANOTHER);
    captures(&cable, path, "theirs", "", CAP_DAC_OVERRIDE);
    // Our own directory, below one of another user.
    private_directory(&path.join("theirs/ours"), 0);
    captures(&cable, path, "theirs/ours", "", 0);
    assert_next_run_works(&cable);
}

#[test]
fn busy_polling_keeps_the_capability_to_restore_the_interface() {
    let cable = Cable::with_queues(2);
    // Not the defaults, so that restoring is more than writing zeros.
    set_tunables(&cable, ["1", "54321"]);
    let before = state(&cable);
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    let run = Mirror::ingest(&cable, path, "--wait busy-poll -w out.pcapng --report report.json");
    assert_eq!(tunables(&cable), ["2", "200000"], "what busy polling wants");
    assert_held(&cable, &run, path, CAP_NET_ADMIN);
    run.end_by(Signal::SIGINT).expect_code(0);
    assert_eq!(state(&cable), before, "all restored");
    assert_eq!(names(path), ["out.pcapng", "report.json"]);
    balanced_report(&path.join("report.json"));
    assert_next_run_works(&cable);
}

#[test]
fn a_second_sigint_restores_the_interface() {
    let cable = Cable::with_queues(2);
    set_tunables(&cable, ["1", "54321"]);
    let before = state(&cable);
    let directory = tempfile::tempdir().expect("directory");
    let (run, reader) = Mirror::ingest_to_pipe(&cable, directory.path(), "--wait busy-poll -w -");
    // Nobody reads the pipe, and it gets more than it holds, so that the end blocks on it.
    burst(&cable, 5_000);
    run.has(2_500);
    run.signal(Signal::SIGINT);
    until("the program is detached", || program(&cable).is_none().then_some(()));
    assert_eq!(tunables(&cable), ["2", "200000"], "still as busy polling wants it");
    run.signal(Signal::SIGINT);
    run.end().expect_code(1);
    drop(reader);
    assert_eq!(state(&cable), before, "all restored");
    assert_next_run_works(&cable);
}

/// A start that fails after the settings were changed.
#[test]
fn a_failed_start_restores_the_interface() {
    let cable = Cable::with_queues(1);
    set_tunables(&cable, ["1", "54321"]);
    let before = state(&cable);
    let directory = tempfile::tempdir().expect("directory");
    // veth has no zero-copy: the socket's bind fails.
    let run = ingest(
        &cable,
        directory.path(),
        "--wait busy-poll --bind zerocopy -w out.pcapng --report report.json",
    );
    Mirror::start(run).end().expect_code(1).expect_words(&[CAPTURE, "zero-copy", "--bind copy"]);
    assert_eq!(state(&cable), before, "all restored");
    assert_eq!(names(directory.path()), [""; 0]);
    inject(&cable, 1);
    assert_next_run_works(&cable);
}

#[test]
fn another_user_forwards_to_a_device_of_root_without_capabilities() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    fs::set_permissions(path, fs::Permissions::from_mode(0o777)).expect("for every user");
    let cable = Cable::with_queues(1);
    let arguments = "-Z nobody --forward tap:ids0 --forward veth:ids1 --forward vxlan:10.99.0.2 -w \
        out.pcapng --report report.json";
    cable.target.ip("link add out0 type veth peer name out1").expect("veth");
    cable.target.ip("link set out0 up").expect("up");
    cable.target.ip("address add 10.99.0.1/24 dev out0").expect("address");
    let run = Mirror::ingest(&cable, path, arguments);
    inject(&cable, 10);
    run.has(10);
    run.settled();
    let threads = threads(run.pid());
    let forwards = threads.iter().filter(|(name, _)| name == "mirror-forward").count();
    assert_eq!(forwards, 3, "{threads:x?}");
    for (name, fields) in &threads {
        for set in ["CapEff", "CapPrm", "CapInh", "CapAmb", "CapBnd"] {
            assert_eq!(fields[set], 0, "{set} of {name}: {fields:x?}");
        }
    }
    run.end_by(Signal::SIGINT).expect_code(0);
    let report = balanced_report(&path.join("report.json"));
    for name in ["forward tap:ids0", "forward veth:ids1"] {
        assert_eq!(sink(&report, name)["written"], 10);
    }
    cable.target.ip("link show dev ids1").expect_err("the pair goes with the run");
    assert_eq!(whole_capture(&path.join("out.pcapng")).packets.len(), 10);
}
