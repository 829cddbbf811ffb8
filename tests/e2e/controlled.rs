//! The control socket, and the commands that ask over it. Needs root.

mod common;

use std::{
    fs::{self, File},
    io::{Read as _, Write as _},
    os::unix::{
        fs::{MetadataExt as _, PermissionsExt as _, chown},
        net::UnixStream,
        process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread,
    time::Duration,
};

use common::{
    CAPTURE, Cable,
    mirror::{MIRROR, Mirror, assert_next_run_works, balanced_report, inject, inject_slowly, until},
};
use mirror_lab::{VethEnd, VethOptions, VethPair};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use rustix::{
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize},
};
use serde_json::Value;

const STATUS: &[u8] = b"{\"schema\":\"mirror.control/1\",\"request\":\"status\"}\n";
/// Another user, and another group.
const ANOTHER: u32 = 12_345;

fn socket(name: &str) -> PathBuf {
    Path::new("/run/mirror").join(format!("{name}.sock"))
}

/// `mirror` with these arguments.
fn asked(arguments: &str) -> Output {
    Command::new(MIRROR).args(arguments.split_ascii_whitespace()).output().expect("mirror runs")
}

#[track_caller]
fn answered(output: &Output, code: i32) -> String {
    let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{said}");
    said
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}

/// The status of a run, as JSON.
#[track_caller]
fn status(name: &str) -> Value {
    let output = asked(&format!("status {name} --json"));
    let runs: Value = serde_json::from_str(&answered(&output, 0)).expect("JSON");
    runs[0].clone()
}

/// The answer to bytes, up to the end of the connection.
fn exchange(name: &str, request: &[u8]) -> Vec<u8> {
    let mut stream = UnixStream::connect(socket(name)).expect("connected");
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("timeout");
    // The run may have closed it before all is sent.
    let _ = stream.write_all(request);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    answer
}

#[test]
fn status_and_top_show_a_run_and_its_socket_ends_with_it() {
    let cable = Cable::with_queues(2);
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    let run = Mirror::ingest(&cable, path, "-w out.pcapng --report report.json");
    inject(&cable, 100);
    run.has(100);
    let found = fs::symlink_metadata(socket("cap0")).expect("the socket");
    assert_eq!((found.permissions().mode() & 0o777, found.uid(), found.gid()), (0o600, 0, 0));
    let shown = status("cap0");
    assert_eq!(
        (&shown["name"], &shown["phase"], &shown["pid"], &shown["drain"]),
        (&"cap0".into(), &"ingesting".into(), &run.pid().as_raw().into(), &Value::Null)
    );
    assert_eq!(shown["report"]["frames"]["decapsulated"], 100);
    let lines = answered(&asked("status"), 0);
    assert!(lines.contains("cap0: ingesting for") && lines.contains("100 packets captured"), "{lines}");
    let screen = answered(&asked("top cap0 -1"), 0);
    for words in ["mirror cap0  ingesting", "cap0 0", "cap0 1", "decapsulated", "pcap", "12345"] {
        assert!(screen.contains(words), "{words}:\n{screen}");
    }
    assert!(screen.lines().all(|line| line.chars().count() <= 80), "{screen}");
    run.end_by(Signal::SIGINT).expect_code(0);
    assert!(!socket("cap0").exists());
    let none = answered(&asked("status cap0"), 1);
    assert!(none.contains("no run has /run/mirror/cap0.sock"), "{none}");
    balanced_report(&path.join("report.json"));
    assert_next_run_works(&cable);
}

#[test]
fn a_drain_over_the_socket_is_that_of_term_and_can_be_waited_for() {
    let cable = Cable::with_queues(1);
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    let run = Mirror::ingest(&cable, path, "--drain-max 1h --drain-quiet 1s --report report.json");
    inject(&cable, 10);
    run.has(10);
    assert_eq!(status("cap0")["drain"]["max_s"], 3600.0);
    let said = answered(&asked("drain cap0 --wait"), 0);
    assert!(said.contains("no packet has come for 1s, in 1h") && said.contains("has ended"), "{said}");
    run.end().expect_code(0);
    assert_eq!(balanced_report(&path.join("report.json"))["drain"]["quiet"], true);
    // A run that does not drain refuses, and goes on.
    let mut run = Mirror::ingest(&cable, path, "");
    let said = answered(&asked("drain"), 1);
    assert!(said.contains("start it with --drain-max TIME"), "{said}");
    assert!(run.is_running());
    run.end_by(Signal::SIGTERM).expect_code(0);
}

/// The command where every user may execute it, run by another user, whom the standard library gives no other
/// groups.
fn as_another(directory: &Path, arguments: &str) -> Output {
    let copy = directory.join("mirror");
    if !copy.exists() {
        fs::copy(MIRROR, &copy).expect("copied");
    }
    let mut command = Command::new(copy);
    command.args(arguments.split_ascii_whitespace()).uid(ANOTHER).gid(ANOTHER);
    command.output().expect("mirror runs")
}

