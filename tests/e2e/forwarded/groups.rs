//! A group of targets: whole flows, evenly spread, and members that go down and come up again.

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU32,
    path::Path,
    thread,
    time::Duration,
};

use mirror_lab::{
    Injector, VethEnd, Witness,
    flows::{FlowFrame, frames, mirrored},
};
use nix::sys::signal::Signal;

use super::{
    account,
    common::{
        Cable, SENDER,
        mirror::{Mirror, VNI, balanced_report, sent_by_kernel, sink},
    },
    report_of,
};

const FLOWS: u32 = 10_000;
const MEMBERS: [&str; 2] = ["ids0", "ids1"];
/// The kernel's table follows a member within 100 ms.
const FOLLOWS: Duration = Duration::from_millis(300);

/// A group of two devices, and three rounds of flows to send.
struct Pair {
    cable: Cable,
    rounds: [Vec<Vec<u8>>; 3],
}

/// The flows on each of the captured devices, with their number of frames.
type Seen = BTreeMap<&'static str, BTreeMap<u32, usize>>;

impl Pair {
    fn raise() -> Self {
        let cable = Cable::with_queues(1);
        let mut rounds = [const { Vec::new() }; 3];
        for frame in frames(FLOWS, 3).expect("frames") {
            let round = FlowFrame::of(&frame).expect("one of the flows").round;
            rounds[round as usize].push(frame);
        }
        Self { cable, rounds }
    }

    /// Sends a round while the named devices are captured.
    fn send(&self, round: usize, watched: &[&'static str], run: &Mirror, directory: &Path) -> Seen {
        let target = &self.cable.target;
        let witness = |tap: &&'static str| {
            let file = directory.join(format!("{tap}-{round}.pcap"));
            (*tap, Witness::start(target, tap, &file, "").expect("tcpdump"))
        };
        let witnesses: Vec<_> = watched.iter().map(witness).collect();
        let frames = mirrored(&self.rounds[round], VNI).expect("outer frames");
        let pace = NonZeroU32::new(20_000).expect("a pace");
        let injector = Injector::new(&self.cable.sender, SENDER).expect("injector").pace(pace);
        injector.send_all(&frames).expect("injected");
        let before: usize = self.rounds[..=round].iter().map(Vec::len).sum();
        run.has(before as u64);
        run.settled();
        let flows = |(tap, witness): (&'static str, Witness)| {
            let seen = witness.stop().expect("tcpdump");
            assert_eq!(seen.dropped, 0, "{tap}");
            let mut flows = BTreeMap::new();
            for frame in &seen.frames {
                let flow = FlowFrame::of(frame).expect("one of the flows").flow;
                *flows.entry(flow).or_default() += 1;
            }
            (tap, flows)
        };
        witnesses.into_iter().map(flows).collect()
    }

    /// Fails the test unless every flow of the round is whole on one device.
    fn assert_whole(&self, round: usize, seen: &Seen) {
        let mut sent = BTreeMap::new();
        for frame in &self.rounds[round] {
            *sent.entry(FlowFrame::of(frame).expect("one of the flows").flow).or_default() += 1;
        }
        let mut got = BTreeMap::new();
        for flows in seen.values() {
            for (flow, frames) in flows {
                assert_eq!(got.insert(*flow, *frames), None, "flow {flow} is on two devices");
            }
        }
        assert_eq!(got, sent);
    }
}

fn flows_of(seen: &Seen, tap: &str) -> BTreeSet<u32> {
    seen.get(tap).map(|flows| flows.keys().copied().collect()).unwrap_or_default()
}

#[test]
fn flows_stay_whole_spread_evenly_and_move_only_if_their_member_goes_down() {
    flows_stay_whole("tap", "user");
}

#[test]
fn the_kernel_chooses_the_same_member_for_each_flow_as_the_user_path() {
    let [user, kernel] = ["user", "kernel"].map(|path| flows_stay_whole("veth", path));
    assert_eq!(user, kernel);
}

