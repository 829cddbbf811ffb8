//! Numbered generated frames: at full rate every one is either delivered or counted as lost, at a tenth of it
//! every one is delivered. Needs root.

mod common;

use std::sync::Arc;

use common::{Cable, LedgerFactory, Shared, assert_explained, builder, settle};
use mirror_lab::Traffic;
use mirror_user::{Report, engine::Mode};

const FRAMES: u64 = 1_000_000;
/// The lowest rate for the second part.
const LEAST_RATE: u64 = 100_000;
/// Room for a worker that does not get its CPU for some milliseconds: at a tenth of the rate, that must not
/// lose frames.
const DEEP_RING: u32 = 16_384;

/// Sends frames, and accounts for every one. Returns the report and the rate in frames per second.
fn run(cable: &Cable, mode: Mode, traffic: Traffic) -> (Report, u64) {
    let ledger = LedgerFactory::new();
    let engine = builder().mode(mode).rx_ring(DEEP_RING).sink(Arc::new(Shared(Arc::clone(&ledger))));
    let running = cable.engine(engine);
    let sent_errors = cable.sender_counters().xdp_xmit_errors();
    let generated = cable.generator(traffic).send(FRAMES).expect("generated");
    settle(&running);
    let report = running.stop();
    println!(
        "{mode:?}: {:.2} Mpps generated, {} received of {}",
        generated.rate() / 1e6,
        report.frames.received,
        generated.total()
    );
    assert_explained(cable, sent_errors, &report, &generated, &ledger.ledger());
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rate below 2^63")]
    (report, generated.rate() as u64)
}

/// Full rate, then a tenth of it.
fn full_and_a_tenth(cable: &Cable, mode: Mode, traffic: &Traffic, check: impl Fn(&Report)) {
    let (report, rate) = run(cable, mode, traffic.clone());
    assert!(report.frames.decapsulated > 0);
    check(&report);
    let (report, _) =
        run(cable, mode, Traffic { rate: Some((rate / 10).max(LEAST_RATE)), ..traffic.clone() });
    assert_eq!(report.frames.decapsulated, FRAMES, "nothing is lost at a tenth");
    check(&report);
}

#[test]
fn one_queue_native_explains_every_frame_and_loses_none_at_a_tenth() {
    let cable = Cable::with_queues(1);
    full_and_a_tenth(&cable, Mode::Native, &Traffic::default(), |report| {
        assert_eq!(report.interfaces[0].xdp_mode, "native");
    });
}

#[test]
fn one_queue_generic_explains_every_frame_and_loses_none_at_a_tenth() {
    let cable = Cable::with_queues(1);
    cable.veth.b.gro(true).expect("GRO: generic mode gets frames sent by XDP only with it");
    full_and_a_tenth(&cable, Mode::Generic, &Traffic::default(), |report| {
        assert_eq!(report.interfaces[0].xdp_mode, "generic");
    });
}

#[test]
fn two_queues_explain_every_frame_and_each_receives_at_least_a_quarter() {
    let cable = Cable::with_queues(2);
    let traffic = Traffic { cpus: vec![0, 1], ..Traffic::default() };
    full_and_a_tenth(&cable, Mode::Native, &traffic, |report| {
        for queue in &report.interfaces[0].queues {
            assert!(
                queue.received * 4 >= report.frames.received,
                "queue {} got {}",
                queue.queue,
                queue.received
            );
        }
    });
}
