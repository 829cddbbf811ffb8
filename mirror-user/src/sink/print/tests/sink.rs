//! The sink: what gets to the reader, and what is said of what does not.

use std::{
    io::{self, Write},
    sync::{Arc, Mutex},
    time::SystemTime,
};

use super::*;
use crate::{
    Report,
    sink::{
        Sink, SinkFactory, SinkStats, WorkerContext,
        testing::{Gate, offer},
    },
};

const NANOSECONDS: u64 = 1_000_000_000;

fn frames(count: u64) -> Vec<Outer> {
    let inner = &mixed().expect("frames")[2];
    (0..count).map(|number| Outer::new([10, 0, 0, 5], 12_345, inner).at(number * NANOSECONDS)).collect()
}

fn worker(print: &Print) -> Box<dyn Sink> {
    // As behind a ring: what cannot be printed is dropped.
    print.build(&WorkerContext::single(2048)).unwrap()
}

fn report() -> Report {
    Report::new("file", SystemTime::UNIX_EPOCH)
}

fn text(bytes: &Mutex<Vec<u8>>) -> String {
    String::from_utf8(bytes.lock().unwrap().clone()).unwrap()
}

/// A printer of times since the epoch, of which four small blocks hold some hundred frames.
fn small(out: impl Write + Send + 'static) -> Print {
    let style = Style::default().time(Time::Epoch);
    Print::builder(style).writer("the reader", out).block_size(8192).blocks(4).build().unwrap()
}

#[test]
fn a_frame_is_a_line_with_its_time_and_origin_in_front() {
    let (gate, release, bytes) = Gate::new();
    drop(release);
    let print = small(gate);
    let mut sink = worker(&print);
    offer(&mut *sink, &frames(1)).unwrap();
    sink.finish().unwrap();
    print.close(&report()).unwrap();
    let line =
        "0.000000 vni-12345@10.0.0.5 IP 10.1.0.10 > 10.1.0.11: ICMP echo request, id 7, seq 1, length 64\n";
    assert_eq!(text(&bytes), line);
    assert_eq!(sink.stats(), SinkStats { written: 1, ..SinkStats::default() });
}

#[test]
fn the_outer_line_tells_who_sent_the_packet_by_which_tunnel() {
    let mut lines = Lines::new(Style::default().time(Time::None).outer(true));
    let mut text = String::new();
    lines.line(&frames(1)[0].frame(), &mut text);
    let (outer, inner) = text.split_once('\n').unwrap();
    assert_eq!(
        outer,
        "vni-12345@10.0.0.5 IP 10.0.0.5.65408 > 10.255.255.254.4789: VXLAN, flags [I] (0x08), vni 12345"
    );
    assert!(inner.starts_with("vni-12345@10.0.0.5 IP 10.1.0.10 > "));
}

#[test]
fn what_a_slow_reader_misses_is_counted_and_said_where_it_is_missing() {
    const OFFERED: u64 = 5000;
    let (gate, release, bytes) = Gate::new();
    let print = small(gate);
    let mut sink = worker(&print);
    // Were the worker to wait, this would not return.
    offer(&mut *sink, &frames(OFFERED)).unwrap();
    drop(release);
    while sink.stats().pending > 0 {
        sink.tick(std::time::Instant::now());
        std::thread::yield_now();
    }
    offer(&mut *sink, &frames(1)).unwrap();
    sink.finish().unwrap();
    print.close(&report()).unwrap();
    let stats = sink.stats();
    let dropped: Vec<_> = stats.dropped.iter().collect();
    assert_eq!(dropped, [("no_block", OFFERED + 1 - stats.written)]);
    let (text, missed) = (text(&bytes), OFFERED + 1 - stats.written);
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len() as u64, stats.written + 1);
    let [.., before, said, after] = lines[..] else { panic!("{lines:?}") };
    assert_eq!(said, format!("[{missed} packets dropped by print: reader too slow]"));
    // Whole lines on both sides, of which the last came later.
    assert!(
        before.starts_with(&format!("{}.000000 vni", stats.written - 2)) && after.starts_with("0.000000 vni")
    );
}

#[test]
fn what_is_missing_at_the_end_is_said_at_the_end() {
    let (gate, release, bytes) = Gate::new();
    let print = small(gate);
    let mut sink = worker(&print);
    offer(&mut *sink, &frames(3000)).unwrap();
    drop(release);
    sink.finish().unwrap();
    print.close(&report()).unwrap();
    let missed = sink.stats().dropped.total();
    assert!(missed > 0);
    assert!(text(&bytes).ends_with(&format!("\n[{missed} packets dropped by print: reader too slow]\n")));
}

#[test]
fn a_source_that_can_wait_loses_nothing() {
    let bytes = Arc::<Mutex<Vec<u8>>>::default();
    let print = small(Shared(Arc::clone(&bytes)));
    let patient = WorkerContext { wait_until: Some(Arc::default()), ..WorkerContext::single(2048) };
    let mut sink = print.build(&patient).unwrap();
    offer(&mut *sink, &frames(5000)).unwrap();
    sink.finish().unwrap();
    print.close(&report()).unwrap();
    assert_eq!(sink.stats().written, 5000);
    assert_eq!(text(&bytes).lines().count(), 5000);
}

/// Takes everything.
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Takes this many bytes, then its reader goes.
struct Leaving(usize);

impl Write for Leaving {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(self.0);
        self.0 -= taken;
        if taken == 0 { Err(io::ErrorKind::BrokenPipe.into()) } else { Ok(taken) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_reader_that_goes_ends_the_sink_and_only_whole_lines_count() {
    let line =
        "0.000000 vni-12345@10.0.0.5 IP 10.1.0.10 > 10.1.0.11: ICMP echo request, id 7, seq 1, length 64\n";
    let print = small(Leaving(3 * line.len() + 1));
    let mut sink = worker(&print);
    offer(&mut *sink, &frames(8)).unwrap();
    let error = sink.finish().unwrap_err().to_string();
    let stats = sink.stats();
    assert_eq!((stats.written, stats.pending), (3, 0));
    assert_eq!(stats.failed.iter().collect::<Vec<_>>(), [("io", 5)]);
    assert_eq!(error, "the reader: broken pipe (3 frames written); its reader has gone: start both again");
    assert_eq!(print.close(&report()).unwrap_err().to_string(), error);
}

#[test]
fn times_that_nobody_sees_are_not_asked_for() {
    let needs_time = |time| {
        Print::builder(Style::default().time(time)).writer("none", io::sink()).build().unwrap().needs_time()
    };
    assert!(needs_time(Time::Clock) && !needs_time(Time::None));
}
