//! Captures of many files, under load: every frame is in exactly one of them, and each file is complete as
//! soon as it is visible. Needs root.

mod common;

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use common::{
    Cable,
    disk::SmallDisk,
    mirror::{
        MIRROR, Mirror, assert_next_run_works, balanced_report, burst, ingest, inject, names, sink, threads,
        until, whole_capture,
    },
};
use mirror_lab::{
    Injector, SequenceLedger, Traffic,
    capture::{self, CaptureFile},
    frames::Outer,
    mixed, run,
};
use nix::sys::signal::Signal;

/// The visible files of a directory.
fn visible(directory: &Path) -> Vec<String> {
    names(directory).into_iter().filter(|name| !name.starts_with('.')).collect()
}

/// A capture whose statistics and packets agree.
#[track_caller]
fn complete(file: &Path) -> CaptureFile {
    let capture = capture::read(file).expect("capture");
    assert!(!capture.torn, "{} is not whole", file.display());
    let delivered: u64 = capture.statistics.iter().filter_map(|statistics| statistics.delivered).sum();
    assert_eq!(delivered, capture.packets.len() as u64, "{}", file.display());
    capture
}

/// Polls a directory, and opens each file as soon as it appears.
struct Watcher {
    over: Arc<AtomicBool>,
    thread: JoinHandle<BTreeSet<String>>,
}

impl Watcher {
    fn watch(directory: &Path) -> Self {
        let (over, directory) = (Arc::new(AtomicBool::new(false)), directory.to_owned());
        let is_over = Arc::clone(&over);
        let thread = thread::spawn(move || {
            let mut seen = BTreeSet::new();
            loop {
                // The files that are there at the end are read, too, however late this thread is.
                let last = is_over.load(Ordering::Relaxed);
                for name in visible(&directory) {
                    if !name.ends_with(".json") && seen.insert(name.clone()) {
                        complete(&directory.join(name));
                    }
                }
                if last {
                    return seen;
                }
                thread::sleep(Duration::from_millis(1));
            }
        });
        Self { over, thread }
    }

    /// The files it has seen, none of which was incomplete.
    fn seen(self) -> BTreeSet<String> {
        self.over.store(true, Ordering::Relaxed);
        self.thread.join().expect("every file was whole when it was seen")
    }
}

/// All files together hold exactly the frames that the report calls written, each once; tshark's tools can
/// read each file.
fn assert_all_there(directory: &Path, files: &[String], report: &Path) {
    let report = balanced_report(report);
    let written = sink(&report, "pcap")["written"].as_u64().expect("written");
    let mut ledger = SequenceLedger::new();
    for file in files {
        let path = directory.join(file);
        let capture = complete(&path);
        capture.packets.iter().for_each(|packet| ledger.inner(&packet.bytes));
        let count = run(Command::new("capinfos").args(["-T", "-r", "-c"]).arg(&path)).expect("capinfos");
        let count: usize =
            count.trim().rsplit('\t').next().and_then(|count| count.parse().ok()).expect("count");
        assert_eq!(count, capture.packets.len(), "{file}");
    }
    assert_eq!((ledger.received(), ledger.duplicates(), ledger.unreadable()), (written, 0, 0));
}

fn full_load() -> Traffic {
    Traffic { cpus: vec![0, 1], vnis: 3, ..Traffic::default() }
}

