//! Who can read a stream of packets, that no reader keeps others out, and that packets without a reader make
//! the run fail. Needs root.

mod common;

use std::{
    fs,
    io::{self, Read as _},
    net::TcpStream,
    os::unix::{
        fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _},
        net::{UnixListener, UnixStream},
        process::CommandExt as _,
    },
    path::Path,
    process::Command,
    thread,
    time::Duration,
};

use common::{
    Cable,
    mirror::{MIRROR, Mirror, balanced_report, burst_of, inject, names, sink, until, whole_capture},
};
use mirror_lab::{Lab, Traffic, VethEnd, VethOptions, VethPair, aws_twin, capture, run};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

const SOCKET: &str = "pcap-over-ip:listen=./mirror.sock";
const TCP: &str = "pcap-over-ip:listen=127.0.0.1:57012";

fn cable() -> (Cable, TempDir) {
    let cable = Cable::with_queues(1);
    cable.target.ip("link set dev lo up").expect("lo");
    let directory = tempfile::tempdir().expect("directory");
    // Other users can enter the directory: the socket's own mode decides.
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).expect("mode");
    (cable, directory)
}

/// All frames of a stream.
fn read_all(mut reader: impl io::Read, directory: &Path) -> Vec<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).expect("a stream with an end");
    let file = directory.join("stream.pcap");
    fs::write(&file, bytes).expect("written");
    whole_capture(&file).frames()
}

/// Whether this user and group may connect to the socket; curl(1) has its own exit code for a failed connect.
fn connects(directory: &Path, uid: u32, gid: u32) -> bool {
    let mut curl = Command::new("curl");
    curl.args(["-s", "-m", "1", "--unix-socket", "mirror.sock", "http://localhost/"]).current_dir(directory);
    let output = curl.uid(uid).gid(gid).output().expect("curl");
    output.status.code() != Some(7)
}

fn tcp(cable: &Cable) -> io::Result<TcpStream> {
    cable.target.enter(|| TcpStream::connect("127.0.0.1:57012")).expect("namespace")
}

#[test]
fn a_socket_is_open_only_to_users_that_its_mode_and_group_allow() {
    const NOBODY: u32 = 65_534;
    const GROUP: u32 = 4_711;
    let (cable, directory) = cable();
    let path = directory.path();
    for (options, nobody, member, said) in [
        ("", false, false, "only its owner can read it"),
        (",mode=0660,group=4711", false, true, "its owner and group 4711 can read it"),
        (",mode=0666", true, true, "every user of this host can read it"),
    ] {
        let run = Mirror::ingest(&cable, path, &format!("--forward {SOCKET}{options}"));
        let found = fs::symlink_metadata(path.join("mirror.sock")).expect("socket");
        assert!(found.file_type().is_socket() && found.uid() == 0, "{found:?}");
        assert!(connects(path, 0, 0), "root connects, {options}");
        assert_eq!(connects(path, NOBODY, NOBODY), nobody, "{options}");
        assert_eq!(connects(path, NOBODY, GROUP), member, "{options}");
        let ending = run.end_by(Signal::SIGINT).expect_words(&[said]);
        assert_eq!(ending.status.code(), Some(0), "{}", ending.said);
        assert_eq!(names(path), [""; 0], "the socket goes with the run");
    }
}

#[test]
fn a_reader_of_a_socket_gets_the_packets_and_their_end() {
    let (cable, directory) = cable();
    let path = directory.path();
    let run = Mirror::ingest(&cable, path, &format!("--forward {SOCKET} --report report.json"));
    let reader = UnixStream::connect(path.join("mirror.sock")).expect("connected");
    run.says(&format!("process {} of user 0", std::process::id()));
    run.says("is back");
    let inner = inject(&cable, 100);
    run.has(100);
    run.settled();
    run.end_by(Signal::SIGINT).expect_code(0);
    assert_eq!(read_all(reader, path), inner);
    let report = balanced_report(&path.join("report.json"));
    let member = &sink(&report, &format!("forward {SOCKET}"))["members"][0];
    assert_eq!(member["readers"], json!({"came": 1, "disconnected": 0}));
}

