//! Several targets behind a balancer that checks their health: one leaves, one joins, all are unhealthy. No
//! packet is lost, and each flow is where the balancer's hash has it. Needs root.

#[path = "../common/mod.rs"]
mod common;

mod balancer;
mod jhash;
mod mirrored;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::Ipv4Addr,
    num::NonZeroU32,
    path::Path,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::Instant,
};

use balancer::{Balancer, address, choice};
use common::{
    disk::SmallDisk,
    http::Client,
    mirror::{MIRROR, Mirror, balanced_report, let_run, readable_capture, until},
};
use mirror_lab::{
    Injector, Lab, Namespace, VethEnd, VethOptions, VethPair,
    flows::{self, FlowFrame},
    frames::Outer,
};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

/// Those that come from the beginning.
const FLOWS: u32 = 1_000;
/// The inner flows of a source of mirrored packets.
const FLOWS_OF_SOURCE: u32 = 250;
/// How often each frame of a phase is sent at least.
const PASSES: usize = 10;
/// Frames a second, at most.
const RATE: NonZeroU32 = NonZeroU32::new(50_000).unwrap();
const VNI: u32 = 12345;

/// A source, a balancer and targets.
struct Fleet {
    lab: Lab,
    source: Namespace,
    balancer: Namespace,
    targets: Vec<Namespace>,
}

impl Fleet {
    fn lay(targets: usize) -> Self {
        let lab = Lab::new().expect("lab");
        let [source, balancer] = ["source", "balancer"].map(|role| lab.namespace(role).expect("namespace"));
        // The MAC address that frames are sent to is that of the balancer.
        let options = VethOptions::default();
        VethPair::create(VethEnd::new(&source, "src0"), VethEnd::new(&balancer, "in0"), &options)
            .expect("veth");
        balancer.ip("address add 10.10.10.1/24 dev in0").expect("address");
        let targets = (0..targets).map(|number| {
            let target = lab.namespace(&format!("target{number}")).expect("namespace");
            let (out, end) =
                (VethEnd::new(&balancer, &format!("out{number}")), VethEnd::new(&target, "cap0"));
            let pair = VethPair::create(out, end, &options).expect("veth");
            pair.a.address(&format!("10.20.{number}.1/24")).expect("address");
            pair.b.address(&format!("{}/24", address(number))).expect("address");
            let hardware = pair.b.hardware_address().expect("address");
            balancer
                .ip(&format!("neighbour add {} lladdr {hardware} dev out{number}", address(number)))
                .expect("neighbour");
            target
        });
        let targets = targets.collect();
        Self { lab, source, balancer, targets }
    }

    fn balancer(&self) -> Balancer {
        Balancer::new(&VethEnd::new(&self.balancer, "in0"))
    }

    /// `mirror ingest` at a target; health checks ask at the interface that packets come in at.
    fn ingest(&self, target: usize, path: &Path, arguments: &str) -> Command {
        self.ingest_to(&target.to_string(), target, path, arguments)
    }

    /// The same with files of this name.
    fn ingest_to(&self, name: &str, target: usize, path: &Path, arguments: &str) -> Command {
        let mut command = self.targets[target].command(MIRROR);
        let arguments = format!(
            "ingest -i cap0 --stats 1h --control off --http 0.0.0.0:8080 --drain-max 1h --drain-quiet 2s \
            -w {name}.pcapng --report {name}.json {arguments}"
        );
        command.args(arguments.split_ascii_whitespace()).current_dir(path);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command
    }

    fn start(&self, target: usize, path: &Path) -> Mirror {
        Mirror::start(self.ingest(target, path, "")).attached_to(&self.targets[target], "cap0")
    }

    /// The health of a target, as the balancer gets it.
    fn health(&self, target: usize) -> (u16, Value) {
        Client::new(&self.balancer, &format!("{}:8080", address(target))).health()
    }
}

/// The outer source address and port of a flow, in both directions.
fn outer(flow: u32) -> ([u8; 4], u16) {
    let source = u8::try_from(200 + flow / FLOWS_OF_SOURCE).expect("an address");
    ([10, 10, 10, source], flows::source_port(flow))
}

/// Outer frames of so many flows in each phase; a frame's round is its phase.
fn phases(flows: &[u32]) -> Vec<Vec<Vec<u8>>> {
    let rounds = u32::try_from(flows.len()).expect("a few phases");
    let all = flows.iter().copied().max().unwrap_or_default();
    let mut phases = vec![Vec::new(); flows.len()];
    for inner in flows::frames(all, rounds).expect("frames") {
        let FlowFrame { flow, round, .. } = FlowFrame::of(&inner).expect("a frame of ours");
        let phase = round as usize;
        if flow < flows[phase] {
            let (source, port) = outer(flow);
            let outer = Outer::aws(Ipv4Addr::from(source), Ipv4Addr::new(10, 10, 10, 1), port, VNI);
            phases[phase].push(outer.encapsulate(&inner).expect("an outer frame"));
        }
    }
    phases
}

