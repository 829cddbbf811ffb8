//! Frames larger than a UMEM chunk: with EC2's default MTU of 9001 they arrive in several descriptors, reach
//! every sink unchanged, and are all accounted for. Needs root, and kernel 6.6.

#[path = "common/mod.rs"]
mod common;

use std::{net::IpAddr, num::NonZeroU32, path::Path, time::Duration};

use common::{
    CAPTURE, Cable, LedgerFactory, SENDER, Shared, assert_balanced, builder,
    mirror::{Mirror, balanced_report, ingest, names, sink, whole_capture},
    settle,
};
use mirror_lab::{
    Injector, VethEnd, VethOptions, VethPair, Witness,
    capture::same_frames,
    frames::{Outer, inner_udp},
};
use mirror_user::{Report, sink::SinkFactory};
use nix::sys::signal::Signal;

/// EC2's default MTU.
const MTU: u32 = 9001;
/// Sizes of inner frames in bytes, from the minimum to the maximum that fits.
const SIZES: std::ops::RangeInclusive<usize> = 60..=8950;
const FLOWS: usize = 64;
const VNIS: [u32; 2] = [7, 8];
/// A prime, so that sizes and flows combine in all ways.
const STEP: usize = 1_009;
/// Ethernet, IPv4 and UDP headers of an inner frame, in bytes.
const HEADERS: usize = 42;

fn jumbo_cable(queues: u32) -> Cable {
    Cable::lay(&VethOptions { mtu: MTU, queues, ..VethOptions::default() })
}

/// The `nth` inner frame: its number is in it and determines size and flow, and no two have the same bytes.
fn inner(nth: usize) -> Vec<u8> {
    let span = SIZES.end() - SIZES.start() + 1;
    let len = SIZES.start() + nth * STEP % span;
    let flow = u8::try_from(nth % FLOWS).expect("a flow");
    let payload: Vec<u8> = (0..len - HEADERS)
        .map(|place| match place {
            0..4 => nth.to_be_bytes()[place + 4],
            _ => u8::try_from((place * 31 + nth) % 251).expect("a byte"),
        })
        .collect();
    let ends: [(IpAddr, u16); 2] = [([10, 0, 1, flow].into(), 40_000), ([10, 0, 2, flow].into(), 9)];
    inner_udp(ends[0], ends[1], &payload).expect("inner frame")
}

/// Inner frames, and the outer frames that carry them.
fn frames(count: usize) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let inner: Vec<_> = (0..count).map(inner).collect();
    let wrap = |(nth, frame): (usize, &Vec<u8>)| {
        Outer::sample(VNIS[nth % VNIS.len()]).encapsulate(frame).expect("outer frame")
    };
    let outer = inner.iter().enumerate().map(wrap).collect();
    (inner, outer)
}

/// Sends them at a rate at which nothing is lost.
fn send(cable: &Cable, outer: &[Vec<u8>]) {
    let pace = NonZeroU32::new(4_000).expect("a pace");
    Injector::new(&cable.sender, SENDER).expect("injector").pace(pace).send_all(outer).expect("injected");
}

/// Frames of a report that arrived in several descriptors.
fn in_several(report: &serde_json::Value) -> u64 {
    report["frames"]["multi_descriptor"].as_u64().expect("a count")
}

/// More than half of [`SIZES`] exceed a chunk of 4096 bytes.
fn assert_many_in_several(report: &serde_json::Value, sent: usize) {
    let several = in_several(report);
    assert!(several > sent as u64 / 2 && several < sent as u64, "{several} of {sent} in several descriptors");
}

#[test]
fn jumbo_frames_reach_captures_a_tap_and_a_veth_byte_for_byte() {
    const COUNT: usize = 3_000;
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    let cable = jumbo_cable(1);
    let beyond = cable.lab.namespace("beyond").expect("beyond");
    let far = VethEnd::new(&beyond, "ids0");
    let options = VethOptions { mtu: 9216, ..VethOptions::default() };
    VethPair::create(VethEnd::new(&cable.target, "out0"), far, &options).expect("veth");
    let run = Mirror::ingest(
        &cable,
        path,
        "--mode native -w inner.pcapng --forward tap:ids0 --forward veth:ids1 --forward dev:out0 --report \
        report.json",
    );
    VethEnd::new(&cable.target, "ids0").offloads(false).expect("ethtool");
    let on_tap = Witness::start(&cable.target, "ids0", &path.join("tap.pcap"), "").expect("tcpdump");
    let on_veth = Witness::start(&cable.target, "ids1", &path.join("veth.pcap"), "").expect("tcpdump");
    let on_cable = Witness::start(&beyond, "ids0", &path.join("far.pcap"), "").expect("tcpdump");
    let (inner, outer) = frames(COUNT);
    send(&cable, &outer);
    run.has(COUNT as u64);
    run.end_by(Signal::SIGINT).expect_code(0).expect_words(&["residue 0"]);
    let report = balanced_report(&path.join("report.json"));
    for name in ["pcap", "forward tap:ids0", "forward veth:ids1", "forward dev:out0"] {
        assert_eq!(sink(&report, name)["written"], COUNT, "{:#}", sink(&report, name));
    }
    assert_many_in_several(&report, COUNT);
    assert_eq!(report.pointer("/interfaces/0/queues/0/oversize"), Some(&serde_json::Value::Null));
    same_frames(&inner, &on_tap.stop().expect("tcpdump").frames).expect("frames on the TAP");
    same_frames(&inner, &on_veth.stop().expect("tcpdump").frames).expect("frames on the veth");
    same_frames(&inner, &on_cable.stop().expect("tcpdump").frames).expect("frames at the cable's end");
    same_frames(&inner, &whole_capture(&path.join("inner.pcapng")).frames()).expect("captured frames");
}

