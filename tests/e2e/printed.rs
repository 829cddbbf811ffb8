//! `--print`: the lines that tcpdump prints of the decapsulated file, with time and origin in front; and a
//! standard output that is slow or closed. The live tests need root.

mod common;

use std::{
    io::Read as _,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use common::{
    Cable, captures,
    mirror::{Mirror, assert_next_run_works, balanced_report, inject, lose_reader, sink},
};
use mirror_lab::{Traffic, aws_twin, capture, frames::Outer, mixed, tshark};
use nix::sys::signal::Signal;

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// Runs a command in a time zone.
fn run(program: &str, arguments: &[&str], zone: &str) -> Output {
    Command::new(program).args(arguments).env("TZ", zone).output().expect(program)
}

fn printed(output: Output) -> Vec<String> {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8").lines().map(str::to_owned).collect()
}

fn mirror(arguments: &[&str], zone: &str) -> Output {
    run(env!("CARGO_BIN_EXE_mirror"), arguments, zone)
}

/// Compares what `mirror` prints of mirrored traffic with what tcpdump prints of the decapsulated file, with
/// the same flags; returns the number of packets.
fn compare(outer: &Path, inner: &Path, origin: &str, flags: &[&str]) -> usize {
    let ours = [&["replay", "-q", "-t", "--print", "-r", text(outer)], flags].concat();
    let theirs = [&["-n", "-t", "-r", text(inner)], flags].concat();
    let (ours, theirs) = (printed(mirror(&ours, "UTC")), printed(run("tcpdump", &theirs, "UTC")));
    assert_eq!(ours.len(), theirs.len());
    for (ours, theirs) in ours.iter().zip(&theirs) {
        let ours =
            ours.strip_prefix(origin).expect("the origin in front").strip_prefix(' ').expect("a blank");
        assert_eq!(ours, theirs);
    }
    ours.len()
}

/// The decapsulated file, written independently of the code under test.
fn decapsulated(outer: &Path, directory: &Path) -> PathBuf {
    let inner: Vec<_> =
        tshark::decapsulate(outer).expect("tshark").into_iter().map(|inner| inner.bytes).collect();
    let file = directory.join("inner.pcap");
    capture::write_pcap(&file, &inner).expect("written");
    file
}

fn twin(directory: &Path) -> PathBuf {
    let outer = directory.join("twin.pcap");
    capture::write_pcap(&outer, &aws_twin::aws_twin().expect("frames")).expect("written");
    outer
}

#[test]
#[ignore = "needs MIRROR_CAPTURES"]
fn the_aws_capture_is_printed_as_tcpdump_prints_it() {
    let folder = captures();
    let directory = tempfile::tempdir().expect("directory");
    let outer = folder.join("aws-traffic-mirroring-2019.pcap");
    let inner = decapsulated(&outer, directory.path());
    for flags in [&[][..], &["-S"]] {
        assert_eq!(compare(&outer, &inner, "vni-5569041@172.31.0.238", flags), 100);
    }
}

#[test]
fn the_twin_is_printed_as_tcpdump_prints_it() {
    let directory = tempfile::tempdir().expect("directory");
    let outer = twin(directory.path());
    let inner = decapsulated(&outer, directory.path());
    for flags in [&[][..], &["-S"]] {
        assert_eq!(compare(&outer, &inner, "vni-5569041@172.31.0.238", flags), 100);
    }
}

#[test]
fn times_are_those_that_tcpdump_prints_in_every_style_and_zone() {
    let directory = tempfile::tempdir().expect("directory");
    let outer = twin(directory.path());
    let plain = directory.path().join("plain.pcap");
    let written =
        mirror(&["replay", "-q", "-r", text(&outer), "-w", text(&plain), "--format", "pcap"], "UTC");
    assert!(written.status.success());
    for zone in ["UTC", "America/St_Johns", "Asia/Kolkata"] {
        for style in ["-n", "-tt", "-ttt", "-tttt", "-ttttt"] {
            let ours = printed(mirror(&["replay", "-q", style, "--print", "-r", text(&outer)], zone));
            let theirs = printed(run("tcpdump", &["-n", style, "-r", text(&plain)], zone));
            let time = |line: &str, before: &str| line.split_once(before).expect(line).0.to_owned();
            let ours: Vec<_> = ours.iter().map(|line| time(line, " vni-")).collect();
            let theirs: Vec<_> = theirs.iter().map(|line| time(line, " IP ")).collect();
            assert_eq!(ours, theirs, "{style} in {zone}");
        }
    }
}

#[test]
fn outer_lines_do_not_change_the_inner_lines() {
    let directory = tempfile::tempdir().expect("directory");
    let file = directory.path().join("outer.pcap");
    let outer: Vec<_> = mixed::mixed()
        .expect("frames")
        .iter()
        .map(|inner| Outer::sample_v6(9, &[]).encapsulate(inner).expect("encapsulated"))
        .collect();
    capture::write_pcap(&file, &outer).expect("written");
    let lines = |more: &[&str]| {
        printed(mirror(&[&["replay", "-q", "--print", "-r", text(&file)], more].concat(), "UTC"))
    };
    let (with, without) = (lines(&["--outer"]), lines(&[]));
    let outer = " IP6 2001:db8::fc.65408 > 2001:db8::1.4789: VXLAN, flags [I] (0x08), vni 9";
    let (tunnels, rest): (Vec<_>, Vec<_>) = with.into_iter().partition(|line| line.ends_with(outer));
    assert_eq!((tunnels.len(), rest), (mixed::mixed().expect("frames").len(), without));
}

#[test]
fn a_table_prints_what_it_selects_and_v_applies_to_packets() {
    let directory = tempfile::tempdir().expect("directory");
    let outer = twin(directory.path());
    let config = directory.path().join("mirror.toml");
    let table = "[[sink]]\nname = 'dns'\nprint = true\ntimestamps = 1\nverbose = 1\nfilter = 'udp port 53'\n";
    std::fs::write(&config, format!("write = 'all.pcapng'\n{table}")).expect("written");
    let mut command = Command::new(env!("CARGO_BIN_EXE_mirror"));
    command.args(["replay", "-r", text(&outer), "--config", text(&config)]).current_dir(directory.path());
    let output = command.output().expect("mirror");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("sink dns: 20 offered = 20 written\n  80 not of its selection\n"), "{said}");
    let lines = printed(output);
    assert_eq!(lines.len(), 40, "two lines a packet");
    assert!(lines[0].starts_with("vni-5569041@172.31.0.238 IP (tos 0x0, ttl 64, "), "{}", lines[0]);
    // -v applies to packets, so -q is allowed.
    let quiet = mirror(&["replay", "-q", "--print", "-vv", "-c", "1", "-r", text(&outer)], "UTC");
    assert_eq!((quiet.status.code(), printed(quiet).len()), (Some(0), 2));
    let quiet = mirror(&["replay", "--print", "-vv", "-c", "1", "-r", text(&outer)], "UTC");
    let said = String::from_utf8_lossy(&quiet.stderr).into_owned();
    let first = said.lines().find(|line| !line.contains("sandbox: "));
    assert_eq!(first, Some("1 packet captured"), "the log was raised: {said}");
}

