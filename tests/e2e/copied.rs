//! The source agent: what it makes of super-frames is what the kernel makes of them, and its copies are those
//! of AWS. Needs root.

mod common;

use std::{
    io::{self, IoSlice, Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::AsFd as _,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use arrayvec::ArrayVec;
use etherparse::{PacketBuilder, SlicedPacket, TransportSlice};
use mirror_lab::{
    Injector, Lab, Listener, Namespace, VethEnd, VethOptions, VethPair,
    frames::{Outer, OuterIp, VXLAN_PORT},
    super_frames::SuperFrame,
};
use mirror_user::{
    agent::{
        AgentOptions, AgentThread, Carrier, CarrierCounters, Oversize, SessionOut,
        segment::{MAX_HEADERS, Segments, VnetHeader},
    },
    host::tap::{Tap, TapOptions, TapReading},
};
use nix::sys::socket::{setsockopt, sockopt};

/// The interface whose packets are copied.
const PRODUCTION: &str = "prod0";
/// Interfaces by which copies leave, and where they arrive.
const UNDERLAY: &str = "under0";
const CAPTURE: &str = "cap0";
const CARRIER: &str = "copy0";
const PATIENCE: Duration = Duration::from_secs(20);

/// A filter that copies all to both devices.
const TO_BOTH: &str = "protocol all u32 match u32 0 0 \
    action mirred egress mirror dev whole pipe action mirred egress mirror dev plain";

/// Two hosts with a connection that has all offloads, of which one has two TAP devices: one that super-frames
/// cross whole, and one for which the kernel segments them.
struct Twin {
    _lab: Lab,
    source: Namespace,
    peer: Namespace,
    /// Where production's packets are copied.
    hook: &'static str,
    whole: Tap,
    plain: Tap,
}

/// Frames that were read from the two.
struct Read {
    /// Behind their headers.
    whole: Vec<Vec<u8>>,
    plain: Vec<Vec<u8>>,
}

impl Twin {
    fn set_up(hook: &'static str) -> Self {
        let lab = Lab::new().expect("lab");
        let (source, peer) = (lab.namespace("source").expect("source"), lab.namespace("peer").expect("peer"));
        let options = VethOptions { mtu: 1500, offloads: true, ..VethOptions::default() };
        let ends =
            VethPair::create(VethEnd::new(&source, PRODUCTION), VethEnd::new(&peer, PRODUCTION), &options)
                .expect("veth");
        for (end, last) in [(&ends.a, 1), (&ends.b, 2)] {
            end.address(&format!("10.0.0.{last}/24")).expect("address");
            with_ipv6(&end.namespace, PRODUCTION, &format!("2001:db8::{last}/64"));
        }
        let open = |name: &str, vnet_headers| {
            let mut reading = TapReading::new();
            (reading.queue, reading.vnet_headers) = (60_000, vnet_headers);
            let tap = source.enter(|| Tap::open(name, TapOptions::to_read(reading))).expect("namespace");
            tap.expect("TAP device")
        };
        let (whole, plain) = (open("whole", true), open("plain", false));
        source.tc(&format!("qdisc add dev {PRODUCTION} clsact")).expect("clsact");
        Self { _lab: lab, source, peer, hook, whole, plain }
    }

    /// What both read while this goes on.
    fn read_during(&self, traffic: impl FnOnce() + Send) -> Read {
        let Self { source, hook, .. } = self;
        source.tc(&format!("filter add dev {PRODUCTION} {hook} {TO_BOTH}")).expect("mirred");
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            let reader = |tap| {
                let is_over = &is_over;
                scope.spawn(move || read_all(tap, is_over))
            };
            let (whole, plain) = (reader(&self.whole), reader(&self.plain));
            traffic();
            // What is on its way. The hosts' own packets never end: one of them could come between the last
            // looks of the two readers.
            thread::sleep(Duration::from_millis(200));
            source.tc(&format!("filter del dev {PRODUCTION} {hook}")).expect("mirred");
            is_over.store(true, Ordering::Release);
            Read { whole: whole.join().expect("reader"), plain: plain.join().expect("reader") }
        })
    }
}

