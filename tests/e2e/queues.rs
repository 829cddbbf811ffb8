//! RX queues added during a run. Frames on them cannot be tested here: veth runs no program on a queue that
//! was added after the program (`veth_enable_range_safe`). Needs root.

#[path = "common/mod.rs"]
mod common;

use common::{
    CAPTURE, Cable, SENDER,
    mirror::{Mirror, balanced_report, inject},
};
use mirror_lab::{Namespace, run};
use nix::sys::signal::Signal;

fn channels(namespace: &Namespace, interface: &str, rx: &str) {
    let mut ethtool = namespace.command("ethtool");
    run(ethtool.args(["-L", interface, "rx", rx, "tx", "1"])).expect("ethtool -L");
}

/// A veth pair with two queues per side, one of them in use.
fn cable_with_one_of_two() -> Cable {
    let cable = Cable::with_queues(2);
    channels(&cable.sender, SENDER, "1");
    channels(&cable.target, CAPTURE, "1");
    cable
}

/// Without one at the sender: of two, the kernel would choose by a hash that each boot seeds anew.
fn add_a_queue(cable: &Cable) {
    channels(&cable.target, CAPTURE, "2");
}

#[test]
fn a_queue_added_after_the_start_causes_a_warning() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    let cable = cable_with_one_of_two();
    let run = Mirror::ingest(&cable, path, "--report report.json");
    add_a_queue(&cable);
    run.says(&format!("{CAPTURE}: 2 RX queues, of which 1 are read"));
    let inner = inject(&cable, 100);
    run.has(inner.len() as u64);
    run.end_by(Signal::SIGINT).expect_code(0);
    let report = balanced_report(&path.join("report.json"));
    let warnings = report["warnings"].as_array().expect("warnings");
    let warned = format!("{CAPTURE}: 2 RX queues, of which 1 were read: the others came later");
    assert!(warnings.iter().any(|warning| *warning == warned), "{report:#}");
}

#[test]
fn with_chosen_queues_other_queues_cause_no_warning() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    let cable = cable_with_one_of_two();
    let run = Mirror::ingest(&cable, path, "--queues 0 --report report.json");
    add_a_queue(&cable);
    // Twice the interval at which queues are checked.
    std::thread::sleep(std::time::Duration::from_secs(2));
    let ending = run.end_by(Signal::SIGINT).expect_code(0);
    assert!(!ending.said.contains("RX queues, of which"), "{}", ending.said);
    balanced_report(&path.join("report.json"));
}