#[test]
fn by_size_at_full_rate_every_frame_is_in_one_file_and_every_visible_file_is_complete() {
    let cable = Cable::with_queues(2);
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    let run = Mirror::ingest(&cable, path, "-w out.pcapng -C 3 --report report.json");
    let watcher = Watcher::watch(path);
    let generator = cable.generator(full_load()).start(u64::MAX);
    until("there are ten files", || path.join("out.pcapng10").exists().then_some(()));
    let ending = run.end_by(Signal::SIGINT);
    generator.stop().expect("generated");
    thread::sleep(Duration::from_millis(50));
    let seen = watcher.seen();
    let files: Vec<_> = visible(path).into_iter().filter(|name| name != "report.json").collect();
    let last = format!("captures: {} files, the last out.pcapng{}", files.len(), files.len() - 1);
    ending.expect_code(0).expect_words(&[&last]);
    assert!(files.iter().all(|file| seen.contains(file)), "{files:?} {seen:?}");
    assert_eq!(names(path).len(), files.len() + 1, "nothing hidden is left");
    assert_all_there(path, &files, &path.join("report.json"));
    // As large as requested, and larger by at most one packet and the trailer.
    for file in files.iter().filter(|file| **file != format!("out.pcapng{}", files.len() - 1)) {
        let len = fs::metadata(path.join(file)).expect("file").len();
        assert!((3_000_001..3_002_000).contains(&len), "{file}: {len}");
    }
    whole_capture(&path.join("out.pcapng5"));
    assert_next_run_works(&cable);
}

#[test]
fn by_time_at_full_rate_the_last_file_ends_the_run() {
    let cable = Cable::with_queues(2);
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    let run = Mirror::ingest(&cable, path, "-w out-%s.pcapng -G 1 -W 3 --report report.json");
    let watcher = Watcher::watch(path);
    let generator = cable.generator(full_load()).start(u64::MAX);
    run.end().expect_code(0);
    generator.stop().expect("generated");
    watcher.seen();
    let files: Vec<_> = names(path).into_iter().filter(|name| name != "report.json").collect();
    let times: Vec<u64> =
        files.iter().map(|name| name[4..name.len() - 7].parse().expect("a number of seconds")).collect();
    assert_eq!(times.len(), 3, "{files:?}");
    assert!(times.is_sorted_by(|one, next| one < next), "{times:?}");
    assert_all_there(path, &files, &path.join("report.json"));
    assert_next_run_works(&cable);
}

#[test]
fn by_time_files_rotate_without_a_frame() {
    let cable = Cable::with_queues(1);
    let directory = tempfile::tempdir().expect("directory");
    let run = Mirror::ingest(&cable, directory.path(), "-w out-%s.pcapng -G 1");
    until("there are three files", || (visible(directory.path()).len() >= 3).then_some(()));
    run.end_by(Signal::SIGTERM).expect_code(0);
    for file in names(directory.path()) {
        assert_eq!(whole_capture(&directory.path().join(file)).packets.len(), 0);
    }
}

#[test]
fn a_ring_keeps_the_last_files_and_replaces_only_its_own() {
    let cable = Cable::with_queues(2);
    // On a disk.
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("directory");
    let path = directory.path();
    fs::write(path.join("out.pcapng"), "precious").expect("written");
    let run = Mirror::ingest(&cable, path, "-w out.pcapng -C 100k -W 11 --report report.json");
    let generator = cable.generator(full_load()).start(u64::MAX);
    run.has(100_000);
    // The sandbox permits the thread that closes files that were replaced, and confines it.
    let closer = until("files are replaced", || {
        threads(run.pid()).into_iter().find(|(name, _)| name == "mirror-pcap-rm")
    });
    assert_eq!((closer.1["Seccomp"], closer.1["CapEff"]), (2, 0), "{closer:x?}");
    run.end_by(Signal::SIGINT).expect_code(0);
    generator.stop().expect("generated");
    let mut ring: Vec<_> = (0..11).map(|number| format!("out.pcapng{number:02}")).collect();
    let mut ledger = SequenceLedger::new();
    for file in &ring {
        complete(&path.join(file)).packets.iter().for_each(|packet| ledger.inner(&packet.bytes));
    }
    assert_eq!((ledger.duplicates(), ledger.unreadable()), (0, 0));
    ring.splice(0..0, ["out.pcapng".to_owned()]);
    ring.push("report.json".to_owned());
    assert_eq!(names(path), ring);
    assert_eq!(fs::read_to_string(path.join("out.pcapng")).expect("theirs"), "precious");
    // A second run with the same names replaces nothing.
    let again = ingest(&cable, path, "-w out.pcapng -C 100k -W 11");
    Mirror::start(again).end().expect_code(1).expect_words(&["already exists; remove it"]);
    assert_eq!(names(path), ring);
    assert_next_run_works(&cable);
}