impl Read {
    /// Segments what came whole, and compares it with what the kernel made of the same. Gives how many
    /// super-frames of each kind there were.
    fn assert_equal(mut self) -> Vec<(u8, usize)> {
        let mut segments = Vec::new();
        let mut kinds = std::collections::BTreeMap::new();
        for read in &mut self.whole {
            let (vnet, frame) = VnetHeader::split(read).expect("a header");
            *kinds.entry(vnet.gso_type).or_insert(0) += 1;
            let mut split = Segments::of(vnet, frame);
            assert!(!split.is_inconsistent(), "{vnet:?}");
            let mut headers = ArrayVec::<u8, MAX_HEADERS>::new();
            while let Some(rest) = split.next_into(&mut headers) {
                segments.push([&headers[..], rest].concat());
                headers.clear();
            }
        }
        assert_eq!(segments.len(), self.plain.len());
        // Two CPUs may put their packets into the two devices in another sequence.
        segments.sort_unstable();
        self.plain.sort_unstable();
        for (ours, kernels) in segments.iter().zip(&self.plain) {
            assert_eq!(ours, kernels);
        }
        println!("{} frames: {} segments, {kinds:?}", self.whole.len(), segments.len());
        kinds.into_iter().filter(|(kind, _)| *kind != VnetHeader::GSO_NONE).collect()
    }
}

fn with_ipv6(namespace: &Namespace, interface: &str, address: &str) {
    namespace.sysctl(&format!("net/ipv6/conf/{interface}/disable_ipv6"), "0").expect("IPv6");
    namespace.ip(&format!("address add {address} dev {interface} nodad")).expect("address");
}

