//! TERM to a run that drains: packets are taken until no more come. Needs root.

mod common;

use std::{os::unix::net::UnixDatagram, path::Path, thread, time::Duration};

use common::{
    Cable,
    http::{Client, LOOPBACK},
    mirror::{Mirror, assert_next_run_works, balanced_report, ingest, inject, inject_slowly, program},
};
use mirror_lab::Traffic;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

const REPORT: &str = "--report report.json";

fn report(path: &Path) -> Value {
    balanced_report(&path.join("report.json"))
}

#[track_caller]
fn assert_drained(report: &Value, quiet: bool, at_least: f64) {
    let drain = &report["drain"];
    assert_eq!(drain["quiet"], quiet, "{drain}");
    assert!(drain["seconds"].as_f64().expect("seconds") >= at_least, "{drain}");
}

/// A run that is asked to stop while frames come, and for which more come afterwards than before. Health
/// checks fail from the moment it is asked, so that a balancer sends to others, and it is live.
fn loses_nothing(arguments: &str, taken: impl Fn(&Value) -> u64) {
    const FRAMES: u32 = 12_000;
    let cable = Cable::with_queues(1);
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    let drain = format!("{REPORT} --http {LOOPBACK} --drain-max 1h --drain-quiet 1s {arguments}");
    let run = Mirror::ingest(&cable, path, &drain);
    let client = Client::on_loopback(&cable);
    client.is_well();
    let (at_term, at_check) = thread::scope(|scope| {
        let sender = scope.spawn(|| inject_slowly(&cable, FRAMES));
        run.has(1_000);
        run.signal(Signal::SIGTERM);
        run.says("draining: packets are taken until none has come for 1s, for at most 1h");
        let at_term = run.frames();
        // No check evaluated once a second takes part, let alone several that agree.
        let (status, answer) = client.health();
        assert_eq!((status, &answer["status"]), (503, &Value::from("draining")), "{answer:#}");
        let cause = json!({ "state": "failed", "cause": "the run ends when no more frames come" });
        assert_eq!(answer["checks"]["run"], cause);
        for check in ["attached", "queues", "link", "sinks", "lag"] {
            assert_eq!(answer["checks"][check]["state"], "ok", "{answer:#}");
        }
        assert_eq!(client.get("/live"), (200, "live\n".to_owned()));
        let at_check = run.frames();
        sender.join().expect("sent");
        (at_term, at_check)
    });
    assert!(at_term < u64::from(FRAMES), "all {at_term} frames came before the drain");
    assert!(at_check < u64::from(FRAMES), "all {at_check} frames came before the health check");
    run.end().expect_code(0).expect_words(&["drained for", "until no more packets came", "residue 0"]);
    let report = report(path);
    assert_eq!(taken(&report), u64::from(FRAMES));
    assert_drained(&report, true, 1.0);
    assert_next_run_works(&cable);
}

#[test]
fn term_with_a_drain_loses_no_frame_and_ends_when_none_comes() {
    loses_nothing("", |report| report["frames"]["decapsulated"].as_u64().expect("frames"));
}

/// These frames reach no worker.
#[test]
fn a_drain_sees_frames_that_the_kernel_forwards() {
    loses_nothing("--forward veth:ids0 --forward-path kernel", |report| {
        report["interfaces"][0]["xdp"]["forwarded"].as_u64().expect("frames")
    });
}

#[test]
fn a_drain_ends_at_its_maximum_while_frames_come() {
    let cable = Cable::with_queues(1);
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    let run = Mirror::ingest(&cable, path, &format!("{REPORT} --drain-max 2s --drain-quiet 500ms"));
    let traffic = Traffic { rate: Some(20_000), ..Traffic::default() };
    let generator = cable.generator(traffic).start(u64::MAX);
    run.has(1_000);
    run.end_by(Signal::SIGTERM)
        .expect_code(0)
        .expect_words(&["ended before packets had stopped", "residue 0"]);
    generator.stop().expect("generated");
    assert_drained(&report(path), false, 2.0);
    assert_next_run_works(&cable);
}

#[test]
fn a_second_term_or_int_skips_the_rest_of_a_drain() {
    let cable = Cable::with_queues(1);
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path();
        let mut run = Mirror::ingest(&cable, path, &format!("{REPORT} --drain-max 1h --drain-quiet 1h"));
        inject(&cable, 10);
        run.has(10);
        run.signal(Signal::SIGTERM);
        run.says("draining");
        assert!(run.is_running() && program(&cable).is_some());
        // These come while it drains.
        inject(&cable, 10);
        run.has(20);
        run.end_by(signal).expect_code(0).expect_words(&["20 packets captured", "residue 0"]);
        assert_drained(&report(path), false, 0.0);
    }
    assert_next_run_works(&cable);
}

#[test]
fn only_term_drains() {
    let cable = Cable::with_queues(1);
    for (arguments, signal) in
        [("-c 10", None), ("--duration 2s", None), ("", Some(Signal::SIGINT)), ("", Some(Signal::SIGHUP))]
    {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path();
        let run = Mirror::ingest(&cable, path, &format!("{REPORT} --drain-max 1h {arguments}"));
        inject(&cable, 10);
        let ending = match signal {
            Some(signal) => {
                run.has(10);
                run.end_by(signal)
            }
            None => run.end(),
        };
        let ending = ending.expect_code(0);
        assert!(!ending.said.contains("drain"), "{}", ending.said);
        assert_eq!(report(path)["drain"], Value::Null);
    }
}

#[test]
fn systemd_is_notified_of_the_start_and_of_the_drain() {
    let cable = Cable::with_queues(1);
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    let socket = UnixDatagram::bind(path.join("notify")).expect("socket");
    socket.set_read_timeout(Some(Duration::from_secs(60))).expect("timeout");
    let received = || {
        let mut buffer = [0; 64];
        let length = socket.recv(&mut buffer).expect("a notification");
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    for arguments in ["--drain-max 1h --drain-quiet 1h", "-Z nobody"] {
        let mut command = ingest(&cable, path, arguments);
        command.env("NOTIFY_SOCKET", path.join("notify"));
        let run = Mirror::start(command);
        assert_eq!(received(), "READY=1");
        assert!(program(&cable).is_some());
        run.signal(Signal::SIGTERM);
        assert_eq!(received(), "STOPPING=1");
        if arguments.contains("drain") {
            run.signal(Signal::SIGTERM);
        }
        run.end().expect_code(0);
    }
}
