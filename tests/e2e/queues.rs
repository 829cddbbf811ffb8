//! RX queues that come while the interface is read: what comes by them is loss, and is told as such. Needs root.

#[path = "common/mod.rs"]
mod common;

use common::{
    CAPTURE, Cable, SENDER,
    mirror::{Mirror, balanced_report},
};
use mirror_lab::{Namespace, Traffic, run};
use nix::sys::signal::Signal;

fn channels(namespace: &Namespace, interface: &str, queues: u32) {
    let queues = queues.to_string();
    let mut ethtool = namespace.command("ethtool");
    run(ethtool.args(["-L", interface, "rx", &queues, "tx", &queues])).expect("ethtool -L");
}

/// Two CPUs send, so that a frame in two comes by queue 1 once there is one.
fn traffic() -> Traffic {
    Traffic { cpus: vec![0, 1], rate: Some(60_000), ..Traffic::default() }
}

/// A cable of two queues a side, of which one is in use.
fn cable_with_one_of_two() -> Cable {
    let cable = Cable::with_queues(2);
    channels(&cable.sender, SENDER, 1);
    channels(&cable.target, CAPTURE, 1);
    cable
}

fn add_a_queue(cable: &Cable) {
    channels(&cable.target, CAPTURE, 2);
    channels(&cable.sender, SENDER, 2);
}

#[test]
fn frames_on_a_queue_that_came_after_the_start_are_told_of_as_lost() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    let cable = cable_with_one_of_two();
    let run = Mirror::ingest(&cable, path, "--report report.json");
    add_a_queue(&cable);
    run.says(&format!("{CAPTURE}: 2 RX queues, of which 1 are read"));
    let sent = cable.generator(traffic()).send(2_000).expect("generated").total();
    run.has(sent / 2);
    let ending = run.end_by(Signal::SIGINT).expect_code(0);
    let report = balanced_report(&path.join("report.json"));
    let lost = report.pointer("/interfaces/0/xdp/passed/no_socket").and_then(serde_json::Value::as_u64);
    assert_eq!(lost, Some(sent / 2), "{report:#}");
    ending.expect_words(&[
        &format!("{} lost: passed to the host, for their RX queue has no socket", sent / 2),
        "start mirror again to read them all",
    ]);
}

#[test]
fn whoever_chose_the_queues_hears_nothing_of_the_others() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    let cable = cable_with_one_of_two();
    let run = Mirror::ingest(&cable, path, "--queues 0 --report report.json");
    add_a_queue(&cable);
    let sent = cable.generator(traffic()).send(2_000).expect("generated").total();
    run.has(sent / 2);
    // Twice as long as a look at the queues is apart.
    std::thread::sleep(std::time::Duration::from_secs(2));
    let ending = run.end_by(Signal::SIGINT).expect_code(0);
    assert!(!ending.said.contains("RX queues, of which"), "{}", ending.said);
    assert!(!ending.said.contains("lost: passed to the host"), "{}", ending.said);
    ending.expect_words(&[&format!("{} passed: no socket on the queue", sent / 2)]);
    balanced_report(&path.join("report.json"));
}