/// Sends the frames of a phase again and again, whole, until the next one is asked for. Ends when dropped.
struct Sender {
    progress: Arc<Progress>,
    thread: Option<JoinHandle<u64>>,
}

#[derive(Default)]
struct Progress {
    /// The phase that is asked for.
    asked: AtomicUsize,
    /// Phases of which all frames have been sent as often as they must.
    sent: AtomicUsize,
}

impl Sender {
    /// Begins with the first phase.
    fn start(fleet: &Fleet, phases: Vec<Vec<Vec<u8>>>, rate: NonZeroU32) -> Self {
        let injector = Injector::new(&fleet.source, "src0").expect("injector").pace(rate);
        let progress = Arc::<Progress>::default();
        let thread = thread::spawn({
            let progress = Arc::clone(&progress);
            move || {
                let start = Instant::now();
                let frames = phases.iter().enumerate().flat_map(|(phase, frames)| {
                    let passes = (0..).take_while(progress.again(phase));
                    passes.flat_map(|_| frames.iter().map(Vec::as_slice))
                });
                let sent = injector.send(frames).expect("injected");
                println!("{sent} frames sent in {:?}", start.elapsed());
                sent
            }
        });
        let sender = Self { progress, thread: Some(thread) };
        sender.has_sent(0);
        sender
    }

    fn has_sent(&self, phase: usize) {
        until("a phase is sent", || (self.progress.sent.load(Ordering::SeqCst) > phase).then_some(()));
    }

    /// Asks for the next phase. When its frames have been sent, those of the one before have left the
    /// balancer: a phase has more than its queues hold.
    fn next_phase(&self) {
        let phase = self.progress.asked.fetch_add(1, Ordering::SeqCst) + 1;
        self.has_sent(phase);
    }

    /// Ends after this phase; gives the number of frames.
    fn end(mut self) -> u64 {
        self.progress.asked.fetch_add(1, Ordering::SeqCst);
        self.thread.take().expect("it runs").join().expect("sent")
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.progress.asked.store(usize::MAX, Ordering::SeqCst);
        if let Some(Err(_)) = self.thread.take().map(JoinHandle::join) {
            eprintln!("the sender panicked");
        }
    }
}

impl Progress {
    /// Whether a phase is sent once more, by the number of times it was.
    fn again(&self, phase: usize) -> impl Fn(&usize) -> bool + '_ {
        move |passes| {
            if *passes == PASSES {
                self.sent.store(phase + 1, Ordering::SeqCst);
            }
            *passes < PASSES || self.asked.load(Ordering::SeqCst) <= phase
        }
    }
}

/// Frames in the captures of all targets.
struct Captured {
    /// By phase and flow, and then by target: those to the client, and those to the server.
    flows: BTreeMap<(usize, u32), BTreeMap<usize, [usize; 2]>>,
}

impl Captured {
    fn read(path: &Path, targets: usize) -> Self {
        let mut flows: BTreeMap<_, BTreeMap<_, [usize; 2]>> = BTreeMap::new();
        for target in 0..targets {
            let capture = readable_capture(&path.join(format!("{target}.pcapng")));
            assert!(!capture.torn);
            for frame in capture.frames() {
                let FlowFrame { flow, to_server, round } = FlowFrame::of(&frame).expect("a frame of ours");
                let counts = flows.entry((round as usize, flow)).or_default().entry(target).or_default();
                counts[usize::from(to_server)] += 1;
            }
        }
        Self { flows }
    }

    /// In this phase each flow, both of its directions, was at one target: this one.
    #[track_caller]
    fn assert_at(&self, phase: usize, flows: u32, target: impl Fn(u32) -> usize) {
        for flow in 0..flows {
            let at = &self.flows[&(phase, flow)];
            let &[to_client, to_server] = at.get(&target(flow)).unwrap_or(&[0, 0]);
            let together = at.len() == 1 && to_client > 0 && to_client == to_server;
            assert!(together, "flow {flow} of phase {phase} is not at target {} alone: {at:?}", target(flow));
        }
    }

    /// In this phase each flow went over from one target to the other, or stayed if they are the same.
    #[track_caller]
    fn assert_moves(&self, phase: usize, flows: u32, from: impl Fn(u32) -> usize, to: impl Fn(u32) -> usize) {
        for flow in 0..flows {
            let (from, to) = (from(flow), to(flow));
            for (target, [to_client, to_server]) in &self.flows[&(phase, flow)] {
                assert!([from, to].contains(target), "flow {flow} went from {from} to {to}, by {target}");
                // It may go between a frame and its answer; a datagram may be two frames.
                let split = to_client.abs_diff(*to_server);
                assert!(split <= if from == to { 0 } else { 2 }, "flow {flow} was split: {split}");
            }
        }
    }
}