#[test]
fn standard_output_carries_one_thing() {
    let directory = tempfile::tempdir().expect("directory");
    let config = |text: &str| {
        let file = directory.path().join("mirror.toml");
        std::fs::write(&file, text).expect("written");
        file
    };
    let refused = |arguments: &[&str], words: &str| {
        let output = mirror(&[&["replay", "-r", text(&twin(directory.path()))], arguments].concat(), "UTC");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{said}");
        assert!(said.contains(words), "{said}");
    };
    refused(&["--print", "--json"], "--print and --json both want standard output; use --report FILE");
    refused(
        &["--print", "-w", "-"],
        "-w - and --print both want standard output; write the capture to a file",
    );
    refused(&["-q", "-v"], "-q cannot be used with -v");
    for letter in ["-e", "-x", "-X", "-A", "-t"] {
        refused(&[letter], "--print");
    }
    let twice = config("print = true\n[[sink]]\nprint = true\n");
    refused(&["--config", text(&twice)], "two sinks both want standard output");
}

#[test]
fn packets_are_printed_within_a_tick_of_their_arrival() {
    let cable = Cable::with_queues(1);
    let directory = tempfile::tempdir().expect("directory");
    let (run, mut reader) =
        Mirror::ingest_to_pipe(&cable, directory.path(), "--print -tt --report report.json");
    inject(&cable, 10);
    // The run continues: it is not its end that flushes them.
    let mut text = String::new();
    while text.lines().count() < 10 || !text.ends_with('\n') {
        let mut bytes = [0; 4096];
        let len = reader.read(&mut bytes).expect("text");
        text.push_str(std::str::from_utf8(&bytes[..len]).expect("ASCII"));
    }
    assert!(text.lines().all(|line| line.contains(" vni-12345@")), "{text}");
    run.end_by(Signal::SIGINT).expect_code(0);
    let report = balanced_report(&directory.path().join("report.json"));
    assert_eq!(sink(&report, "print")["written"], 10);
    assert_next_run_works(&cable);
}

