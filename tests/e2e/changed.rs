//! Sinks and selection of a running engine change: what stays loses nothing, and a change that fails changes
//! nothing. Needs root.

mod common;

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use common::{Cable, assert_balanced, builder, mirror::whole_capture, settle};
use mirror_lab::Traffic;
use mirror_user::{
    Report,
    engine::{Change, ChangeError, Running},
    select::{Allow, Selection},
    sink::{self, Pcap, Sink, SinkError, SinkFactory, WorkerContext, pcap::Target},
};

const VNI: u32 = 12_345;
const VNIS: u32 = 4;

/// A sink that counts frames by VNI.
fn counting(name: &str) -> (Arc<dyn SinkFactory>, Arc<[AtomicU64; VNIS as usize]>) {
    let counts = Arc::<[AtomicU64; VNIS as usize]>::default();
    let shared = Arc::clone(&counts);
    let sink = sink::for_each(name, move |frame| {
        let count = shared.get((frame.vni() - VNI) as usize).ok_or_else(|| SinkError::other("VNI"))?;
        count.fetch_add(1, Ordering::Relaxed);
        Ok(())
    });
    (sink, counts)
}

fn loads(counts: &[AtomicU64; VNIS as usize]) -> [u64; VNIS as usize] {
    counts.each_ref().map(|count| count.load(Ordering::Relaxed))
}

fn entry<'r>(report: &'r Report, name: &str) -> &'r mirror_user::account::SinkReport {
    report.sinks.iter().find(|sink| sink.name == name).unwrap_or_else(|| panic!("no {name} in {report:?}"))
}

/// A capture of one VNI.
fn capture(directory: &Path, generation: u32) -> (Arc<dyn SinkFactory>, u32, std::path::PathBuf) {
    let vni = VNI + generation % VNIS;
    let path = directory.join(format!("{generation}.pcapng"));
    let pcap = Pcap::builder(Target::file(&path)).build().expect("capture");
    (sink::selected("tenant", Allow::all().vnis([vni]), pcap), vni, path)
}

/// Two queues at a rate that loses nothing, four VNIs, until it is stopped. Returns the frames sent.
fn send_until(cable: &Cable, stop: &AtomicBool) -> u64 {
    let traffic = Traffic { rate: Some(100_000), vnis: VNIS, cpus: vec![0, 1], ..Traffic::default() };
    let generator = cable.generator(traffic);
    let mut sent = 0;
    while !stop.load(Ordering::Relaxed) {
        sent += generator.send(20_000).expect("generated").total();
    }
    sent
}

fn change(running: &Running, change: Change) {
    running.change(change).unwrap_or_else(|error| panic!("{error}"));
    assert!(running.wait(Duration::from_millis(10)).is_none(), "nothing has ended");
}

#[test]
fn a_sink_that_stays_loses_nothing_over_a_hundred_changes_of_others() {
    const CHANGES: u32 = 100;
    let cable = Cable::with_queues(2);
    let directory = tempfile::tempdir().expect("directory");
    let (stays, counts) = counting("stays");
    let (first, vni, path) = capture(directory.path(), 0);
    let running = cable.engine(builder().sink(stays).sink(first));
    let stop = AtomicBool::new(false);
    let mut captures = vec![(vni, path)];
    let sent = thread::scope(|scope| {
        let sender = scope.spawn(|| send_until(&cable, &stop));
        for generation in 1..=CHANGES {
            let (next, vni, path) = capture(directory.path(), generation);
            captures.push((vni, path));
            change(&running, Change::new().remove("tenant").sink(next));
        }
        stop.store(true, Ordering::Relaxed);
        sender.join().expect("sent")
    });
    settle(&running);
    let report = running.stop();
    assert_balanced(&report);
    assert_eq!((report.dropped_by_kernel(), report.frames.decapsulated), (0, sent), "{report:?}");
    let stays = entry(&report, "stays");
    assert_eq!((stays.written, stays.absent, stays.deselected), (sent, 0, 0));
    assert_eq!(loads(&counts).iter().sum::<u64>(), sent);
    // Each capture is complete and has frames of its VNI only; between two of them nothing is missing.
    let tenant = entry(&report, "tenant");
    assert_eq!((tenant.absent, tenant.offered), (0, tenant.written), "{tenant:?}");
    let mut written = 0;
    for (vni, path) in &captures {
        let capture = whole_capture(path);
        written += capture.packets.len() as u64;
        let name = format!("vni-{vni}@");
        assert!(capture.packets.iter().all(|packet| {
            packet.interface_name.as_ref().is_some_and(|interface| interface.starts_with(&name))
        }));
    }
    assert_eq!((captures.len(), written), (CHANGES as usize + 1, tenant.written));
    assert!(written * 5 > sent, "a quarter of the frames is of the VNI at hand: {written} of {sent}");
}