#[test]
fn sighup_starts_a_new_file_of_every_capture_and_recreates_one_that_was_moved() {
    let cable = Cable::with_queues(1);
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    let table = "[[sink]]\nname = \"udp\"\nwrite = \"udp.pcapng\"\nfilter = \"udp\"\n";
    fs::write(path.join("mirror.toml"), table).expect("written");
    let run = Mirror::ingest(&cable, path, "--config mirror.toml -w out.pcapng --report report.json");
    let mut inner = Vec::new();
    for round in 0..3_u64 {
        inner.extend(inject(&cable, 10));
        run.has((round + 1) * 10);
        run.signal(Signal::SIGHUP);
        let name = ["out.pcapng", "out.pcapng1", "out.pcapng"][usize::try_from(round).expect("round")];
        until("the file is there", || path.join(name).exists().then_some(()));
        if round == 0 {
            until("the other too", || path.join("udp.pcapng").exists().then_some(()));
            // As a log rotator does.
            fs::rename(path.join(name), path.join("moved")).expect("moved");
        }
    }
    inner.extend(inject(&cable, 10));
    run.has(40);
    run.end_by(Signal::SIGINT).expect_code(0);
    let there = names(path);
    for name in ["moved", "out.pcapng", "out.pcapng1", "udp.pcapng", "udp.pcapng3"] {
        assert!(there.contains(&name.to_owned()), "{name} is not among {there:?}");
    }
    let frames = |files: &[&str]| -> Vec<_> {
        files.iter().flat_map(|file| complete(&path.join(file)).frames()).collect()
    };
    // The first name was free when the second rotation came, and in use when the third did.
    assert_eq!(frames(&["moved", "out.pcapng1", "out.pcapng", "out.pcapng2"]), inner);
    assert_eq!(frames(&["udp.pcapng", "udp.pcapng1", "udp.pcapng2", "udp.pcapng3"]), inner);
    balanced_report(&path.join("report.json"));
    assert_next_run_works(&cable);
}

/// A program that records its arguments and its user.
const WITNESS: &str = r#"#!/bin/sh
held=$(ls -l /proc/$$/fd | grep -cE 'socket|bpf|xdp|pcapng')
caps=$(sed -n 's/^Cap[EP][a-z]*:\t*0*$/none/p' /proc/$$/status | tr '\n' ' ')
echo "$#|$1|$(id -u)|$(nice)|$held|$caps" >> "log of it"
test ! -e '.refuse' || exit 3
"#;

/// A directory that everybody may write to, with that program.
fn open_directory() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().to_owned();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).expect("mode");
    fs::write(path.join("witness it"), WITNESS).expect("written");
    fs::set_permissions(path.join("witness it"), fs::Permissions::from_mode(0o755)).expect("mode");
    (directory, path)
}

const NOBODY: u32 = 65_534;
/// Full of characters that a shell would interpret.
const NAME: &str = "a b $(touch pwned) `touch pwned`;.pcapng";

