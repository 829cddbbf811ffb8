//! If the system's limits are too low for a run, it does not start, names the limit and the remedy, and
//! leaves nothing behind. Needs root.

mod common;

use std::{path::Path, process::Command};

use common::{
    CAPTURE, Cable,
    mirror::{MIRROR, Mirror, assert_next_run_works, names, state},
};
use mirror_lab::{aws_twin, capture};

/// `mirror` in the target's namespace, after this shell command.
fn limited(cable: &Cable, directory: &Path, before: &str, arguments: &str) -> Command {
    let mut command = cable.target.command("bash");
    command.args(["-c", &format!("{before} \"$0\" {arguments}"), MIRROR]).current_dir(directory);
    command
}

/// Runs it: to its end with code 0, or refused with one of these remedies. Returns whether it ran.
#[track_caller]
fn ran(cable: &Cable, directory: &Path, command: Command, remedies: &[&str]) -> bool {
    let (before, context) = (state(cable), format!("{command:?}"));
    let ending = Mirror::start(command).end();
    assert_eq!(state(cable), before, "{context}");
    assert!(
        !ending.said.contains("panicked") && !ending.said.contains("No such file"),
        "{context}:\n{}",
        ending.said
    );
    if ending.status.code() == Some(0) {
        for name in names(directory).iter().filter(|name| *name != "outer.pcap") {
            std::fs::remove_file(directory.join(name)).expect("removed");
        }
        return true;
    }
    assert_eq!(ending.status.code(), Some(1), "{context}:\n{}", ending.said);
    assert!(remedies.iter().any(|remedy| ending.said.contains(remedy)), "{context}:\n{}", ending.said);
    assert!(
        names(directory).iter().all(|name| name == "outer.pcap"),
        "{context} left {:?}",
        names(directory)
    );
    false
}

#[test]
fn too_few_open_files_are_reported_with_their_number_and_remedy() {
    let cable = Cable::with_queues(1);
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    for outputs in [
        "",
        "-w out.pcapng --report rep.json",
        "--forward tap:ids0",
        "--forward veth:ids0",
        "--forward pcap-over-ip:listen=./x --print",
    ] {
        let mut ran_from = None;
        for files in (5..=100).step_by(if outputs.is_empty() { 1 } else { 3 }) {
            let ingest = format!("ingest -i {CAPTURE} --duration 100ms {outputs}");
            let command = limited(&cable, path, &format!("ulimit -n {files}; exec"), &ingest);
            if ran(&cable, path, command, &["`ulimit -n 1024`"]) {
                ran_from.get_or_insert(files);
            } else {
                assert_eq!(ran_from, None, "{files} are enough, and then not: {outputs}");
            }
        }
        println!("{outputs:?}: from {ran_from:?} on");
        assert!(ran_from.is_some_and(|files| (20..=100).contains(&files)), "{outputs}: {ran_from:?}");
    }
    assert_next_run_works(&cable);
}

#[test]
fn a_soft_limit_of_open_files_is_raised() {
    let cable = Cable::with_queues(1);
    let directory = tempfile::tempdir().expect("directory");
    let ingest = format!("ingest -i {CAPTURE} --duration 100ms");
    let command = limited(&cable, directory.path(), "ulimit -S -n 12; exec", &ingest);
    assert!(ran(&cable, directory.path(), command, &[]));
}

#[test]
fn too_little_address_space_is_reported_before_anything_is_created() {
    let cable = Cable::with_queues(2);
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    capture::write_pcap(&path.join("outer.pcap"), &aws_twin::aws_twin().expect("frames")).expect("written");
    let ingest = format!("ingest -i {CAPTURE} --duration 100ms -w out.pcapng");
    for arguments in [ingest.as_str(), "replay -r outer.pcap -w out.pcapng --report rep.json"] {
        for kilobytes in
            [40_000, 80_000, 120_000, 160_000, 200_000, 250_000, 300_000, 400_000, 600_000, 1_000_000]
        {
            let command = limited(&cable, path, &format!("ulimit -v {kilobytes}; exec"), arguments);
            let ran = ran(&cable, path, command, &["`ulimit -v unlimited`"]);
            assert!(ran || kilobytes < 1_000_000, "{arguments}");
        }
    }
    assert_next_run_works(&cable);
}

/// As a user with exactly the capabilities that ingest needs.
const AS_USER: &str = "exec setpriv --reuid 65534 --clear-groups \
                       --inh-caps=-all,+net_admin,+net_raw,+bpf,+perfmon,+ipc_lock \
                       --ambient-caps=-all,+net_admin,+net_raw,+bpf,+perfmon,+ipc_lock";

#[test]
fn too_few_threads_are_reported_with_their_remedy() {
    let cable = Cable::with_queues(2);
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o777))
        .expect("for every user");
    let mut refused = 0;
    for threads in 1..=8 {
        let ingest = format!("ingest -i {CAPTURE} --duration 100ms -w out.pcapng");
        let command = limited(&cable, path, &format!("{AS_USER} prlimit --nproc={threads}"), &ingest);
        refused += u32::from(!ran(&cable, path, command, &["(`ulimit -u`"]));
    }
    assert!((3..8).contains(&refused), "{refused}");
    assert_next_run_works(&cable);
}

#[test]
fn too_little_locked_memory_is_reported_with_its_remedy() {
    let cable = Cable::with_queues(1);
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    let without_lock = AS_USER.replace(",+ipc_lock", "");
    for kilobytes in [64, 1024, 8192] {
        for outputs in ["", "--forward dev:other0"] {
            let ingest = format!("ingest -i {CAPTURE} --duration 100ms {outputs}");
            let before = format!("ulimit -l {kilobytes}; {without_lock}");
            if !outputs.is_empty() {
                cable.target.ip("link add other0 type veth peer name other1").expect("veth");
            }
            let command = limited(&cable, path, &before, &ingest);
            assert!(!ran(&cable, path, command, &["LimitMEMLOCK=infinity"]), "{kilobytes}");
            if !outputs.is_empty() {
                cable.target.ip("link delete other0").expect("deleted");
            }
        }
    }
    assert_next_run_works(&cable);
}
