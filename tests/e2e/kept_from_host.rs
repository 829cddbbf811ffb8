//! Only the reader of a target gets forwarded packets: the host answers none and no service receives any,
//! whether sent to the host's own address, to all hosts or from an unroutable source. Needs root.

mod common;

use std::{
    io,
    net::{Ipv4Addr, UdpSocket},
    path::Path,
    time::Duration,
};

use common::{
    CAPTURE, Cable, SENDER,
    mirror::{Mirror, balanced_report, ingest, sent_by_kernel, sink, until},
};
use etherparse::PacketBuilder;
use mirror_lab::{Injector, Listener, VethEnd, VethOptions, VethPair, capture::same_frames, frames::Outer};
use nix::sys::signal::Signal;

/// The host at the target, and the router that its answers would use.
const HOST: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
const ROUTER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
/// A host of the tenant (RFC 5737).
const TENANT: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);
const NOWHERE: Ipv4Addr = Ipv4Addr::UNSPECIFIED;
const ALL_HOSTS: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 1);
const SERVICE: u16 = 7777;
const MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 7];
/// A mirrored broadcast, or what a switch floods, is for every host.
const TO_ALL: [u8; 6] = [0xff; 6];

/// An echo request to the host (RFC 792), and datagrams to its service, one of them to all hosts of a
/// network.
fn inner_frames() -> Vec<Vec<u8>> {
    let ip = |source: Ipv4Addr, destination: Ipv4Addr| {
        PacketBuilder::ethernet2(MAC, TO_ALL).ipv4(source.octets(), destination.octets(), 64)
    };
    let mut frames = vec![Vec::new()];
    ip(TENANT, HOST)
        .icmpv4_echo_request(7, 1)
        .write(&mut frames[0], b"who is there")
        .expect("an echo request");
    for (source, destination) in [(TENANT, HOST), (NOWHERE, Ipv4Addr::BROADCAST), (NOWHERE, ALL_HOSTS)] {
        let mut frame = Vec::new();
        ip(source, destination)
            .udp(40_000, SERVICE)
            .write(&mut frame, &destination.octets())
            .expect("a datagram");
        frames.push(frame);
    }
    frames
}

/// A host with a service and a route out, with this reverse-path filter.
struct Host {
    cable: Cable,
    service: UdpSocket,
    /// Captures what the host sends.
    wire: Listener,
}

impl Host {
    fn new(rp_filter: &str) -> Self {
        let cable = Cable::with_queues(1);
        for interface in ["all", "default", CAPTURE] {
            cable.target.sysctl(&format!("net/ipv4/conf/{interface}/rp_filter"), rp_filter).expect("sysctl");
        }
        cable.veth.b.address(&format!("{HOST}/24")).expect("address");
        cable
            .target
            .ip(&format!("neighbour add {ROUTER} lladdr 02:00:00:00:00:09 dev {CAPTURE} nud permanent"))
            .expect("neighbour");
        cable.target.ip(&format!("route add default via {ROUTER}")).expect("route");
        let bind = || UdpSocket::bind((Ipv4Addr::UNSPECIFIED, SERVICE));
        let service = cable.target.enter(bind).expect("namespace").expect("a service");
        service.set_nonblocking(true).expect("non-blocking");
        let wire = Listener::open(&cable.sender, SENDER).expect("listener");
        Self { cable, service, wire }
    }

    /// Sends the frames mirrored.
    fn mirror(&self, inner: &[Vec<u8>]) {
        let outer = Outer::sample(7).between(TENANT, HOST);
        let wrap = |inner: &Vec<u8>| outer.encapsulate(inner).expect("values that fit");
        let outer: Vec<_> = inner.iter().map(wrap).collect();
        Injector::new(&self.cable.sender, SENDER).expect("injector").send_all(&outer).expect("injected");
    }

    /// How many datagrams its service received, and how many echo requests it answered.
    fn took(&self) -> (usize, usize) {
        let mut buffer = [0; 64];
        let read = || match self.service.recv(&mut buffer) {
            Ok(_) => true,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => false,
            Err(error) => panic!("the service: {error}"),
        };
        let datagrams = std::iter::repeat_with(read).take_while(|read| *read).count();
        // IPv4, ICMP, echo reply, to the tenant.
        let is_answer = |frame: &&Vec<u8>| {
            frame.get(12..14) == Some(&[8, 0])
                && frame.get(23) == Some(&1)
                && frame.get(30..34) == Some(&TENANT.octets())
                && frame.get(34) == Some(&0)
        };
        let answers = self.wire.frames().expect("what the host sent").iter().filter(is_answer).count();
        (datagrams, answers)
    }

