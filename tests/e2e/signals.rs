//! Signals that do not end a run. Needs root.

mod common;

use std::fs;

use common::{
    Cable,
    mirror::{Mirror, assert_next_run_works, balanced_report, flush_by_usr2, inject, whole_capture},
};
use mirror_lab::Injector;
use nix::sys::signal::Signal;

#[test]
fn sigusr1_prints_statistics() {
    let cable = Cable::with_queues(1);
    let directory = tempfile::tempdir().expect("directory");
    // Statistics on request are printed in spite of -q.
    let run = Mirror::ingest(&cable, directory.path(), "-q");
    assert_eq!(run.frames(), 0);
    inject(&cable, 100);
    run.has(100);
    let line = run.said().lines().last().expect("a line").to_owned();
    for word in ["100 frames", "pps", "bit/s", "0 dropped by kernel"] {
        assert!(line.contains(word), "{line}");
    }
    run.end_by(Signal::SIGINT).expect_code(0);
    assert_next_run_works(&cable);
}

#[test]
fn sigusr2_flushes_buffered_frames() {
    let cable = Cable::with_queues(1);
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    let run = Mirror::ingest(&cable, path, "-w out.pcapng --report report.json");
    let injector = Injector::new(&cable.sender, common::SENDER).expect("injector");
    let (inner, hidden) = flush_by_usr2(&run, path, |frame| {
        injector.send([frame]).expect("injected");
    });
    run.end_by(Signal::SIGINT).expect_code(0);
    assert_eq!(whole_capture(&path.join("out.pcapng")).frames(), inner);
    balanced_report(&path.join("report.json"));
    assert!(fs::symlink_metadata(hidden).is_err());
    assert_next_run_works(&cable);
}