#[test]
fn frames_follow_the_selection_at_hand_with_and_without_lists_in_the_kernel() {
    let only = |vni: u32| Selection::from(Allow::all().vnis([VNI + vni]));
    let source = |source: &str| Selection::from(Allow::all().sources([source.parse().expect("prefix")]));
    // Lists of the program that loads with some; and of one that loads without.
    for (at_start, lists) in [(only(0), true), (Selection::all(), false)] {
        let cable = Cable::with_queues(2);
        let (counted, counts) = counting("counted");
        let running = cable.engine(builder().select(at_start).sink(counted));
        let traffic = Traffic { vnis: VNIS, cpus: vec![0, 1], rate: Some(100_000), ..Traffic::default() };
        let generator = cable.generator(traffic);
        let mut expected = [0; VNIS as usize];
        let mut send = |selected: &[usize]| {
            let sent = generator.send(4_000).expect("generated").total();
            settle(&running);
            selected.iter().for_each(|vni| expected[*vni] += sent / u64::from(VNIS));
            // A worker publishes at its ticks; the sink has counted by then.
            thread::sleep(Duration::from_millis(150));
            assert_eq!(loads(&counts), expected, "lists {lists}");
            sent
        };
        let mut sent = send(if lists { &[0] } else { &[0, 1, 2, 3] });
        for (selection, selected) in [
            (only(2), &[2][..]),
            (Selection::from(Allow::all().vnis([VNI + 1, VNI + 3])), &[1, 3]),
            (Selection::all(), &[0, 1, 2, 3]),
            (source("203.0.113.7/32"), &[]),
            (Selection::all(), &[0, 1, 2, 3]),
            (only(3), &[3]),
        ] {
            change(&running, Change::new().select(selection));
            sent += send(selected);
        }
        let report = running.stop();
        assert_balanced(&report);
        let frames = &report.frames;
        let dropped = &report.interfaces[0].xdp.dropped;
        assert_eq!(report.interfaces[0].xdp.seen, sent);
        assert_eq!(frames.decapsulated, expected.iter().sum::<u64>());
        assert_eq!(dropped.vni > 0, lists, "{dropped:?}");
        assert!(frames.rejected.source > 0, "no list of sources was loaded: workers refuse them");
    }
}

#[test]
fn a_change_that_fails_changes_nothing() {
    /// Builds for the first worker only.
    struct Half;

    impl SinkFactory for Half {
        fn name(&self) -> &str {
            "half"
        }

        fn build(&self, cx: &WorkerContext) -> Result<Box<dyn Sink>, SinkError> {
            match cx.worker {
                0 => sink::for_each("half", |_| Ok(())).build(cx),
                _ => Err(SinkError::other("no room")),
            }
        }
    }

    let cable = Cable::with_queues(2);
    let (counted, counts) = counting("counted");
    let running = cable.engine(builder().sink(counted));
    let nothing = Selection::from(Allow::all().vnis([VNI + 99]));
    let refused = running.change(Change::new().select(nothing).remove("counted").sink(Half));
    let error = refused.expect_err("one worker cannot").to_string();
    assert_eq!(error, "sink half: no room");
    for (refused, is) in [
        (Change::new().remove("other"), "there is no sink other"),
        (Change::new().sink(counting("counted").0), "there is a sink counted already"),
    ] {
        assert_eq!(running.change(refused).expect_err("refused").to_string(), is);
    }
    let traffic = Traffic { cpus: vec![0, 1], rate: Some(100_000), ..Traffic::default() };
    let sent = cable.generator(traffic).send(10_000).expect("generated").total();
    settle(&running);
    let report = running.stop();
    assert_balanced(&report);
    assert_eq!((loads(&counts)[0], report.sinks.len()), (sent, 1));
}

#[test]
fn a_sink_added_late_and_removed_early_accounts_for_the_time_that_it_was_there() {
    let cable = Cable::with_queues(2);
    let running = cable.engine(builder());
    let traffic = Traffic { cpus: vec![0, 1], rate: Some(100_000), ..Traffic::default() };
    let generator = cable.generator(traffic);
    let send = || {
        let sent = generator.send(4_000).expect("generated").total();
        settle(&running);
        thread::sleep(Duration::from_millis(150));
        sent
    };
    let before = send();
    let (late, counts) = counting("late");
    change(&running, Change::new().sink(late));
    let during = send();
    change(&running, Change::new().remove("late"));
    let after = send();
    let report = running.stop();
    assert_balanced(&report);
    let late = entry(&report, "late");
    assert_eq!((late.absent, late.offered, late.written), (before + after, during, during));
    assert_eq!(loads(&counts)[0], during);
}

#[test]
fn what_the_kernel_forwards_does_not_change() {
    let cable = Cable::with_queues(1);
    let forward = sink::Forward::builder("veth:ids0".parse().expect("target"));
    let forward = cable.target.enter(|| forward.build()).expect("namespace").expect("forwarder");
    let running = cable.engine(builder().sink(forward));
    let (counted, _) = counting("counted");
    let refused = running.change(Change::new().sink(counted));
    assert!(matches!(refused, Err(ChangeError::ForwardedInKernel { .. })), "{refused:?}");
    assert_balanced(&running.stop());
}