#[test]
fn a_killed_runs_socket_blocks_no_start_and_nothing_else_is_replaced() {
    let (cable, directory) = cable();
    let path = directory.path();
    let place = path.join("mirror.sock");
    let forward = format!("--forward {SOCKET}");
    Mirror::ingest(&cable, path, &forward).end_by(Signal::SIGKILL);
    assert!(place.exists(), "left by the kill");
    let run = Mirror::ingest(&cable, path, &forward);
    UnixStream::connect(&place).expect("the next run listens");
    // A second run beside it is refused, and its readers are not affected.
    let outer = outer();
    let beside = format!("--forward pcap-over-ip:listen={}", place.display());
    let second = || Mirror::start(replay(outer.path(), &beside)).end().expect_code(1);
    second().expect_words(&["mirror.sock", "another program listens there"]);
    run.end_by(Signal::SIGINT).expect_code(0);
    assert_eq!(names(path), [""; 0]);
    let live = UnixListener::bind(&place).expect("somebody else's");
    second().expect_words(&["another program listens there"]);
    live.set_nonblocking(true).expect("non-blocking");
    assert_eq!(live.accept().expect_err("nobody came").kind(), io::ErrorKind::WouldBlock);
    fs::remove_file(&place).expect("removed");
    fs::write(&place, "precious").expect("file");
    second().expect_words(&["not a socket: remove it or choose another name"]);
    assert_eq!(fs::read(&place).expect("file"), b"precious");
}

#[test]
fn listening_on_loopback_warns_that_every_user_can_read() {
    let (cable, directory) = cable();
    let run = Mirror::ingest(&cable, directory.path(), &format!("--forward {TCP}"));
    let words = ["every user of this host can read it", "pcap-over-ip:listen=/PATH[,mode=0660]"];
    run.end_by(Signal::SIGINT).expect_code(0).expect_words(&words);
    let run =
        Mirror::ingest(&cable, directory.path(), "--forward pcap-over-ip:listen=0.0.0.0:57012,allow-remote");
    run.end_by(Signal::SIGINT).expect_code(0).expect_words(&["every host that can connect can read it"]);
}

/// Reads a byte now and then, so that it is not disconnected.
fn slow(mut reader: UnixStream) -> impl FnMut() {
    move || {
        let _ = reader.read(&mut [0]);
    }
}

#[test]
fn slow_readers_keep_no_other_reader_out() {
    let (cable, directory) = cable();
    let path = directory.path();
    let run = Mirror::ingest(&cable, path, &format!("--forward {SOCKET} --report report.json"));
    let connect = || UnixStream::connect(path.join("mirror.sock")).expect("connected");
    let mut slow: Vec<_> = (0..16).map(|_| slow(connect())).collect();
    run.says("is back");
    // More than their sockets hold.
    burst_of(&cable, Traffic { frame_len: 1_450, ..Traffic::default() }, 3_000);
    run.settled();
    slow.iter_mut().for_each(|take| take());
    let taking = connect();
    run.says("one is furthest behind");
    let reading = thread::spawn({
        let path = path.to_owned();
        move || read_all(taking, &path)
    });
    let inner = inject(&cable, 20);
    run.settled();
    slow.iter_mut().for_each(|take| take());
    let ended = run.end_by(Signal::SIGINT);
    assert_eq!(reading.join().expect("reader"), inner, "{}", ended.said);
    let report = balanced_report(&path.join("report.json"));
    let member = &sink(&report, &format!("forward {SOCKET}"))["members"][0];
    assert_eq!(member["readers"], json!({"came": 17, "disconnected": 1}), "{}", ended.said);
    assert!(ended.said.contains("1 readers were disconnected in favour of newer ones"), "{}", ended.said);
}

