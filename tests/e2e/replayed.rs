//! Captures of mirrored traffic: `mirror replay` and live ingest decapsulate them as tshark does. Live ingest
//! needs root.

mod common;

use std::{
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
};

use common::{Cable, SENDER, assert_balanced, builder, captures, settle};
use mirror_lab::{Injector, aws_twin, capture, tshark};
use mirror_user::{
    engine::Destination,
    sink::pcap::{Pcap, Target},
};
use serde_json::Value;

/// Runs `mirror replay` on a file; returns its report and the inner frames it wrote.
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
    // It was captured on an interface of another host.
    let running = cable.engine(builder().destination(Destination::Any).sink(Arc::new(pcap)));
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
fn the_twin_of_an_aws_capture_decapsulates_as_in_tshark() {
    let directory = tempfile::tempdir().expect("directory");
    let file = directory.path().join("twin.pcap");
    capture::write_pcap(&file, &aws_twin::aws_twin().expect("frames")).expect("written");
    check(&file, aws_twin::VNI);
}

#[test]
#[ignore = "needs MIRROR_CAPTURES"]
fn the_aws_capture_decapsulates_as_in_tshark() {
    let folder = captures();
    check(&folder.join("aws-traffic-mirroring-2019.pcap"), 5_569_041);
}

#[test]
fn a_truncated_capture_is_replayed_to_its_end_and_exits_1() {
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

/// Runs `mirror` with these arguments, separated by blanks, in a directory.
fn run_in(directory: &Path, arguments: &str) -> std::process::Output {
    Command::new(env!("CARGO_BIN_EXE_mirror"))
        .args(arguments.split_ascii_whitespace())
        .current_dir(directory)
        .env("TZ", "UTC")
        .output()
        .expect("mirror")
}

fn said(output: &std::process::Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A directory with `a.pcap`: numbered mirrored frames, one per second; and their inner frames.
fn numbered(count: u32) -> (tempfile::TempDir, Vec<Vec<u8>>) {
    let directory = tempfile::tempdir().expect("directory");
    let (outer, inner) = common::mirror::frames(count);
    capture::write_pcap(&directory.path().join("a.pcap"), &outer).expect("written");
    (directory, inner)
}

/// A block of a pcapng, filled with options without a value.
fn block(kind: u32, body: &[u8], len: usize) -> Vec<u8> {
    /// An empty comment.
    const EMPTY: [u8; 4] = [1, 0, 0, 0];
    let whole = (body.len().next_multiple_of(4) + 12).max(len);
    let len = u32::try_from(whole).expect("length").to_le_bytes();
    let mut bytes = [&kind.to_le_bytes()[..], &len, body].concat();
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes.extend(EMPTY.repeat((whole - 4 - bytes.len()) / EMPTY.len()));
    bytes.extend(len);
    bytes
}

fn section(len: usize) -> Vec<u8> {
    const FIELDS: [u8; 16] = [0x4d, 0x3c, 0x2b, 0x1a, 1, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255];
    block(0x0a0d_0d0a, &FIELDS, len)
}

fn interface(link_type: u16, len: usize) -> Vec<u8> {
    block(1, &[&link_type.to_le_bytes()[..], &[0; 6]].concat(), len)
}

fn packet(interface: u32, data: &[u8], len: usize) -> Vec<u8> {
    let data_len = u32::try_from(data.len()).expect("length");
    let fields = [interface, 0, 0, data_len, data_len].map(u32::to_le_bytes).concat();
    block(6, &[&fields, data].concat(), len)
}

/// A pcapng with an interface of each link type, and a packet of each in turn.
fn mixed_links(packets: &[(u16, &[u8])]) -> Vec<u8> {
    let mut bytes = section(0);
    for (link_type, _) in packets {
        bytes.extend(interface(*link_type, 0));
    }
    for (interface, (_, data)) in (0..).zip(packets) {
        bytes.extend(packet(interface, data, 0));
    }
    bytes
}

#[test]
fn packets_of_another_link_type_are_counted_and_skipped() {
    let (directory, inner) = numbered(3);
    let path = directory.path();
    let (outer, _) = common::mirror::frames(3);
    let loopback = [&[2, 0, 0, 0][..], &outer[2][14..]].concat();
    // Read, but no tunnel packet: only an IPv4 header.
    let other = [
        &[2, 0, 0, 0, 0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 127, 0, 0, 1, 127, 0, 0, 1, 0, 1, 0, 2][..],
        &[0, 8, 0, 0],
    ]
    .concat();
    let packets: [(u16, &[u8]); 5] =
        [(1, &outer[0]), (0, &other), (127, &[0; 40]), (1, &outer[1]), (0, &loopback)];
    std::fs::write(path.join("mixed.pcapng"), mixed_links(&packets)).expect("written");
    let output = run_in(path, "replay -r mixed.pcapng -w inner.pcapng --report report.json");
    assert!(output.status.success(), "{}", said(&output));
    assert!(
        said(&output).contains("mixed.pcapng: 1 packet of unsupported link type 127 ("),
        "{}",
        said(&output)
    );
    assert_eq!(capture::read(&path.join("inner.pcapng")).expect("capture").frames(), inner);
    let report = common::mirror::balanced_report(&path.join("report.json"));
    let rejected = &report["frames"]["rejected"];
    assert_eq!((&rejected["not_tunnel"], &rejected["link_type"]), (&1.into(), &1.into()));
    assert_eq!(report["files"][0]["link_types"], serde_json::json!({"127": 1}));
    assert_eq!((&report["files"][0]["packets"], &report["ended_by"]), (&5.into(), &Value::Null));
}

#[test]
fn a_damaged_or_invalid_file_does_not_stop_the_others_and_exits_1() {
    let (directory, inner) = numbered(3);
    let path = directory.path();
    let whole = std::fs::read(path.join("a.pcap")).expect("bytes");
    std::fs::write(path.join("cut.pcap"), &whole[..whole.len() - 5]).expect("cut");
    std::fs::write(path.join("empty.pcap"), "").expect("empty");
    std::fs::write(path.join("text.pcap"), "no capture at all").expect("text");
    let (outer, _) = common::mirror::frames(1);
    // A packet of an undescribed interface between two others.
    let mut odd = mixed_links(&[(1, &outer[0]), (1, &outer[0]), (1, &outer[0])]);
    let second = odd.len() / 2 + 20;
    let at = (0..second).rev().find(|at| odd[*at..].starts_with(&[6, 0, 0, 0])).expect("a block");
    odd[at + 8] = 9;
    std::fs::write(path.join("odd.pcapng"), odd).expect("odd");
    let files = "-r cut.pcap -r gone.pcap -r empty.pcap -r . -r text.pcap -r odd.pcapng -r a.pcap";
    let output = run_in(path, &format!("replay {files} -w inner.pcapng --report report.json"));
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    let cut = format!(
        "cut.pcap: ended early: cut short at byte {}, within the record that starts at",
        whole.len() - 5
    );
    for words in [
        &cut[..],
        "gone.pcap: ended early: cannot be opened: No such file",
        "empty.pcap: ended early: empty",
        ".: ended early: cannot be opened: is a directory",
        "text.pcap: ended early: not a capture file",
        "odd.pcapng: 1 packet or block skipped, the first malformed at byte ",
    ] {
        assert!(said(&output).contains(words), "{words:?} is missing in:\n{}", said(&output));
    }
    let written = capture::read(&path.join("inner.pcapng")).expect("capture").frames();
    let first = &inner[..1];
    assert_eq!(written, [&inner[..2], first, first, &inner].concat());
    let report = common::mirror::balanced_report(&path.join("report.json"));
    let packets: Vec<_> =
        report["files"].as_array().expect("files").iter().map(|file| &file["packets"]).collect();
    assert_eq!(packets, [2, 0, 0, 0, 0, 2, 3]);
}

#[test]
fn compressed_captures_are_read_under_any_name_including_our_own() {
    let (directory, inner) = numbered(2_000);
    let path = directory.path();
    for ending in ["gz", "zst"] {
        // Many gzip members, because each write is one.
        let output = run_in(path, &format!("replay -q -U --outer -r a.pcap -C 100k -w outer.pcap.{ending}"));
        assert!(output.status.success(), "{}", said(&output));
        let number = |number: u32| if number == 0 { String::new() } else { number.to_string() };
        let names = (0..).map(|nth| format!("outer.pcap{}.{ending}", number(nth)));
        let names: Vec<_> = names.take_while(|name| path.join(name).exists()).collect();
        assert!(names.len() > 1, "{names:?}");
        let mut flags = String::new();
        for (nth, name) in names.iter().enumerate() {
            std::fs::rename(path.join(name), path.join(format!("{ending}-{nth}"))).expect("renamed");
            flags.push_str(&format!(" -r {ending}-{nth}"));
        }
        let again = format!("replay -q{flags} -w {ending}.pcapng --report {ending}.json");
        let output = run_in(path, &again);
        assert!(output.status.success(), "{}", said(&output));
        assert_eq!(capture::read(&path.join(format!("{ending}.pcapng"))).expect("capture").frames(), inner);
        let report = common::mirror::balanced_report(&path.join(format!("{ending}.json")));
        assert_eq!(report["files"][0]["compression"], if ending == "gz" { "gzip" } else { "zstd" });
        // Through a pipe, and truncated.
        let bytes = std::fs::read(path.join(format!("{ending}-0"))).expect("bytes");
        std::fs::write(path.join("cut"), &bytes[..bytes.len() - 9]).expect("cut");
        for (file, code) in [(format!("{ending}-0"), 0), ("cut".to_owned(), 1)] {
            let script = format!(r#"cat {file} | "$0" replay -q --json -r -"#);
            let output = Command::new("sh")
                .args(["-c", &script, env!("CARGO_BIN_EXE_mirror")])
                .current_dir(path)
                .output()
                .expect("mirror");
            assert_eq!(output.status.code(), Some(code), "{}", said(&output));
            assert_eq!(code == 1, said(&output).contains("data cut short near byte"), "{}", said(&output));
        }
    }
}

#[test]
fn the_file_name_implies_the_format_and_the_flag_overrides_it() {
    let (directory, inner) = numbered(3);
    let path = directory.path();
    for (name, flag, magic) in [
        ("x.pcap", "", 0xa1b2_3c4d_u32),
        ("x.pcap.gz", "", 0xa1b2_3c4d),
        ("x.pcap.zst", "", 0xa1b2_3c4d),
        ("us.pcap", "--format pcap-us", 0xa1b2_c3d4),
        ("ng.pcap", "--format pcapng", 0x0a0d_0d0a),
        ("x.pcapng", "", 0x0a0d_0d0a),
        ("x", "", 0x0a0d_0d0a),
        ("pcap", "", 0x0a0d_0d0a),
        ("classic", "--format pcap", 0xa1b2_3c4d),
    ] {
        let output = run_in(path, &format!("replay -q -r a.pcap -w {name} {flag}"));
        assert!(output.status.success(), "{}", said(&output));
        let mut plain = path.join(name);
        if let Some(tool) =
            [(".gz", "gzip"), (".zst", "zstd")].iter().find(|(ending, _)| name.ends_with(ending))
        {
            let unpacked = Command::new(tool.1).arg("-dc").arg(&plain).output().expect("unpacked");
            assert!(unpacked.status.success());
            plain = path.join("plain");
            std::fs::write(&plain, unpacked.stdout).expect("written");
        }
        let bytes = std::fs::read(&plain).expect("bytes");
        assert_eq!(u32::from_le_bytes(bytes[..4].try_into().expect("four bytes")), magic, "{name} {flag}");
        let read = capture::read(&plain).expect("capture");
        assert_eq!(read.frames(), inner);
        let times = |file: &capture::CaptureFile| {
            file.packets.iter().map(|packet| packet.time_ns).collect::<Vec<_>>()
        };
        let was: Vec<_> = times(&capture::read(&path.join("a.pcap")).expect("capture"))
            .into_iter()
            .map(|ns| if magic == 0xa1b2_c3d4 { ns / 1000 * 1000 } else { ns })
            .collect();
        assert_eq!(times(&read), was, "{name} {flag}");
    }
}

#[test]
fn a_file_name_among_filter_words_is_reported_with_the_missing_flag() {
    let (directory, _) = numbered(1);
    let path = directory.path();
    std::fs::copy(path.join("a.pcap"), path.join("capture")).expect("copied");
    for (words, file) in [
        ("-r a.pcap a.pcap", "a.pcap"),
        ("-r a.pcap b.pcapng.gz a.pcap", "b.pcapng.gz"),
        ("-r a.pcap capture", "capture"),
    ] {
        let output = run_in(path, &format!("replay {words}"));
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
        assert!(
            said(&output).contains(&format!("needs a flag of its own, -r {file:?}")),
            "{}",
            said(&output)
        );
    }
    // A keyword of filter expressions, even if a file has that name.
    std::fs::copy(path.join("a.pcap"), path.join("udp")).expect("copied");
    assert!(run_in(path, "replay -q -r a.pcap udp").status.success());
    let output = run_in(path, "replay -r a.pcap tcp prot 80");
    assert!(said(&output).contains("syntax error"), "{}", said(&output));
}

#[test]
fn files_rotate_by_packet_timestamps() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    let (outer, inner) = common::mirror::frames(30);
    // Every 10 s for five minutes, starting at second 55.
    let times = (0..30_u32).map(|nth| 1_700_000_035 + nth * 10);
    let mut bytes = [0xa1b2_c3d4_u32, 2 | 4 << 16, 0, 0, 65535, 1].map(u32::to_le_bytes).concat();
    for (time, frame) in times.zip(&outer) {
        let len = u32::try_from(frame.len()).expect("length");
        bytes.extend([time, 0, len, len].map(u32::to_le_bytes).concat());
        bytes.extend(frame);
    }
    std::fs::write(path.join("in.pcap"), bytes).expect("written");
    let read = |name: &str| {
        capture::read(&path.join(name)).unwrap_or_else(|error| panic!("{name}: {error}")).frames()
    };
    let check = |arguments: &str, names: &[&str], frames: &[Vec<u8>]| {
        let before = common::mirror::names(path);
        let output = run_in(path, &format!("replay -r in.pcap {arguments} --report report.json"));
        assert!(output.status.success(), "{}", said(&output));
        let mut made: Vec<_> = common::mirror::names(path);
        made.retain(|name| !before.contains(name) && name != "report.json");
        assert_eq!(made, names, "{arguments}");
        assert_eq!(names.iter().flat_map(|name| read(name)).collect::<Vec<_>>(), frames, "{arguments}");
        assert!(names.iter().all(|name| read(name).len() <= 6));
        common::mirror::balanced_report(&path.join("report.json"))
    };
    let by_time =
        ["t-221355.pcapng", "t-221455.pcapng", "t-221555.pcapng", "t-221655.pcapng", "t-221755.pcapng"];
    check("-G 60 -w t-%H%M%S.pcapng", &by_time, &inner);
    check("-G 60 -w n.pcap", &["n.pcap", "n.pcap1", "n.pcap2", "n.pcap3", "n.pcap4"], &inner);
    let report = check("-G 60 -W 2 -w w-%M.pcapng", &["w-13.pcapng", "w-14.pcapng"], &inner[..12]);
    let pcap = common::mirror::sink(&report, "pcap");
    assert_eq!((&pcap["written"], &pcap["dropped"]["after_last_file"]), (&12.into(), &18.into()));
    // No packet arrived that a file could be named after.
    let output = run_in(path, "replay -q -r in.pcap -G 60 -w empty-%Y.pcapng port 1");
    assert!(output.status.success(), "{}", said(&output));
    let empty: Vec<_> =
        common::mirror::names(path).into_iter().filter(|name| name.starts_with("empty-2")).collect();
    assert_eq!((empty.len(), read(&empty[0]).len()), (1, 0));
}

#[test]
fn sigusr1_prints_statistics_of_a_replay_even_while_an_output_blocks_it() {
    let (directory, _) = numbered(10);
    let path = directory.path();
    let mut command = Command::new(common::mirror::MIRROR);
    command
        .args(["replay", "-r", "-", "--json"])
        .current_dir(path)
        .stdin(Stdio::piped())
        .stdout(Stdio::null());
    let mut child = command.stderr(Stdio::piped()).spawn().expect("mirror");
    let mut input = child.stdin.take().expect("standard input");
    std::io::Write::write_all(&mut input, &std::fs::read(path.join("a.pcap")).expect("bytes"))
        .expect("written");
    let pid = nix::unistd::Pid::from_raw(child.id().cast_signed());
    let mut lines =
        std::io::BufRead::lines(std::io::BufReader::new(child.stderr.take().expect("standard error")));
    // Signals are handled before it reads; it counts at its next tick.
    let line = common::mirror::until("the ten frames are reported", || {
        std::thread::sleep(std::time::Duration::from_millis(200));
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGUSR1).expect("signalled");
        let line = lines.next().expect("a line").expect("text");
        line.contains(" 10 frames, ").then_some(line)
    });
    assert!(line.contains(" s: 10 frames, "), "{line}");
    drop(input);
    assert!(child.wait().expect("ended").success());

    // More than all buffers hold, and a reader that does not read.
    let (directory, _) = numbered(2_000);
    let path = directory.path();
    assert!(Command::new("mkfifo").arg(path.join("fifo")).status().expect("mkfifo").success());
    let mut command = Command::new(common::mirror::MIRROR);
    command.args(["replay", "--outer", "-w", "fifo"]).args(["-r", "a.pcap"].repeat(150)).current_dir(path);
    let run = common::mirror::Mirror::start(command);
    let reader = std::fs::File::open(path.join("fifo")).expect("pipe");
    let stuck = run.settled();
    assert!(stuck < 300_000, "it would have ended: {stuck}");
    drop(reader);
    run.end_by(nix::sys::signal::Signal::SIGINT).expect_code(1).expect_words(&["the reader has closed it"]);
}

#[test]
fn sigusr2_flushes_buffered_frames_while_the_input_pipe_stays_open() {
    let (directory, _) = numbered(0);
    let path = directory.path();
    assert!(Command::new("mkfifo").arg(path.join("in")).status().expect("mkfifo").success());
    let mut command = Command::new(common::mirror::MIRROR);
    command
        .args(["replay", "-r", "in", "-w", "out.pcapng", "--report", "report.json"])
        .current_dir(path)
        .stdout(Stdio::null());
    let run = common::mirror::Mirror::start(command);
    let mut pipe = std::fs::OpenOptions::new().write(true).open(path.join("in")).expect("pipe");
    let header = std::fs::read(path.join("a.pcap")).expect("a capture without packets");
    std::io::Write::write_all(&mut pipe, &header).expect("written");
    let mut time = 0;
    let (inner, hidden) = common::mirror::flush_by_usr2(&run, path, |frame| {
        time += 1;
        let len = u32::try_from(frame.len()).expect("length");
        let header = [time, 0, len, len].map(u32::to_le_bytes).concat();
        std::io::Write::write_all(&mut pipe, &[&header[..], frame].concat()).expect("written");
    });
    drop(pipe);
    run.end().expect_code(0);
    assert_eq!(common::mirror::whole_capture(&path.join("out.pcapng")).frames(), inner);
    common::mirror::balanced_report(&path.join("report.json"));
    assert!(!hidden.exists());
}

/// The peak memory, in KiB, of a run that reads this file, which has one frame; and its exit code.
fn peak_memory(directory: &Path, file: &str) -> (u64, Option<i32>) {
    let after = directory.join("after");
    assert!(Command::new("mkfifo").arg(&after).status().expect("mkfifo").success());
    let mut command = Command::new(common::mirror::MIRROR);
    command.args(["replay", "-r", file, "-r", "after"]).current_dir(directory).stdout(Stdio::null());
    let run = common::mirror::Mirror::start(command);
    // The run opens the pipe when it gets to it, and does not end before the writer closes it.
    let mut pipe = std::fs::OpenOptions::new().write(true).open(&after).expect("pipe");
    let last = std::fs::read(directory.join("a.pcap")).expect("a capture of one frame");
    std::io::Write::write_all(&mut pipe, &last).expect("written");
    run.has(2);
    let status = std::fs::read_to_string(format!("/proc/{}/status", run.pid())).expect("status");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.strip_suffix(" kB"));
    let peak = peak.and_then(|peak| peak.trim().parse().ok()).expect("the most that was resident");
    drop(pipe);
    let code = run.end().status.code();
    std::fs::remove_file(after).expect("removed");
    (peak, code)
}

