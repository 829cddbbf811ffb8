//! Host settings that a run changed are restored, however it ends: by itself, or, after a kill, by the next
//! start. Needs root.

mod common;

use std::{
    fs::{self, File},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use common::{
    CAPTURE, Cable, SENDER,
    mirror::{
        MIRROR, Mirror, assert_next_run_works, ingest, inject, mirror, program, set_tunables, tunables, until,
    },
};
use mirror_lab::{VethEnd, VethOptions, VethPair, run};
use nix::{
    fcntl::{FcntlArg, fcntl},
    sys::signal::Signal,
};
use tempfile::TempDir;

/// Not the defaults, so that restoring is more than writing zeros.
const BEFORE: [&str; 2] = ["1", "54321"];
const BUSY: [&str; 2] = ["2", "200000"];
const RECORDS: &str = "/run/mirror/state";

/// A veth pair whose capture end has non-default settings, and a directory.
fn cable() -> (Cable, TempDir) {
    let cable = Cable::with_queues(2);
    set_tunables(&cable, BEFORE);
    (cable, tempfile::tempdir().expect("directory"))
}

/// Runs with busy polling, and is killed.
fn killed(cable: &Cable, directory: &Path, arguments: &str) {
    let run = Mirror::ingest(cable, directory, &format!("--wait busy-poll {arguments}"));
    assert_eq!(tunables(cable), BUSY, "what busy polling wants");
    run.end_by(Signal::SIGKILL);
    until("the kernel has taken the program back", || program(cable).is_none().then_some(()));
    assert_eq!(tunables(cable), BUSY, "nobody has put anything back");
}

/// The records of this namespace.
fn records(cable: &Cable) -> Vec<PathBuf> {
    let namespace = fs::metadata(cable.target.path()).expect("namespace").ino();
    let prefix = format!("net-{namespace}-");
    let Ok(all) = fs::read_dir(RECORDS) else { return Vec::new() };
    let paths = all.map(|entry| entry.expect("entry").path());
    paths
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&prefix)))
        .collect()
}

fn doctor(cable: &Cable, interface: &str) -> String {
    let output = cable.target.command(MIRROR).args(["doctor", "-i", interface]).output().expect("doctor");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn a_start_after_a_kill_restores_the_settings_from_before_the_killed_run() {
    let (cable, directory) = cable();
    let path = directory.path();
    // However the next run waits, and repeatedly.
    for next in ["", "--wait busy-poll", "--wait busy-poll -Z nobody"] {
        killed(&cable, path, "");
        let run = Mirror::ingest(&cable, path, next);
        let during = if next.is_empty() { BEFORE } else { BUSY };
        assert_eq!(tunables(&cable), during, "{next:?}");
        let said = run.end_by(Signal::SIGINT).expect_code(0).said;
        assert!(said.contains("gro_flush_timeout is restored to 54321"), "{said}");
        assert_eq!(tunables(&cable), BEFORE, "{next:?}");
        assert_eq!(records(&cable), [""; 0].map(PathBuf::from), "an orderly end leaves no record");
    }
    killed(&cable, path, "");
    killed(&cable, path, "-Z nobody");
    assert_next_run_works(&cable);
    assert_eq!(tunables(&cable), BEFORE);
}

#[test]
fn only_root_can_access_the_record() {
    let (cable, directory) = cable();
    for arguments in ["", "-Z nobody"] {
        let run = Mirror::ingest(&cable, directory.path(), &format!("--wait busy-poll {arguments}"));
        let records = records(&cable);
        assert_eq!(records.len(), 1, "{records:?}");
        for (place, mode) in
            [(Path::new("/run/mirror"), 0o755), (Path::new(RECORDS), 0o755), (records[0].as_path(), 0o600)]
        {
            let found = fs::symlink_metadata(place).expect("run state");
            assert_eq!((found.permissions().mode() & 0o7777, found.uid()), (mode, 0), "{}", place.display());
        }
        run.end_by(Signal::SIGINT).expect_code(0);
    }
}

/// A pipe in place of the first setting blocks the run at that change.
#[test]
fn the_record_is_written_before_the_first_change() {
    let (cable, directory) = cable();
    let pipe = directory.path().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).expect("pipe");
    let script = format!("mount --bind pipe /sys/class/net/{CAPTURE}/napi_defer_hard_irqs; exec \"$@\"");
    let mut command = cable.target.command("unshare");
    command.args(["-m", "sh", "-ec", &script, "sh", MIRROR, "ingest", "-i", CAPTURE, "--wait", "busy-poll"]);
    let run = Mirror::start({
        command.current_dir(directory.path());
        command
    });
    // It has read the old value, and is about to write.
    fs::write(&pipe, "1").expect("the setting is read");
    let [record] = &until("a record", || Some(records(&cable)).filter(|records| !records.is_empty()))[..]
    else {
        panic!("{:?}", records(&cable));
    };
    let record = fs::read_to_string(record).expect("record");
    assert!(record.contains("\"before\":1,") && record.contains("\"before\":54321,"), "{record}");
    assert_eq!(tunables(&cable), BEFORE);
    run.end_by(Signal::SIGKILL);
}