#[test]
fn a_thousand_connections_fill_no_log_and_disconnect_no_reader_that_keeps_up() {
    let (cable, directory) = cable();
    let path = directory.path();
    let run = Mirror::ingest(&cable, path, &format!("--forward {TCP} --report report.json"));
    let steady = tcp(&cable).expect("connected");
    run.says("is back");
    cable
        .target
        .enter(|| {
            for _ in 0..1_000 {
                drop(TcpStream::connect("127.0.0.1:57012").expect("connected"));
            }
        })
        .expect("namespace");
    let inner = inject(&cable, 20);
    until("all have been taken in", || {
        inject(&cable, 1);
        let said = run.said();
        (run.frames() > 60 || said.contains("more lines about readers")).then_some(())
    });
    run.settled();
    let ending = run.end_by(Signal::SIGINT).expect_code(0);
    let about = ending.said.lines().filter(|line| line.contains("reader")).count();
    assert!(about < 40, "{about} lines:\n{}", ending.said);
    assert!(ending.said.contains("more lines about readers were not logged"), "{}", ending.said);
    let frames = read_all(steady, path);
    assert_eq!(frames[..20], inner);
    let report = balanced_report(&path.join("report.json"));
    let readers = &sink(&report, &format!("forward {TCP}"))["members"][0]["readers"];
    assert_eq!(readers["came"], 1_001, "{readers}");
}

/// A capture of 100 frames, and its directory.
fn outer() -> TempDir {
    let directory = tempfile::tempdir().expect("directory");
    let frames = aws_twin::aws_twin().expect("frames");
    capture::write_pcap(&directory.path().join("outer.pcap"), &frames).expect("written");
    directory
}

fn replay(directory: &Path, arguments: &str) -> Command {
    let mut command = Command::new(MIRROR);
    command
        .args(["replay", "-r", "outer.pcap"])
        .args(arguments.split_ascii_whitespace())
        .current_dir(directory);
    command
}

fn report_in(directory: &Path) -> Value {
    balanced_report(&directory.join("report.json"))
}

#[test]
fn a_replay_waits_for_its_first_reader_which_gets_all_packets() {
    let directory = outer();
    let path = directory.path();
    for target in [SOCKET, TCP] {
        let mut waiting =
            Mirror::start(replay(path, &format!("--forward {target} -w inner.pcapng --report report.json")));
        waiting.says("waiting for its first reader");
        thread::sleep(Duration::from_millis(500));
        assert!(waiting.is_running(), "{}", waiting.said());
        let inner = if target == SOCKET {
            read_all(UnixStream::connect(path.join("mirror.sock")).expect("connected"), path)
        } else {
            read_all(TcpStream::connect("127.0.0.1:57012").expect("connected"), path)
        };
        waiting.end().expect_code(0);
        assert_eq!(inner, whole_capture(&path.join("inner.pcapng")).frames());
        assert_eq!(inner.len(), 100);
        assert_eq!(sink(&report_in(path), &format!("forward {target}"))["written"], 100);
        for file in ["inner.pcapng", "report.json"] {
            fs::remove_file(path.join(file)).expect("removed");
        }
    }
}

#[test]
fn a_signal_or_a_time_limit_ends_the_wait_with_exit_code_1() {
    let directory = outer();
    let path = directory.path();
    let waiting = Mirror::start(replay(path, &format!("--forward {SOCKET}")));
    waiting.says("waiting for its first reader");
    waiting
        .end_by(Signal::SIGINT)
        .expect_code(1)
        .expect_words(&["stopped by a signal while waiting for a reader"]);
    // The other output is complete.
    let limited =
        replay(path, &format!("--forward {SOCKET} --wait-reader 300ms -w inner.pcapng --report report.json"));
    Mirror::start(limited).end().expect_code(1).expect_words(&[
        "no reader connected within --wait-reader",
        "mirror.sock received none of its frames: no reader has connected",
    ]);
    assert_eq!(whole_capture(&path.join("inner.pcapng")).packets.len(), 100);
    let report = report_in(path);
    let member = &sink(&report, &format!("forward {SOCKET}"))["members"][0];
    assert_eq!((&member["written"], &member["readers"]["came"]), (&json!(0), &json!(0)));
    assert!(member["reason"].as_str().is_some_and(|why| why.contains("no reader")), "{member}");
}

