//! What a process without capabilities may still do, although it is root: its threads, as `/proc` shows them,
//! and `-z` commands that try. Needs root.

mod common;

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    os::unix::fs::{PermissionsExt as _, chown},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
};

use common::{
    CAPTURE, Cable,
    mirror::{
        Ending, MIRROR, Mirror, assert_next_run_works, balanced_report, frames, ingest, inject, mirror,
        names, threads, until,
    },
};
use mirror_lab::capture;
use nix::{
    sys::{signal::Signal, stat::Mode, utsname::uname},
    unistd::mkfifo,
};

/// Bits of capabilities(7), `linux/capability.h`.
const CAP_DAC_OVERRIDE: u64 = 1 << 1;
const CAP_DAC_READ_SEARCH: u64 = 1 << 2;
const CAP_NET_ADMIN: u64 = 1 << 12;
/// Another user.
const ANOTHER: u32 = 12_345;

/// Threads that end a run, start commands or answer denied calls: they have no filter, and read no packet.
const UNFILTERED: &[&str] = &["mirror", "mirror-sandbox", "mirror-signals", "mirror-z"];
/// Threads that may have to complete files or restore settings.
const END_A_RUN: &[&str] = &["mirror", "mirror-signals", "mirror-pcap"];

/// Every thread that should have a filter has one, has `no_new_privs`, and holds no capability except `kept`,
/// if it is one that ends a run; and there are threads of these names.
#[track_caller]
fn assert_confined(run: &Mirror, wanted: &[&str], kept: u64) {
    // Threads of sinks confine themselves while the run starts.
    let all = until("all threads are there", || {
        let all = threads(run.pid());
        let filtered = |name: &str| !UNFILTERED.contains(&name);
        let settled = all.iter().all(|(name, fields)| !filtered(name) || fields["Seccomp"] == 2);
        let there = wanted.iter().all(|wanted| all.iter().any(|(name, _)| name == wanted));
        (settled && there).then_some(all)
    });
    for (name, fields) in &all {
        let filtered = u64::from(!UNFILTERED.contains(&name.as_str())) * 2;
        let kept = if END_A_RUN.contains(&name.as_str()) { kept } else { 0 };
        assert_eq!((fields["Seccomp"], fields["NoNewPrivs"]), (filtered, 1), "{name}: {fields:x?}");
        for (set, kept) in
            [("CapEff", kept), ("CapPrm", kept), ("CapBnd", kept), ("CapInh", 0), ("CapAmb", 0)]
        {
            // After a change of user, the bounding set is irrelevant.
            assert_eq!(fields[set], kept, "{set} of {name}: {fields:x?}");
        }
    }
}

/// Every thread could confine itself; a failure is only logged unless the sandbox is required.
#[track_caller]
fn assert_whole(ending: &Ending) {
    assert!(!ending.said.contains("does not confine"), "{}", ending.said);
}

/// A directory that everybody may write to.
fn open_directory() -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("directory");
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).expect("for every user");
    directory
}

