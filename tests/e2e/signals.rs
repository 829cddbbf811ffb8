//! Signals that do not end a run. Needs root.

mod common;

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use common::{
    Cable,
    mirror::{
        Mirror, assert_next_run_works, balanced_report, frames, inject, readable_capture, until,
        whole_capture,
    },
};
use mirror_lab::Injector;
use nix::sys::signal::Signal;

#[test]
fn usr1_prints_statistics() {
    let cable = Cable::with_queues(1);
    let directory = tempfile::tempdir().expect("directory");
    // Asked for, it is printed although the run is to be quiet.
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

/// A frame waits in its block for 900 ms and more, unless the block is full: one that is in the file earlier was flushed.
/// One such round in twenty is proof; a machine that never comes to write within that time is no judge.
#[test]
fn usr2_has_buffered_frames_in_the_file() {
    const ROUNDS: usize = 20;
    const EARLY: Duration = Duration::from_millis(600);
    let cable = Cable::with_queues(1);
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    let hidden = path.join(".out.pcapng.partial");
    let run = Mirror::ingest(&cable, path, "-w out.pcapng --report report.json");
    let injector = Injector::new(&cable.sender, common::SENDER).expect("injector");
    let (outer, inner) = frames(u32::try_from(ROUNDS).expect("rounds"));
    let mut sent = 0;
    let flushed = outer.iter().any(|frame| {
        // A frame on its way from the ring to the block when the signal comes would miss the flush, so there are more.
        let start = Instant::now();
        injector.send([frame.as_slice()]).expect("injected");
        sent += 1;
        until("the frame is in the file", || {
            if start.elapsed() < EARLY {
                run.signal(Signal::SIGUSR2);
                thread::sleep(Duration::from_millis(60));
            }
            (readable_capture(&hidden).packets.len() == sent).then_some(start.elapsed() < EARLY)
        })
    });
    assert!(flushed, "no frame was there before its time");
    run.end_by(Signal::SIGINT).expect_code(0);
    assert_eq!(whole_capture(&path.join("out.pcapng")).frames(), inner[..sent]);
    balanced_report(&path.join("report.json"));
    assert!(fs::symlink_metadata(hidden).is_err());
    assert_next_run_works(&cable);
}
