//! Sockets that are not ours, those of xsk-rs over libxdp, at the other end of the cable: what they send the
//! engine reads, what the engine sends they read, and of the same traffic both read the same. Needs root.

use std::{
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use mirror_ebpf::mirror::{self as abi, Counter};
use mirror_lab::{
    Injector, Lab, VethEnd, VethOptions, VethPair, XdpProgram,
    capture::same_frames,
    frames::{ENCAPSULATION, Outer, inner_of_len},
    mixed::mixed,
    xdp_program::Settings,
};
use mirror_lab_xsk::{Config, Descriptors, XskReceiver, XskSender, XskSocket};
use mirror_user::{
    Engine, Report,
    engine::{EngineBuilder, ForwardPath, Mode, Running},
    sink::{self, SinkFactory, forward::Forward},
};

/// Interface the engine reads, or xsk-rs in its place.
const CAPTURE: &str = "cap0";
/// Numbered frames of a run: fewer than the rings hold, so that nothing is lost to a CPU that comes late.
const FRAMES: u32 = 5000;
/// Longest inner frame that fits a chunk with its encapsulation.
const ONE_CHUNK: usize = 3400;
/// MTU for those.
const MTU: u32 = 3450;
/// EC2's MTU, and the longest inner frame that fits it.
const JUMBO_MTU: u32 = 9001;
const JUMBO: usize = 8950;

/// How long nothing may come before that counts as never.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes of the headers of `inner_of_len`: Ethernet, IPv4, UDP.
const INNER_HEADERS: usize = 42;

/// A cable: who sends at its one end, who reads at the other.
fn cable(lab: &Lab, mtu: u32) -> VethPair {
    let (sender, target) =
        (lab.namespace("sender").expect("sender"), lab.namespace("target").expect("target"));
    let options = VethOptions { mtu, ..VethOptions::default() };
    VethPair::create(VethEnd::new(&sender, "gen0"), VethEnd::new(&target, CAPTURE), &options).expect("veth")
}

/// Inner frames of 64 bytes to `longest`, each with its number in front of its payload.
fn numbered(longest: usize) -> Vec<Vec<u8>> {
    let frame = |number: u32| {
        // 61 and the number of lengths have no common divisor: no length comes twice before all have come, in
        // no order.
        let length = 64 + (number as usize * 61) % (longest - 63);
        let mut frame = inner_of_len(length).expect("inner frame");
        frame[INNER_HEADERS..INNER_HEADERS + 4].copy_from_slice(&number.to_be_bytes());
        frame
    };
    (0..FRAMES).map(frame).collect()
}

fn mirrored(inner: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let outer = Outer::sample(7);
    inner.iter().map(|frame| outer.encapsulate(frame).expect("outer frame")).collect()
}

/// What a sink was given: outer frames and inner ones.
#[derive(Default)]
struct Kept {
    outer: Vec<Vec<u8>>,
    inner: Vec<Vec<u8>>,
}

fn keep(kept: &Arc<Mutex<Kept>>) -> Arc<dyn SinkFactory> {
    let kept = Arc::clone(kept);
    sink::for_each("keep", move |frame| {
        let mut kept = kept.lock().expect("kept");
        kept.outer.push(frame.outer().to_contiguous().into_owned());
        kept.inner.push(frame.inner().to_contiguous().into_owned());
        Ok(())
    })
}

/// An engine that outlasts a worker which comes late.
fn builder() -> EngineBuilder {
    Engine::builder(CAPTURE).mode(Mode::Native).rx_ring(16_384)
}

fn start(end: &VethEnd, builder: EngineBuilder) -> Running {
    let started = end.namespace.enter(|| builder.build().and_then(Engine::start)).expect("namespace");
    started.unwrap_or_else(|error| panic!("engine: {error}"))
}

/// Ends a run that must have received so many frames and explained them all.
fn stop(running: Running, frames: usize) -> Report {
    let report = running.stop();
    assert_eq!(report.accounting.residue, 0, "{report:#?}");
    assert_eq!(report.frames.decapsulated, frames as u64, "{report:#?}");
    report
}

/// Waits until the engine has decapsulated so many frames, or no more come.
fn wait_for(running: &Running, frames: usize) {
    let (mut last, mut since) = (0, Instant::now());
    while last < frames as u64 && since.elapsed() < PATIENCE {
        thread::sleep(Duration::from_millis(20));
        let now = running.report().frames.decapsulated;
        if now != last {
            (last, since) = (now, Instant::now());
        }
    }
}

/// xsk-rs sends, the engine reads.
fn the_engine_reads_what_xsk_rs_sends(
    mtu: u32,
    longest: usize,
    descriptors: Descriptors,
    builder: EngineBuilder,
) {
    let lab = Lab::new().expect("lab");
    let cable = cable(&lab, mtu);
    let inner = numbered(longest);
    let outer = mirrored(&inner);
    let kept = Arc::default();
    let running = start(&cable.b, builder.sink(keep(&kept)));
    let mut sender = XskSender::open(&cable.a, 0, descriptors).expect("xsk-rs sends");
    assert_eq!(sender.send_all(&outer).expect("sent"), u64::from(FRAMES));
    wait_for(&running, outer.len());
    let report = stop(running, outer.len());
    assert_eq!(report.interfaces[0].xdp.seen, u64::from(FRAMES));
    let kept = kept.lock().expect("kept");
    same_frames(&outer, &kept.outer).expect("outer frames");
    same_frames(&inner, &kept.inner).expect("inner frames");
}

#[test]
fn frames_that_xsk_rs_sends_reach_a_sink_byte_for_byte() {
    the_engine_reads_what_xsk_rs_sends(MTU, ONE_CHUNK, Descriptors::One, builder());
}

#[test]
fn frames_that_xsk_rs_sends_in_several_descriptors_reach_a_sink_byte_for_byte() {
    assert!(numbered(JUMBO).iter().any(|frame| frame.len() + ENCAPSULATION > 2 * 3840), "three descriptors");
    the_engine_reads_what_xsk_rs_sends(
        JUMBO_MTU,
        JUMBO,
        Descriptors::Several,
        builder().scatter_gather(true),
    );
}

#[test]
fn frames_that_we_forward_to_an_interface_reach_xsk_rs_byte_for_byte() {
    let lab = Lab::new().expect("lab");
    let cable = cable(&lab, MTU);
    let beyond = VethEnd::new(&lab.namespace("beyond").expect("beyond"), "ids0");
    let near = VethEnd::new(&cable.b.namespace, "out0");
    let options = VethOptions { mtu: MTU, ..VethOptions::default() };
    VethPair::create(near, beyond.clone(), &options).expect("veth");
    let mut receiver = XskReceiver::of_all(&beyond, 1).expect("xsk-rs receives");

    let inner = numbered(ONE_CHUNK);
    let running = cable.b.namespace.enter(|| {
        let forward = Forward::builder("dev:out0".parse().expect("a target")).build().expect("a forwarder");
        let builder = builder().forward_path(ForwardPath::User).sink(Arc::new(forward));
        builder.build().and_then(Engine::start)
    });
    let running = running.expect("namespace").unwrap_or_else(|error| panic!("engine: {error}"));
    Injector::new(&cable.a.namespace, &cable.a.interface)
        .expect("injector")
        .send_all(&mirrored(&inner))
        .expect("sent");
    let seen = receiver.collect(inner.len()).expect("received");
    let report = stop(running, inner.len());
    let sink = report.sinks.iter().find(|sink| sink.name.contains("out0")).expect("the forwarder");
    assert_eq!(sink.written, u64::from(FRAMES));
    same_frames(&inner, &seen).expect("inner frames");
}

/// All that [`mixed`] has and numbered frames, as they are mirrored, and the same with others between that
/// are not ours.
fn of_all_kinds(longest: usize) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let mut inner = mixed().expect("frames");
    inner.extend(numbered(longest));
    let ours = mirrored(&inner);
    let mut all = Vec::new();
    for (nth, frame) in ours.iter().enumerate() {
        all.push(frame.clone());
        if nth % 8 == 0 {
            all.push(inner[nth].clone());
        }
    }
    (ours, all)
}

