//! Several targets behind a balancer made of nftables: one drains, and no packet is lost. Needs root.

mod common;

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    io::Write as _,
    num::NonZeroU32,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use common::mirror::{MIRROR, Mirror, balanced_report, until, whole_capture};
use mirror_lab::{
    Injector, Lab, Namespace, VethEnd, VethOptions, VethPair,
    flows::{self, FlowFrame},
};
use nix::sys::signal::Signal;
use serde_json::Value;

const TARGETS: usize = 4;
const FLOWS: u32 = 1_000;
const ROUNDS: u32 = 100;
/// Frames a second.
const RATE: NonZeroU32 = NonZeroU32::new(50_000).unwrap();
const VNI: u32 = 12345;
/// How long a balancer takes to see that a target is not healthy.
const DETECTION: Duration = Duration::from_millis(500);

/// A source, a balancer and targets.
struct Fleet {
    _lab: Lab,
    source: Namespace,
    balancer: Namespace,
    targets: Vec<Namespace>,
}

impl Fleet {
    fn lay() -> Self {
        let lab = Lab::new().expect("lab");
        let [source, balancer] = ["source", "balancer"].map(|role| lab.namespace(role).expect("namespace"));
        // The MAC address that frames are sent to is that of the balancer.
        let options = VethOptions::default();
        VethPair::create(VethEnd::new(&source, "src0"), VethEnd::new(&balancer, "in0"), &options)
            .expect("veth");
        balancer.ip("address add 10.10.10.1/24 dev in0").expect("address");
        balancer.sysctl("net/ipv4/ip_forward", "1").expect("forwarding");
        let targets: Vec<_> = (0..TARGETS)
            .map(|number| {
                let target = lab.namespace(&format!("target{number}")).expect("namespace");
                let (out, end) =
                    (VethEnd::new(&balancer, &format!("out{number}")), VethEnd::new(&target, "cap0"));
                let pair = VethPair::create(out, end, &options).expect("veth");
                pair.a.address(&format!("10.20.{number}.1/24")).expect("address");
                pair.b.address(&format!("10.20.{number}.2/24")).expect("address");
                let hardware = pair.b.hardware_address().expect("address");
                balancer
                    .ip(&format!("neighbour add 10.20.{number}.2 lladdr {hardware} dev out{number}"))
                    .expect("neighbour");
                target
            })
            .collect();
        Self { _lab: lab, source, balancer, targets }
    }

    /// Sends each flow to one of the targets by its outer addresses and source port, as a hash with a seed
    /// has it; the flows of those that are left out are shared by the others. Without state: what is sent
    /// meanwhile goes by the old rules, or by the new ones.
    fn balance(&self, left_out: Option<usize>) {
        let slots = 4 * TARGETS;
        let mut map = String::new();
        for slot in 0..slots {
            let own = slot % TARGETS;
            let others = (own + 1 + slot / TARGETS % (TARGETS - 1)) % TARGETS;
            let target = if Some(own) == left_out { others } else { own };
            write!(map, "{slot} : 10.20.{target}.2, ").expect("text");
        }
        let hash = format!("jhash ip saddr . udp sport mod {slots} seed 0x4d1b");
        let rules = format!(
            "table ip fleet
            delete table ip fleet
            table ip fleet {{
                chain prerouting {{
                    type filter hook prerouting priority raw; policy accept;
                    iifname in0 udp dport 4789 ip daddr set {hash} map {{ {map} }}
                }}
            }}\n"
        );
        let mut nft = self.balancer.command("nft");
        let mut nft = nft.args(["-f", "-"]).stdin(Stdio::piped()).spawn().expect("nft");
        nft.stdin.take().expect("a pipe").write_all(rules.as_bytes()).expect("rules");
        assert!(nft.wait().expect("nft").success(), "{rules}");
    }
}