/// No frame was lost: targets took as many as were sent.
#[track_caller]
fn assert_complete(path: &Path, targets: usize, sent: u64) -> Vec<u64> {
    let reports = (0..targets).map(|target| balanced_report(&path.join(format!("{target}.json"))));
    let taken: Vec<_> =
        reports.map(|report| report["frames"]["decapsulated"].as_u64().expect("frames")).collect();
    println!("{taken:?} frames at the targets");
    assert_eq!(taken.iter().sum::<u64>(), sent, "{taken:?}");
    taken
}

/// How many outer flows there are, and how many of them these two give to different targets.
fn outer_flows(flows: u32, before: impl Fn(u32) -> usize, after: impl Fn(u32) -> usize) -> (usize, usize) {
    let all: BTreeMap<_, _> = (0..flows).map(|flow| (outer(flow), flow)).collect();
    let moved = all.values().filter(|flow| before(**flow) != after(**flow)).count();
    (all.len(), moved)
}

fn new_flow(targets: &[usize]) -> impl Fn(u32) -> usize + Copy {
    move |flow| {
        let (source, port) = outer(flow);
        choice(source, port, targets)
    }
}

#[test]
fn a_target_that_drains_behind_a_balancer_costs_no_frame_and_keeps_directions_together() {
    const TARGETS: [usize; 4] = [0, 1, 2, 3];
    let [before, leaves, after] = [0, 1, 2];
    let fleet = Fleet::lay(TARGETS.len());
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    let mut balancer = fleet.balancer();
    let mut runs: Vec<_> = TARGETS.iter().map(|target| fleet.start(*target, path)).collect();
    TARGETS.iter().for_each(|target| balancer.register(*target));
    balancer.sees_healthy(&TARGETS);
    let leaving = runs.remove(0);
    let sender = Sender::start(&fleet, phases(&[FLOWS; 3]), RATE);
    sender.next_phase();
    let at_term = leaving.frames();
    leaving.signal(Signal::SIGTERM);
    balancer.sees_healthy(&[1, 2, 3]);
    let at_switch = leaving.frames();
    sender.next_phase();
    let sent = sender.end();
    assert!(at_switch > at_term, "frames came while it drained: {at_term}, {at_switch}");
    leaving.end().expect_code(0).expect_words(&["until no more packets came"]);
    drop(balancer);
    for run in &runs {
        run.settled();
    }
    for run in runs {
        run.end_by(Signal::SIGINT).expect_code(0);
    }

    assert_complete(path, TARGETS.len(), sent);
    let captured = Captured::read(path, TARGETS.len());
    let old = new_flow(&TARGETS);
    let of_others = new_flow(&[1, 2, 3]);
    // Flows of the others stay.
    let new = |flow| if old(flow) == 0 { of_others(flow) } else { old(flow) };
    captured.assert_at(before, FLOWS, old);
    captured.assert_moves(leaves, FLOWS, old, new);
    captured.assert_at(after, FLOWS, new);
    let (all, moved) = outer_flows(FLOWS, old, new);
    println!("{moved} of {all} outer flows moved");
    assert!(0 < moved && moved < all / 2);
}

/// Flows that live stay where they are; new ones, and those that were idle, go where the hash over five has
/// them.
#[test]
fn a_target_that_joins_gets_the_flows_that_the_hash_gives_it_and_live_ones_stay() {
    const BEFORE: [usize; 4] = [0, 1, 2, 3];
    const AFTER: [usize; 5] = [0, 1, 2, 3, 4];
    /// With those of a further source, which come when the target has joined.
    const ALL: u32 = FLOWS + FLOWS_OF_SOURCE;
    let [before, joins, newcomers, ended, after] = [0, 1, 2, 3, 4];
    let fleet = Fleet::lay(AFTER.len());
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    let mut balancer = fleet.balancer();
    let mut runs: Vec<_> = BEFORE.iter().map(|target| fleet.start(*target, path)).collect();
    BEFORE.iter().for_each(|target| balancer.register(*target));
    balancer.sees_healthy(&BEFORE);
    let sender = Sender::start(&fleet, phases(&[FLOWS, FLOWS, ALL, ALL, ALL]), RATE);
    sender.next_phase();
    // Its checks fail until it runs, and then until it is ready.
    balancer.register(4);
    runs.push(fleet.start(4, path));
    balancer.sees_healthy(&AFTER);
    sender.next_phase();
    sender.next_phase();
    balancer.end_flows();
    sender.next_phase();
    let sent = sender.end();
    drop(balancer);
    for run in &runs {
        run.settled();
    }
    for run in runs {
        run.end_by(Signal::SIGINT).expect_code(0);
    }

    assert_complete(path, AFTER.len(), sent);
    let captured = Captured::read(path, AFTER.len());
    let (of_four, of_five) = (new_flow(&BEFORE), new_flow(&AFTER));
    let pinned = |flow| if flow < FLOWS { of_four(flow) } else { of_five(flow) };
    captured.assert_at(before, FLOWS, of_four);
    captured.assert_at(joins, FLOWS, of_four);
    captured.assert_at(newcomers, ALL, pinned);
    captured.assert_moves(ended, ALL, pinned, of_five);
    captured.assert_at(after, ALL, of_five);
    let of_newcomers: BTreeSet<_> = (FLOWS..ALL).map(of_five).collect();
    assert!(of_newcomers.contains(&4), "the new target has new flows: {of_newcomers:?}");
    let (all, moved) = outer_flows(ALL, pinned, of_five);
    println!("{moved} of {all} outer flows moved when they were new again");
    assert!(0 < moved && moved < all);
}