/// First the engine reads, then xsk-rs's socket behind the same program.
fn both_read_the_same(
    mtu: u32,
    longest: usize,
    builder: EngineBuilder,
    (entry, descriptors): (&'static str, Descriptors),
) {
    let (ours, all) = of_all_kinds(longest);
    let lab = Lab::new().expect("lab");
    let cable = cable(&lab, mtu);
    let send = || {
        let injector = Injector::new(&cable.a.namespace, &cable.a.interface).expect("injector");
        assert_eq!(injector.send_all(&all).expect("sent"), all.len() as u64);
    };

    let kept = Arc::default();
    let running = start(&cable.b, builder.sink(keep(&kept)));
    send();
    wait_for(&running, ours.len());
    let report = stop(running, ours.len());
    let xdp = &report.interfaces[0].xdp;
    assert_eq!((xdp.seen, xdp.redirected), (all.len() as u64, ours.len() as u64));

    let program = XdpProgram::load(entry, &Settings::default()).expect("program");
    let mut receiver = XskReceiver::attach(&cable.b, 1, descriptors, program).expect("xsk-rs receives");
    send();
    let theirs = receiver.collect(ours.len()).expect("received");
    let counters = receiver.program().counters().expect("counters");
    assert_eq!((counters.get(Counter::Seen), counters.get(Counter::Redirected)), (xdp.seen, xdp.redirected));

    same_frames(&ours, &theirs).expect("what xsk-rs read is what was sent");
    same_frames(&theirs, &kept.lock().expect("kept").outer).expect("what we read is what xsk-rs read");
}

#[test]
fn our_socket_and_that_of_xsk_rs_read_the_same_frames() {
    both_read_the_same(MTU, ONE_CHUNK, builder(), (abi::PROGRAM, Descriptors::One));
}

#[test]
fn our_socket_and_that_of_xsk_rs_read_the_same_jumbo_frames() {
    let engine = builder().scatter_gather(true);
    both_read_the_same(JUMBO_MTU, JUMBO, engine, (abi::PROGRAM_FRAGS, Descriptors::Several));
}

/// The kernel frees the queue of a closed socket in a work item of its own, after close(2) has returned.
#[test]
fn a_queue_can_be_bound_right_after_its_socket_was_closed() {
    const ROUNDS: u32 = 50;
    let lab = Lab::new().expect("lab");
    let cable = cable(&lab, MTU);
    let config = Config { rx_ring: 64, chunks: 64, chunk_size: 2048, ..Config::roomy(Descriptors::One) };
    let open = || XskSocket::open(CAPTURE, 0, config).map(drop);
    let opened = cable.b.namespace.enter(|| (0..ROUNDS).try_for_each(|_| open())).expect("namespace");
    opened.expect("a socket each round");
}
