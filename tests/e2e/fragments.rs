//! Fragmented mirrored frames: joined, never wrongly, and every fragment accounted for. All but replay needs
//! root.

mod common;

use std::{
    fs,
    net::{Ipv4Addr, SocketAddrV4, UdpSocket},
    num::NonZeroU32,
    os::fd::AsRawFd as _,
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use common::{
    CAPTURE, Cable, SENDER, assert_balanced, builder,
    mirror::{Mirror, balanced_report, until},
    settle,
};
use mirror_lab::{
    Exchange, Injector, Lab, MirrorSource, MirrorSourceOptions, Namespace, VethOptions, Witness,
    capture::{self, multiset},
    fragment,
    frames::{Outer, TcpFields, inner_tcp, inner_udp},
    mirror_source,
};
use mirror_user::{
    Engine, Replay, Report,
    engine::Running,
    sink::{
        self, SinkFactory,
        pcap::{Pcap, Target},
    },
};
use nix::{
    sched::{CpuSet, sched_setaffinity},
    sys::{
        signal::Signal,
        socket::{
            AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, recv, sendto, setsockopt,
            socket, sockopt,
        },
        time::TimeVal,
    },
    unistd::Pid,
};

const SOURCE: Ipv4Addr = Ipv4Addr::new(10, 10, 10, 252);
const TARGET: Ipv4Addr = Ipv4Addr::new(10, 10, 10, 1);
const VNI: u32 = 12345;
/// Where a router with an MTU of 1500 splits.
const CUT: usize = 1480;

/// A mirrored frame with a numbered inner one, and its two fragments.
struct Datagram {
    inner: Vec<u8>,
    parts: Vec<Vec<u8>>,
}

/// Datagrams of one source and one length, with ids from `id` on, or all with id 0.
fn datagrams(source: Ipv4Addr, id: u16, count: u32) -> Vec<Datagram> {
    (0..count)
        .map(|number| {
            let mut payload = vec![0; 1472];
            for place in payload.chunks_exact_mut(4) {
                place.copy_from_slice(&number.to_be_bytes());
            }
            let ends = ((SOURCE.into(), 7), (TARGET.into(), 9));
            let inner = inner_udp(ends.0, ends.1, &payload).expect("an inner frame");
            let whole = Outer::aws(source, TARGET, 0xff80, VNI).encapsulate(&inner).expect("values that fit");
            let id = if id == 0 { 0 } else { (u32::from(id) + number) & 0xffff };
            Datagram { parts: fragment(&whole, id, &[CUT]).expect("fragments"), inner }
        })
        .collect()
}

/// Inner frames.
type Kept = Arc<Mutex<Vec<Vec<u8>>>>;

/// A sink that keeps all inner frames.
fn keeper() -> (Arc<dyn SinkFactory>, Kept) {
    let kept = Kept::default();
    let into = Arc::clone(&kept);
    let sink = sink::for_each("kept", move |frame| {
        into.lock().expect("no panic").push(frame.inner().iter().flatten().copied().collect());
        Ok(())
    });
    (sink, kept)
}

struct Live {
    cable: Cable,
    running: Running,
    kept: Kept,
}

impl Live {
    fn start(queues: u32) -> Self {
        Self::on(Cable::with_queues(queues))
    }

    fn on(cable: Cable) -> Self {
        let (sink, kept) = keeper();
        let running = cable.engine(builder().sink(sink));
        Self { cable, running, kept }
    }

    fn send(&self, frames: &[&Vec<u8>]) {
        let injector = Injector::new(&self.cable.sender, SENDER).expect("injector");
        injector.send(frames.iter().map(|frame| frame.as_slice())).expect("sent");
    }

    fn stop(self) -> (Report, Vec<Vec<u8>>) {
        settle(&self.running);
        let report = self.running.stop();
        assert_balanced(&report);
        let kept = std::mem::take(&mut *self.kept.lock().expect("no panic"));
        (report, kept)
    }
}

#[test]
fn full_frames_fragmented_by_the_kernels_vxlan_device_arrive_as_tcpdump_saw_them_at_the_source() {
    let directory = tempfile::tempdir().expect("directory");
    let lab = Lab::new().expect("lab");
    let options = MirrorSourceOptions { underlay_mtu: 1500, ..MirrorSourceOptions::default() };
    let source = MirrorSource::raise(&lab, &options).expect("mirror source");
    let written = directory.path().join("inner.pcapng");
    let pcap = Pcap::builder(Target::file(&written)).build().expect("capture file");
    let running = start(source.target(), source.capture_interface(), Arc::new(pcap));
    let file = directory.path().join("source.pcap");
    let witness = Witness::start(source.source(), source.mirrored_interface(), &file, "").expect("tcpdump");
    source.http(&[Exchange::Get(300_000), Exchange::PostEcho(50_000)]).expect("HTTP");
    let seen = witness.stop().expect("tcpdump");
    assert_eq!(seen.dropped, 0);
    settle(&running);
    let report = running.stop();
    assert_balanced(&report);
    let full = seen.frames.iter().filter(|frame| frame.len() > 1450).count() as u64;
    assert!(full > 200, "only {full} frames that do not fit");
    let frames = &report.frames;
    assert_eq!((frames.reassembled, frames.fragments_consumed), (full, full));
    assert_eq!((frames.decapsulated, frames.rejected.total()), (seen.frames.len() as u64, 0));
    let inner = capture::read(&written).expect("capture").frames();
    assert!(multiset(inner) == multiset(seen.frames), "inner frames are not those of the source");
}

fn start(target: &Namespace, interface: &str, sink: Arc<dyn SinkFactory>) -> Running {
    let engine = || Engine::builder(interface).sink(sink).build().and_then(Engine::start);
    target.enter(engine).expect("namespace").unwrap_or_else(|error| panic!("engine: {error}"))
}

#[test]
fn loss_overlap_and_duplicates_affect_only_their_datagram_and_are_counted() {
    let live = Live::start(1);
    let all = datagrams(SOURCE, 1, 600);
    let mut frames = Vec::new();
    let mut expected = Vec::new();
    let mut spoilt = Vec::new();
    for (number, Datagram { inner, parts }) in all.iter().enumerate() {
        match number % 6 {
            // The end is lost; the beginning is lost; the end comes first. The last two are passed to the
            // kernel.
            0 => frames.push(&parts[0]),
            1 => frames.push(&parts[1]),
            2 => frames.extend([&parts[1], &parts[0]]),
            3 => {
                frames.extend([&parts[0], &parts[0], &parts[1]]);
                expected.push(inner.clone());
            }
            4 => {
                let mut other = parts[0].clone();
                other[200] ^= 1;
                spoilt.push((frames.len(), other));
                frames.extend([&parts[0], &parts[0], &parts[1]]);
            }
            _ => {
                frames.extend([&parts[0], &parts[1]]);
                expected.push(inner.clone());
            }
        }
    }
    for (place, other) in &spoilt {
        frames[*place] = other;
    }
    live.send(&frames);
    let (report, kept) = live.stop();
    assert!(multiset(kept) == multiset(expected), "not the datagrams that came whole");
    assert_eq!(report.interfaces[0].xdp.passed.fragment, 200);
    let rejected = &report.frames.rejected;
    assert_eq!((report.frames.reassembled, report.frames.fragments_consumed), (200, 300));
    assert_eq!((rejected.overlap, rejected.fragment_timeout, rejected.total()), (300, 200, 500));
}

#[test]
fn with_id_0_loss_and_interleaving_cause_no_wrong_join() {
    let live = Live::start(1);
    let all = datagrams(SOURCE, 0, 3000);
    let mut frames = Vec::new();
    // In sequence; then pairwise interleaved; then, after a pause, in sequence with losses.
    let (order, rest) = all.split_at(1000);
    let (interleaved, lossy) = rest.split_at(1000);
    frames.extend(order.iter().flat_map(|datagram| &datagram.parts));
    live.send(&frames);
    frames.clear();
    for pair in interleaved.chunks(2) {
        let [a, b] = pair else { panic!("an even number") };
        frames.extend([&a.parts[0], &b.parts[0], &a.parts[1], &b.parts[1]]);
    }
    live.send(&frames);
    thread::sleep(Duration::from_millis(300));
    for (number, datagram) in lossy.iter().enumerate() {
        // One loss in 500, alternately of a beginning and of an end.
        let parts = &datagram.parts;
        match number {
            499 => frames.push(&parts[1]),
            999 => frames.push(&parts[0]),
            _ => frames.extend(parts),
        }
    }
    live.send(&frames[2000..]);
    let (report, kept) = live.stop();
    let wrong = kept.iter().filter(|inner| !all.iter().any(|datagram| datagram.inner == **inner)).count();
    assert_eq!(wrong, 0, "wrong joins");
    // None of the interleaved ones, all of those in sequence, and of the lossy ones at least those before the
    // first loss.
    assert!((1499..=1998).contains(&kept.len()), "{} of 3000", kept.len());
    assert_eq!(report.frames.reassembled, kept.len() as u64);
    assert!(report.frames.rejected.ambiguous > 0);
}

#[test]
fn fragments_of_a_datagram_over_two_queues_are_joined() {
    let live = Live::start(2);
    // The sending CPU determines the sending queue, and the receiving one is the same.
    let xps = "echo 1 >tx-0/xps_cpus && echo 2 >tx-1/xps_cpus";
    let mut shell = live.cable.sender.command("sh");
    shell.args(["-ec", &format!("cd /sys/class/net/{SENDER}/queues; {xps}")]);
    mirror_lab::run(&mut shell).expect("a queue for each CPU");
    let all = datagrams(SOURCE, 1, 1000);
    for part in [0, 1] {
        let mut cpus = CpuSet::new();
        cpus.set(part).expect("a CPU");
        sched_setaffinity(Pid::from_raw(0), &cpus).expect("two CPUs");
        live.send(&all.iter().map(|datagram| &datagram.parts[part]).collect::<Vec<_>>());
    }
    let (report, kept) = live.stop();
    let received: Vec<_> = report.interfaces[0].queues.iter().map(|queue| queue.received).collect();
    assert_eq!(received, [1000, 1000]);
    assert_eq!((report.frames.reassembled, report.frames.rejected.total()), (1000, 0));
    assert!(multiset(kept) == multiset(all.into_iter().map(|datagram| datagram.inner).collect()));
}

#[test]
fn fragments_in_several_descriptors_are_joined() {
    /// Where a path with an MTU of 9001 splits.
    const CUT: usize = 8976;
    let live = Live::on(Cable::lay(&VethOptions { mtu: 9001, ..VethOptions::default() }));
    // As large as segments that a sender's NIC would still segment.
    let inner = |number: u32| {
        let payload: Vec<u8> = (0..9_000 + number * 80).map(|at| (at + number).to_le_bytes()[0]).collect();
        inner_udp((SOURCE.into(), 7), (TARGET.into(), 9), &payload).expect("an inner frame")
    };
    let all: Vec<_> = (0..500).map(inner).collect();
    let mut parts = Vec::new();
    for (id, inner) in (1..).zip(&all) {
        let whole = Outer::aws(SOURCE, TARGET, 0xff80, VNI).encapsulate(inner).expect("values that fit");
        let cuts: Vec<_> = (CUT..whole.len() - 34).step_by(CUT).collect();
        parts.extend(fragment(&whole, id, &cuts).expect("fragments"));
    }
    let pace = NonZeroU32::new(4_000).expect("a pace");
    Injector::new(&live.cable.sender, SENDER).expect("injector").pace(pace).send_all(&parts).expect("sent");
    let (report, kept) = live.stop();
    assert!(report.frames.multi_descriptor > all.len() as u64, "{}", report.frames.multi_descriptor);
    assert_eq!((report.frames.reassembled, report.frames.rejected.total()), (500, 0));
    assert_eq!(report.frames.fragments_consumed, (parts.len() - all.len()) as u64);
    assert!(kept == all, "each datagram in its order, byte for byte");
}

/// Resident memory of a process, in bytes.
fn resident(pid: Pid) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("KiB");
    kib * 1024
}

