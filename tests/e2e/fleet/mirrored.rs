//! Targets behind a balancer, and `mirror source` on a host that has real flows with a client.
//!
//! A source has one address and 128 source ports, by inner flow: so many outer flows, each of them alive as
//! long as the host has traffic. conntrack, as a balancer's flow table does, keeps those where they are; a
//! flow is placed by the hash when it is new, when its target has become unhealthy, or after it was idle.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    net::{Ipv4Addr, UdpSocket},
    ops::Range,
    os::unix::fs::FileExt as _,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use mirror_lab::{Namespace, VethEnd, VethOptions, VethPair, flows::FlowFrame};
use nix::sys::signal::Signal;
use serde_json::json;
use tempfile::TempDir;

use super::{
    Fleet,
    balancer::choice,
    common::mirror::{Mirror, balanced_report, mirror_in, readable_capture, until},
};

/// The mirrored host towards the balancer: the outer source of its copies.
const SOURCE: Ipv4Addr = Ipv4Addr::new(10, 10, 10, 9);
/// The balancer's address in the host's zone.
const BALANCER: Ipv4Addr = Ipv4Addr::new(10, 10, 10, 1);
/// And one in another zone, where nobody is.
const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(10, 10, 10, 250);
/// The mirrored host towards its client.
const SERVER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
/// Its interface.
const MIRRORED: &str = "eth0";

/// Each socket of the client has a flow with each of the server.
const SOCKETS: [usize; 2] = [40, 25];
const FLOWS: u32 = 1_000;
/// Between two exchanges of two packets each: two CPUs are enough for all.
const INTERVAL: Duration = Duration::from_micros(500);
/// So many exchanges have copies that are not sent yet, at most: when a busy host kept the agent's thread
/// from running, it sends all of them at once, and a veth has room for 256.
const WINDOW: u32 = 32;
/// In each of them, each flow sends a datagram and gets an answer.
const ROUNDS: u32 = 3;

/// Where the hash has an outer source port, among these targets.
fn by_hash(targets: &'static [usize]) -> impl Fn(u16) -> usize + Copy {
    move |port| choice(SOURCE.octets(), port, targets)
}

/// A mirrored host with its client, and targets behind a balancer.
struct Fan {
    fleet: Fleet,
    sockets: [Vec<UdpSocket>; 2],
    /// What the interfaces of the host have sent (proc_pid_net(5)).
    counters: File,
    directory: TempDir,
    /// Rounds so far.
    rounds: u32,
    targets: BTreeMap<usize, (String, Mirror)>,
    /// Files of all targets there were: one that comes back begins others.
    names: Vec<(usize, String)>,
    /// Frames of those that have ended.
    before: u64,
}