#[test]
fn another_user_owns_the_files_and_a_command_runs_for_each_without_privileges_or_shell() {
    let cable = Cable::with_queues(2);
    let (_directory, path) = open_directory();
    let mut command = ingest(&cable, &path, "-Z nobody -C 50k --report report.json");
    command.args(["-w", NAME, "-z", "./witness it"]);
    let run = Mirror::start(command).attached(&cable);
    burst(&cable, 3_000);
    run.has(1_500);
    for task in fs::read_dir(format!("/proc/{}/task", run.pid())).expect("tasks") {
        let status = fs::read_to_string(task.expect("task").path().join("status")).expect("status");
        let field =
            |name| status.lines().find_map(|line: &str| line.strip_prefix(name)).expect("field").trim();
        assert_eq!(field("Uid:"), "65534\t65534\t65534\t65534", "{status}");
        assert_eq!(field("Groups:"), "65534", "{status}");
        assert_eq!(u64::from_str_radix(field("CapPrm:"), 16), Ok(0), "{status}");
    }
    run.end_by(Signal::SIGINT).expect_code(0);
    let files: Vec<_> = names(&path).into_iter().filter(|name| name.starts_with("a b")).collect();
    assert!(files.len() > 3, "{files:?}");
    for name in files.iter().map(String::as_str).chain(["report.json"]) {
        let file = fs::metadata(path.join(name)).expect("file");
        assert_eq!((file.uid(), file.mode() & 0o7777), (NOBODY, 0o600), "{name}");
    }
    let log = fs::read_to_string(path.join("log of it")).expect("the program ran");
    let mut lines: Vec<_> = log.lines().collect();
    lines.sort_unstable();
    let mut wanted: Vec<_> = files.iter().map(|file| format!("1|{file}|{NOBODY}|19|0|none none ")).collect();
    wanted.sort_unstable();
    assert_eq!(lines, wanted);
    assert!(!path.join("pwned").exists());
    assert_all_there(&path, &files, &path.join("report.json"));
    assert_next_run_works(&cable);
}

#[test]
fn a_command_of_root_has_no_capability_and_a_failing_one_is_logged() {
    let cable = Cable::with_queues(1);
    let (_directory, path) = open_directory();
    fs::write(path.join(".refuse"), "").expect("written");
    let mut command = ingest(&cable, &path, "-w-out.pcapng -c 10");
    command.args(["-z", "./witness it"]);
    let run = Mirror::start(command).attached(&cable);
    inject(&cable, 10);
    run.end().expect_code(1).expect_words(&["-z ./witness it ./-out.pcapng: exit status: 3"]);
    let log = fs::read_to_string(path.join("log of it")).expect("the program ran");
    assert_eq!(log, "1|./-out.pcapng|0|19|0|none none \n");
    whole_capture(&path.join("-out.pcapng"));

    let run = Mirror::ingest(&cable, &path, "-w out.pcapng -c 10 -z ./nowhere");
    inject(&cable, 10);
    run.end().expect_code(1).expect_words(&["-z ./nowhere out.pcapng: cannot be run: No such file"]);
    assert_next_run_works(&cable);
}

#[test]
fn another_user_must_exist_and_writes_only_where_permitted() {
    let cable = Cable::with_queues(1);
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    for (user, code, words) in [
        ("nosuchuser", 2, ["-Z nosuchuser: there is no such user", "getent passwd"]),
        ("nobody", 1, ["as user nobody, see -Z", "Permission denied"]),
    ] {
        let run = Mirror::start(ingest(&cable, path, &format!("-Z {user} -w {}/out.pcapng", path.display())));
        run.end().expect_code(code).expect_words(&words);
        assert_eq!(names(path), [""; 0]);
    }
    assert_next_run_works(&cable);
}

#[test]
fn another_user_restores_busy_polling_settings() {
    let cable = Cable::with_queues(1);
    let before = common::mirror::state(&cable);
    let (_directory, path) = open_directory();
    let run = Mirror::ingest(&cable, &path, "-Z nobody --wait busy-poll -w out.pcapng");
    assert_ne!(common::mirror::state(&cable)[2], before[2]);
    run.end_by(Signal::SIGINT).expect_code(0);
    assert_eq!(common::mirror::state(&cable), before);
}