/// A worker does not stop between two descriptors of a frame.
#[test]
fn jumbo_frames_go_through_upgrades_byte_for_byte() {
    const COUNT: usize = 12_000;
    const UPGRADES: usize = 5;
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    let cable = jumbo_cable(1);
    std::fs::write(path.join("mirror.toml"), "write = 'inner.pcapng'").expect("configuration");
    let mut run = Mirror::ingest(&cable, path, "--config mirror.toml --mode native --report report.json");
    let (inner, outer) = frames(COUNT);
    std::thread::scope(|scope| {
        let sender = scope.spawn(|| send(&cable, &outer));
        for _ in 0..UPGRADES {
            run.upgrade();
        }
        assert!(!sender.is_finished(), "the upgrades outlast the packets");
        sender.join().expect("sent");
    });
    run.has(COUNT as u64);
    run.end_by(Signal::SIGINT).expect_code(0).expect_words(&["residue 0"]);
    let report = balanced_report(&path.join("report.json"));
    assert_many_in_several(&report, COUNT);
    let mut found = names(path);
    found.retain(|name| name.starts_with("inner.pcapng"));
    let captured: Vec<_> = found.iter().flat_map(|name| whole_capture(&path.join(name)).frames()).collect();
    same_frames(&inner, &captured).expect("captured frames");
}

#[test]
fn jumbo_frames_reach_a_tunnel_an_outer_capture_and_text_byte_for_byte() {
    const COUNT: usize = 1_000;
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    let cable = jumbo_cable(1);
    let beyond = cable.lab.namespace("beyond").expect("beyond");
    let near = VethEnd::new(&cable.target, "out0");
    let far = VethEnd::new(&beyond, "ids0");
    let options = VethOptions { mtu: 9216, ..VethOptions::default() };
    let link = VethPair::create(near, far, &options).expect("veth");
    link.a.address("10.99.0.1/24").expect("address");
    link.b.address("10.99.0.2/24").expect("address");
    let arguments =
        "--outer -w outer.pcap --format pcap --forward vxlan:10.99.0.2 --print -xx --report report.json";
    let mut command = ingest(&cable, path, arguments);
    command.stdout(std::fs::File::create(path.join("text")).expect("file"));
    let run = Mirror::start(command).attached(&cable);
    let tunnel = Witness::start(&beyond, "ids0", &path.join("far.pcap"), "udp port 4789").expect("tcpdump");
    let (inner, outer) = frames(COUNT);
    send(&cable, &outer);
    run.has(COUNT as u64);
    run.end_by(Signal::SIGINT).expect_code(0);
    let report = balanced_report(&path.join("report.json"));
    assert_many_in_several(&report, COUNT);
    let seen: Vec<_> =
        tunnel.stop().expect("tcpdump").frames.iter().map(|frame| frame[50..].to_vec()).collect();
    same_frames(&inner, &seen).expect("frames in the tunnel");
    same_frames(&outer, &whole_capture(&path.join("outer.pcap")).frames()).expect("captured frames");
    let text = std::fs::read_to_string(path.join("text")).expect("text");
    same_frames(&inner, &dumped(&text)).expect("the bytes that are printed");
}

/// The frames in the output of `--print -xx`: below each packet, lines of an offset and groups of hexadecimal
/// digits.
fn dumped(text: &str) -> Vec<Vec<u8>> {
    let mut frames: Vec<Vec<u8>> = Vec::new();
    for line in text.lines() {
        let Some(digits) = line.trim_start().strip_prefix("0x").and_then(|line| line.split_once(':')) else {
            if frames.last().is_none_or(|frame| !frame.is_empty()) {
                frames.push(Vec::new());
            }
            continue;
        };
        let digits: Vec<u8> = digits.1.bytes().filter(u8::is_ascii_hexdigit).collect();
        let frame = frames.last_mut().expect("a packet's line comes first");
        for pair in digits.chunks(2) {
            let pair = std::str::from_utf8(pair).expect("digits");
            frame.push(u8::from_str_radix(pair, 16).expect("a byte"));
        }
    }
    frames
}

