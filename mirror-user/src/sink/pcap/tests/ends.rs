//! When blocks are written, and the files of a killed process.

use std::{
    io::{BufRead, BufReader},
    process::Stdio,
    time::Instant,
};

use super::*;
use crate::sink::testing::offer;

fn wait_until_written(sink: &dyn Sink, frames: u64) {
    while sink.stats().written < frames {
        thread::yield_now();
    }
}

#[test]
fn every_tick_writes_if_unbuffered() {
    let dir = tempfile::tempdir().unwrap();
    let pcap = Pcap::builder(Target::file(dir.path().join("a"))).unbuffered(true).build().unwrap();
    let mut sink = worker(&pcap);
    offer(&mut *sink, &some_frames(3)).unwrap();
    assert_eq!((sink.stats().pending, sink.stats().written), (3, 0));
    sink.tick(Instant::now());
    wait_until_written(&*sink, 3);
    assert_eq!(read(pcap.hidden_path().unwrap()).packets.len(), 3);
}

#[test]
fn streams_are_unbuffered_by_default() {
    let pcap = Pcap::builder(Target::writer("test", io::sink())).build().unwrap();
    let mut sink = worker(&pcap);
    offer(&mut *sink, &some_frames(3)).unwrap();
    sink.tick(Instant::now());
    wait_until_written(&*sink, 3);
}

#[test]
fn a_tick_writes_before_the_first_frame_is_a_second_old_if_buffered() {
    let dir = tempfile::tempdir().unwrap();
    let pcap = Pcap::builder(Target::file(dir.path().join("a"))).build().unwrap();
    let mut sink = worker(&pcap);
    let start = Instant::now();
    let tick = |sink: &mut dyn Sink, ms| sink.tick(start + Duration::from_millis(ms));
    tick(&mut *sink, 5000);
    offer(&mut *sink, &some_frames(3)).unwrap();
    tick(&mut *sink, 5850);
    assert_eq!(sink.stats().pending, 3);
    tick(&mut *sink, 5950);
    wait_until_written(&*sink, 3);
}

#[test]
fn a_flush_writes_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let pcap = Pcap::builder(Target::file(dir.path().join("a"))).build().unwrap();
    let mut sink = worker(&pcap);
    offer(&mut *sink, &some_frames(3)).unwrap();
    sink.flush();
    wait_until_written(&*sink, 3);
}

#[test]
fn the_hook_runs_on_the_writer_thread() {
    let (sender, receiver) = crossbeam_channel::bounded(1);
    let pcap = Pcap::builder(Target::writer("test", io::sink()))
        .on_thread_start(move || sender.send(thread::current().name().map(str::to_owned)).unwrap())
        .build()
        .unwrap();
    assert_eq!(receiver.recv().unwrap().as_deref(), Some("mirror-pcap"));
    drop(pcap);
}

#[test]
fn a_killed_process_leaves_a_file_readable_to_the_last_block() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out.pcapng");
    let mut child = in_a_process_of_its_own(&[], "ends::child_writes_until_killed", &path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let written = lines.filter_map(|line| line.strip_prefix("written ")?.parse::<usize>().ok());
    let before = written.into_iter().find(|&frames| frames > 20_000).expect("the child writes");
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!path.exists());
    let hidden = dir.path().join(".out.pcapng.partial");
    // The kill may interrupt a write: tshark then reads the whole packets and reports an error.
    let output =
        Command::new("tshark").args(["-n", "-T", "fields", "-e", "frame.len", "-r"]).arg(&hidden).output();
    let output = output.unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() || complaint.contains("cut short"), "{complaint}");
    let lengths: Vec<_> = String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect();
    assert!(lengths.len() >= before, "{} of at least {before}", lengths.len());
    let expected = some_frames(1000).into_iter().map(|frame| frame.inner().len().to_string());
    assert!(
        expected.collect::<Vec<_>>().iter().cycle().zip(&lengths).all(|(expected, seen)| expected == seen)
    );
    // And the next run works.
    let pcap = Pcap::builder(Target::file(&path)).build().unwrap();
    pcap.close(&report()).unwrap();
    assert!(path.exists() && hidden.exists());
}

#[test]
#[ignore = "run by another test, which kills it"]
fn child_writes_until_killed() {
    let pcap = Pcap::builder(Target::file(path_from_parent())).block_size(64 << 10).build().unwrap();
    let mut sink = worker(&pcap);
    let frames = some_frames(1000);
    let start = Instant::now();
    // The parent kills it long before this.
    while start.elapsed() < Duration::from_secs(60) {
        offer(&mut *sink, &frames).unwrap();
        // Nothing may be dropped in the middle, so the writer must keep up.
        while sink.stats().pending > 8000 {
            thread::yield_now();
        }
        println!("written {}", sink.stats().written);
    }
}