#[test]
fn compressed_at_full_rate_every_frame_is_in_one_file() {
    for (name, program) in [("out.pcapng.gz", "gzip"), ("out.pcapng.zst", "zstd")] {
        let cable = Cable::with_queues(2);
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path();
        let run_ = Mirror::ingest(&cable, path, &format!("-w {name} -C 5 --report report.json"));
        let generator = cable.generator(full_load()).start(u64::MAX);
        until("there are three files", || (visible(path).len() >= 3).then_some(()));
        run_.end_by(Signal::SIGINT).expect_code(0);
        generator.stop().expect("generated");
        let files: Vec<_> = names(path).into_iter().filter(|name| name != "report.json").collect();
        assert!(files.contains(&name.replace("pcapng", "pcapng1")), "{files:?}");
        let tshark = run(Command::new("capinfos").args(["-T", "-r", "-c"]).arg(path.join(name)));
        run(Command::new(program).args(["-d", "-q"]).args(files.iter().map(|file| path.join(file))))
            .expect("unpacked");
        let plain = |file: &str| file[..file.rfind('.').expect("ending")].to_owned();
        let count = complete(&path.join(plain(name))).packets.len();
        assert!(tshark.expect("capinfos").trim().ends_with(&format!("\t{count}")));
        let files: Vec<_> = files.iter().map(|file| plain(file)).collect();
        assert_all_there(path, &files, &path.join("report.json"));
    }
}

#[test]
fn each_origin_has_its_own_files_at_full_rate() {
    let cable = Cable::with_queues(2);
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    let flags = "-w out.pcapng --per-origin --max-origins 2 -C 1 --report report.json";
    let run = Mirror::ingest(&cable, path, flags);
    let generator = cable.generator(Traffic { vnis: 4, ..full_load() }).start(u64::MAX);
    until("there are ten files", || (visible(path).len() >= 10).then_some(()));
    run.end_by(Signal::SIGINT).expect_code(0);
    generator.stop().expect("generated");
    let files: Vec<_> = names(path).into_iter().filter(|name| name != "report.json").collect();
    assert_all_there(path, &files, &path.join("report.json"));
    for file in &files {
        let capture = complete(&path.join(file));
        for packet in &capture.packets {
            let origin = packet.interface_name.as_deref().expect("an interface's name");
            let own = file.contains(&format!("-{origin}.pcapng"));
            assert!(own || file.starts_with("out-other.pcapng"), "{origin} in {file}");
        }
    }
    let series: BTreeSet<_> = files.iter().map(|file| file.split(".pcapng").next()).collect();
    assert_eq!(series.len(), 3, "{files:?}");
    assert_next_run_works(&cable);
}

#[test]
fn below_min_free_the_oldest_files_are_deleted_or_the_capture_ends() {
    const DISK: u64 = 8 << 20;
    let cable = Cable::with_queues(1);
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    let at = path.join("disk");
    fs::create_dir(&at).expect("mount point");
    let disk = SmallDisk::mount(&at, DISK);
    fs::write(at.join("theirs"), vec![0; 1 << 20]).expect("written");
    let free = || {
        let space = run(Command::new("stat").args(["-f", "-c", "%a %S"]).arg(&at)).expect("stat");
        space.split_whitespace().map(|word| word.parse::<u64>().expect("number")).product::<u64>()
    };
    let capture = |flags: &str| {
        let flags = format!("-w disk/out.pcapng -C 500k --min-free 4m {flags} --report report.json");
        let run = Mirror::ingest(&cable, path, &flags);
        burst(&cable, 150_000);
        run.has(75_000);
        assert!(free() >= 4 << 20, "{}", free());
        let ending = run.end_by(Signal::SIGINT);
        let report = balanced_report(&path.join("report.json"));
        fs::remove_file(path.join("report.json")).expect("removed");
        (ending, sink(&report, "pcap").clone())
    };
    let (ending, pcap) = capture("--when-full delete");
    ending.expect_code(0);
    assert_eq!(pcap["failed"], serde_json::json!({}));
    let files = names(&at);
    assert!(files.len() > 3 && files.contains(&"theirs".to_owned()), "{files:?}");
    assert!(!files.contains(&"out.pcapng".to_owned()), "the oldest went: {files:?}");
    files.iter().filter(|name| *name != "theirs").for_each(|name| drop(complete(&at.join(name))));

    for name in files.iter().filter(|name| *name != "theirs") {
        fs::remove_file(at.join(name)).expect("removed");
    }
    let (ending, pcap) = capture("--when-full stop --on-output-end continue");
    ending.expect_code(1).expect_words(&["bytes are free, below the minimum of 4194304", "free space"]);
    assert_eq!(pcap["state"], "ended");
    let files: Vec<_> = names(&at).into_iter().filter(|name| name != "theirs").collect();
    let packets: usize = files.iter().map(|name| complete(&at.join(name)).packets.len()).sum();
    assert_eq!(pcap["written"], packets);
    drop(disk);
    assert_next_run_works(&cable);
}