#[test]
fn other_users_may_do_nothing_and_a_group_may_read() {
    let cable = Cable::with_queues(1);
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("for every user");
    let run = Mirror::ingest(&cable, path, "--control mine --drain-max 1h");
    let refused = answered(&as_another(path, "status mine"), 1);
    assert!(refused.contains("/run/mirror/mine.sock") && refused.contains("use root"), "{refused}");
    run.end_by(Signal::SIGINT).expect_code(0);

    let mut run = Mirror::ingest(&cable, path, "--control ours --control-group daemon --drain-max 1h");
    let found = fs::symlink_metadata(socket("ours")).expect("the socket");
    let daemon = nix::unistd::Group::from_name("daemon").expect("groups").expect("the group daemon").gid;
    assert_eq!((found.permissions().mode() & 0o777, found.gid()), (0o660, daemon.as_raw()));
    // As if it were the user's own group.
    chown(socket("ours"), None, Some(ANOTHER)).expect("owner");
    assert!(answered(&as_another(path, "status ours"), 0).contains("ours: ingesting"));
    let refused = answered(&as_another(path, "drain ours"), 1);
    assert!(refused.contains("only root may drain a run"), "{refused}");
    assert!(run.is_running() && !run.said().contains("draining"));
    run.end_by(Signal::SIGINT).expect_code(0);
}

#[test]
fn the_socket_of_a_killed_run_is_replaced_and_that_of_a_live_one_is_refused() {
    let cable = Cable::with_queues(1);
    // An interface of the same name in another namespace.
    let other = cable.lab.namespace("other").expect("namespace");
    let ends = (VethEnd::new(&cable.sender, "gen1"), VethEnd::new(&other, CAPTURE));
    VethPair::create(ends.0, ends.1, &VethOptions::default()).expect("veth");
    let start = |arguments: &str| {
        let mut command = other.command(MIRROR);
        command.args(["ingest", "-i", CAPTURE, "--stats", "1h"]).args(arguments.split_ascii_whitespace());
        Mirror::start(command)
    };
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    let killed = Mirror::ingest(&cable, path, "");
    killed.end_by(Signal::SIGKILL);
    assert!(socket("cap0").exists(), "nobody could remove it");
    assert!(answered(&asked("status"), 1).contains("no run has a control socket"));

    let run = Mirror::ingest(&cable, path, "");
    assert_eq!(status("cap0")["pid"], run.pid().as_raw());
    start("--control cap0").end().expect_code(1).expect_words(&[
        "/run/mirror/cap0.sock: another run has this control socket",
        "choose another name with `--control NAME`",
    ]);
    // Nobody asked for this name, so the run goes on without one.
    let second = start("").attached_to(&other, CAPTURE);
    second.says("so this run has none");
    assert_eq!(status("cap0")["pid"], run.pid().as_raw());
    second.end_by(Signal::SIGINT).expect_code(0);
    let second = start("--control second").attached_to(&other, CAPTURE);
    let several = answered(&asked("drain"), 2);
    assert!(several.contains("there is cap0, second"), "{several}");
    assert_eq!(answered(&asked("status"), 0).matches("ingesting").count(), 2);
    second.end_by(Signal::SIGINT).expect_code(0);
    run.end_by(Signal::SIGINT).expect_code(0);
    assert!(!socket("cap0").exists() && !socket("second").exists());
    let run = Mirror::ingest(&cable, path, "--control off");
    assert!(answered(&asked("status"), 1).contains("no run has a control socket"));
    run.end_by(Signal::SIGINT).expect_code(0);
}

#[test]
fn hostile_clients_neither_stop_the_run_nor_lose_its_frames() {
    const FRAMES: u32 = 10_000;
    let cable = Cable::with_queues(1);
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    let run = Mirror::ingest(&cable, path, "--report report.json");
    let connect = || UnixStream::connect(socket("cap0")).expect("connected");
    // Silent ones, as many as are served at once, and one that asks and reads nothing.
    let silent: Vec<_> = (0..16).map(|_| connect()).collect();
    connect().write_all(STATUS).expect("written");
    thread::scope(|scope| {
        scope.spawn(|| inject_slowly(&cable, FRAMES));
        for request in
            [&b"\n"[..], b"{}\n", b"GET / HTTP/1.1\r\n\r\n", &[0; 100_000], &[b'['; 4000], b"\xff\xfe\n"]
        {
            let answer = text(&exchange("cap0", request));
            assert!(
                answer.is_empty() || answer.contains("\"refused\":{\"reason\":\"bad_request\""),
                "{answer}"
            );
        }
        let refused = exchange("cap0", b"{\"schema\":\"mirror.control/1\",\"request\":\"reboot\"}\n");
        assert!(text(&refused).contains("unknown variant `reboot`"), "{}", text(&refused));
        // A flood of them.
        for _ in 0..200 {
            drop(UnixStream::connect(socket("cap0")));
        }
        drop(silent);
    });
    until("the run answers", || (asked("status cap0").status.code() == Some(0)).then_some(()));
    let threads = fs::read_dir(format!("/proc/{}/task", run.pid())).expect("tasks").count();
    let before = run.settled();
    assert_eq!(before, u64::from(FRAMES));
    assert_eq!(fs::read_dir(format!("/proc/{}/task", run.pid())).expect("tasks").count(), threads);
    run.end_by(Signal::SIGINT).expect_code(0);
    balanced_report(&path.join("report.json"));
    assert_next_run_works(&cable);
}

