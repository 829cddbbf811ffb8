//! Reports of a run that another thread requests while one waits for events. Needs root.

mod common;

use std::{sync::Arc, thread, time::Duration};

use common::{Cable, SENDER, assert_balanced, builder, mirror::until};
use mirror_lab::{
    Injector,
    frames::{Outer, inner_of_len},
};
use mirror_user::{
    Report,
    engine::Event,
    sink::{Counters, Forward, LatencySink},
};

/// As a health endpoint does: one thread waits for events, another requests reports.
#[test]
fn a_live_report_has_growing_origins_members_and_latency() {
    let cable = Cable::with_queues(1);
    let target = "pcap-over-ip:listen=127.0.0.1:0".parse().expect("target");
    let forward = Forward::builder(target).build().expect("forwarder");
    let sinks = builder()
        .sink(Arc::new(Counters::default()))
        .sink(Arc::new(LatencySink::new()))
        .sink(Arc::new(forward));
    let running = cable.engine(sinks);
    let injector = Injector::new(&cable.sender, SENDER).expect("injector");
    let inner = inner_of_len(100).expect("inner frame");
    let frames: Vec<_> =
        (0..20).map(|vni| Outer::sample(vni % 2 + 7).encapsulate(&inner).expect("frame")).collect();
    let stopper = running.stopper();
    thread::scope(|threads| {
        let waits = threads.spawn(|| running.wait(Duration::from_secs(60)));
        for round in 1..=3 {
            injector.send_all(&frames).expect("sent");
            let (report, member) = until("a report of what was sent", || {
                let report = running.report();
                let member = report.sinks[2].members.first()?.clone();
                let origins: u64 = report.origins.iter().map(|origin| origin.frames).sum();
                let forwarded = member.written + member.pending + member.dropped.values().sum::<u64>();
                let is_measured = report.latency_ns.as_ref().is_some_and(|latency| latency.max > 0);
                let is_whole = is_measured && origins == 20 * round && forwarded == 20 * round;
                is_whole.then_some((report, member))
            });
            assert_eq!(
                report.origins.iter().map(|o| (o.vni, o.frames)).collect::<Vec<_>>(),
                [(7, 10 * round), (8, 10 * round)]
            );
            assert_eq!(member.readers.map(|readers| readers.came), Some(0));
        }
        stopper.stop();
        assert_eq!(waits.join().expect("the thread that waits"), Some(Event::StopRequested));
    });
    let report = running.stop();
    assert_balanced(&report);
    assert_eq!(report.frames.selected, 60);
    let origins: Vec<_> = report.origins.iter().map(|origin| (origin.vni, origin.frames)).collect();
    assert_eq!(origins, [(7, 30), (8, 30)]);
    let json = serde_json::to_string(&report).expect("JSON");
    let back: Report = serde_json::from_str(&json).expect("a report reads what it wrote");
    assert_eq!(back, report);
}
