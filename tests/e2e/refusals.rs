//! Runs that must not start: the exit code, messages with cause and remedy, and nothing left or changed.
//! Needs root.

mod common;

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::Path,
    process::{Command, Stdio},
};

use common::{
    CAPTURE, Cable,
    mirror::{
        MIRROR, Mirror, assert_next_run_works, balanced_report, ingest, inject, mirror, names, program,
        state, whole_capture,
    },
};
use mirror_lab::VethOptions;
use nix::sys::signal::Signal;

const FAILED: i32 = 1;
const BAD_USAGE: i32 = 2;
const FILES: &str = "-w out.pcapng --report report.json";

/// Runs the command, which must end by itself with this code and these words, and leave nothing behind.
#[track_caller]
fn refused(cable: &Cable, directory: &Path, command: Command, code: i32, words: &[&str]) {
    let (state_before, names_before) = (state(cable), names(directory));
    let context = format!("{command:?}");
    let ending = Mirror::start(command).end();
    assert_eq!(ending.status.code(), Some(code), "{context}:\n{}", ending.said);
    let said = one_line(&ending.said);
    for word in words {
        assert!(said.contains(word), "{context}: {word:?} is missing in:\n{}", ending.said);
    }
    assert!(!said.contains("panicked"), "{}", ending.said);
    assert_eq!(names(directory), names_before, "{context} left a file");
    assert_eq!(state(cable), state_before, "{context} changed the interface");
}