impl Fan {
    fn lay(targets: usize) -> Self {
        let fleet = Fleet::lay(targets);
        let source = &fleet.source;
        let client = fleet.lab.namespace("client").expect("namespace");
        let pair = VethPair::create(
            VethEnd::new(source, MIRRORED),
            VethEnd::new(&client, "eth0"),
            &VethOptions::default(),
        );
        let VethPair { a, b } = pair.expect("veth");
        a.address(&format!("{SERVER}/24")).expect("address");
        b.address(&format!("{CLIENT}/24")).expect("address");
        VethEnd::new(source, "src0").address(&format!("{SOURCE}/24")).expect("address");
        let hardware = VethEnd::new(&fleet.balancer, "in0").hardware_address().expect("address");
        source.ip(&format!("neighbour add {BALANCER} lladdr {hardware} dev src0")).expect("neighbour");
        let open = |namespace: &Namespace, address: Ipv4Addr, count: usize| {
            let socket = || {
                let socket = UdpSocket::bind((address, 0)).expect("socket");
                socket.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
                socket
            };
            namespace.enter(|| (0..count).map(|_| socket()).collect::<Vec<_>>()).expect("namespace")
        };
        let sockets = [open(&client, CLIENT, SOCKETS[0]), open(source, SERVER, SOCKETS[1])];
        let open = || File::open("/proc/thread-self/net/dev").expect("counters");
        let counters = source.enter(open).expect("namespace");
        let directory = tempfile::tempdir().expect("directory");
        let (targets, names) = (BTreeMap::new(), Vec::new());
        Self { fleet, sockets, counters, directory, rounds: 0, targets, names, before: 0 }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    /// `mirror source` on the host, to the balancer: all that it receives and sends.
    fn mirror(&self) -> Mirror {
        let all = json!([{ "RuleNumber": 100, "RuleAction": "accept", "SourceCidrBlock": "0.0.0.0/0",
            "DestinationCidrBlock": "0.0.0.0/0" }]);
        let arn = "arn:aws:elasticloadbalancing:us-east-1:111122223333:loadbalancer/net/fleet/1";
        let set_up = json!({
            "TrafficMirrorTargets": [
                { "TrafficMirrorTargetId": "tmt-1", "NetworkLoadBalancerArn": arn }],
            "TrafficMirrorFilters": [
                { "TrafficMirrorFilterId": "tmf-1", "IngressFilterRules": all, "EgressFilterRules": all }],
            "TrafficMirrorSessions": [
                { "TrafficMirrorSessionId": "tms-1", "TrafficMirrorTargetId": "tmt-1",
                "TrafficMirrorFilterId": "tmf-1", "NetworkInterfaceId": "eni-1", "SessionNumber": 1,
                "VirtualNetworkId": 12345 }],
            "NetworkInterfaces": [
                { "NetworkInterfaceId": "eni-1", "AvailabilityZone": "us-east-1b" }],
        });
        fs::write(self.path().join("mirroring.json"), set_up.to_string()).expect("written");
        let arguments = format!(
            "source --config mirroring.json --interface eni-1={MIRRORED} --report source.json \
            --target tmt-1={ELSEWHERE}@us-east-1a,{BALANCER}@us-east-1b"
        );
        let run = Mirror::start(mirror_in(&self.fleet.source, self.path(), &arguments));
        run.says(&format!("to tmt-1 at {BALANCER}:4789"));
        run
    }

    /// `mirror ingest` at a target, which may have been there before.
    fn start(&mut self, target: usize) {
        let times = self.names.iter().filter(|(number, _)| *number == target).count();
        let name = format!("{target}-{times}");
        let command = self.fleet.ingest_to(&name, target, self.path(), "--outer");
        let run = Mirror::start(command).attached_to(&self.fleet.targets[target], "cap0");
        self.names.push((target, name.clone()));
        self.targets.insert(target, (name, run));
    }

    /// Ends a target, which has all that came.
    fn ended(&mut self, target: usize, end: impl FnOnce(Mirror)) {
        let (name, run) = self.targets.remove(&target).expect("a target that runs");
        end(run);
        self.before += decapsulated(self.path(), &name);
    }

    /// Packets that the host has sent towards the balancer.
    fn sent(&self) -> u64 {
        let mut text = [0; 4096];
        let length = self.counters.read_at(&mut text, 0).expect("counters");
        let text = str::from_utf8(&text[..length]).expect("text");
        let interface = text.lines().find_map(|line| line.trim_start().strip_prefix("src0:"));
        let sent = interface.and_then(|counters| counters.split_ascii_whitespace().nth(9));
        sent.and_then(|packets| packets.parse().ok()).expect("a number of packets")
    }

    /// Each flow sends a datagram and gets its answer.
    fn round(&mut self) {
        let [clients, servers] = &self.sockets;
        let mut buffer = [0; 64];
        let (begin, sent) = (Instant::now(), self.sent());
        for flow in 0..FLOWS {
            thread::sleep((begin + INTERVAL * flow).saturating_duration_since(Instant::now()));
            if flow % WINDOW == 0 {
                let copies = 2 * u64::from(flow);
                until("copies are sent", || (self.sent() >= sent + copies).then_some(()));
            }
            let number = flow as usize;
            let ends = [&clients[number % SOCKETS[0]], &servers[number / SOCKETS[0]]];
            for (to_server, [from, to]) in [(true, ends), (false, [ends[1], ends[0]])] {
                let frame = FlowFrame { flow, to_server, round: self.rounds };
                from.send_to(&frame.mark(), to.local_addr().expect("an address")).expect("sent");
                let length = to.recv(&mut buffer).expect("received");
                assert_eq!(buffer[..length], frame.mark());
            }
        }
        self.rounds += 1;
    }

    /// Rounds after which the targets have all copies. None is on its way then.
    fn phase(&mut self) -> Range<u32> {
        let begin = self.rounds;
        (0..ROUNDS).for_each(|_| self.round());
        self.settles();
        begin..self.rounds
    }

    /// Rounds, at least one, until something is so.
    fn rounds_until(&mut self, what: &str, mut is_so: impl FnMut(&mut Self) -> bool) -> Range<u32> {
        let begin = self.rounds;
        until(what, || {
            self.round();
            is_so(self).then_some(())
        });
        begin..self.rounds
    }

    /// Waits until the targets have two copies of each exchange.
    fn settles(&self) {
        let all = 2 * u64::from(FLOWS) * u64::from(self.rounds);
        let mut seen = 0;
        until("all copies are at the targets", || {
            seen = self.before + self.targets.values().map(|(_, run)| run.frames()).sum::<u64>();
            (seen >= all).then_some(())
        });
        assert_eq!(seen, all, "copies at the targets");
    }
}

/// Frames that a target has taken, of its report, which is balanced.
#[track_caller]
fn decapsulated(path: &Path, name: &str) -> u64 {
    let report = balanced_report(&path.join(format!("{name}.json")));
    report["frames"]["decapsulated"].as_u64().expect("frames")
}

/// Copies in the captures of all targets.
struct Copies {
    /// Each frame with the targets that it is at, and its outer source port.
    frames: BTreeMap<FlowFrame, (Vec<usize>, u16)>,
    /// The outer source port of each flow.
    ports: BTreeMap<u32, u16>,
}

impl Copies {
    /// Both directions of each flow have one outer source port.
    #[track_caller]
    fn read(fan: &Fan) -> Self {
        let mut frames = BTreeMap::<_, (Vec<_>, _)>::new();
        let mut ports = BTreeMap::new();
        for (target, name) in &fan.names {
            let capture = readable_capture(&fan.path().join(format!("{name}.pcapng")));
            assert!(!capture.torn);
            for outer in capture.frames() {
                let frame = FlowFrame::of(&outer).expect("a frame of ours");
                assert_eq!(outer[26..30], SOURCE.octets(), "the outer source");
                let port = u16::from_be_bytes([outer[34], outer[35]]);
                assert_eq!(*ports.entry(frame.flow).or_insert(port), port, "of {frame:?}, and before");
                frames.entry(frame).or_insert((Vec::new(), port)).0.push(*target);
            }
        }
        Self { frames, ports }
    }