/// What a health check would see.
fn phase(name: &str) -> String {
    let output = Command::new(MIRROR).args(["status", name, "--json"]).output().expect("mirror");
    let runs: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    runs[0]["phase"].as_str().unwrap_or_default().to_owned()
}

/// The frames that each target captured, by flow: rounds to the server, and rounds to the client.
fn flows_of(path: &Path, target: usize) -> BTreeMap<u32, [usize; 2]> {
    let mut flows: BTreeMap<u32, [usize; 2]> = BTreeMap::new();
    for frame in whole_capture(&path.join(format!("{target}.pcapng"))).frames() {
        let FlowFrame { flow, to_server, .. } = FlowFrame::of(&frame).expect("a frame of ours");
        flows.entry(flow).or_default()[usize::from(to_server)] += 1;
    }
    flows
}

#[test]
fn a_target_that_drains_behind_a_balancer_costs_no_frame_and_keeps_directions_together() {
    let fleet = Fleet::lay();
    fleet.balance(None);
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    let start = |number: usize| {
        let namespace = &fleet.targets[number];
        let mut command = namespace.command(MIRROR);
        let arguments = format!(
            "ingest -i cap0 --stats 1h --control fleet{number} --drain-max 1h --drain-quiet 2s \
            -w {number}.pcapng --report {number}.json"
        );
        command.args(arguments.split_ascii_whitespace()).current_dir(path);
        Mirror::start(command).attached_to(namespace, "cap0")
    };
    let mut runs: Vec<_> = (0..TARGETS).map(start).collect();
    let frames = flows::mirrored(&flows::frames(FLOWS, ROUNDS).expect("frames"), VNI).expect("outer frames");

    let leaving = runs.remove(0);
    let (at_term, at_switch) = thread::scope(|scope| {
        let injector = Injector::new(&fleet.source, "src0").expect("injector").pace(RATE);
        let sender = scope.spawn(move || injector.send_all(&frames).expect("injected"));
        leaving.has(1_000);
        leaving.signal(Signal::SIGTERM);
        until("the health check sees it", || (phase("fleet0") == "draining").then_some(()));
        let at_term = leaving.frames();
        thread::sleep(DETECTION);
        fleet.balance(Some(0));
        let at_switch = leaving.frames();
        let sent = sender.join().expect("sent");
        println!("{sent} frames sent");
        (at_term, at_switch)
    });
    assert!(at_switch > at_term, "frames came while it drained: {at_term}, {at_switch}");
    leaving.end().expect_code(0).expect_words(&["until no more packets came"]);
    for run in &runs {
        run.settled();
    }
    for run in runs {
        run.end_by(Signal::SIGINT).expect_code(0);
    }

    let reports: Vec<_> =
        (0..TARGETS).map(|target| balanced_report(&path.join(format!("{target}.json")))).collect();
    let taken = |report: &Value| report["frames"]["decapsulated"].as_u64().expect("frames");
    let taken: Vec<_> = reports.iter().map(taken).collect();
    let all = flows::frames(FLOWS, ROUNDS).expect("frames").len() as u64;
    assert_eq!(taken.iter().sum::<u64>(), all, "{taken:?}");
    assert!(taken[0] < taken[1], "it left early: {taken:?}");
    let by_target: Vec<_> = (0..TARGETS).map(|target| flows_of(path, target)).collect();
    let mut moved = 0;
    for flow in 0..FLOWS {
        let at: Vec<_> = by_target.iter().filter_map(|flows| flows.get(&flow)).collect();
        // The rules may change between a frame and its answer; a datagram may be two frames.
        for [to_client, to_server] in &at {
            assert!(to_client.abs_diff(*to_server) <= 2, "flow {flow}: {at:?}");
        }
        match (by_target[0].contains_key(&flow), at.len()) {
            (false, 1) => {}
            (true, 2) => moved += 1,
            other => panic!("flow {flow} is at {other:?}: {at:?}"),
        }
    }
    println!("{taken:?} frames at the targets; {moved} of {FLOWS} flows moved");
    assert!(moved > 0);
}
