//! A run passes to a new process on `mirror upgrade`, which goes on with its sockets and the packets in them.
//! Needs root.

mod common;

use std::{
    fs,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use common::{
    Cable,
    mirror::{Mirror, assert_next_run_works, balanced_report, inject, names, sink, whole_capture},
};
use mirror_lab::Traffic;
use nix::sys::signal::Signal;
use serde_json::Value;

const FLAGS: &str = "--config mirror.toml --report report.json";

fn configure(directory: &Path, text: &str) {
    fs::write(directory.join("mirror.toml"), text).expect("configuration");
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_default()
}

/// Over two queues, until it is stopped. Returns the frames sent.
fn send_until(cable: &Cable, rate: u64, stop: &AtomicBool) -> u64 {
    let traffic = Traffic { rate: Some(rate), cpus: vec![0, 1], ..Traffic::default() };
    let generator = cable.generator(traffic);
    let mut sent = 0;
    while !stop.load(Ordering::Relaxed) {
        sent += generator.send(rate / 5).expect("generated").total();
    }
    sent
}

#[test]
fn a_run_goes_on_in_a_new_process_with_its_account() {
    let cable = Cable::with_queues(1);
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    configure(path, "");
    let mut run = Mirror::ingest(&cable, path, FLAGS);
    inject(&cable, 10);
    run.has(10);
    for upgrades in 1..=3 {
        run.upgrade();
        inject(&cable, 10);
        run.has(10 + 10 * upgrades);
    }
    let ending = run.end_by(Signal::SIGINT).expect_code(0);
    let report = balanced_report(&path.join("report.json"));
    assert_eq!(number(&report["frames"]["decapsulated"]), 40, "{report:#}\n{}", ending.said);
    assert_eq!(number(&sink(&report, "counters")["written"]), 40);
    assert_eq!(number(&report["upgrades"]["count"]), 3);
    assert_next_run_works(&cable);
}

/// The inner frames of all captures of a directory, by the names in this sequence.
fn frames_in(directory: &Path, names: &[&str]) -> Vec<Vec<u8>> {
    names.iter().flat_map(|name| whole_capture(&directory.join(name)).frames()).collect()
}

#[test]
fn captures_go_on_in_the_next_file() {
    let cable = Cable::with_queues(1);
    for (keys, expected) in [
        ("write = 'a.pcapng'", &["a.pcapng", "a.pcapng1", "a.pcapng2"][..]),
        ("write = 'a.pcapng'\nfile-size = 1", &["a.pcapng", "a.pcapng1", "a.pcapng2"]),
        ("write = 'a.pcapng'\nfile-size = 1\nfile-count = 12", &["a.pcapng00", "a.pcapng01", "a.pcapng02"]),
        ("write = 'a.pcapng'\nrotate-seconds = 3600\n", &["a.pcapng", "a.pcapng1", "a.pcapng2"]),
    ] {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path();
        configure(path, keys);
        let mut run = Mirror::ingest(&cable, path, FLAGS);
        let mut sent = inject(&cable, 100);
        run.has(100);
        for upgrade in 1..=2 {
            run.upgrade();
            sent.extend(inject(&cable, 100));
            run.has(100 + 100 * upgrade);
        }
        let ending = run.end_by(Signal::SIGINT).expect_code(0);
        assert!(!ending.said.contains("WARN"), "{}", ending.said);
        let mut found = names(path);
        found.retain(|name| name.starts_with("a.pcapng"));
        assert_eq!(found, expected, "{keys}: {}", ending.said);
        assert_eq!(frames_in(path, expected), sent, "{keys}");
        let report = balanced_report(&path.join("report.json"));
        assert_eq!(number(&sink(&report, "pcap")["written"]), 300);
    }
}

#[test]
fn a_hundred_upgrades_under_load_lose_nothing() {
    const UPGRADES: u32 = 100;
    const RATE: u64 = 100_000;
    let cable = Cable::with_queues(2);
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    configure(path, "");
    let mut run = Mirror::ingest(&cable, path, FLAGS);
    let stop = AtomicBool::new(false);
    let mut pauses = Vec::new();
    let sent = thread::scope(|scope| {
        let sender = scope.spawn(|| send_until(&cable, RATE, &stop));
        for _ in 0..UPGRADES {
            let upgraded = run.upgrade();
            pauses.extend(upgraded["pauses_ns"].as_array().expect("pauses").iter().map(number));
        }
        stop.store(true, Ordering::Relaxed);
        sender.join().expect("sent")
    });
    run.settled();
    let ending = run.end_by(Signal::SIGINT).expect_code(0);
    let report = balanced_report(&path.join("report.json"));
    assert_eq!(number(&report["frames"]["decapsulated"]), sent, "{report:#}\n{}", ending.said);
    pauses.sort_unstable();
    let at = |part: f64| pauses[((pauses.len() - 1) as f64 * part) as usize] / 1000;
    println!("{UPGRADES} upgrades, {sent} sent, pause p50 {} p99 {} worst {} us", at(0.5), at(0.99), at(1.0));
}