/// First fragments without the rest, and later fragments without a first, each at a given rate for one
/// second, besides 1,000 valid datagrams and as many whole frames per second of another source.
#[test]
fn floods_are_counted_and_take_neither_memory_nor_valid_datagrams() {
    let directory = tempfile::tempdir().expect("directory");
    let cable = Cable::with_queues(1);
    let run = Mirror::ingest(&cable, directory.path(), "--report report.json -w inner.pcapng");
    let good = datagrams(SOURCE, 1, 2000);
    let plain: Vec<_> = (0..2000)
        .map(|number| {
            let inner = inner_udp(
                (SOURCE.into(), 1),
                (TARGET.into(), 2),
                &[u8::try_from(number % 256).expect("a byte"); 100],
            )
            .expect("inner");
            Outer::aws(SOURCE, TARGET, 0xff80, VNI).encapsulate(&inner).expect("values that fit")
        })
        .collect();
    let flood = [1, 2].map(|last| datagrams(Ipv4Addr::new(10, 66, 0, last), 1, 1).remove(0));
    // Each with its own id: 65,536 first fragments, and as many last ones.
    let with_id = |part: &Vec<u8>, id: u16| {
        let mut part = part.clone();
        part[18..20].copy_from_slice(&id.to_be_bytes());
        part
    };
    let floods: [Vec<_>; 2] =
        [0, 1].map(|part| (0..50_000).map(|id| with_id(&flood[part].parts[part], id)).collect());
    // By then all memory that is used in any case has been touched.
    Injector::new(&cable.sender, SENDER).expect("injector").send_all(&plain[..100]).expect("sent");
    run.has(100);
    let before = resident(run.pid());
    let mut sent = 100;
    thread::scope(|scope| {
        let pace = |frames_per_second| {
            let injector = Injector::new(&cable.sender, SENDER).expect("injector");
            injector.pace(NonZeroU32::new(frames_per_second).expect("not 0"))
        };
        let floods = scope.spawn(move || {
            let firsts = pace(25_000).send_all(&floods[0]).expect("sent");
            firsts
                + pace(50_000).send_all(&floods[1]).expect("sent")
                + pace(50_000).send_all(&floods[1]).expect("sent")
        });
        let mixed = good.iter().zip(&plain).flat_map(|(good, plain)| [&good.parts[0], &good.parts[1], plain]);
        sent += pace(3_000).send(mixed.map(Vec::as_slice)).expect("sent");
        sent += floods.join().expect("no panic");
    });
    let after = resident(run.pid());
    run.end_by(Signal::SIGINT).expect_code(0);
    let report = balanced_report(&directory.path().join("report.json"));
    assert_eq!(report["accounting"]["seen"], sent, "{report}");
    let number = |pointer: &str| report.pointer(pointer).and_then(serde_json::Value::as_u64).expect(pointer);
    println!(
        "{} reassembled of 2000, {} firsts timed out, {} without room, {} passed, {} KiB more",
        number("/frames/reassembled"),
        number("/frames/rejected/fragment_timeout"),
        number("/frames/rejected/table_full"),
        number("/interfaces/0/xdp/passed/fragment"),
        after.saturating_sub(before) >> 10,
    );
    assert!(number("/frames/reassembled") >= 1980);
    assert!(number("/interfaces/0/xdp/passed/fragment") >= 100_000);
    assert!(number("/frames/rejected/fragment_timeout") + number("/frames/rejected/table_full") >= 49_000);
    assert!(after < before + (16 << 20), "{before} bytes before, {after} after");
    let inner = capture::read(&directory.path().join("inner.pcapng")).expect("capture").frames();
    let small = inner.iter().filter(|frame| frame.len() < 1000).count();
    assert!(small >= 2079, "{small} of 2100 frames that are no fragments");
}