/// Then a balancer sends to all of them, and each takes what it gets.
#[test]
fn with_all_targets_unhealthy_each_says_why_and_none_loses_a_frame() {
    const TARGETS: [usize; 4] = [0, 1, 2, 3];
    /// It takes a while until all are unhealthy.
    const SLOWLY: NonZeroU32 = NonZeroU32::new(10_000).unwrap();
    let [before, after] = [0, 2];
    let fleet = Fleet::lay(TARGETS.len());
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    fs::create_dir(path.join("disk")).expect("mount point");
    let disk = SmallDisk::mount(&path.join("disk"), 256 << 10);
    let text = "[[sink]]\nname = 'text'\nprint = true\nrequired = true\n";
    fs::write(path.join("text.toml"), text).expect("written");
    let full = "[[sink]]\nname = 'full'\nwrite = 'disk/full.pcapng'\nrequired = true\n";
    fs::write(path.join("full.toml"), full).expect("written");
    let start = |target: usize, arguments: &str, output: Stdio| {
        let mut command = fleet.ingest(target, path, arguments);
        command.stdout(output);
        Mirror::start(command).attached_to(&fleet.targets[target], "cap0")
    };
    let (reader, output) = std::io::pipe().expect("a pipe");
    let runs = [
        start(0, "", Stdio::null()),
        start(1, "--config text.toml", output.into()),
        start(2, "--config full.toml", Stdio::null()),
        start(3, "--config text.toml", Stdio::null()),
    ];
    let mut balancer = fleet.balancer();
    TARGETS.iter().for_each(|target| balancer.register(*target));
    balancer.sees_healthy(&TARGETS);
    let sender = Sender::start(&fleet, phases(&[FLOWS; 3]), SLOWLY);
    sender.next_phase();
    // The disk of 2 is full soon.
    drop(reader);
    let printer = runs[3].stop_thread("mirror-print");
    balancer.sees_healthy(&[0]);
    runs[0].signal(Signal::SIGTERM);
    balancer.sees_healthy(&[]);
    let answers = TARGETS.map(|target| fleet.health(target));
    sender.next_phase();
    let later = TARGETS.map(|target| fleet.health(target).0);
    assert_eq!(later, [503; 4], "they were unhealthy all the time");
    let_run(printer);
    let sent = sender.end();
    drop(balancer);
    let [drains, others @ ..] = runs;
    drains.end().expect_code(0).expect_words(&["until no more packets came"]);
    for (run, code) in others.into_iter().zip([1, 1, 0]) {
        run.settled();
        run.end_by(Signal::SIGINT).expect_code(code);
    }
    drop(disk);

    for ((status, answer), (level, check, cause)) in answers.iter().zip([
        ("draining", "run", "the run ends when no more frames come"),
        ("failed", "sinks", "a required sink has ended"),
        ("failed", "sinks", "a required sink waits for space"),
        ("failed", "lag", "frames wait for a sink's thread for more than 10 s"),
    ]) {
        assert_eq!((*status, &answer["status"]), (503, &json!(level)), "{answer:#}");
        assert_eq!(answer["checks"][check], json!({ "state": "failed", "cause": cause }), "{answer:#}");
        let checks = answer["checks"].as_object().expect("checks").iter();
        let others = checks.filter(|(name, found)| *name != check && found["state"] != "ok");
        assert_eq!(others.count(), 0, "{answer:#}");
    }
    assert_complete(path, TARGETS.len(), sent);
    let captured = Captured::read(path, TARGETS.len());
    captured.assert_at(before, FLOWS, new_flow(&TARGETS));
    captured.assert_at(after, FLOWS, new_flow(&TARGETS));
}