/// Of two members of this kind; which flows each has.
#[track_caller]
fn flows_stay_whole(kind: &str, forward_path: &str) -> Seen {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    let pair = Pair::raise();
    let target = &pair.cable.target;
    let other_output = if forward_path == "user" { "-w inner.pcapng" } else { "" };
    let run = Mirror::ingest(
        &pair.cable,
        path,
        &format!(
            "--forward {kind}:ids0 --forward {kind}:ids1 --forward-balance flow --forward-seed 7 \
            --forward-path {forward_path} --report report.json {other_output}"
        ),
    );
    run.says("each flow to one of them");
    for member in MEMBERS {
        VethEnd::new(target, member).offloads(false).expect("ethtool");
    }

    let both = pair.send(0, &MEMBERS, &run, path);
    pair.assert_whole(0, &both);
    for member in MEMBERS {
        let flows = flows_of(&both, member).len();
        println!("{forward_path} path, {kind}:{member}: {flows} of {FLOWS} flows");
        assert!((4_500..=5_500).contains(&flows), "{flows} flows on {member}");
    }

    target.ip("link set dev ids0 down").expect("down");
    run.says(&format!("{kind}:ids0: the interface is down"));
    thread::sleep(FOLLOWS);
    let one = pair.send(1, &MEMBERS[1..], &run, path);
    pair.assert_whole(1, &one);
    assert!(flows_of(&one, "ids1").is_superset(&flows_of(&both, "ids1")), "others stay where they were");

    target.ip("link set dev ids0 up").expect("up");
    run.says(&format!("{kind}:ids0: is back"));
    thread::sleep(FOLLOWS);
    let again = pair.send(2, &MEMBERS, &run, path);
    pair.assert_whole(2, &again);
    for member in MEMBERS {
        assert_eq!(flows_of(&again, member), flows_of(&both, member), "{member}");
    }

    let report = report_of(run, path);
    let sent: u64 = pair.rounds.iter().map(|round| round.len() as u64).sum();
    let by_kernel = [0, 1].map(|member| sent_by_kernel(&report, member));
    assert_eq!(by_kernel.iter().all(|frames| *frames > 0), forward_path == "kernel", "{by_kernel:?}");
    let by_sink = sent - by_kernel.iter().sum::<u64>();
    // Fragments at least: only the sink remembers the flow of a datagram.
    assert!(by_sink > 0);
    let (offered, written, ..) = account(&report, "forward");
    assert_eq!((offered, written), (by_sink, by_sink), "{:#}", sink(&report, "forward"));
    let members = sink(&report, "forward")["members"].as_array().expect("members");
    let written = members.iter().map(|member| member["written"].as_u64().expect("a count"));
    let forwarded: Vec<_> = written.zip(by_kernel).map(|(written, sent)| written + sent).collect();
    let on =
        |seen: &Seen, member: &str| seen.get(member).map_or(0, |flows| flows.values().sum::<usize>()) as u64;
    let seen = MEMBERS.map(|member| [&both, &one, &again].map(|seen| on(seen, member)).iter().sum::<u64>());
    assert_eq!(forwarded, seen);
    both
}

#[test]
fn every_target_gets_a_copy_and_one_that_is_down_does_not_affect_the_others() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    let pair = Pair::raise();
    let target = &pair.cable.target;
    let run = Mirror::ingest(&pair.cable, path, "--forward tap:ids0 --forward tap:ids1 --report report.json");
    run.says("each packet to all of them");
    for tap in MEMBERS {
        VethEnd::new(target, tap).offloads(false).expect("ethtool");
    }
    target.ip("link set dev ids0 down").expect("down");
    run.says("tap:ids0: the interface is down");
    let one = pair.send(0, &MEMBERS[1..], &run, path);
    pair.assert_whole(0, &one);
    let words = ["tap:ids0 received none of its frames", "ip link set dev ids0 up"];
    run.end_by(Signal::SIGINT).expect_code(1).expect_words(&words);
    let report = balanced_report(&path.join("report.json"));
    let sent = pair.rounds[0].len() as u64;
    let down = serde_json::json!({ "down": sent });
    let nothing = serde_json::json!({});
    assert_eq!(account(&report, "forward tap:ids0"), (sent, 0, down, nothing.clone()));
    assert_eq!(account(&report, "forward tap:ids1"), (sent, sent, nothing.clone(), nothing));
}

#[test]
fn frames_are_counted_as_no_member_while_none_is_up() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    let pair = Pair::raise();
    let target = &pair.cable.target;
    let forward = "--forward tap:ids0 --forward tap:ids1 --forward-balance flow --report report.json";
    let run = Mirror::ingest(&pair.cable, path, forward);
    for tap in MEMBERS {
        VethEnd::new(target, tap).offloads(false).expect("ethtool");
        target.ip(&format!("link set dev {tap} down")).expect("down");
        run.says(&format!("tap:{tap}: the interface is down"));
    }
    pair.send(0, &[], &run, path);
    target.ip("link set dev ids1 up").expect("up");
    run.says("tap:ids1: is back");
    let one = pair.send(1, &MEMBERS[1..], &run, path);
    pair.assert_whole(1, &one);
    let report = report_of(run, path);
    let [lost, sent] = [0, 1].map(|round: usize| pair.rounds[round].len() as u64);
    let no_member = serde_json::json!({ "no_member": lost });
    assert_eq!(account(&report, "forward"), (lost + sent, sent, no_member, serde_json::json!({})));
}