#[test]
fn filters_and_snap_lengths_read_beyond_the_first_descriptor() {
    const COUNT: usize = 400;
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    let cable = jumbo_cable(1);
    // Byte 8000 is far beyond the first descriptor.
    let place = 8_000 + HEADERS;
    let mut command = ingest(&cable, path, "-s 6000 -w some.pcapng --report report.json");
    command.arg(format!("ether[{place}] & 1 = 1"));
    let run = Mirror::start(command).attached(&cable);
    let (inner, outer) = frames(COUNT);
    send(&cable, &outer);
    run.has(COUNT as u64);
    run.end_by(Signal::SIGINT).expect_code(0);
    let report = balanced_report(&path.join("report.json"));
    let wanted: Vec<_> = inner
        .iter()
        .filter(|frame| frame.get(place).is_some_and(|byte| byte & 1 == 1))
        .map(|frame| frame[..frame.len().min(6_000)].to_vec())
        .collect();
    assert!(!wanted.is_empty());
    same_frames(&wanted, &whole_capture(&path.join("some.pcapng")).frames()).expect("captured frames");
    assert_eq!(sink(&report, "pcap")["deselected"], COUNT - wanted.len());
}

#[test]
fn a_session_that_truncates_at_8500_keeps_the_wire_length() {
    const CUT: usize = 8_500;
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    let cable = jumbo_cable(1);
    let run = Mirror::ingest(&cable, path, "-w cut.pcapng --report report.json");
    // As AWS does: the inner IP length is kept, outer lengths are those of the truncated packet.
    let whole: Vec<_> = (0..200).map(inner).filter(|frame| frame.len() > CUT).collect();
    assert!(whole.len() > 5);
    let outer: Vec<_> = whole
        .iter()
        .map(|frame| {
            Outer::aws([10, 10, 10, 252].into(), [10, 10, 10, 250].into(), 0xff91, 16_398_363)
                .encapsulate(&frame[..CUT])
                .expect("outer")
        })
        .collect();
    send(&cable, &outer);
    run.has(outer.len() as u64);
    run.end_by(Signal::SIGINT).expect_code(0);
    let report = balanced_report(&path.join("report.json"));
    assert_eq!(report.pointer("/frames/odd/truncated_inner"), Some(&whole.len().into()));
    let capture = whole_capture(&path.join("cut.pcapng"));
    for (packet, whole) in capture.packets.iter().zip(&whole) {
        assert_eq!((packet.bytes.len(), packet.wire_len as usize), (CUT, whole.len()));
        assert_eq!(packet.bytes, whole[..CUT]);
    }
    assert_eq!(capture.packets.len(), whole.len());
}

/// Runs an engine with a slow worker, or a small ring, and sends more than it can receive.
fn overload(mut wanted: mirror_user::engine::EngineBuilder, delay: Duration, count: usize) -> Report {
    let cable = jumbo_cable(1);
    let factory = LedgerFactory::slow(delay);
    wanted = wanted
        .scatter_gather(true)
        .sink(std::sync::Arc::new(Shared(factory)) as std::sync::Arc<dyn SinkFactory>);
    let running = cable.engine(wanted);
    let (_, outer) = frames(200);
    let injector = Injector::new(&cable.sender, SENDER).expect("injector");
    let pace = NonZeroU32::new(1_000_000).expect("a pace");
    let injector = injector.pace(pace);
    let mut sent = 0;
    while sent < count as u64 {
        sent += injector.send_all(&outer).expect("injected");
    }
    settle(&running);
    let report = running.stop();
    assert_balanced(&report);
    assert_eq!(report.interfaces[0].xdp.seen, sent);
    report
}

#[test]
fn a_small_ring_loses_only_whole_frames_and_counts_them() {
    let report = overload(builder().rx_ring(64).umem_frames(64), Duration::from_millis(5), 20_000);
    let queue = &report.interfaces[0].queues[0];
    assert!(queue.rx_dropped + queue.rx_ring_full > 0, "{queue:?}");
    assert_eq!(report.frames.received, report.frames.decapsulated);
}

#[test]
fn batches_smaller_than_a_frame_and_chunks_of_2048_receive_whole_frames() {
    let report = overload(builder().batch(1).chunk_size(2048), Duration::ZERO, 2_000);
    assert_eq!(report.frames.received, report.frames.decapsulated);
    assert!(report.frames.multi_descriptor > 1_000, "{:?}", report.frames);
}

#[test]
fn generic_mode_receives_whole_jumbo_frames() {
    const COUNT: usize = 500;
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    let cable = jumbo_cable(1);
    let run = Mirror::ingest(&cable, path, "--mode generic -w inner.pcapng --report report.json");
    let (inner, outer) = frames(COUNT);
    send(&cable, &outer);
    run.has(COUNT as u64);
    run.end_by(Signal::SIGINT).expect_code(0);
    let _ = report_in(path);
    same_frames(&inner, &whole_capture(&path.join("inner.pcapng")).frames()).expect("captured frames");
}

fn report_in(directory: &Path) -> serde_json::Value {
    let report = balanced_report(&directory.join("report.json"));
    assert_eq!(report.pointer("/interfaces/0/name"), Some(&CAPTURE.into()));
    report
}