#[test]
fn every_thread_of_an_ingest_is_confined() {
    let cable = Cable::with_queues(2);
    for link in ["out", "far"] {
        cable.target.ip(&format!("link add {link}0 type veth peer name {link}1")).expect("veth");
        cable.target.ip(&format!("link set {link}0 up")).expect("up");
        cable.target.ip(&format!("link set {link}1 up")).expect("up");
    }
    cable.target.ip("address add 10.99.0.1/24 dev out0").expect("address");
    let forwards = "--forward veth:ids1 --forward tap:ids0 --forward dev:far0 --forward vxlan:10.99.0.2 \
        --forward pcap-over-ip:listen=127.0.0.1:57012 --forward pcap-over-ip:connect=127.0.0.1:57013 \
        --print";
    let file = [
        "mirror",
        "mirror-sandbox",
        "mirror-signals",
        "mirror-control",
        "q0-cap0",
        "q1-cap0",
        "mirror-links",
        "mirror-pcap",
    ];
    let outputs = ["q0-cap0", "q1-cap0", "mirror-links", "mirror-forward", "mirror-print", "mirror-signals"];
    for (arguments, wanted, kept) in [
        ("-w out.pcapng --report report.json --latency", &file[..], 0),
        ("-Z nobody -w out.pcapng", &file, 0),
        ("-z /bin/true -w out.pcapng", &[&file[..], &["mirror-z"]].concat(), 0),
        (
            "-Z nobody -z /bin/true -C 1 --per-origin -w out.pcapng.gz",
            &[&file[..], &["mirror-z"]].concat(),
            0,
        ),
        (forwards, &outputs, 0),
        ("-Z nobody --http 127.0.0.1:0", &["q0-cap0", "q1-cap0", "mirror-http"], 0),
        ("--wait busy-poll -w out.pcapng", &file, CAP_NET_ADMIN),
        ("--wait busy-poll -Z nobody -w out.pcapng", &file, CAP_NET_ADMIN | CAP_DAC_OVERRIDE),
        ("--wait spin -vv", &["q0-cap0", "q1-cap0", "log-cap0"], 0),
    ] {
        println!("{arguments}");
        let directory = open_directory();
        let run = Mirror::ingest(&cable, directory.path(), arguments);
        inject(&cable, 10);
        run.has(10);
        assert_confined(&run, wanted, kept);
        run.signal(Signal::SIGUSR2);
        // Nobody reads the stream.
        let code = i32::from(arguments == forwards);
        assert_whole(&run.end_by(Signal::SIGINT).expect_code(code).expect_words(&["residue 0"]));
    }
    assert_next_run_works(&cable);
}

/// A capture of three mirrored packets.
fn outer(directory: &Path) -> PathBuf {
    let file = directory.join("outer.pcap");
    capture::write_pcap(&file, &frames(3).0).expect("written");
    file
}

#[test]
fn every_thread_of_a_replay_by_root_is_confined() {
    let cable = Cable::with_queues(1);
    let reading = ["mirror", "mirror-sandbox", "mirror-signals", "mirror-replay", "mirror-pipe"];
    let with = |others: &[&'static str]| [&reading[..], others].concat();
    for (arguments, wanted) in [
        ("", with(&[])),
        ("-w out.pcapng --report report.json", with(&["mirror-pcap"])),
        ("-Z nobody -w out.pcapng.zst --print", with(&["mirror-pcap", "mirror-print"])),
        ("-z /bin/true -w out.pcapng", with(&["mirror-pcap", "mirror-z"])),
        ("-Z nobody -z /bin/true -w out.pcapng", with(&["mirror-pcap", "mirror-z"])),
        ("--forward tap:ids0 --forward pcap-over-ip:listen=127.0.0.1:57012", with(&["mirror-forward"])),
    ] {
        println!("{arguments}");
        let directory = open_directory();
        let path = directory.path();
        let bytes = fs::read(outer(path)).expect("capture");
        let fifo = path.join("fifo");
        mkfifo(&fifo, Mode::from_bits_truncate(0o644)).expect("FIFO");
        let run = Mirror::start(mirror(&cable, path, &format!("replay -r fifo {arguments}")));
        // A replay waits for its first reader.
        let reader = arguments.contains("pcap-over-ip").then(|| {
            let connect = || TcpStream::connect(("127.0.0.1", 57012)).ok();
            let inside = || until("it listens", connect);
            let mut stream = cable.target.enter(inside).expect("namespace");
            thread::spawn(move || stream.read_to_end(&mut Vec::new()).expect("the stream"))
        });
        let mut writer = OpenOptions::new().write(true).open(&fifo).expect("its reader has come");
        writer.write_all(&bytes).expect("written");
        assert_confined(&run, &wanted, 0);
        drop(writer);
        assert_whole(&run.end().expect_code(0).expect_words(&["3 packets captured", "residue 0"]));
        if let Some(reader) = reader {
            assert!(reader.join().expect("reader") > 0);
        }
    }
}

/// Root reads files that need a capability, which it drops before the first packet; if only the file reader
/// can open a file, it keeps the smallest set that suffices.
#[test]
fn root_replays_files_of_another_user_and_completes_files_in_their_directory() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    let theirs = path.join("theirs");
    fs::create_dir(&theirs).expect("directory");
    outer(&theirs);
    let fifo = theirs.join("fifo");
    mkfifo(&fifo, Mode::from_bits_truncate(0o600)).expect("FIFO");
    for (of, mode) in [("outer.pcap", 0o600), ("fifo", 0o600), ("", 0o700)] {
        let of = theirs.join(of);
        fs::set_permissions(&of, fs::Permissions::from_mode(mode)).expect("mode");
        chown(&of, Some(ANOTHER), Some(ANOTHER)).expect("owner");
    }
    let bytes = fs::read(theirs.join("outer.pcap")).expect("capture");
    let mut command = Command::new(MIRROR);
    command.current_dir(path).args(["replay", "-r", "theirs/outer.pcap", "-r", "theirs/fifo"]);
    command.args(["-w", "theirs/out.pcapng", "--report", "theirs/report.json"]).stdin(Stdio::null());
    let run = Mirror::start(command);
    let mut writer = OpenOptions::new().write(true).open(&fifo).expect("its reader has come");
    let all = threads(run.pid());
    let held = |name: &str| all.iter().find(|(found, _)| found == name).expect("thread").1["CapEff"];
    assert_eq!(held("mirror"), CAP_DAC_OVERRIDE);
    assert_eq!(held("mirror-replay"), CAP_DAC_READ_SEARCH);
    writer.write_all(&bytes).expect("written");
    drop(writer);
    run.end().expect_code(0).expect_words(&["6 packets captured"]);
    balanced_report(&theirs.join("report.json"));
}