    /// Each copy is there once.
    #[track_caller]
    fn assert_complete(&self, rounds: u32) {
        for (frame, (targets, _)) in &self.frames {
            assert_eq!(targets.len(), 1, "{frame:?} is at {targets:?}");
        }
        assert_eq!(self.frames.len() as u64, 2 * u64::from(FLOWS) * u64::from(rounds), "copies that differ");
    }

    /// In these rounds each outer flow, both directions of its inner flows, was where it has to be.
    #[track_caller]
    fn assert_at(&self, rounds: &Range<u32>, target: impl Fn(u16) -> usize) {
        let of_rounds = self.frames.iter().filter(|(frame, _)| rounds.contains(&frame.round));
        for (frame, (at, port)) in of_rounds {
            assert_eq!(at, &[target(*port)], "{frame:?} of source port {port}");
        }
    }

    /// In these rounds each outer flow went over from one target to the other, once, and those stayed for
    /// which they are the same.
    #[track_caller]
    fn assert_moves(&self, rounds: &Range<u32>, from: impl Fn(u16) -> usize, to: impl Fn(u16) -> usize) {
        // By flow: datagrams at the one, and answers.
        let mut left = BTreeMap::<u32, [i64; 2]>::new();
        for (frame, (at, port)) in self.frames.iter().filter(|(frame, _)| rounds.contains(&frame.round)) {
            let (from, to) = (from(*port), to(*port));
            assert!([[from], [to]].contains(&[at[0]]), "{frame:?} went from {from} to {to}, by {at:?}");
            left.entry(frame.flow).or_default()[usize::from(frame.to_server)] += i64::from(at[0] == from);
        }
        for (flow, [to_client, to_server]) in left {
            // It may go between a datagram and its answer.
            let split = to_client.abs_diff(to_server);
            assert!(
                split <= 1,
                "{to_server} datagrams of flow {flow} and {to_client} answers before it went"
            );
        }
    }

    /// Outer source ports whose target differs in the first round of these ranges.
    fn moved(&self, before: &Range<u32>, after: &Range<u32>) -> BTreeSet<u16> {
        let at = |flow: u32, rounds: &Range<u32>| {
            self.frames[&FlowFrame { flow, to_server: true, round: rounds.start }].0.clone()
        };
        let moved = self.ports.iter().filter(|(flow, _)| at(**flow, before) != at(**flow, after));
        moved.map(|(_, port)| *port).collect()
    }