#[test]
fn a_disk_that_fills_up_leaves_compressed_files_whole() {
    for (ending, program) in [("gz", "gzip"), ("zst", "zstd")] {
        let cable = Cable::with_queues(1);
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path();
        let at = path.join("disk");
        fs::create_dir(&at).expect("mount point");
        let disk = SmallDisk::mount(&at, 128 << 10);
        let run = Mirror::ingest(
            &cable,
            path,
            &format!(
                "-w disk/out.{ending} -C 300k --when-full stop --on-output-end continue --report report.json"
            ),
        );
        let generator = cable.generator(Traffic { rate: Some(50_000), ..Traffic::default() }).start(u64::MAX);
        run.says("sink stopped; ingest continues");
        generator.stop().expect("generated");
        run.end_by(Signal::SIGINT).expect_code(1).expect_words(&["No space left", "residue 0"]);
        let report = balanced_report(&path.join("report.json"));
        let written = sink(&report, "pcap")["written"].as_u64().expect("written");
        let mut packets = 0;
        for file in names(&at) {
            assert!(!file.starts_with('.'), "{file}");
            let unpacked = Command::new(program).arg("-dc").arg(at.join(&file)).output().expect("unpacked");
            assert!(unpacked.status.success(), "{file}: {}", String::from_utf8_lossy(&unpacked.stderr));
            let plain = path.join("plain");
            fs::write(&plain, unpacked.stdout).expect("written");
            packets += whole_capture(&plain).packets.len();
        }
        assert_eq!(packets as u64, written, "{ending}");
        drop(disk);
    }
}

#[test]
fn tshark_reads_the_same_from_headers_as_from_whole_packets() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    let frames = mixed::mixed().expect("frames");
    let outer: Vec<_> = frames
        .iter()
        .filter(|frame| frame.len() > 60)
        .map(|frame| Outer::sample(7).encapsulate(frame).expect("outer"))
        .collect();
    capture::write_pcap(&path.join("in.pcap"), &outer).expect("written");
    let fields = |name: &str, snap: &str| {
        let status = Command::new(MIRROR)
            .args(["replay", "-q", "-r", "in.pcap", "-w", name, "--snap", snap])
            .current_dir(path)
            .status()
            .expect("mirror");
        assert!(status.success());
        let mut tshark = Command::new("tshark");
        // ICMP errors quote the headers of the packet that they are about, as payload.
        tshark.args(["-n", "-o", "ip.defragment:FALSE", "-Y", "!(icmp.type == 3) && !(icmpv6.type == 1)"]);
        tshark.args(["-T", "fields"]);
        for field in [
            "frame.len",
            "vlan.id",
            "ip.src",
            "ip.proto",
            "ipv6.nxt",
            "ipv6.src",
            "tcp.seq_raw",
            "tcp.flags",
            "tcp.options",
            "udp.port",
            "icmp.type",
            "icmpv6.type",
            "sctp.srcport",
        ] {
            tshark.args(["-E", "occurrence=f", "-e", field]);
        }
        run(tshark.arg("-r").arg(path.join(name))).expect("tshark")
    };
    assert_eq!(fields("headers.pcapng", "headers"), fields("whole.pcapng", "0"));
    let (headers, whole) =
        (capture::read(&path.join("headers.pcapng")), capture::read(&path.join("whole.pcapng")));
    let bytes = |capture: CaptureFile| capture.packets.iter().map(|packet| packet.bytes.len()).sum::<usize>();
    assert!(bytes(headers.expect("capture")) < bytes(whole.expect("capture")) / 2);
}