/// The process that reads packets has another user then, who may not change /run/mirror.
#[test]
fn after_a_change_of_user_root_still_asks_and_the_next_run_replaces_the_socket() {
    let cable = Cable::with_queues(1);
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    for _ in 0..2 {
        let run = Mirror::ingest(&cable, path, "-Z nobody");
        // Its program is attached a moment before.
        until("it ingests", || (status("cap0")["phase"] == "ingesting").then_some(()));
        assert_eq!(fs::symlink_metadata(socket("cap0")).expect("the socket").uid(), 0);
        run.end_by(Signal::SIGINT).expect_code(0);
    }
    assert_next_run_works(&cable);
    assert!(!socket("cap0").exists());
}

/// A terminal with a program on it.
struct Terminal {
    /// The program's side, kept open.
    inside: File,
    outside: File,
    shown: String,
    top: Child,
}

impl Terminal {
    /// Runs `mirror top` on a terminal of 80 columns and 24 rows.
    fn with_top(name: &str) -> Self {
        let outside =
            openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("a terminal");
        grantpt(&outside).and_then(|()| unlockpt(&outside)).expect("a terminal");
        let path = ptsname(&outside, Vec::new()).expect("a name").into_string().expect("a name");
        let inside = File::options().read(true).write(true).open(path).expect("the terminal");
        let side = || Stdio::from(inside.try_clone().expect("a descriptor"));
        let mut terminal = Self {
            outside: outside.into(),
            shown: String::new(),
            top: {
                resize(&inside, 80, 24);
                let mut command = Command::new(MIRROR);
                command.args(["top", name]).stdin(side()).stdout(side()).stderr(side());
                command.spawn().expect("mirror runs")
            },
            inside,
        };
        rustix::io::ioctl_fionbio(&terminal.outside, true).expect("a terminal that does not block");
        terminal.shows("\x1b[?1049h");
        terminal
    }

    /// Reads what is drawn until it has this text.
    #[track_caller]
    fn shows(&mut self, words: &str) {
        until(&format!("top shows {words:?}"), || {
            let mut buffer = [0; 65536];
            while let Ok(read @ 1..) = self.outside.read(&mut buffer) {
                self.shown.push_str(&String::from_utf8_lossy(&buffer[..read]));
            }
            self.shown.contains(words).then_some(())
        });
    }

    /// Its modes, without what the kernel notes itself.
    fn echoes(&self) -> bool {
        tcgetattr(&self.inside).expect("modes").local_modes.contains(LocalModes::ECHO | LocalModes::ICANON)
    }

    /// Waits for the end, by which all is as it was.
    #[track_caller]
    fn ends(mut self) {
        let status = until("top ends", || self.top.try_wait().expect("wait"));
        self.shows("\x1b[?25h\x1b[?1049l");
        assert!(status.success() && self.echoes(), "{status}: {:?}", self.shown);
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.top.id().cast_signed()), signal).expect("top can be signalled");
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // One that has ended has been waited for.
        let _ = self.top.kill();
        let _ = self.top.wait();
    }
}

fn resize(terminal: &File, columns: u16, rows: u16) {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(terminal, size).expect("a size");
}

#[test]
fn top_draws_in_place_follows_the_size_and_restores_the_terminal_on_every_way_out() {
    let cable = Cable::with_queues(1);
    let directory = tempfile::tempdir().expect("directory");
    let run = Mirror::ingest(&cable, directory.path(), "");
    inject(&cable, 100);
    run.has(100);

    let mut by_key = Terminal::with_top("cap0");
    by_key.shows("mirror cap0");
    by_key.shows("decapsulated");
    // A second screen, with rates, over the first.
    by_key.shows("pps");
    assert!(!by_key.echoes());
    by_key.shown.clear();
    resize(&by_key.inside, 200, 50);
    by_key.signal(Signal::SIGWINCH);
    // Tables side by side: the title of origins follows that of queues in its row.
    until("a wide screen", || {
        by_key.shows("ORIGIN");
        by_key.shown.lines().any(|row| row.contains("PATH") && row.contains("ORIGIN")).then_some(())
    });
    by_key.outside.write_all(b"q").expect("typed");
    by_key.ends();

    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let by_signal = Terminal::with_top("cap0");
        by_signal.signal(signal);
        by_signal.ends();
    }

    let mut by_end = Terminal::with_top("cap0");
    by_end.shows("ingesting");
    run.end_by(Signal::SIGINT).expect_code(0);
    by_end.shows("cap0: the run has ended");
    by_end.ends();
}