/// The host at the target still gets its own traffic: ICMP, TCP, UDP to another port, and tunnel packets
/// meanwhile.
#[test]
fn the_hosts_own_fragments_still_reach_it() {
    let lab = Lab::new().expect("lab");
    let options = MirrorSourceOptions { underlay_mtu: 1500, ..MirrorSourceOptions::default() };
    let source = MirrorSource::raise(&lab, &options).expect("mirror source");
    let (sink, kept) = keeper();
    let running = start(source.target(), source.capture_interface(), sink);
    let bind = |namespace: &Namespace, address: (Ipv4Addr, u16)| {
        namespace.enter(|| UdpSocket::bind(address)).expect("namespace").expect("a UDP socket")
    };
    let receiver = bind(source.target(), (mirror_source::TARGET, 9999));
    receiver.set_read_timeout(Some(Duration::from_secs(5))).expect("timeout");
    let sender = bind(source.source(), (mirror_source::SOURCE, 0));
    thread::scope(|scope| {
        let mirrored = scope.spawn(|| source.http(&[Exchange::Get(300_000)]).expect("HTTP"));
        for number in 0..100_u8 {
            sender.send_to(&[number; 4000], (mirror_source::TARGET, 9999)).expect("sent");
            let mut buffer = [0; 5000];
            let received = receiver.recv(&mut buffer).expect("a datagram of the host's own");
            assert_eq!((received, buffer[..received].iter().all(|byte| *byte == number)), (4000, true));
        }
        (0..20).for_each(|sequence| echo(source.source(), mirror_source::TARGET, sequence));
        (0..20).for_each(|number| reset(source.source(), mirror_source::TARGET, 40_000 + number));
        mirrored.join().expect("no panic");
    });
    settle(&running);
    let report = running.stop();
    assert_balanced(&report);
    assert!(report.frames.reassembled > 100 && !kept.lock().expect("no panic").is_empty());
    assert_eq!(report.frames.rejected.total(), 0, "{report:?}");
}