/// Tries several things with its file and the directories of its environment, and records beside that file
/// what worked.
const TRIES: &str = r#"#!/bin/sh
try() {
    what=$1
    shift
    if "$@" > /dev/null 2>&1; then echo "$what=yes"; else echo "$what=no"; fi
}
cd "$(dirname "$1")" || exit 9
{
    try read cat "$1"
    try read-theirs cat "$OUTSIDE/theirs"
    try read-roots cat "$OUTSIDE/roots"
    try create-here sh -c 'echo > created'
    try move-here mv created moved
    try remove-here rm moved
    try create-outside sh -c 'echo > "$OUTSIDE/created"'
    try append-outside sh -c 'echo >> "$OUTSIDE/old"'
    try empty-outside sh -c ': > "$OUTSIDE/old"'
    try move-outside mv "$OUTSIDE/old" "$OUTSIDE/new"
    try remove-outside rm -f "$OUTSIDE/old"
    try link-outside ln -s old "$OUTSIDE/link"
    try directory-outside mkdir "$OUTSIDE/made"
    try create-granted sh -c 'echo > "$GRANTED/created"'
    try move-granted cp "$1" "$GRANTED/copy"
} > tried
"#;

/// Which of [`TRIES`] succeed.
type Tried = BTreeMap<String, bool>;

/// Directories for [`TRIES`], which everybody may write to: `work`, `outside`, `granted`.
fn stage() -> tempfile::TempDir {
    let directory = open_directory();
    let path = directory.path();
    for name in ["work", "outside", "granted"] {
        fs::create_dir(path.join(name)).expect("directory");
        fs::set_permissions(path.join(name), fs::Permissions::from_mode(0o777)).expect("for every user");
    }
    for (name, owner, mode) in [("old", 0, 0o666), ("roots", 0, 0o600), ("theirs", ANOTHER, 0o600)] {
        let file = path.join("outside").join(name);
        fs::write(&file, "secret").expect("written");
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).expect("mode");
        chown(&file, Some(owner), None).expect("owner");
    }
    fs::write(path.join("tries"), TRIES).expect("written");
    fs::set_permissions(path.join("tries"), fs::Permissions::from_mode(0o755)).expect("executable");
    outer(path);
    directory
}

/// Adds what [`TRIES`] needs.
fn trying(mut command: Command, stage: &Path) -> Command {
    command.env("OUTSIDE", stage.join("outside")).env("GRANTED", stage.join("granted"));
    command.arg("-z").arg(stage.join("tries")).arg("-w").arg(stage.join("work/out.pcapng"));
    command
}

#[track_caller]
fn tried(stage: &Path, said: &str) -> Tried {
    let tried =
        fs::read_to_string(stage.join("work/tried")).unwrap_or_else(|error| panic!("{error}: {said}"));
    tried
        .lines()
        .map(|line| line.split_once('=').expect("a line"))
        .map(|(what, went)| (what.to_owned(), went == "yes"))
        .collect()
}