    /// Outer source ports that two placements have at different targets.
    fn differ(&self, before: impl Fn(u16) -> usize, after: impl Fn(u16) -> usize) -> BTreeSet<u16> {
        self.ports.values().copied().filter(|port| before(*port) != after(*port)).collect()
    }
}

/// Over the whole time no copy is lost or there twice: the targets have what the source has sent, and each
/// account balances.
#[test]
fn copies_of_a_mirrored_hosts_flows_are_each_at_the_target_that_the_seed_gives_while_targets_come_and_go() {
    const ALL: &[usize] = &[0, 1, 2, 3];
    const OTHERS: &[usize] = &[1, 2, 3];
    const FIVE: &[usize] = &[0, 1, 2, 3, 4];
    let mut fan = Fan::lay(FIVE.len());
    let mut balancer = fan.fleet.balancer();
    for target in ALL {
        fan.start(*target);
        balancer.register(*target);
    }
    balancer.sees_healthy(ALL);
    let source = fan.mirror();
    let four = fan.phase();
    // Out, by draining.
    fan.targets[&0].1.signal(Signal::SIGTERM);
    let leaves = fan.rounds_until("the balancer takes it out", |_| balancer.healthy() == OTHERS);
    let out = fan.rounds_until("it ends", |fan| !fan.targets.get_mut(&0).expect("it").1.is_running());
    fan.ended(0, |run| {
        run.end().expect_code(0).expect_words(&["until no more packets came"]);
    });
    fan.settles();
    // And back.
    fan.start(0);
    balancer.sees_healthy(ALL);
    let pinned = fan.phase();
    balancer.end_flows();
    let back = fan.phase();
    // A fifth one.
    fan.start(4);
    balancer.register(4);
    balancer.sees_healthy(FIVE);
    let joined = fan.phase();
    balancer.end_flows();
    let five = fan.phase();
    drop(balancer);
    source.end_by(Signal::SIGINT).expect_code(0);
    for target in FIVE {
        fan.ended(*target, |run| {
            run.end_by(Signal::SIGINT).expect_code(0);
        });
    }

    let report = balanced_report(&fan.path().join("source.json"));
    assert_eq!(report["accounting"]["segments_residue"], 0, "{report:#}");
    let session = &report["interfaces"][0]["sessions"][0];
    let sent = 2 * u64::from(FLOWS) * u64::from(fan.rounds);
    assert_eq!(session["sent"], sent, "{report:#}");
    assert_eq!(session["carrier_dropped"], 0, "{report:#}");
    let taken: Vec<_> = fan.names.iter().map(|(_, name)| (name, decapsulated(fan.path(), name))).collect();
    println!("{sent} copies sent in {} rounds, taken: {taken:?}", fan.rounds);
    assert_eq!(taken.iter().map(|(_, taken)| taken).sum::<u64>(), sent);
    assert_eq!(fan.before, sent);

    let copies = Copies::read(&fan);
    copies.assert_complete(fan.rounds);
    let (of_four, of_others, of_five) = (by_hash(ALL), by_hash(OTHERS), by_hash(FIVE));
    let without_0 = |port| if of_four(port) == 0 { of_others(port) } else { of_four(port) };
    copies.assert_at(&four, of_four);
    copies.assert_moves(&leaves, of_four, without_0);
    copies.assert_at(&out, without_0);
    copies.assert_at(&pinned, without_0);
    copies.assert_at(&back, of_four);
    copies.assert_at(&joined, of_four);
    copies.assert_at(&five, of_five);
    let ports = copies.ports.values().collect::<BTreeSet<_>>().len();
    // 128 ports, and each target should have many of them.
    assert!(ports >= 100, "{ports} outer source ports of {FLOWS} flows");
    for (what, before, after, expected) in [
        ("one out", &four, &out, copies.differ(of_four, without_0)),
        ("one back, with live flows", &out, &pinned, BTreeSet::new()),
        ("one back, when flows are new", &pinned, &back, copies.differ(without_0, of_four)),
        ("a fifth one, with live flows", &back, &joined, BTreeSet::new()),
        ("a fifth one, when flows are new", &joined, &five, copies.differ(of_four, of_five)),
    ] {
        let moved = copies.moved(before, after);
        println!("{what}: {} of {ports} outer flows moved", moved.len());
        assert_eq!(moved, expected, "{what}");
    }
}
