//! Provokes every counter, and checks the accounting each time. Needs root.

mod common;

use std::{os::fd::OwnedFd, sync::Arc, time::Duration};

use aya::maps::{Map, MapData, PerCpuArray, PerCpuValues, XskMap, loaded_maps};
use common::{
    CAPTURE, Cable, LedgerFactory, SENDER, Shared, assert_balanced, assert_explained, builder, settle,
};
use mirror_ebpf::mirror::{Counter, MAP_COUNTERS, MAP_XSKS, PerCpu};
use mirror_lab::{
    Injector, Traffic, VethOptions,
    frames::{Outer, OuterIp, inner_of_len},
};
use mirror_user::{
    Batch, Report,
    engine::{EngineBuilder, Queues},
    select::Allow,
    sink::{Sink, SinkError, SinkFactory, SinkStats, WorkerContext},
};

/// Sends these frames to an engine with these options, and returns its report, which must balance.
fn report_of(cable: &Cable, builder: EngineBuilder, frames: &[Vec<u8>]) -> Report {
    let running = cable.engine(builder);
    let sent = Injector::new(&cable.sender, SENDER).expect("injector").send_all(frames).expect("sent");
    settle(&running);
    let report = running.stop();
    assert_balanced(&report);
    assert_eq!(report.interfaces[0].xdp.seen, sent, "frames seen are frames sent");
    report
}

fn inner() -> Vec<u8> {
    inner_of_len(100).expect("inner frame")
}

fn frame(outer: &Outer) -> Vec<u8> {
    outer.encapsulate(&inner()).expect("frame")
}

/// Runs the generator against an engine whose sink is too slow.
fn overload(cable: &Cable, builder: EngineBuilder, delay: Duration, traffic: Traffic, frames: u64) -> Report {
    let ledger = LedgerFactory::slow(delay);
    let running = cable.engine(builder.sink(Arc::new(Shared(Arc::clone(&ledger)))));
    let generated = cable.generator(traffic).send(frames).expect("generated");
    settle(&running);
    let report = running.stop();
    assert_explained(cable, 0, &report, &generated, &ledger.ledger());
    report
}

#[test]
fn a_sink_that_sleeps_fills_the_rx_ring() {
    let cable = Cable::with_queues(1);
    let report =
        overload(&cable, builder().rx_ring(256), Duration::from_millis(5), Traffic::default(), 200_000);
    let queue = &report.interfaces[0].queues[0];
    assert!(queue.rx_ring_full > 0, "{queue:?}");
}

#[test]
fn too_few_umem_frames_empty_the_fill_ring() {
    let cable = Cable::with_queues(1);
    let few = builder().rx_ring(4096).umem_frames(64);
    let report = overload(&cable, few, Duration::from_millis(5), Traffic::default(), 200_000);
    let queue = &report.interfaces[0].queues[0];
    assert!(queue.fill_ring_empty > 0, "{queue:?}");
    assert_eq!(queue.oversize, Some(queue.rx_dropped - queue.fill_ring_empty));
}

#[test]
fn a_frame_larger_than_a_chunk_is_oversize() {
    let cable = Cable::lay(&VethOptions { mtu: 3000, ..VethOptions::default() });
    let traffic = Traffic { frame_len: 2500, rate: Some(20_000), ..Traffic::default() };
    let report = overload(&cable, builder().chunk_size(2048), Duration::ZERO, traffic, 2_000);
    let queue = &report.interfaces[0].queues[0];
    assert_eq!((queue.oversize, queue.fill_ring_empty, report.frames.received), (Some(2_000), 0, 0));
    assert!(report.warnings.iter().any(|warning| warning.contains("oversize")), "{:?}", report.warnings);
}

#[test]
fn a_frame_in_several_descriptors_is_counted_once() {
    let cable = Cable::lay(&VethOptions { mtu: 3000, ..VethOptions::default() });
    let running = cable.engine(builder().chunk_size(2048).scatter_gather(true));
    let traffic = Traffic { frame_len: 2500, rate: Some(20_000), ..Traffic::default() };
    let generated = cable.generator(traffic).send(2_000).expect("generated");
    let small = Traffic { rate: Some(20_000), ..Traffic::default() };
    let more = cable.generator(small).send(1_000).expect("generated");
    settle(&running);
    let report = running.stop();
    assert_balanced(&report);
    assert_eq!(report.interfaces[0].xdp.seen, generated.total() + more.total());
    assert_eq!(report.frames.multi_descriptor, generated.total());
    assert_eq!(report.frames.decapsulated, generated.total() + more.total());
    assert_eq!(report.interfaces[0].queues[0].oversize, None);
}