/// Runs it over a replay with these arguments.
#[track_caller]
fn replayed(stage: &Path, arguments: &str) -> Tried {
    let mut command = Command::new(MIRROR);
    command.args(["replay", "-r"]).arg(stage.join("outer.pcap")).stdin(Stdio::null()).current_dir(stage);
    command.args(arguments.split_ascii_whitespace());
    let ending = Mirror::start(trying(command, stage)).end().expect_code(0);
    tried(stage, &ending.said)
}

/// Reads as `user_reads_roots` says, and may write only to these directories.
#[track_caller]
fn assert_tried(tried: &Tried, user_reads_roots: bool, granted: bool) {
    let went = |what: &str| *tried.get(what).unwrap_or_else(|| panic!("{what} in {tried:?}"));
    assert_eq!(tried.len(), 15, "{tried:?}");
    for (what, wanted) in [
        ("read", true),
        ("read-theirs", false),
        ("read-roots", user_reads_roots),
        ("create-granted", granted),
        ("move-granted", granted),
    ] {
        assert_eq!(went(what), wanted, "{what} in {tried:?}");
    }
    for (what, went) in tried {
        if what.ends_with("-here") || what.ends_with("-outside") {
            assert_eq!(*went, what.ends_with("-here"), "{what} in {tried:?}");
        }
    }
}

#[test]
fn a_command_of_a_replay_writes_only_where_permitted() {
    for (arguments, user_reads_roots, granted) in [
        ("", true, false),
        ("--command-write granted", true, true),
        ("-Z nobody", false, false),
        ("-Z nobody --command-write granted", false, true),
    ] {
        println!("{arguments}");
        let stage = stage();
        assert_tried(&replayed(stage.path(), arguments), user_reads_roots, granted);
        assert_eq!(names(&stage.path().join("outside")), ["old", "roots", "theirs"]);
        assert_eq!(fs::read_to_string(stage.path().join("outside/old")).expect("old"), "secret");
    }
}

#[test]
fn a_command_of_an_ingest_writes_only_where_permitted() {
    let cable = Cable::with_queues(1);
    for (arguments, user_reads_roots) in [("", true), ("-Z nobody", false), ("--wait busy-poll", true)] {
        println!("{arguments}");
        let stage = stage();
        let command = ingest(&cable, stage.path(), &format!("-c 3 --command-write granted {arguments}"));
        let run = Mirror::start(trying(command, stage.path())).attached(&cable);
        inject(&cable, 3);
        let ending = run.end().expect_code(0);
        assert_tried(&tried(stage.path(), &ending.said), user_reads_roots, true);
        assert_eq!(names(&stage.path().join("outside")), ["old", "roots", "theirs"]);
    }
    // Only the main thread may write settings of busy polling and run state, no command.
    let stage = stage();
    let tries = TRIES.replace("$OUTSIDE/old", &format!("/sys/class/net/{CAPTURE}/napi_defer_hard_irqs"));
    fs::write(stage.path().join("tries"), tries).expect("written");
    let command = ingest(&cable, stage.path(), "-c 3 --wait busy-poll");
    let run = Mirror::start(trying(command, stage.path())).attached(&cable);
    inject(&cable, 3);
    let ending = run.end().expect_code(0);
    assert!(!tried(stage.path(), &ending.said)["append-outside"], "{}", ending.said);
    assert_next_run_works(&cable);
}

/// Shows that the denials above come from the sandbox.
#[test]
fn without_a_sandbox_a_command_of_root_writes_anywhere() {
    let stage = stage();
    let tried = replayed(stage.path(), "--sandbox off");
    for what in [
        "create-outside",
        "append-outside",
        "empty-outside",
        "move-outside",
        "directory-outside",
        "create-granted",
    ] {
        assert!(tried[what], "{what} in {tried:?}");
    }
    // Capabilities are dropped in any case.
    assert!(!tried["read-theirs"], "{tried:?}");
}

