//! The sink: lines for the reader, and notes on missing frames.

use std::{
    io::{self, Write},
    sync::{Arc, Mutex},
    time::SystemTime,
};

use mirror_lab::{
    frames::{self as lab, inner_of_len},
    geneve::{ETHERNET, Geneve},
};

use super::*;
use crate::{
    Captured, Report, Tunnels,
    decap::decapsulate_frame,
    sink::{
        Sink, SinkFactory, SinkStats, WorkerContext,
        testing::{Gate, Outer, offer, sessions},
    },
};

const NANOSECONDS: u64 = 1_000_000_000;

fn frames(count: u64) -> Vec<Outer> {
    let inner = &mixed().expect("frames")[2];
    (0..count).map(|number| Outer::new([10, 0, 0, 5], 12_345, inner).at(number * NANOSECONDS)).collect()
}

fn worker(print: &Print) -> Box<dyn Sink> {
    // As with a ring: frames that cannot be printed are dropped.
    print.build(&WorkerContext::single(2048)).unwrap()
}

fn report() -> Report {
    Report::new("file", SystemTime::UNIX_EPOCH)
}

fn text(bytes: &Mutex<Vec<u8>>) -> String {
    String::from_utf8(bytes.lock().unwrap().clone()).unwrap()
}

/// A printer of times since the epoch with four small blocks, for about a hundred frames.
fn small(out: impl Write + Send + 'static) -> Print {
    let style = Style::default().time(Time::Epoch);
    Print::builder(style).writer("the reader", out).block_size(8192).blocks(4).build().unwrap()
}

#[test]
fn a_line_begins_with_time_and_origin() {
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
fn the_outer_line_has_the_addresses_and_the_tunnel() {
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
fn a_line_has_the_name_of_the_session() {
    let mut lines = Lines::new(Style::default().time(Time::None)).sessions(sessions());
    let mut text = String::new();
    for (vni, name) in [(7, "web-1.vni-7@10.0.0.5 "), (8, "vni-8@10.0.0.5 ")] {
        text.clear();
        lines.line(&Outer::new([10, 0, 0, 5], vni, &[1; 60]).frame(), &mut text);
        assert!(text.starts_with(name), "{text}");
    }
}

#[test]
fn the_outer_line_says_what_a_load_balancer_says() {
    let inner = inner_of_len(60).unwrap();
    let line = |bytes: &[u8]| {
        let captured = Captured::new(bytes, u32::try_from(bytes.len()).unwrap(), 0);
        let frame = decapsulate_frame(captured, &Tunnels::from([6081])).unwrap();
        let mut text = String::new();
        Lines::new(Style::default().time(Time::None).outer(true)).line(&frame, &mut text);
        text.lines().next().unwrap().to_owned()
    };
    let mirrored = Geneve::aws(0x0ab1, 2, 3).encapsulate_mirrored(&lab::Outer::sample(7), &inner);
    assert_eq!(
        line(&mirrored.unwrap()),
        "vni-7@10.10.10.252%0000000000000ab1 Geneve, endpoint 0000000000000ab1, attachment \
        0000000000000002, flow 00000003: IP 10.10.10.252.65408 > 10.10.10.1.4789: VXLAN, flags [I] (0x08), \
        vni 7"
    );
    let plain = Geneve::plain(7).encapsulate(ETHERNET, &inner);
    assert_eq!(
        line(&plain.unwrap()),
        "vni-7@10.10.10.5 IP 10.10.10.5.49443 > 10.10.10.1.6081: Geneve, vni 7"
    );
}

#[test]
fn frames_dropped_for_a_slow_reader_are_counted_and_noted_in_place() {
    const OFFERED: u64 = 5000;
    let (gate, release, bytes) = Gate::new();
    let print = small(gate);
    let mut sink = worker(&print);
    // If the worker waited, this would not return.
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
    // Whole lines on both sides; the last one is later.
    assert!(
        before.starts_with(&format!("{}.000000 vni", stats.written - 2)) && after.starts_with("0.000000 vni")
    );
}

#[test]
fn frames_dropped_last_are_noted_at_the_end() {
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

/// Accepts everything.
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

/// Accepts this many bytes, then fails as a closed pipe.
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
fn a_closed_pipe_stops_the_sink_and_only_whole_lines_count() {
    let line =
        "0.000000 vni-12345@10.0.0.5 IP 10.1.0.10 > 10.1.0.11: ICMP echo request, id 7, seq 1, length 64\n";
    let print = small(Leaving(3 * line.len() + 1));
    let mut sink = worker(&print);
    offer(&mut *sink, &frames(8)).unwrap();
    let error = sink.finish().unwrap_err().to_string();
    let stats = sink.stats();
    assert_eq!((stats.written, stats.pending), (3, 0));
    assert_eq!(stats.failed.iter().collect::<Vec<_>>(), [("io", 5)]);
    assert_eq!(error, "the reader: broken pipe (3 frames written); the reader has closed it: restart both");
    assert_eq!(print.close(&report()).unwrap_err().to_string(), error);
}

#[test]
fn times_that_are_not_printed_are_not_needed() {
    let needs_time = |time| {
        Print::builder(Style::default().time(time)).writer("none", io::sink()).build().unwrap().needs_time()
    };
    assert!(needs_time(Time::Clock) && !needs_time(Time::None));
}
