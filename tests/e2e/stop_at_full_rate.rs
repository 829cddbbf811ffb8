//! Stopped while frames arrive at full rate: everything is accounted for, every time. Needs root.

mod common;

use std::{sync::Arc, time::Duration};

use common::{
    Cable, LedgerFactory, Shared, assert_explained, builder,
    mirror::{Mirror, balanced_report, program, sink, until, whole_capture},
    rounds,
};
use mirror_lab::Traffic;
use mirror_user::engine::Mode;
use nix::sys::signal::Signal;

const ALL_ROUNDS: u32 = 20;

/// `delay` is how long each batch of 64 keeps a worker.
fn stops_balanced(queues: u32, mode: Mode, delay: Duration) {
    let cable = Cable::with_queues(queues);
    cable.veth.b.gro(mode == Mode::Generic).expect("GRO: generic mode gets frames sent by XDP only with it");
    let cpus: Vec<usize> = (0..queues as usize).collect();
    let (rounds, mut seen) = (rounds(ALL_ROUNDS), 0);
    for round in 0..rounds {
        let running = cable.engine(builder().mode(mode).sink(Arc::new(Shared(LedgerFactory::slow(delay)))));
        let generator = cable.generator(Traffic { cpus: cpus.clone(), ..Traffic::default() }).start(u64::MAX);
        until("frames flow", || (running.report().frames.decapsulated > 10_000).then_some(()));
        let report = running.stop();
        assert!(!generator.is_finished(), "it must outlast the run");
        generator.stop().expect("generated");
        assert_eq!(report.accounting.residue, 0, "round {round}: {:#?}", report.accounting);
        assert!(report.is_clean());
        assert_eq!(program(&cable), None, "round {round}");
        seen += report.accounting.seen;
    }
    println!("{mode:?}, {queues} queues: {rounds} stops, {seen} frames seen, residue 0 each time");
}

#[test]
fn one_queue_native() {
    stops_balanced(1, Mode::Native, Duration::ZERO);
}

#[test]
fn two_queues_native() {
    stops_balanced(2, Mode::Native, Duration::ZERO);
}

#[test]
fn one_queue_generic() {
    stops_balanced(1, Mode::Generic, Duration::ZERO);
}

/// Their rings are full at the stop, and the frames in them are accounted for.
#[test]
fn workers_that_are_far_behind() {
    stops_balanced(2, Mode::Native, Duration::from_millis(2));
}

/// The generator ends first, so that its count is known: frames in the rings at the stop are neither lost nor
/// counted twice.
#[test]
fn stopped_right_after_the_last_frame() {
    let cable = Cable::with_queues(2);
    for _ in 0..rounds(ALL_ROUNDS) {
        let ledger = LedgerFactory::new();
        let running = cable.engine(builder().sink(Arc::new(Shared(Arc::clone(&ledger)))));
        let errors_before = cable.sender_counters().xdp_xmit_errors();
        let traffic = Traffic { cpus: vec![0, 1], ..Traffic::default() };
        let generated = cable.generator(traffic).send(200_000).expect("generated");
        // The kernel has passed every frame to the program; how far the worker is does not matter.
        let sent = generated.total();
        until("the program has seen all", || {
            let errors = cable.sender_counters().xdp_xmit_errors() - errors_before;
            let seen: u64 = running.report().interfaces.iter().map(|interface| interface.xdp.seen).sum();
            (seen + errors == sent).then_some(())
        });
        let report = running.stop();
        assert_explained(&cable, errors_before, &report, &generated, &ledger.ledger());
    }
}

#[test]
fn the_command_with_a_capture_file() {
    let cable = Cable::with_queues(2);
    let traffic = Traffic { cpus: vec![0, 1], ..Traffic::default() };
    for round in 0..rounds(ALL_ROUNDS / 4) {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path();
        let run = Mirror::ingest(&cable, path, "-w out.pcapng --report report.json");
        let generator = cable.generator(traffic.clone()).start(u64::MAX);
        run.has(10_000);
        let ending = run.end_by(Signal::SIGINT);
        generator.stop().expect("generated");
        ending.expect_code(0);
        assert_eq!(program(&cable), None, "round {round}");
        let report = balanced_report(&path.join("report.json"));
        let capture = whole_capture(&path.join("out.pcapng"));
        assert_eq!(sink(&report, "pcap")["written"], capture.packets.len() as u64);
    }
}