#[test]
fn packets_that_reach_no_reader_make_the_exit_code_1() {
    let directory = outer();
    let path = directory.path();
    // Nobody listens on the discard port.
    let target = "pcap-over-ip:connect=127.0.0.1:9";
    Mirror::start(replay(path, &format!("--forward {target}"))).end().expect_code(1).expect_words(&[
        "received none of its frames: no reader at 127.0.0.1:9",
        "Connection refused",
        "start it first",
    ]);
    // A reader that connects within the time is waited for.
    let waiting = Mirror::start(replay(
        path,
        &format!("--forward {SOCKET},format=pcapng --wait-reader 1m -w inner.pcapng"),
    ));
    waiting.says("waiting for its first reader");
    let stream = UnixStream::connect(path.join("mirror.sock")).expect("connected");
    assert_eq!(read_all(stream, path).len(), 100);
    waiting.end().expect_code(0);
}

#[test]
fn packets_for_an_interface_that_is_down_make_the_exit_code_1() {
    let directory = outer();
    let path = directory.path();
    let lab = Lab::new().expect("lab");
    let (near, far) = (lab.namespace("near").expect("near"), lab.namespace("far").expect("far"));
    let ends = (VethEnd::new(&near, "out0"), VethEnd::new(&far, "ids0"));
    let _link = VethPair::create(ends.0, ends.1, &VethOptions::default()).expect("veth");
    let forward = |target: &str| {
        let mut command = near.command(MIRROR);
        command.args(["replay", "-r", "outer.pcap", "--forward", target]).current_dir(path);
        Mirror::start(command).end()
    };
    forward("dev:out0").expect_code(0);
    near.ip("link set dev out0 down").expect("down");
    forward("dev:out0").expect_code(1).expect_words(&["dev:out0 received none", "ip link set dev out0 up"]);
    // No route.
    forward("vxlan:192.0.2.7")
        .expect_code(1)
        .expect_words(&["vxlan:192.0.2.7:4789", "Network is unreachable"]);
    // A route, but no neighbour with the address.
    near.ip("link set dev out0 up").expect("up");
    near.ip("address add 192.0.2.1/24 dev out0").expect("address");
    near.ip("link set dev out0 down").expect("down");
    forward("vxlan:192.0.2.7").expect_code(1);
    // A group with one member down has lost nothing.
    let mut both = near.command(MIRROR);
    both.args(["replay", "-r", "outer.pcap", "--forward", "dev:out0", "--forward", "tap:ids1"]);
    both.args(["--forward-balance", "flow"]).current_dir(path);
    let ending = Mirror::start(both).end();
    assert!(!ending.said.contains("panicked"), "{}", ending.said);
}

#[test]
fn a_slow_reader_of_a_replay_loses_nothing() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    // More than a reader's buffer and its socket's: 20 MB.
    let frame = mirror_lab::frames::Outer::sample(7).encapsulate(&[0x42; 1_400]).expect("a frame");
    let frames = vec![frame; 14_000];
    capture::write_pcap(&path.join("outer.pcap"), &frames).expect("written");
    let waiting = Mirror::start(replay(path, &format!("--forward {SOCKET} --report report.json")));
    waiting.says("waiting for its first reader");
    let mut reader = UnixStream::connect(path.join("mirror.sock")).expect("connected");
    let slow = thread::spawn(move || {
        let (mut total, mut buffer) = (0, vec![0; 1 << 20]);
        loop {
            match reader.read(&mut buffer).expect("read") {
                0 => return total,
                bytes => total += bytes,
            }
            thread::sleep(Duration::from_millis(5));
        }
    });
    waiting.end().expect_code(0);
    assert_eq!(slow.join().expect("reader"), 24 + 14_000 * 1_416);
    assert_eq!(sink(&report_in(path), &format!("forward {SOCKET}"))["written"], 14_000);
    assert!(run(Command::new("test").arg("!").arg("-e").arg(path.join("mirror.sock"))).is_ok());
}

#[test]
fn a_live_run_without_readers_reports_that() {
    let (cable, directory) = cable();
    let run = Mirror::ingest(&cable, directory.path(), &format!("--forward {TCP}"));
    inject(&cable, 10);
    run.has(10);
    run.settled();
    run.end_by(Signal::SIGINT).expect_code(1).expect_words(&["received none of its frames: no reader"]);
}