#[test]
fn frames_not_for_the_engine_are_passed_by_reason() {
    let cable = Cable::with_queues(1);
    let ours = Outer::sample(7);
    let mut fragment = ours.clone();
    if let OuterIp::V4 { more_fragments, .. } = &mut fragment.ip {
        *more_fragments = true;
    }
    let mut cut = frame(&ours);
    cut.truncate(14 + 20 + 4);
    let frames = [
        frame(&Outer { destination_port: 53, ..ours.clone() }),
        frame(&Outer { protocol: 6, ..ours.clone() }),
        frame(&fragment),
        frame(&fragment),
        frame(&fragment),
        cut,
        frame(&Outer::sample_v6(7, &[(0, vec![0; 8])])),
        frame(&ours),
    ];
    let report = report_of(&cable, builder().reassemble(false), &frames);
    let passed = &report.interfaces[0].xdp.passed;
    assert_eq!(
        (passed.not_tunnel, passed.fragment, passed.malformed, passed.extension, passed.no_socket),
        (2, 3, 1, 1, 0)
    );
    assert_eq!(report.frames.decapsulated, 1);
}

#[test]
fn frames_that_cannot_be_decapsulated_are_rejected_by_reason() {
    let cable = Cable::with_queues(1);
    let ours = Outer::sample(7);
    let no_flag = Outer { vxlan_flags: 0, ..ours.clone() };
    let odd = Outer { vxlan_reserved: [1, 2, 3, 4], ..ours.clone() };
    let short = ours.frame_of_udp(&[8, 0, 0, 0, 0, 0, 7]).expect("frame");
    let no_inner = ours.encapsulate(&[0; 13]).expect("frame");
    let mut lying = frame(&ours);
    // The UDP length, one more than the actual one.
    lying[14 + 20 + 4..14 + 20 + 6].copy_from_slice(&u16::MAX.to_be_bytes());
    let mut truncated_inner = inner();
    truncated_inner.truncate(60);
    let frames = [
        frame(&no_flag),
        frame(&no_flag),
        short,
        no_inner,
        lying,
        frame(&odd),
        ours.encapsulate(&truncated_inner).expect("frame"),
        frame(&Outer { tags: vec![(0x88a8, 1), (0x8100, 2)], ..ours.clone() }),
        frame(&Outer::sample_v6(7, &[])),
    ];
    let report = report_of(&cable, builder(), &frames);
    let rejected = &report.frames.rejected;
    assert_eq!((rejected.no_vni_flag, rejected.short, rejected.bad_outer), (2, 2, 1), "{rejected:?}");
    assert_eq!(report.frames.decapsulated, 4);
    assert_eq!((report.frames.odd.reserved_bits, report.frames.odd.truncated_inner), (1, 1));
}

#[test]
fn vnis_and_sources_that_are_not_allowed_are_dropped_in_the_kernel() {
    let cable = Cable::with_queues(1);
    let allow = || {
        Allow::all()
            .vnis([7, 9])
            .sources(["10.10.10.0/24".parse().expect("prefix"), "2001:db8::/32".parse().expect("prefix")])
    };
    let stranger = |vni| {
        Outer::aws("192.0.2.1".parse().expect("address"), "10.10.10.1".parse().expect("address"), 0xff80, vni)
    };
    let frames = [
        frame(&Outer::sample(7)),
        frame(&Outer::sample(9)),
        frame(&Outer::sample_v6(9, &[])),
        frame(&Outer::sample(8)),
        frame(&Outer::sample(0xff_ffff)),
        frame(&stranger(7)),
        frame(&stranger(8)),
        frame(&Outer { vxlan_flags: 0, ..Outer::sample(8) }),
    ];
    let report = report_of(&cable, builder().select(allow()), &frames);
    let dropped = &report.interfaces[0].xdp.dropped;
    assert_eq!((dropped.vni, dropped.source), (2, 2));
    assert_eq!((report.frames.decapsulated, report.frames.rejected.no_vni_flag), (3, 1));
}

#[test]
fn frames_of_a_queue_without_a_socket_are_passed() {
    let cable = Cable::with_queues(2);
    let traffic = Traffic { cpus: vec![0, 1], rate: Some(50_000), ..Traffic::default() };
    let running = cable.engine(builder().queues(Queues::List(vec![0])));
    let generated = cable.generator(traffic).send(20_000).expect("generated");
    settle(&running);
    let report = running.stop();
    assert_balanced(&report);
    let xdp = &report.interfaces[0].xdp;
    assert_eq!((xdp.redirected, xdp.passed.no_socket), (generated.total() / 2, generated.total() / 2));
}