/// An echo request of 4,000 bytes (RFC 792) and its answer, both in fragments.
fn echo(from: &Namespace, target: Ipv4Addr, sequence: u8) {
    let open = || socket(AddressFamily::Inet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::Icmp);
    let socket = from.enter(open).expect("namespace").expect("a raw socket");
    setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::new(5, 0)).expect("timeout");
    let mut request = vec![sequence; 4000];
    request[..8].copy_from_slice(&[8, 0, 0, 0, 0, 7, 0, sequence]);
    let checksum = etherparse::checksum::Sum16BitWords::new().add_slice(&request).ones_complement();
    request[2..4].copy_from_slice(&checksum.to_be().to_be_bytes());
    let to = SockaddrIn::from(SocketAddrV4::new(target, 0));
    sendto(socket.as_raw_fd(), &request, &to, MsgFlags::empty()).expect("sent");
    // With the IP header, unfragmented.
    let mut answer = [0; 5000];
    let received = recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty()).expect("an answer");
    assert_eq!((received, answer[20], &answer[24..received]), (20 + 4000, 0, &request[4..]));
}

/// A TCP segment of 4,000 bytes in fragments without a connection, and the reset that answers it (RFC 9293
/// section 3.10.7.1).
fn reset(from: &Namespace, target: Ipv4Addr, port: u16) {
    const CLOSED: u16 = 9;
    let open = || socket(AddressFamily::Inet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::Tcp);
    let socket = from.enter(open).expect("namespace").expect("a raw socket");
    setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::new(5, 0)).expect("timeout");
    let header = TcpFields { sequence: 1, acknowledgment: u32::from(port) << 8, window: 1000 };
    let ends = [(mirror_source::SOURCE.into(), port), (target.into(), CLOSED)];
    let frame = inner_tcp(ends[0], ends[1], header, &[0x61; 4000]).expect("a segment");
    let to = SockaddrIn::from(SocketAddrV4::new(target, 0));
    sendto(socket.as_raw_fd(), &frame[34..], &to, MsgFlags::empty()).expect("sent");
    // Other connections of the namespace appear here, too.
    loop {
        let mut answer = [0; 2000];
        let received = recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty()).expect("a reset");
        let segment = &answer[20..received];
        if segment[..4] == [CLOSED.to_be_bytes(), port.to_be_bytes()].concat()[..] {
            assert_eq!((segment[13] & 4, &segment[4..8]), (4, &header.acknowledgment.to_be_bytes()[..]));
            return;
        }
    }
}