/// As `CaptureReader` documents it; data that compresses this well has a small window.
#[test]
fn many_empty_options_and_interfaces_stay_within_the_documented_memory() {
    const LONGEST: usize = 16 << 20;
    let (directory, _) = numbered(1);
    let path = directory.path();
    let (outer, _) = common::mirror::frames(1);
    let frame = &outer[0];
    let longest = [section(LONGEST), interface(1, LONGEST), packet(0, frame, LONGEST)].concat();
    std::fs::write(path.join("longest"), longest).expect("written");
    for tool in ["gzip", "zstd"] {
        let packed = std::fs::File::create(path.join(tool)).expect("file");
        let status = Command::new(tool).args(["-c", "longest"]).current_dir(path).stdout(packed).status();
        assert!(status.expect(tool).success());
    }
    // A packet in a block that is skipped, before one that is read.
    let longer = [section(0), interface(1, 0), packet(0, frame, 2 * LONGEST), packet(0, frame, 0)].concat();
    std::fs::write(path.join("longer"), longer).expect("written");
    // The maximum number of interfaces of a section, each with its own link type and a packet.
    let interfaces = (0..=u16::MAX).flat_map(|link_type| interface(link_type, 0));
    let packets = (0..=u32::from(u16::MAX)).flat_map(|number| packet(number, frame, 0));
    let many: Vec<_> = section(0).into_iter().chain(interfaces).chain(packets).collect();
    std::fs::write(path.join("many"), many).expect("written");
    let (before, code) = peak_memory(path, "a.pcap");
    assert_eq!(code, Some(0));
    for (file, expected, most_mib) in
        [("longest", 0, 32), ("gzip", 0, 32), ("zstd", 0, 32), ("longer", 1, 4), ("many", 0, 8)]
    {
        let (peak, code) = peak_memory(path, file);
        let more = peak.saturating_sub(before);
        println!("{file}: {more} KiB more than the {before} of a small capture");
        assert_eq!(code, Some(expected), "{file}");
        assert!(more <= most_mib << 10, "{file}: {more} KiB more than the {before} of a small capture");
    }
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
fn a_closed_standard_error_affects_neither_files_nor_report() {
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