/// Nobody reads while more arrives than blocks and pipe hold.
#[test]
fn a_slow_reader_loses_lines_and_a_notice_replaces_them() {
    const FRAMES: u64 = 24_000;
    let cable = Cable::with_queues(1);
    let directory = tempfile::tempdir().expect("directory");
    let (run, mut reader) = Mirror::ingest_to_pipe(&cable, directory.path(), "--print --report report.json");
    let generator = cable.generator(Traffic { frame_len: 1400, ..Traffic::default() });
    for _ in 0..FRAMES / 1000 {
        generator.send(1000).expect("generated");
    }
    run.has(FRAMES * 3 / 4);
    run.signal(Signal::SIGINT);
    let mut text = String::new();
    reader.read_to_string(&mut text).expect("text");
    run.end().expect_code(0);
    let report = balanced_report(&directory.path().join("report.json"));
    let print = sink(&report, "print");
    let (written, dropped) = (print["written"].as_u64(), print["dropped"]["no_block"].as_u64());
    let (said, lines): (Vec<_>, Vec<_>) = text.lines().partition(|line| line.starts_with('['));
    assert_eq!(written, Some(lines.len() as u64));
    let left_out = |line: &&str| {
        let count = line
            .strip_prefix('[')
            .and_then(|line| line.strip_suffix(" packets dropped by print: reader too slow]"));
        count.expect(line).parse::<u64>().expect("a number")
    };
    let missing: u64 = said.iter().map(left_out).sum();
    assert!(missing > 0 && dropped == Some(missing), "{said:?}, {print}");
    assert_eq!(sink(&report, "counters")["written"], report["frames"]["decapsulated"]);
    assert_next_run_works(&cable);
}

#[test]
fn a_pipe_without_its_reader_ends_only_the_printing() {
    const FRAMES: u64 = 5_000;
    let cable = Cable::with_queues(1);
    let directory = tempfile::tempdir().expect("directory");
    let (run, reader) = Mirror::ingest_to_pipe(
        &cable,
        directory.path(),
        "--print --on-output-end continue --report report.json",
    );
    lose_reader(&cable, run, reader, 20, FRAMES);
    let report = balanced_report(&directory.path().join("report.json"));
    assert_eq!(sink(&report, "print")["state"], "ended");
    assert_eq!(sink(&report, "counters")["written"], report["frames"]["decapsulated"]);
    assert_next_run_works(&cable);
}