#[test]
fn fragments_held_at_the_end_of_a_run_are_accounted_for() {
    let live = Live::start(1);
    let all = datagrams(SOURCE, 1, 100);
    live.send(&all.iter().map(|datagram| &datagram.parts[0]).collect::<Vec<_>>());
    let started = Instant::now();
    let (report, _) = live.stop();
    assert!(started.elapsed() < Duration::from_secs(60));
    assert_eq!(report.frames.rejected.fragment_timeout, 100);
}

#[test]
fn without_reassembly_fragments_are_passed_to_the_kernel() {
    let cable = Cable::with_queues(1);
    let (sink, kept) = keeper();
    let running = cable.engine(builder().reassemble(false).sink(sink));
    let live = Live { cable, running, kept };
    let all = datagrams(SOURCE, 1, 100);
    live.send(&all.iter().flat_map(|datagram| &datagram.parts).collect::<Vec<_>>());
    let (report, kept) = live.stop();
    assert_eq!((report.interfaces[0].xdp.passed.fragment, kept.len()), (200, 0));
}

#[test]
fn a_capture_of_fragments_is_replayed_in_any_order() {
    let directory = tempfile::tempdir().expect("directory");
    let file = directory.path().join("outer.pcap");
    let all = datagrams(SOURCE, 1, 50);
    let mut parts: Vec<_> = all.iter().flat_map(|datagram| &datagram.parts).rev().cloned().collect();
    parts.swap(3, 60);
    capture::write_pcap(&file, &parts).expect("written");
    let replay = |reassemble| {
        let (sink, kept) = keeper();
        let replay = Replay::builder().file(&file).reassemble(reassemble).sink(sink).build().expect("replay");
        let report = replay.run().expect("run");
        assert_balanced(&report);
        let kept = kept.lock().expect("no panic").clone();
        (report.frames, kept)
    };
    let (frames, kept) = replay(true);
    assert_eq!((frames.decapsulated, frames.reassembled, frames.fragments_consumed), (50, 50, 50));
    assert!(multiset(kept) == multiset(all.into_iter().map(|datagram| datagram.inner).collect()));
    let (frames, kept) = replay(false);
    assert_eq!((frames.rejected.fragment, kept.len()), (100, 0));
}

#[test]
fn the_command_has_the_no_reassemble_flag() {
    let directory = tempfile::tempdir().expect("directory");
    let cable = Cable::with_queues(1);
    let run = Mirror::ingest(&cable, directory.path(), "--no-reassemble --report report.json");
    let all = datagrams(SOURCE, 1, 10);
    let frames: Vec<_> = all.iter().flat_map(|datagram| datagram.parts.clone()).collect();
    Injector::new(&cable.sender, SENDER).expect("injector").send_all(&frames).expect("sent");
    until("the frames are seen", || {
        let link = cable.target.ip(&format!("-s -json link show dev {CAPTURE}")).expect("link");
        let link: serde_json::Value = serde_json::from_str(&link).expect("JSON");
        (link.pointer("/0/stats64/rx/packets").and_then(serde_json::Value::as_u64)? >= 20).then_some(())
    });
    run.end_by(Signal::SIGINT).expect_code(0).expect_words(&["20 passed: IP fragments"]);
    let report = balanced_report(&directory.path().join("report.json"));
    assert_eq!(report["interfaces"][0]["xdp"]["passed"]["fragment"], 20);
}