#[test]
fn frames_for_a_socket_of_another_queue_are_failed_redirects() {
    let cable = Cable::with_queues(2);
    let traffic = Traffic { cpus: vec![0, 1], rate: Some(50_000), ..Traffic::default() };
    let running = cable.engine(builder().queues(Queues::List(vec![0])));
    let mut xsks = XskMap::try_from(map(MAP_XSKS)).expect("XSKMAP");
    xsks.set(1, own_xdp_socket(), 0).expect("queue 0's socket at queue 1's place");
    let generated = cable.generator(traffic).send(20_000).expect("generated");
    settle(&running);
    let report = running.stop();
    assert_balanced(&report);
    let xdp = &report.interfaces[0].xdp;
    assert_eq!(xdp.redirected, generated.total());
    assert_eq!(xdp.redirect_failed, Some(generated.total() / 2));
}

#[test]
fn a_counter_that_lies_shows_as_residue() {
    let cable = Cable::with_queues(1);
    let running = cable.engine(builder());
    let mut counters: PerCpuArray<MapData, PerCpu> =
        PerCpuArray::try_from(map(MAP_COUNTERS)).expect("counters");
    let mut values = counters.get(&0, 0).expect("values").to_vec();
    values[0][Counter::Seen as usize] += 3;
    counters.set(0, PerCpuValues::try_from(values).expect("a value a CPU"), 0).expect("set");
    let report = running.stop();
    assert_eq!((report.accounting.seen, report.accounting.residue), (3, 3));
}

#[test]
fn a_sink_that_lies_shows_as_residue() {
    let cable = Cable::with_queues(1);
    let running = cable.engine(builder().sink(Arc::new(Liar)));
    let frames = vec![frame(&Outer::sample(7)); 10];
    Injector::new(&cable.sender, SENDER).expect("injector").send_all(&frames).expect("sent");
    settle(&running);
    let report = running.stop();
    assert_eq!(report.frames.decapsulated, 10);
    assert_eq!(report.accounting.residue, 1, "{:?}", report.accounting);
}

/// Claims to have written one frame more than it got.
struct Liar;

impl SinkFactory for Liar {
    fn name(&self) -> &str {
        "liar"
    }

    fn build(&self, _: &WorkerContext) -> Result<Box<dyn Sink>, SinkError> {
        Ok(Box::new(LiarSink(1)))
    }
}

struct LiarSink(u64);

impl Sink for LiarSink {
    fn batch(&mut self, batch: &Batch<'_>) -> Result<(), SinkError> {
        self.0 += batch.len() as u64;
        Ok(())
    }

    fn stats(&self) -> SinkStats {
        SinkStats { written: self.0, ..SinkStats::default() }
    }
}

#[test]
fn the_engine_reads_what_the_drivers_own_counter_says() {
    let cable = Cable::with_queues(1);
    let report = report_of(&cable, builder(), &vec![frame(&Outer::sample(7)); 500]);
    assert_eq!(cable.capture_counters().xdp_packets(), report.interfaces[0].xdp.seen);
    assert_eq!(report.interfaces[0].name, CAPTURE);
    assert_eq!(report.interfaces[0].nic["rx_packets"], 500);
}

/// The newest map of this name: that of the running engine, because labs run one at a time.
fn map(name: &str) -> Map {
    let newest = loaded_maps()
        .map(|info| info.expect("map"))
        .filter(|info| info.name_as_str() == Some(name))
        .max_by_key(aya::maps::MapInfo::id)
        .expect("the engine's map");
    Map::from_map_data(MapData::from_id(newest.id()).expect("map by id")).expect("a map")
}

/// A second descriptor of the only AF_XDP socket of this process.
fn own_xdp_socket() -> OwnedFd {
    use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
    const AF_XDP: u16 = 44;
    let this = pidfd_open(getpid(), PidfdFlags::empty()).expect("pidfd");
    let listed: Vec<_> = std::fs::read_dir("/proc/self/fd")
        .expect("descriptors")
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok())
        .collect();
    listed
        .into_iter()
        .filter_map(|fd| pidfd_getfd(&this, fd, PidfdGetfdFlags::empty()).ok())
        .find(|fd| rustix::net::sockopt::socket_domain(fd).is_ok_and(|family| family.as_raw() == AF_XDP))
        .expect("an AF_XDP socket")
}