#[test]
fn a_replay_of_root_reads_as_root_and_writes_as_another_user() {
    let (_directory, path) = open_directory();
    let twin = mirror_lab::aws_twin::aws_twin().expect("frames");
    capture::write_pcap(&path.join("in.pcap"), &twin).expect("written");
    fs::set_permissions(path.join("in.pcap"), fs::Permissions::from_mode(0o600)).expect("mode");
    let status = Command::new(MIRROR)
        .args(["replay", "-q", "-r", "in.pcap", "-w", "out.pcapng", "-Z", "nobody"])
        .current_dir(&path)
        .status()
        .expect("mirror");
    assert!(status.success());
    assert_eq!(fs::metadata(path.join("out.pcapng")).expect("file").uid(), NOBODY);
    assert!(!whole_capture(&path.join("out.pcapng")).packets.is_empty());
}

#[test]
fn file_flags_for_a_stream_or_without_rotation_are_bad_usage() {
    let directory = tempfile::tempdir().expect("directory");
    for (flags, words) in [
        ("-w - -C 1", "-C and -G asks for files"),
        ("-w - --per-origin", "--per-origin asks for files"),
        ("-w out -W 3", "-W counts the files of -C or -G"),
        ("-w out -C 1x", "is not a size such as"),
        ("-w out -s head", "neither a number of bytes nor `headers`"),
    ] {
        let output = Command::new(MIRROR)
            .args(["replay", "-r", "/dev/null"])
            .args(flags.split(' '))
            .current_dir(directory.path())
            .output()
            .expect("mirror");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{flags}: {said}");
        assert!(said.contains(words), "{flags}: {said}");
        assert_eq!(names(directory.path()), [""; 0]);
    }
}

/// Frames of one origin go to one file; the injector sends what the generator cannot.
#[test]
fn a_table_has_its_own_rotated_files() {
    let cable = Cable::with_queues(1);
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    let table = "[[sink]]\nwrite = \"o.pcap\"\nformat = \"pcap\"\nper-origin = true\nsnap = \"headers\"\n\
        file-size = \"1k\"\n";
    fs::write(path.join("mirror.toml"), table).expect("written");
    let checked = Command::new(MIRROR).args(["config", "check"]).arg(path.join("mirror.toml")).status();
    assert!(checked.expect("mirror").success());
    let run = Mirror::ingest(&cable, path, "--config mirror.toml -c 100");
    let injector = Injector::new(&cable.sender, common::SENDER).expect("injector");
    let (outer, _) = common::mirror::frames(100);
    injector.send_all(&outer).expect("injected");
    run.end().expect_code(0);
    let files: Vec<_> = names(path).into_iter().filter(|name| name != "mirror.toml").collect();
    assert!(files.len() > 3 && files.iter().all(|name| name.starts_with("o-vni-12345@")), "{files:?}");
    let captures = files.iter().map(|name| whole_capture_of_headers(&path.join(name)));
    assert_eq!(captures.sum::<usize>(), 100);
}

/// Packets of a capture that are all truncated after the UDP header.
fn whole_capture_of_headers(file: &Path) -> usize {
    let capture = capture::read(file).expect("capture");
    assert!(!capture.torn && capture.packets.iter().all(|packet| packet.bytes.len() == 42));
    capture.packets.len()
}