fn run_in(cable: &Cable, script: &str) -> String {
    run(cable.target.command("sh").args(["-ec", script])).expect("script")
}

#[test]
fn doctor_names_exactly_the_settings_that_a_killed_run_left() {
    let (cable, directory) = cable();
    let path = directory.path();
    assert!(!doctor(&cable, CAPTURE).contains("gro_flush_timeout"));
    let run = Mirror::ingest(&cable, path, "--wait busy-poll");
    let live = doctor(&cable, CAPTURE);
    assert!(!live.contains("gro_flush_timeout"), "held by a run that lives: {live}");
    let pid = run.pid();
    run.end_by(Signal::SIGKILL);
    let printed = doctor(&cable, CAPTURE);
    for words in [
        format!("gro_flush_timeout is 200000, and was 54321 before a run that was killed (process {pid})"),
        "napi_defer_hard_irqs is 2, and was 1".to_owned(),
        format!("echo 54321 > /sys/class/net/{CAPTURE}/gro_flush_timeout"),
    ] {
        assert!(printed.contains(&words), "{words:?} is missing in: {printed}");
    }
    // As its remedies say.
    set_tunables(&cable, BEFORE);
    assert!(!doctor(&cable, CAPTURE).contains("gro_flush_timeout"));
    // Settings left by an earlier version have no record.
    Mirror::ingest(&cable, path, "").end_by(Signal::SIGINT).expect_code(0);
    set_tunables(&cable, BUSY);
    let printed = doctor(&cable, CAPTURE);
    assert!(printed.contains("gro_flush_timeout is 200000, as busy polling sets it"), "{printed}");
}

#[test]
fn settings_changed_since_by_others_are_kept() {
    let (cable, directory) = cable();
    killed(&cable, directory.path(), "");
    set_tunables(&cable, ["7", "200000"]);
    Mirror::ingest(&cable, directory.path(), "").end_by(Signal::SIGINT).expect_code(0);
    assert_eq!(tunables(&cable), ["7", "54321"]);
}

