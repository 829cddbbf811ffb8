//! Runs the programs of `mirror-user/examples` as an embedder does, and the command when an interface is
//! lost. Needs root.

#[path = "common/mod.rs"]
mod common;
#[expect(dead_code, reason = "its main is the example's")]
#[path = "../../mirror-user/examples/stateful_sink.rs"]
mod stateful_sink;
#[expect(dead_code, reason = "its main is the example's")]
#[path = "../../mirror-user/examples/two_interfaces.rs"]
mod two_interfaces;

use std::{
    num::NonZeroU32,
    ops::ControlFlow,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use common::{
    CAPTURE, Cable, SENDER, assert_balanced, builder,
    mirror::{Mirror, balanced_report, mirror, threads},
};
use mirror_lab::{
    Injector, VethEnd, VethOptions, VethPair,
    capture::write_pcap,
    frames::{Outer, inner_of_len},
};
use mirror_user::{Report, engine::Event};
use nix::sys::signal::Signal;

/// The ends of a second veth pair beside [`SENDER`] and [`CAPTURE`].
const OTHER_SENDER: &str = "gen1";
const OTHER: &str = "cap1";
/// Where frames of the two differ.
const VNI: u32 = 100;
const OTHER_VNI: u32 = 200;

/// Creates the second veth pair.
fn lay_other(cable: &Cable) {
    let ends = (VethEnd::new(&cable.sender, OTHER_SENDER), VethEnd::new(&cable.target, OTHER));
    VethPair::create(ends.0, ends.1, &VethOptions::default()).expect("a second cable");
}

fn delete_other(cable: &Cable) {
    cable.target.ip(&format!("link delete dev {OTHER}")).expect("deleted");
}

/// Sends frames of a VNI until it is stopped, or the interface is deleted.
fn send(cable: &Cable, interface: &str, vni: u32, stop: &AtomicBool) {
    let pace = NonZeroU32::new(2_000).expect("not 0");
    let injector = Injector::new(&cable.sender, interface).expect("injector").pace(pace);
    let frame = Outer::sample(vni).encapsulate(&inner_of_len(100).expect("inner")).expect("outer");
    while !stop.load(Ordering::Relaxed) && injector.send([&frame[..]; 100]).is_ok() {}
}

/// Frames received by this interface.
fn received(report: &Report, name: &str) -> u64 {
    let interface = report.interfaces.iter().find(|interface| interface.name == name).expect("interface");
    interface.queues.iter().map(|queue| queue.received).sum()
}

#[test]
fn two_interfaces_are_reported_each_second_and_the_run_continues_with_one_after_the_other_is_deleted() {
    let cable = Cable::with_queues(1);
    lay_other(&cable);
    let stop = AtomicBool::new(false);
    let mut reports: Vec<Report> = Vec::new();
    let report = thread::scope(|scope| {
        scope.spawn(|| send(&cable, SENDER, VNI, &stop));
        scope.spawn(|| send(&cable, OTHER_SENDER, OTHER_VNI, &stop));
        let names = [CAPTURE.to_owned(), OTHER.to_owned()];
        let show = |report: &Report| {
            reports.push(report.clone());
            if reports.len() == 3 {
                delete_other(&cable);
            }
            if reports.len() < 6 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        };
        let report = cable.target.enter(|| two_interfaces::run(&names, show)).expect("namespace");
        stop.store(true, Ordering::Relaxed);
        report.unwrap_or_else(|error| panic!("{error}"))
    });

    assert_eq!(reports.len(), 6);
    for pair in reports.windows(2) {
        assert!(received(&pair[1], CAPTURE) > received(&pair[0], CAPTURE), "{pair:?}");
    }
    for pair in reports[..3].windows(2) {
        assert!(received(&pair[1], OTHER) > received(&pair[0], OTHER), "{pair:?}");
    }
    let frames_of = |report: &Report, vni| {
        let origin = report.origins.iter().find(|origin| origin.vni == vni);
        origin.map_or(0, |origin| origin.frames)
    };
    for pair in reports.windows(2) {
        assert!(frames_of(&pair[1], VNI) > frames_of(&pair[0], VNI), "{pair:?}");
    }
    for pair in reports[..3].windows(2) {
        assert!(frames_of(&pair[1], OTHER_VNI) > frames_of(&pair[0], OTHER_VNI), "{pair:?}");
    }
    let lost = |report: &Report| {
        report.interfaces.iter().map(|interface| (interface.name.clone(), interface.lost)).collect::<Vec<_>>()
    };
    assert_eq!(lost(&reports[2]), [(CAPTURE.to_owned(), false), (OTHER.to_owned(), false)]);
    assert_eq!(lost(&reports[5]), [(CAPTURE.to_owned(), false), (OTHER.to_owned(), true)]);
    assert_eq!(
        received(&reports[5], OTHER),
        received(&report, OTHER),
        "a deleted interface receives nothing"
    );

    assert_balanced(&report);
    assert_eq!((lost(&report), report.ended_by.as_deref()), (lost(&reports[5]), None));
    assert!(
        report
            .warnings
            .iter()
            .any(|warning| warning.starts_with(&format!("{OTHER}: the interface was deleted")))
    );
    assert!(!report.is_clean(), "an interface is missing");
    let mut origins: Vec<_> = report.origins.iter().map(|origin| (origin.vni, origin.frames)).collect();
    origins.sort_unstable();
    assert_eq!(origins, [(VNI, received(&report, CAPTURE)), (OTHER_VNI, received(&report, OTHER))]);
}

#[test]
fn the_command_continues_with_the_other_interface_reports_one_that_returns_and_exits_1() {
    let cable = Cable::with_queues(1);
    lay_other(&cable);
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    let interfaces = format!("ingest -i {CAPTURE},{OTHER} --stats 1h --report report.json");
    let run = Mirror::start(mirror(&cable, path, &interfaces)).attached(&cable);
    let run = run.attached_to(&cable.target, OTHER);
    let names: Vec<_> = threads(run.pid()).into_iter().map(|(name, _)| name).collect();
    for name in ["q0-cap0", "q0-cap1"] {
        assert!(names.iter().any(|thread| thread == name), "{name} is not among {names:?}");
    }
    let inject = |interface: &str, count: usize| {
        let frame = Outer::sample(VNI).encapsulate(&inner_of_len(100).expect("inner")).expect("outer");
        let injector = Injector::new(&cable.sender, interface).expect("injector");
        injector.send(vec![&frame[..]; count]).expect("injected");
    };
    inject(SENDER, 50);
    inject(OTHER_SENDER, 50);
    run.has(100);
    delete_other(&cable);
    run.says(&format!("ERROR {OTHER}: the interface was deleted; ingest continues with the others"));
    inject(SENDER, 50);
    run.has(150);
    lay_other(&cable);
    run.says(&format!("{OTHER}: an interface of this name is back, but is not captured"));
    inject(OTHER_SENDER, 50);
    inject(SENDER, 50);
    run.has(200);
    run.end_by(Signal::SIGINT).expect_code(1).expect_words(&[
        "200 packets captured",
        "the interface was deleted while it was read",
        "residue 0",
    ]);
    let report = balanced_report(&path.join("report.json"));
    assert_eq!(report["frames"]["decapsulated"], 200);
    let lost: Vec<_> = report["interfaces"]
        .as_array()
        .expect("interfaces")
        .iter()
        .map(|interface| (&interface["name"], &interface["lost"]))
        .collect();
    assert_eq!(lost, [(&CAPTURE.into(), &false.into()), (&OTHER.into(), &true.into())]);
}

#[test]
fn by_default_a_run_over_two_interfaces_ends_when_one_is_deleted() {
    let cable = Cable::with_queues(1);
    lay_other(&cable);
    let running = cable.engine(builder().interface(OTHER));
    delete_other(&cable);
    let event = loop {
        let event = running.wait(Duration::from_secs(10)).expect("an event");
        if event.ends_run() {
            break event;
        }
    };
    assert_eq!(event, Event::InterfaceDeleted { interface: OTHER.to_owned(), goes_on: false });
    let report = running.stop();
    assert_balanced(&report);
    assert_eq!(report.ended_by, Some(format!("{OTHER}: the interface was deleted")));
    assert_eq!(report.interfaces.iter().map(|interface| interface.lost).collect::<Vec<_>>(), [false, true]);
}

#[test]
fn deleting_the_last_interface_ends_the_run() {
    let cable = Cable::with_queues(1);
    lay_other(&cable);
    let report = thread::scope(|scope| {
        let names = [CAPTURE.to_owned(), OTHER.to_owned()];
        let cable = &cable;
        let show = |_: &Report| {
            // Only once: the second report is missing if the run has ended by then.
            drop(cable.target.ip(&format!("link delete dev {CAPTURE}")));
            drop(cable.target.ip(&format!("link delete dev {OTHER}")));
            ControlFlow::Continue(())
        };
        let run =
            scope.spawn(move || cable.target.enter(|| two_interfaces::run(&names, show)).expect("namespace"));
        run.join().expect("no panic").unwrap_or_else(|error| panic!("{error}"))
    });
    assert_balanced(&report);
    assert!(report.interfaces.iter().all(|interface| interface.lost));
    assert!(report.ended_by.is_some_and(|reason| reason.ends_with("the interface was deleted")));
}

#[test]
fn a_sink_with_state_counts_every_frame_of_a_file() {
    let directory = tempfile::tempdir().expect("directory");
    let file = directory.path().join("outer.pcap");
    let outer = |len| Outer::sample(VNI).encapsulate(&inner_of_len(len).expect("inner")).expect("outer");
    let frames: Vec<_> = [64, 65, 100, 128, 1000, 1518, 1600].map(outer).to_vec();
    write_pcap(&file, &frames).expect("file");
    let (report, lengths) = stateful_sink::run([file.clone(), file]).expect("run");
    assert_eq!(lengths, [2, 6, 0, 0, 2, 2, 2]);
    assert!(report.is_clean());
    assert_eq!((report.sinks[0].written, report.accounting.residue), (14, 0));
}
