//! The worker's loop over a real ring. Needs root.

use allocation_counter::AllocationInfo;
use mirror_lab::{Generator, Lab, Traffic, VethEnd, VethOptions, VethPair};

use super::*;
use crate::{
    engine::Priority,
    host::{interface::Interface, scheduling::Scheduling, xdp::XdpMode},
    pipeline::{PipelineConfig, SinkSlot},
    select::{Allow, Budget},
    sink::{
        Counters, SinkFactory, WorkerContext,
        pcap::{Pcap, Target},
    },
    tunnels::Tunnels,
    xdp::{Program, Settings},
    xsk::{Bind, Config, HugePages},
};

const CAPTURE: &str = "cap0";

/// A worker with the counters and the capture sink on the capture interface; and the program, attached.
fn worker(
    factories: &[Box<dyn SinkFactory>],
    control: &Arc<Control>,
    published: &Arc<Mutex<Published>>,
) -> (Program, RingWorker) {
    let config = Config {
        rx_ring: 4096,
        chunks: 8192,
        chunk_size: 2048,
        bind: Bind::Copy,
        scatter_gather: false,
        huge_pages: HugePages::Never,
    };
    let socket = Socket::open(Interface::named(CAPTURE).unwrap().index, 0, &config).unwrap();
    let allow = Allow::all();
    let settings = Settings {
        tunnels: &Tunnels::default(),
        allow: &allow,
        stamp: true,
        fragments: false,
        own: false,
        log: false,
        forward: None,
        frags: false,
        queues: 1,
    };
    let mut program = Program::load(&settings).unwrap();
    program.set_socket(0, std::os::fd::AsRawFd::as_raw_fd(&socket)).unwrap();
    program.attach(Interface::named(CAPTURE).unwrap().index, XdpMode::Native).unwrap();
    // As behind a ring: nobody waits for a sink.
    let cx = WorkerContext::single(1792);
    let sinks = factories.iter().map(|factory| SinkSlot::build(factory.as_ref(), &cx).unwrap()).collect();
    let pipeline = PipelineConfig {
        tunnels: Tunnels::default(),
        selection: Arc::new(allow.into()),
        budget: Arc::new(Budget::new(None)),
        reassembly: None,
    };
    let (events, _) = crossbeam_channel::unbounded();
    let worker = RingWorker {
        config: RingConfig {
            wait: Wait::Poll,
            batch: 64,
            stamp: true,
            rx_ring: config.rx_ring,
            spare_cpus: true,
        },
        place: (CAPTURE.into(), 0),
        socket,
        pipeline: Pipeline::new(pipeline, 0, sinks),
        control: Arc::clone(control),
        orders: Orders::new(),
        after: None,
        yields: None,
        built: Vec::new(),
        cx,
        published: Arc::clone(published),
        events,
        saturation: Saturation::new(Priority::Normal, Wait::Poll, Scheduling::Ordinary { nice: 0 }, true),
    };
    (program, worker)
}

/// What a worker's whole life allocates on its thread when this many frames come.
fn allocations(frames: u64) -> (AllocationInfo, RingOutcome) {
    let lab = Lab::new().unwrap();
    let (sender, target) = (lab.namespace("sender").unwrap(), lab.namespace("target").unwrap());
    let ends = (VethEnd::new(&sender, "gen0"), VethEnd::new(&target, CAPTURE));
    VethPair::create(ends.0, ends.1, &VethOptions::default()).unwrap();
    let pcap = Pcap::builder(Target::writer("nowhere", std::io::sink())).build().unwrap();
    let factories: [Box<dyn SinkFactory>; 2] = [Box::new(Counters::default()), Box::new(pcap)];
    let (control, published) = (Arc::new(Control::default()), Arc::new(Mutex::new(Published::default())));
    let (ready, is_ready) = crossbeam_channel::bounded(1);
    let outcome = thread::scope(|scope| {
        let running = scope.spawn(|| {
            target.join_this_thread().unwrap();
            let (program, worker) = worker(&factories, &control, &published);
            ready.send(()).unwrap();
            let mut outcome = None;
            let info = allocation_counter::measure(|| outcome = Some(worker.run()));
            drop(program);
            (info, outcome.unwrap())
        });
        is_ready.recv().unwrap();
        let traffic = Traffic { rate: Some(100_000), ..Traffic::default() };
        Generator::load(&sender, "gen0", traffic).unwrap().send(frames).unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        while published.lock().unwrap().counters.frames.received < frames && Instant::now() < deadline {
            thread::sleep(TICK);
        }
        control.drain.store(true, Ordering::Release);
        running.join().unwrap()
    });
    lab.teardown().unwrap();
    outcome
}

#[test]
fn a_worker_allocates_no_more_for_many_frames_than_for_few() {
    const FEW: u64 = 1_000;
    const MANY: u64 = 300_000;
    let (few, _) = allocations(FEW);
    let (many, outcome) = allocations(MANY);
    println!("{} allocations with {FEW} frames, {} with {MANY}", few.count_total, many.count_total);
    assert!(outcome.counters.frames.decapsulated > MANY / 2, "{:?}", outcome.counters.frames);
    // What a thread allocates once (its place in a channel's queue of waiters) may come in the one run and
    // not in the other.
    assert!(
        many.count_total <= few.count_total + 8,
        "{} allocations with {FEW} frames, {} with {MANY}",
        few.count_total,
        many.count_total
    );
}

#[test]
fn sleeps_last_until_an_eighth_of_the_ring_is_full_within_bounds() {
    let config =
        |rx_ring| RingConfig { wait: Wait::Poll, batch: 64, stamp: false, rx_ring, spare_cpus: true };
    let micros = Duration::from_micros;
    // 4 million frames a second fill 512 descriptors in 128 µs, 8 million in 64.
    assert_eq!(config(4096).nap(100, micros(25)), micros(125));
    assert_eq!(config(4096).nap(800, micros(100)), micros(64));
    assert_eq!(config(4096).nap(4000, micros(100)), NAP);
    assert_eq!(config(4096).nap(16, Duration::ZERO), NAP);
    assert_eq!(config(4096).nap(16, Duration::from_secs(1)), micros(125));
    assert_eq!(config(1024).nap(16, Duration::from_secs(1)), micros(32));
    assert_eq!(config(1 << 15).nap(16, Duration::MAX), micros(125));
}