/// Only bash can connect by itself.
#[test]
fn a_command_connects_only_to_permitted_tcp_ports() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("listener");
    let port = listener.local_addr().expect("address").port();
    for (arguments, connects) in [
        (String::new(), false),
        (format!("--command-connect {port}"), true),
        (format!("--command-connect {}", if port == 1 { 2 } else { 1 }), false),
        ("--sandbox off".to_owned(), true),
    ] {
        let stage = stage();
        let script = format!(
            "#!/bin/bash\ncd \"$(dirname \"$1\")\"\nif (exec 3<>/dev/tcp/127.0.0.1/{port}) 2> /dev/null; \
            then echo connect=yes; else echo connect=no; fi > tried\n"
        );
        fs::write(stage.path().join("tries"), script).expect("written");
        assert_eq!(replayed(stage.path(), &arguments)["connect"], connects, "{arguments}");
    }
}

/// The lowest Landlock ABI of a kernel of this release, as Debian and Amazon Linux build it.
fn abi_of(release: &str) -> u32 {
    let mut numbers = release.split(|byte: char| !byte.is_ascii_digit()).map_while(|part| part.parse().ok());
    let version: (u32, u32) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let since = [(5, 13), (5, 19), (6, 2), (6, 7), (6, 10), (6, 12), (6, 15)];
    u32::try_from(since.iter().filter(|since| version >= **since).count()).expect("a few")
}

#[test]
fn the_start_logs_what_the_kernel_covers_and_require_needs_all_of_it() {
    let release = uname().expect("uname").release().to_string_lossy().into_owned();
    let abi = abi_of(&release);
    let stage = stage();
    let run = |sandbox: &str| {
        let mut command = Command::new(MIRROR);
        command.args(["replay", "-r"]).arg(stage.path().join("outer.pcap")).args(["--sandbox", sandbox]);
        Mirror::start(command).end()
    };
    let auto = run("auto").expect_code(0);
    let lacks = [(3, "truncation"), (4, "TCP"), (5, "ioctls"), (6, "signals")];
    if abi == 0 {
        assert!(auto.said.contains("sandbox: no Landlock on this kernel"), "{release}: {}", auto.said);
    } else {
        assert!(auto.said.contains("sandbox: Landlock ABI "), "{release}: {}", auto.said);
        for (since, what) in lacks {
            assert_eq!(auto.said.contains(what), abi < since, "{what}, {release}: {}", auto.said);
        }
    }
    assert_eq!(auto.said.matches("sandbox:").count(), 1, "{}", auto.said);
    let require = run("require");
    if abi >= 4 {
        require.expect_code(0);
    } else {
        require.expect_code(1).expect_words(&["--sandbox require", "kernel 6.7", "--sandbox auto"]);
    }
    assert!(!run("off").expect_code(0).said.contains("sandbox"));
}

#[test]
fn flags_about_commands_are_validated_before_anything_is_created() {
    let directory = open_directory();
    let path = directory.path();
    outer(path);
    File::create(path.join("file")).expect("file");
    for (arguments, code, words) in [
        ("--command-write .", 2, &["--command-write", "-z"][..]),
        ("--command-connect 443", 2, &["--command-connect", "-z"]),
        ("-z /bin/true --command-write nowhere", 1, &["--command-write nowhere", "No such file"]),
        ("-z /bin/true --command-write file", 2, &["--command-write file", "not a directory"]),
        ("-z /bin/true --command-connect 443,x", 2, &["--command-connect", "x"]),
        ("--sandbox perhaps", 2, &["perhaps", "auto", "require", "off"]),
    ] {
        let mut command = Command::new(MIRROR);
        command.args(["replay", "-r", "outer.pcap", "-w", "out.pcapng"]).current_dir(path);
        command.args(arguments.split_ascii_whitespace());
        Mirror::start(command).end().expect_code(code).expect_words(words);
        assert_eq!(names(path), ["file", "outer.pcap"], "{arguments}");
    }
    let config = "sandbox = \"require\"\nwrite = \"out.pcapng\"\npostrotate-command = \"/bin/true\"\n\
                  command-write = [\"/a\", \"/b\"]\ncommand-connect = \"22,443\"\n";
    fs::write(path.join("good.toml"), config).expect("written");
    fs::write(path.join("bad.toml"), "sandbox = \"sometimes\"").expect("written");
    let check = |file: &str| {
        let mut command = Command::new(MIRROR);
        command.args(["config", "check", file]).current_dir(path);
        Mirror::start(command).end()
    };
    check("good.toml").expect_code(0).expect_words(&["5 keys"]);
    check("bad.toml").expect_code(2).expect_words(&["bad.toml:1:1: sandbox", "sometimes"]);
}