    /// Runs with these arguments, captures on this interface, and returns what the host received.
    #[track_caller]
    fn run(&self, directory: &Path, target: &str, reader: impl FnOnce() -> Listener) -> (usize, usize) {
        let run = Mirror::ingest(&self.cable, directory, &format!("--forward {target} --report report.json"));
        let reader = reader();
        let inner = inner_frames();
        self.mirror(&inner);
        run.has(inner.len() as u64);
        let mut received = Vec::new();
        until("the reader receives all", || {
            received.extend(reader.frames().expect("what is forwarded"));
            (received.len() >= inner.len()).then_some(())
        });
        same_frames(&inner, &received).expect("the inner frames");
        run.end_by(Signal::SIGINT).expect_code(0);
        let report = balanced_report(&directory.join("report.json"));
        let by_sink = sink(&report, &format!("forward {target}"))["written"].as_u64().expect("a count");
        assert_eq!(by_sink + sent_by_kernel(&report, 0), inner.len() as u64);
        std::fs::remove_file(directory.join("report.json")).expect("a report");
        // By the end of the run the host would have answered.
        std::thread::sleep(Duration::from_millis(200));
        self.took()
    }

    fn on(&self, interface: &'static str) -> impl FnOnce() -> Listener + '_ {
        move || Listener::open(&self.cable.target, interface).expect("listener")
    }
}

/// All there is: three datagrams, and an echo request.
const ALL: (usize, usize) = (3, 1);
const NOTHING: (usize, usize) = (0, 0);

/// Targets that are made for readers.
const MADE: [&str; 2] = ["tap:ids0", "veth:ids0"];

#[test]
fn only_the_reader_of_a_tap_or_veth_gets_its_packets_with_any_reverse_path_filter() {
    let directory = tempfile::tempdir().expect("directory");
    for rp_filter in ["0", "1", "2"] {
        let host = Host::new(rp_filter);
        for target in MADE {
            let took = host.run(directory.path(), target, host.on("ids0"));
            assert_eq!(took, NOTHING, "{target}, rp_filter {rp_filter}");
        }
    }
}

#[test]
fn a_persistent_tap_or_veth_is_kept_from_the_host_in_each_run() {
    let directory = tempfile::tempdir().expect("directory");
    let host = Host::new("0");
    for target in MADE {
        let persistent = format!("{target},persist");
        for _ in 0..2 {
            assert_eq!(host.run(directory.path(), &persistent, host.on("ids0")), NOTHING, "{target}");
        }
        // A killed run leaves nothing that keeps the next from passing packets to the host.
        for (next, taken) in [("", NOTHING), (",to-host", ALL)] {
            let killed = format!("--forward {persistent}");
            Mirror::ingest(&host.cable, directory.path(), &killed).end_by(Signal::SIGKILL);
            let next = format!("{persistent}{next}");
            assert_eq!(host.run(directory.path(), &next, host.on("ids0")), taken, "{next}");
        }
        host.cable.target.ip("link delete ids0").expect("the device is still there");
    }
}

#[test]
fn to_host_passes_packets_to_the_host_and_warns() {
    let directory = tempfile::tempdir().expect("directory");
    let host = Host::new("0");
    for target in MADE {
        let to_host = format!("{target},to-host");
        assert_eq!(host.run(directory.path(), &to_host, host.on("ids0")), ALL, "{target}");
        let run = Mirror::ingest(&host.cable, directory.path(), &format!("--forward {to_host}"));
        let warning = "ids0: this host itself receives what is forwarded there";
        run.end_by(Signal::SIGINT).expect_code(0).expect_words(&[warning]);
    }
}

#[test]
fn the_loopback_is_refused() {
    let directory = tempfile::tempdir().expect("directory");
    let cable = Cable::with_queues(1);
    let ending = Mirror::start(ingest(&cable, directory.path(), "--forward dev:lo")).end().expect_code(1);
    ending.expect_words(&["dev:lo", "`veth:NAME`", "`tap:NAME`"]);
}

#[test]
fn a_veth_whose_other_end_is_on_this_host_causes_a_warning() {
    let directory = tempfile::tempdir().expect("directory");
    let host = Host::new("0");
    let target = &host.cable.target;
    let ends = (VethEnd::new(target, "out0"), VethEnd::new(target, "ids0"));
    let _link = VethPair::create(ends.0, ends.1, &VethOptions::default()).expect("veth");
    let run = Mirror::ingest(&host.cable, directory.path(), "--forward dev:out0");
    let ending = run.end_by(Signal::SIGINT).expect_code(0);
    assert!(ending.said.contains("out0: its peer, ids0, is in this network namespace"), "{}", ending.said);
}