/// The output without line breaks.
fn one_line(said: &str) -> String {
    said.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn options_that_contradict_each_other_are_bad_usage() {
    let cable = Cable::with_queues(1);
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    let ingest = |arguments: &str| mirror(&cable, path, &format!("ingest {arguments}"));
    let on_capture = |arguments: &str| ingest(&format!("-i {CAPTURE} {arguments}"));
    let rows: [(Command, &[&str]); 17] = [
        (on_capture("-w - --json"), &["-w -", "--json", "standard output", "--report FILE"]),
        (on_capture(&format!("{FILES} -q -v")), &["-q", "-v", "cannot be used with"]),
        (on_capture("--format pcap --report report.json"), &["-w"]),
        (on_capture("--outer --report report.json"), &["-w"]),
        (on_capture("-U"), &["-w"]),
        (on_capture("-s 96"), &["-w"]),
        (
            on_capture(&format!("{FILES} --bind zerocopy --mode generic")),
            &["zero-copy needs native mode", "leave"],
        ),
        (ingest(&format!("-i any {FILES}")), &["any", "no XDP hook", "mirror -D"]),
        (ingest(&format!("-i {CAPTURE},{CAPTURE} {FILES}")), &["twice"]),
        (ingest(FILES), &["-i"]),
        (on_capture(&format!("{FILES} -c 0")), &["-c", "0"]),
        (on_capture(&format!("{FILES} --queues 3-1")), &["--queues", "exceeds the end"]),
        (on_capture(&format!("{FILES} --queues x")), &["--queues", "\"x\""]),
        (on_capture(&format!("{FILES} --port 0")), &["port"]),
        (on_capture(&format!("{FILES} --vni 16777216")), &["--vni", "16777216"]),
        (on_capture(&format!("{FILES} --source 10.0.0.0/33")), &["--source", "10.0.0.0/33"]),
        (on_capture(&format!("{FILES} --cpus 1000")), &["CPU 1000", "may use"]),
    ];
    for (command, words) in rows {
        refused(&cable, path, command, BAD_USAGE, words);
    }
    assert_next_run_works(&cable);
}

#[test]
fn missing_interface_queue_or_directory_is_named() {
    let cable = Cable::with_queues(1);
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    let no_interface = mirror(&cable, path, &format!("ingest -i nope0 {FILES}"));
    refused(&cable, path, no_interface, FAILED, &["nope0", "mirror -D"]);
    // The existing one of two makes no difference.
    let no_second = mirror(&cable, path, &format!("ingest -i {CAPTURE},nope0 {FILES}"));
    refused(&cable, path, no_second, FAILED, &["nope0"]);
    let no_queue = ingest(&cable, path, &format!("{FILES} --queues 0,1"));
    refused(&cable, path, no_queue, FAILED, &[CAPTURE, "no RX queue 1", "it has 1", "ethtool -l"]);
    let no_directory = ingest(&cable, path, "-w nowhere/out.pcapng --report report.json");
    refused(&cable, path, no_directory, FAILED, &["nowhere", "No such file or directory"]);
    let no_report_directory = ingest(&cable, path, "-w out.pcapng --report nowhere/report.json");
    refused(&cable, path, no_report_directory, FAILED, &["nowhere", "No such file or directory"]);
    assert_next_run_works(&cable);
}

#[test]
fn existing_files_are_not_touched() {
    let cable = Cable::with_queues(1);
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    fs::write(path.join("precious"), "precious").expect("file");
    symlink("precious", path.join("link")).expect("link");
    symlink("elsewhere", path.join("dangling")).expect("link");
    for name in ["precious", "link", "dangling"] {
        let words = [name, "already exists", "remove it or choose another name"];
        refused(
            &cable,
            path,
            ingest(&cable, path, &format!("-w {name} --report report.json")),
            FAILED,
            &words,
        );
        refused(
            &cable,
            path,
            ingest(&cable, path, &format!("-w out.pcapng --report {name}")),
            FAILED,
            &words,
        );
    }
    assert_eq!(fs::read_to_string(path.join("precious")).expect("file"), "precious");
    assert!(!path.join("elsewhere").exists());
    assert_next_run_works(&cable);
}

#[test]
fn a_second_instance_is_refused_and_the_first_continues() {
    let cable = Cable::with_queues(1);
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    let first = Mirror::ingest(&cable, path, FILES);
    let held = program(&cable);
    let second_directory = tempfile::tempdir().expect("directory");
    for mode in ["auto", "native", "generic"] {
        let second = ingest(&cable, second_directory.path(), &format!("{FILES} --mode {mode}"));
        let words = [CAPTURE, "attached already", "stop its owner", "xdp off"];
        refused(&cable, second_directory.path(), second, FAILED, &words);
    }
    assert_eq!(program(&cable), held);
    let inner = inject(&cable, 100);
    first.has(100);
    first.end_by(Signal::SIGINT).expect_code(0);
    assert_eq!(whole_capture(&path.join("out.pcapng")).frames(), inner);
    balanced_report(&path.join("report.json"));
    assert_next_run_works(&cable);
}

#[test]
fn without_root_the_missing_capabilities_are_named() {
    let cable = Cable::with_queues(1);
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    // Where nobody may write, and everybody may execute.
    fs::set_permissions(path, fs::Permissions::from_mode(0o777)).expect("mode");
    let program = path.join("mirror");
    fs::copy(MIRROR, &program).expect("copy");
    let mut command = cable.target.command("setpriv");
    command
        .args(["--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all"])
        .arg(&program)
        .args(["ingest", "-i", CAPTURE])
        .args(FILES.split(' '))
        .current_dir(path)
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    let words = ["CAP_BPF", "CAP_NET_ADMIN", "CAP_NET_RAW", "run it as root"];
    refused(&cable, path, command, FAILED, &words);
    assert_next_run_works(&cable);
}

#[test]
fn an_mtu_too_large_for_zero_copy_is_named_with_its_remedy() {
    let cable = Cable::lay(&VethOptions { mtu: 9000, ..VethOptions::default() });
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    for mode in ["native", "auto"] {
        let command = ingest(&cable, path, &format!("{FILES} --bind zerocopy --mode {mode}"));
        let words = [CAPTURE, "MTU 9000", "one buffer only", "ip link set dev cap0 mtu 3498"];
        refused(&cable, path, command, FAILED, &words);
    }
    // With the remedy applied, the refusal is another: veth has no zero-copy.
    cable.target.ip(&format!("link set dev {CAPTURE} mtu 3498")).expect("MTU");
    cable.sender.ip(&format!("link set dev {} mtu 3498", common::SENDER)).expect("MTU");
    let command = ingest(&cable, path, &format!("{FILES} --bind zerocopy"));
    refused(&cable, path, command, FAILED, &[CAPTURE, "no AF_XDP zero-copy", "--bind copy"]);
    assert_next_run_works(&cable);
}

#[test]
fn a_umem_over_the_limit_of_locked_memory_is_refused_with_the_remedy() {
    let cable = Cable::with_queues(1);
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    // 1 MiB, which root without these two capabilities cannot raise. A queue takes 16 MiB by default.
    let limited = |arguments: &str| {
        let mut command = cable.target.command("prlimit");
        command
            .args(["--memlock=1048576:1048576", "setpriv", "--bounding-set=-ipc_lock,-sys_resource"])
            .args(["--inh-caps=-ipc_lock,-sys_resource", MIRROR, "ingest", "-i", CAPTURE])
            .args(arguments.split(' '))
            .current_dir(path)
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        command
    };
    let words =
        ["UMEM of 16908288 bytes", "CAP_IPC_LOCK", "ulimit -l", "LimitMEMLOCK=infinity", "--rx-ring 2048"];
    refused(&cable, path, limited(FILES), FAILED, &words);
    // One of the remedies.
    Mirror::start(limited(&format!("{FILES} --rx-ring 64 --duration 100ms"))).end().expect_code(0);
    balanced_report(&path.join("report.json"));
    assert_next_run_works(&cable);
}
