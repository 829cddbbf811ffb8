//! Generated frames, numbered one by one: at full speed every one is either delivered or counted as lost, at a tenth of
//! it every one is delivered. Needs root.

mod common;

use std::sync::Arc;

use common::{Cable, LedgerFactory, Shared, assert_explained, builder, settle};
use mirror_lab::Traffic;
use mirror_user::{
    Report,
    engine::Mode,
};

const FRAMES: u64 = 1_000_000;

fn run(cable: &Cable, mode: Mode, traffic: Traffic, frames: u64) -> Report {
    let ledger = LedgerFactory::new();
    let running = cable.engine(builder().mode(mode).sink(Arc::new(Shared(Arc::clone(&ledger)))));
    let generated = cable.generator(traffic).send(frames).expect("generated");
    settle(&running);
    let report = running.stop();
    println!(
        "{mode:?}: {:.2} Mpps generated, {} received of {}",
        generated.rate() / 1e6,
        report.frames.received,
        generated.total()
    );
    assert_explained(cable, &report, &generated, &ledger.ledger());
    report
}

fn slow(traffic: Traffic) -> Traffic {
    Traffic { rate: Some(100_000), ..traffic }
}

#[test]
fn one_queue_native_explains_every_frame_at_full_speed() {
    let cable = Cable::with_queues(1);
    let report = run(&cable, Mode::Native, Traffic::default(), FRAMES);
    assert_eq!(report.interfaces[0].xdp_mode, "native");
    assert!(report.frames.decapsulated > 0);
}

#[test]
fn one_queue_native_loses_nothing_at_100_kpps() {
    let cable = Cable::with_queues(1);
    let report = run(&cable, Mode::Native, slow(Traffic::default()), FRAMES);
    assert_eq!(report.frames.decapsulated, FRAMES);
}

#[test]
fn one_queue_generic_explains_every_frame_at_full_speed() {
    let cable = Cable::with_queues(1);
    cable.veth.b.gro(true).expect("GRO: generic mode gets frames sent by XDP only with it");
    let report = run(&cable, Mode::Generic, Traffic::default(), FRAMES);
    assert_eq!(report.interfaces[0].xdp_mode, "generic");
    assert!(report.frames.decapsulated > 0);
}

#[test]
fn one_queue_generic_loses_nothing_at_100_kpps() {
    let cable = Cable::with_queues(1);
    cable.veth.b.gro(true).expect("GRO");
    let report = run(&cable, Mode::Generic, slow(Traffic::default()), FRAMES);
    assert_eq!(report.frames.decapsulated, FRAMES);
}

#[test]
fn two_queues_each_receive_at_least_a_quarter() {
    let cable = Cable::with_queues(2);
    for traffic in
        [Traffic { cpus: vec![0, 1], ..Traffic::default() }, slow(Traffic { cpus: vec![0, 1], ..Traffic::default() })]
    {
        let limited = traffic.rate.is_some();
        let before = cable.sender_counters().xdp_xmit_errors();
        assert_eq!(before, 0);
        let report = run(&cable, Mode::Native, traffic, FRAMES);
        for queue in &report.interfaces[0].queues {
            assert!(queue.received * 4 >= report.frames.received, "queue {} got {}", queue.queue, queue.received);
        }
        if limited {
            assert_eq!(report.frames.decapsulated, FRAMES);
        }
    }
}