fn read_all(tap: &Tap, is_over: &AtomicBool) -> Vec<Vec<u8>> {
    let (mut frames, mut buffer) = (Vec::new(), vec![0; 70_000]);
    loop {
        let is_last = is_over.load(Ordering::Acquire);
        match tap.receive(&mut buffer) {
            Ok(len) => frames.push(buffer[..len].to_vec()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && is_last => return frames,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                thread::sleep(Duration::from_micros(200));
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// Sends this many bytes over TCP from one host to an address of another, and returns what arrived.
fn send_by_tcp(from: &Namespace, at: &Namespace, address: IpAddr, bytes: usize) {
    let listener = at.enter(|| TcpListener::bind((address, 0))).expect("namespace").expect("listener");
    let to = listener.local_addr().expect("address");
    let payload: Vec<u8> = (0..bytes).map(|at| u8::try_from(at % 251).expect("a byte")).collect();
    thread::scope(|scope| {
        let received = scope.spawn(move || {
            let mut all = Vec::new();
            let (mut stream, _) = listener.accept().expect("connection");
            stream.read_to_end(&mut all).expect("read");
            all
        });
        let stream = from.enter(|| TcpStream::connect(to)).expect("namespace");
        let mut stream = stream.expect("connected");
        stream.write_all(&payload).expect("sent");
        drop(stream);
        assert!(received.join().expect("receiver") == payload);
    });
}

/// Sends datagrams over UDP by segmentation: each send has 20 of 1000 bytes, and a shorter one.
fn send_by_udp(from: &Namespace, to: SocketAddr) {
    let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = from.enter(|| UdpSocket::bind(any)).expect("namespace").expect("socket");
    setsockopt(&socket.as_fd(), sockopt::UdpGsoSegment, &1000).expect("UDP_SEGMENT");
    for number in 0..20_u8 {
        socket.send_to(&[number; 20_333], to).expect("sent");
        thread::sleep(Duration::from_millis(1));
    }
}

fn peer_v4() -> IpAddr {
    [10, 0, 0, 2].into()
}

fn peer_v6() -> IpAddr {
    "2001:db8::2".parse().expect("address")
}

#[test]
fn super_frames_are_segmented_as_by_the_kernel() {
    let twin = Twin::set_up("egress");
    let of =
        |kinds: &[(u8, usize)], kind| kinds.iter().find(|(one, _)| *one == kind).map_or(0, |found| found.1);
    for (address, kind) in [(peer_v4(), VnetHeader::GSO_TCPV4), (peer_v6(), VnetHeader::GSO_TCPV6)] {
        let read = twin.read_during(|| send_by_tcp(&twin.source, &twin.peer, address, 3_000_000));
        let kinds = read.assert_equal();
        assert!(of(&kinds, kind) > 20, "{kinds:?}");
        let read = twin.read_during(|| send_by_udp(&twin.source, SocketAddr::new(address, 9)));
        let kinds = read.assert_equal();
        assert_eq!(of(&kinds, VnetHeader::GSO_UDP_L4), 20, "{kinds:?}");
    }
}

#[test]
fn super_frames_of_every_shape_are_segmented_as_by_the_kernel() {
    let twin = Twin::set_up("egress");
    // What is written to a third device is received from there with its header.
    let open = || Tap::open("given", TapOptions::to_read(TapReading::new()));
    let given = twin.source.enter(open).expect("namespace").expect("TAP device");
    twin.source.tc("qdisc add dev given clsact").expect("clsact");
    twin.source.tc(&format!("filter add dev given ingress {TO_BOTH}")).expect("mirred");
    let mut frames = Vec::new();
    for shape in 0..48_u8 {
        let frame = SuperFrame {
            tags: usize::from(shape % 3),
            is_v4: shape & 4 == 0,
            options: if shape & 8 == 0 { 0 } else { 6 },
            is_tcp: shape & 16 == 0,
            size: 700 + u16::from(shape),
            payload: (0..=255).cycle().take(9000 + usize::from(shape)).collect(),
            // Both wrap around within the frame.
            id: u16::MAX - 3,
            sequence: u32::MAX - 2000,
            // CWR, PSH, ACK, FIN.
            flags: 0x99,
            is_partial: true,
        };
        frames.push(frame.bytes().expect("frame"));
    }
    let read = twin.read_during(|| {
        for frame in &frames {
            given.send(&[IoSlice::new(frame)]).expect("written");
        }
    });
    assert!(read.whole.iter().any(|read| read[VnetHeader::LEN + 12..][..4] == [0x81, 0, 0, 7]));
    let kinds = read.assert_equal();
    assert_eq!(kinds.len(), 3, "{kinds:?}");
}

#[test]
fn packets_that_the_interface_has_merged_are_segmented_as_by_the_kernel() {
    let twin = Twin::set_up("ingress");
    VethEnd::new(&twin.source, PRODUCTION).gro(true).expect("GRO");
    // Each packet leaves the other host by itself.
    let mut ethtool = twin.peer.command("ethtool");
    mirror_lab::run(ethtool.args(["-K", PRODUCTION, "tso", "off", "gso", "off"])).expect("ethtool");
    for address in [IpAddr::from([10, 0, 0, 1]), "2001:db8::1".parse().expect("address")] {
        let read = twin.read_during(|| send_by_tcp(&twin.peer, &twin.source, address, 3_000_000));
        assert!(!read.assert_equal().is_empty());
    }
}

#[test]
fn a_carrier_has_no_queueing_discipline_and_nothing_of_the_host() {
    let lab = Lab::new().expect("lab");
    let source = lab.namespace("source").expect("source");
    let tap = source.enter(|| {
        // As on a host, of which the lab's namespaces are none.
        std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "0").expect("IPv6");
        Tap::open(CARRIER, TapOptions::to_read(TapReading::new()))
    });
    let tap = tap.expect("namespace").expect("TAP device");
    let shown = source.tc(&format!("qdisc show dev {CARRIER}")).expect("tc");
    assert!(shown.contains("noqueue"), "{shown}");
    thread::sleep(Duration::from_secs(1));
    let frames = read_all(&tap, &AtomicBool::new(true));
    assert!(frames.is_empty(), "{frames:?}");
}

/// A host with a carrier, which has what another interface sends, and a target.
struct Source {
    _lab: Lab,
    source: Namespace,
    /// At the other end of that interface.
    peer: Namespace,
    target: Namespace,
    listener: Listener,
    /// Of the host's end.
    mac: [u8; 6],
}

impl Source {
    fn set_up(mtu: u32) -> Self {
        let lab = Lab::new().expect("lab");
        let [source, peer, target] =
            ["source", "peer", "target"].map(|role| lab.namespace(role).expect("namespace"));
        let production = VethOptions { mtu: 1500, offloads: true, ..VethOptions::default() };
        let ends = [&source, &peer].map(|namespace| VethEnd::new(namespace, PRODUCTION));
        let [end, other] = ends;
        let pair = VethPair::create(end, other, &production).expect("veth");
        pair.a.address("10.0.0.1/24").expect("address");
        pair.b.address("10.0.0.2/24").expect("address");
        let options = VethOptions { mtu, ..VethOptions::default() };
        let pair =
            VethPair::create(VethEnd::new(&source, UNDERLAY), VethEnd::new(&target, CAPTURE), &options)
                .expect("veth");
        pair.a.address("10.10.10.252/24").expect("address");
        let mac = pair.a.hardware_address().expect("address");
        let mac: Vec<u8> = mac.split(':').map(|byte| u8::from_str_radix(byte, 16).expect("byte")).collect();
        let listener = Listener::open(&target, CAPTURE).expect("listener");
        Self { _lab: lab, source, peer, target, listener, mac: mac.try_into().expect("6 bytes") }
    }

    fn with_target(self) -> Self {
        VethEnd::new(&self.target, CAPTURE).address("10.10.10.1/24").expect("address");
        self
    }

    fn carrier(&self, session: SessionOut, queue: u32) -> Carrier {
        let carrier = self.source.enter(|| Carrier::open(CARRIER, session, queue)).expect("namespace");
        let carrier = carrier.unwrap_or_else(|error| panic!("carrier: {error}"));
        self.source.tc(&format!("qdisc add dev {PRODUCTION} clsact")).expect("clsact");
        let mirred = format!("protocol ip u32 match u32 0 0 action mirred egress mirror dev {CARRIER}");
        self.source.tc(&format!("filter add dev {PRODUCTION} egress {mirred}")).expect("mirred");
        carrier
    }

    /// An agent with one carrier, in the host's namespace.
    fn agent(&self, session: SessionOut) -> AgentThread {
        AgentThread::start(vec![self.carrier(session, Carrier::QUEUE)], AgentOptions::default())
            .expect("agent")
    }

    fn send(&self, frames: &[Vec<u8>]) {
        Injector::new(&self.source, PRODUCTION).expect("injector").send_all(frames).expect("sent");
    }

    /// The copies that came since the last call, once this many are there.
    fn copies(&self, count: usize) -> Vec<Vec<u8>> {
        let deadline = Instant::now() + PATIENCE;
        let mut copies = Vec::new();
        while copies.len() < count && Instant::now() < deadline {
            let is_copy = |frame: &Vec<u8>| {
                let sliced = SlicedPacket::from_ethernet(frame).ok();
                let transport = sliced.and_then(|sliced| sliced.transport);
                matches!(transport, Some(TransportSlice::Udp(udp)) if udp.destination_port() == VXLAN_PORT)
            };
            copies.extend(self.listener.frames().expect("frames").into_iter().filter(is_copy));
            thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(copies.len(), count, "copies");
        copies
    }
}

fn target_v4() -> SocketAddr {
    SocketAddr::from(([10, 10, 10, 1], VXLAN_PORT))
}

/// Frames of growing length with their number in it, of several flows.
fn numbered(count: u16) -> Vec<Vec<u8>> {
    let frame = |number: u16| {
        let mut frame = Vec::new();
        let builder = PacketBuilder::ethernet2([6; 6], [7; 6]);
        let builder = builder.ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64).udp(number % 16, 53);
        let payload = [number.to_be_bytes().to_vec(), vec![0xab; usize::from(number) * 29 % 1470]].concat();
        builder.write(&mut frame, &payload).expect("frame");
        frame
    };
    (0..count).map(frame).collect()
}

/// Waits until all that was read is accounted for.
fn settled(agent: &AgentThread, read: u64) -> CarrierCounters {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let [counters] = <[_; 1]>::try_from(agent.counters()).expect("one carrier");
        assert_lawful(&counters);
        if counters.frames.read >= read || Instant::now() > deadline {
            assert_eq!(counters.frames.read, read);
            return counters;
        }
        thread::sleep(Duration::from_millis(5));
    }
}

fn assert_lawful(counters: &CarrierCounters) {
    let frames = &counters.frames;
    let accounted = frames.sent + frames.oversize + frames.send_failed.total();
    assert_eq!(frames.segments, accounted, "{counters:?}");
}

/// Reads the outer source port of a frame, which is one of 128.
fn port_of(frame: &[u8]) -> u16 {
    let sliced = SlicedPacket::from_ethernet(frame).expect("a frame");
    let Some(TransportSlice::Udp(udp)) = sliced.transport else { panic!("no UDP") };
    assert!(udp.source_port() >= 0xff80, "{:#x}", udp.source_port());
    udp.source_port()
}

#[test]
fn copies_are_as_aws_sends_them_in_sequence_and_cut() {
    let source = Source::set_up(1600).with_target();
    let mut session = SessionOut::new(0x54_fa11, target_v4());
    let mut agent = source.agent(session);
    let frames = numbered(300);
    let mut read = 0;
    for length in [None, Some(35), Some(55), Some(100), Some(1500)] {
        session.packet_length = length;
        session.vni += 1;
        agent.replace(&[session]).expect("replaced");
        source.send(&frames);
        let copies = source.copies(frames.len());
        for (copy, frame) in copies.iter().zip(&frames) {
            let expected = Outer {
                source_mac: source.mac,
                ..Outer::aws([10, 10, 10, 252].into(), [10, 10, 10, 1].into(), port_of(copy), session.vni)
            };
            let kept = length.map_or(frame.len(), |most| frame.len().min(most.into()));
            assert_eq!(copy, &expected.encapsulate(&frame[..kept]).expect("frame"));
        }
        read += frames.len() as u64;
        let counters = settled(&agent, read);
        assert_eq!((counters.frames.sent, counters.frames.truncated), (read, 0));
    }
    let [counters] = <[_; 1]>::try_from(agent.stop()).expect("one carrier");
    assert_lawful(&counters);
    assert_eq!((counters.frames.sent, counters.carrier_dropped), (read, Some(0)));
}

#[test]
fn over_ipv6_copies_have_a_checksum() {
    let source = Source::set_up(1600);
    with_ipv6(&source.source, UNDERLAY, "2001:db8:1::1/64");
    with_ipv6(&source.target, CAPTURE, "2001:db8:1::2/64");
    let to = SocketAddr::new("2001:db8:1::2".parse().expect("address"), VXLAN_PORT);
    let agent = source.agent(SessionOut::new(7, to));
    thread::sleep(Duration::from_millis(500));
    let frames = numbered(200);
    source.send(&frames);
    for (copy, frame) in source.copies(frames.len()).iter().zip(&frames) {
        let mut expected = Outer {
            source_mac: source.mac,
            source_port: port_of(copy),
            udp_checksum: true,
            ..Outer::sample_v6(7, &[])
        }
        .between("2001:db8:1::1".parse::<IpAddr>().expect("address"), to.ip());
        if let OuterIp::V6 { hop_limit, .. } = &mut expected.ip {
            *hop_limit = 255;
        }
        assert_eq!(copy, &expected.encapsulate(frame).expect("frame"));
    }
    assert_lawful(&settled(&agent, 200));
}

#[test]
fn what_does_not_fit_is_truncated_or_dropped() {
    let source = Source::set_up(1400).with_target();
    let mut session = SessionOut::new(7, target_v4());
    let mut agent = source.agent(session);
    thread::sleep(Duration::from_millis(300));
    let room = 1400 - 36;
    let frames = numbered(200);
    let too_long = frames.iter().filter(|frame| frame.len() > room).count();
    assert!(too_long > 5);
    source.send(&frames);
    for (copy, frame) in source.copies(frames.len()).iter().zip(&frames) {
        assert_eq!(copy[50..], frame[..frame.len().min(room)]);
    }
    assert_eq!(settled(&agent, 200).frames.truncated, too_long as u64);

    session.oversize = Oversize::Drop;
    agent.replace(&[session]).expect("replaced");
    source.send(&frames);
    source.copies(frames.len() - too_long);
    let counters = settled(&agent, 400);
    assert_eq!((counters.frames.oversize, counters.frames.truncated), (too_long as u64, too_long as u64));
}

#[test]
fn without_a_neighbour_copies_are_counted_and_sent_once_it_is_there() {
    let source = Source::set_up(1600);
    let agent = source.agent(SessionOut::new(7, target_v4()));
    source.send(&numbered(50));
    let counters = settled(&agent, 50);
    assert_eq!(counters.frames.send_failed.unresolved, 50);
    VethEnd::new(&source.target, CAPTURE).address("10.10.10.1/24").expect("address");
    let deadline = Instant::now() + PATIENCE;
    let mut sent = 50;
    while settled(&agent, sent).frames.sent == 0 {
        assert!(Instant::now() < deadline, "the neighbour is not resolved");
        source.send(&numbered(1));
        sent += 1;
        thread::sleep(Duration::from_millis(50));
    }
    // A link that goes down takes its route along.
    source.source.ip(&format!("link set {UNDERLAY} down")).expect("down");
    thread::sleep(Duration::from_millis(300));
    let before = settled(&agent, sent).frames.sent;
    source.send(&numbered(20));
    let counters = settled(&agent, sent + 20);
    assert_eq!(counters.frames.sent, before);
    assert_lawful(&agent.stop()[0]);
}

#[test]
fn what_finds_no_room_in_a_carrier_is_counted_and_what_is_in_it_is_sent_at_the_end() {
    let source = Source::set_up(1600).with_target();
    let carrier = source.carrier(SessionOut::new(7, target_v4()), 64);
    assert_eq!((carrier.name(), carrier.session().vni), (CARRIER, 7));
    source.send(&numbered(200));
    // The neighbour is not resolved yet: all that was read is accounted for nevertheless.
    let agent = AgentThread::start(vec![carrier], AgentOptions::default()).expect("agent");
    let counters = agent.stop();
    assert_lawful(&counters[0]);
    assert_eq!((counters[0].frames.read, counters[0].carrier_dropped), (64, Some(136)));
}

#[test]
fn a_connection_is_copied_whole() {
    let source = Source::set_up(1600).with_target();
    let agent = source.agent(SessionOut::new(7, target_v4()));
    thread::sleep(Duration::from_millis(300));
    const BYTES: usize = 1_000_000;
    send_by_tcp(&source.source, &source.peer, peer_v4(), BYTES);
    thread::sleep(Duration::from_millis(300));
    let [counters] = <[_; 1]>::try_from(agent.stop()).expect("one carrier");
    let frames = &counters.frames;
    assert!(frames.segments > 2 * frames.read, "{counters:?}");
    assert_eq!((frames.sent, frames.inconsistent, counters.carrier_dropped), (frames.segments, 0, Some(0)));
    let mut stream = vec![None; BYTES];
    let mut first = None;
    for copy in source.copies(usize::try_from(frames.sent).expect("few")) {
        let inner = SlicedPacket::from_ethernet(&copy[50..]).expect("an inner frame");
        let Some(TransportSlice::Tcp(tcp)) = inner.transport else { panic!("no TCP") };
        assert!(copy.len() <= 50 + 1514);
        if tcp.syn() {
            first = Some(tcp.sequence_number().wrapping_add(1));
        }
        let Some(first) = first else { continue };
        let at = usize::try_from(tcp.sequence_number().wrapping_sub(first)).expect("an offset");
        for (offset, byte) in tcp.payload().iter().enumerate() {
            stream[at + offset] = Some(*byte);
        }
    }
    assert!(stream.iter().enumerate().all(|(at, byte)| *byte == u8::try_from(at % 251).ok()));
}