#[test]
fn an_interface_is_recognised_after_a_rename_and_in_another_namespace() {
    let (cable, directory) = cable();
    let path = directory.path();
    let rename =
        |from: &str, to: &str| cable.target.ip(&format!("link set dev {from} name {to}")).expect("renamed");
    killed(&cable, path, "");
    cable.target.ip(&format!("link set dev {CAPTURE} down")).expect("down");
    rename(CAPTURE, "other0");
    let run = Mirror::start(mirror(&cable, path, "ingest -i other0")).attached_to(&cable.target, "other0");
    run.end_by(Signal::SIGINT).expect_code(0);
    rename("other0", CAPTURE);
    assert_eq!(tunables(&cable), BEFORE);
    // Renamed during the run.
    cable.target.ip(&format!("link set dev {CAPTURE} up")).expect("up");
    let run = Mirror::ingest(&cable, path, "--wait busy-poll");
    rename(CAPTURE, "other0");
    run.end_by(Signal::SIGINT).expect_code(0);
    rename("other0", CAPTURE);
    assert_eq!(tunables(&cable), BEFORE);
    // A container's interface returns to the host when the container is removed.
    killed(&cable, path, "");
    let (here, there) = (cable.target.name(), cable.sender.name());
    cable.target.ip(&format!("link set dev {CAPTURE} netns {there}")).expect("moved");
    let inside = cable
        .sender
        .command(MIRROR)
        .args(["ingest", "-i", CAPTURE, "--duration", "1s"])
        .output()
        .expect("run");
    assert!(inside.status.success(), "{}", String::from_utf8_lossy(&inside.stderr));
    cable.sender.ip(&format!("link set dev {CAPTURE} netns {here}")).expect("moved back");
    assert_eq!(tunables(&cable), BEFORE);
}

#[test]
fn another_interface_under_the_same_index_is_left_alone() {
    let (cable, directory) = cable();
    let index = run_in(&cable, &format!("cat /sys/class/net/{CAPTURE}/ifindex"));
    killed(&cable, directory.path(), "");
    cable.target.ip(&format!("link delete {CAPTURE}")).expect("deleted");
    let (here, there) = (VethEnd::new(&cable.sender, SENDER), VethEnd::new(&cable.target, "tmp0"));
    let pair = VethPair::create(here, there, &VethOptions::default()).expect("veth");
    drop(pair);
    cable
        .target
        .ip(&format!("link add {CAPTURE} index {} type veth peer name gone0", index.trim()))
        .expect("made again under its index");
    set_tunables(&cable, BUSY);
    let run = Mirror::start(mirror(&cable, directory.path(), &format!("ingest -i {CAPTURE} --duration 1s")));
    run.end().expect_code(0);
    assert_eq!(tunables(&cable), BUSY, "they are somebody else's");
}

#[test]
fn the_settings_of_a_live_run_are_kept() {
    let (cable, directory) = cable();
    killed(&cable, directory.path(), "");
    // As its process does while it runs.
    let records = records(&cable);
    let record = File::options().read(true).write(true).open(&records[0]).expect("record");
    let lock = libc::flock {
        l_type: libc::c_short::try_from(libc::F_WRLCK).expect("kind"),
        l_whence: 0,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    fcntl(&record, FcntlArg::F_OFD_SETLK(&lock)).expect("locked");
    assert!(!doctor(&cable, CAPTURE).contains("gro_flush_timeout"));
    let refused = Mirror::start(ingest(&cable, directory.path(), "--wait busy-poll"));
    refused.end().expect_code(1).expect_words(&[
        CAPTURE,
        "another run of mirror (process ",
        "stop that run first",
    ]);
    assert_eq!(tunables(&cable), BUSY);
    drop(record);
    Mirror::ingest(&cable, directory.path(), "").end_by(Signal::SIGINT).expect_code(0);
    assert_eq!(tunables(&cable), BEFORE);
}

#[test]
fn without_a_writable_run_directory_a_warning_names_the_consequence_of_a_kill() {
    let (cable, directory) = cable();
    let mut command = cable.target.command("unshare");
    command.args([
        "-m",
        "sh",
        "-ec",
        "mount -t tmpfs -o ro none /run; exec \"$@\"",
        "sh",
        MIRROR,
        "ingest",
        "-i",
        CAPTURE,
    ]);
    command.args(["--wait", "busy-poll", "--stats", "1h"]).current_dir(directory.path());
    let run = Mirror::start(command).attached(&cable);
    assert_eq!(tunables(&cable), BUSY);
    inject(&cable, 10);
    run.has(10);
    let words = [
        "what busy polling changes is not restored if this run is killed",
        "/run/mirror",
        "Read-only file system",
    ];
    run.end_by(Signal::SIGINT).expect_code(0).expect_words(&words);
    assert_eq!(tunables(&cable), BEFORE);
}
