//! Shared by the end-to-end tests: a veth pair with the generator at one end and the engine at the other, and
//! sinks that check what they receive.
#![expect(dead_code, reason = "each test binary takes what it needs")]

pub(crate) mod disk;
#[cfg(feature = "cli")]
pub(crate) mod http;
#[cfg(feature = "cli")]
pub(crate) mod mirror;

use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use mirror_lab::{
    Generated, Generator, InterfaceCounters, Lab, Namespace, SequenceLedger, Traffic, VethEnd, VethOptions,
    VethPair,
};
use mirror_user::{
    Batch, Engine, Report,
    engine::{EngineBuilder, EngineError, Running},
    sink::{Sink, SinkError, SinkFactory, SinkStats, WorkerContext},
};

/// Interface of the sending end.
pub(crate) const SENDER: &str = "gen0";
/// Interface the engine reads.
pub(crate) const CAPTURE: &str = "cap0";

/// The directory with real captures. Tests that need it are ignored unless `cargo xtask test` has it.
pub(crate) fn captures() -> PathBuf {
    std::env::var_os("MIRROR_CAPTURES").expect("MIRROR_CAPTURES: the folder with real captures").into()
}

/// How often to repeat what fails rarely: `all` times under `cargo xtask test --all`, else a quarter of them.
pub(crate) fn rounds(all: u32) -> u32 {
    if std::env::var_os("MIRROR_ALL_ROUNDS").is_some() { all } else { all.div_ceil(4) }
}

/// A generator's end and a capture end.
pub(crate) struct Cable {
    pub(crate) lab: Lab,
    pub(crate) sender: Namespace,
    pub(crate) target: Namespace,
    pub(crate) veth: VethPair,
}

impl Cable {
    pub(crate) fn lay(options: &VethOptions) -> Self {
        let lab = Lab::new().expect("lab");
        let (sender, target) =
            (lab.namespace("sender").expect("sender"), lab.namespace("target").expect("target"));
        let veth = VethPair::create(VethEnd::new(&sender, SENDER), VethEnd::new(&target, CAPTURE), options)
            .expect("veth");
        Self { lab, sender, target, veth }
    }

    pub(crate) fn with_queues(queues: u32) -> Self {
        Self::lay(&VethOptions { queues, ..VethOptions::default() })
    }

    /// Starts an engine in the target's namespace.
    pub(crate) fn start(&self, builder: EngineBuilder) -> Result<Running, EngineError> {
        self.target.enter(|| builder.build().and_then(Engine::start)).expect("namespace")
    }

    pub(crate) fn engine(&self, builder: EngineBuilder) -> Running {
        self.start(builder).unwrap_or_else(|error| panic!("engine: {error}"))
    }

    pub(crate) fn generator(&self, traffic: Traffic) -> Generator {
        Generator::load(&self.sender, SENDER, traffic).expect("generator")
    }

    pub(crate) fn sender_counters(&self) -> InterfaceCounters {
        InterfaceCounters::read(&self.sender, SENDER).expect("counters")
    }

    pub(crate) fn capture_counters(&self) -> InterfaceCounters {
        InterfaceCounters::read(&self.target, CAPTURE).expect("counters")
    }
}

/// An engine on the capture end, with a small UMEM.
pub(crate) fn builder() -> EngineBuilder {
    Engine::builder(CAPTURE)
}

/// Keeps every sequence number it receives.
#[derive(Default)]
pub(crate) struct LedgerFactory {
    pub(crate) ledger: Mutex<SequenceLedger>,
    /// How long each batch keeps the worker.
    pub(crate) delay: Duration,
}

impl LedgerFactory {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    pub(crate) fn slow(delay: Duration) -> Arc<Self> {
        Arc::new(Self { delay, ..Self::default() })
    }

    pub(crate) fn ledger(&self) -> SequenceLedger {
        self.ledger.lock().expect("ledger").clone()
    }
}

/// Shares the factory between the engine and the test.
pub(crate) struct Shared(pub(crate) Arc<LedgerFactory>);

struct LedgerSink {
    factory: Arc<LedgerFactory>,
    ledger: SequenceLedger,
    written: u64,
}

impl SinkFactory for Shared {
    fn name(&self) -> &str {
        "ledger"
    }

    fn build(&self, _: &WorkerContext) -> Result<Box<dyn Sink>, SinkError> {
        Ok(Box::new(LedgerSink { factory: Arc::clone(&self.0), ledger: SequenceLedger::new(), written: 0 }))
    }
}

impl Sink for LedgerSink {
    fn batch(&mut self, batch: &Batch<'_>) -> Result<(), SinkError> {
        for frame in batch {
            self.ledger.inner(frame.inner().first());
        }
        self.written += batch.len() as u64;
        if !self.factory.delay.is_zero() {
            std::thread::sleep(self.factory.delay);
        }
        Ok(())
    }

    fn stats(&self) -> SinkStats {
        SinkStats { written: self.written, ..SinkStats::default() }
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        self.factory.ledger.lock().expect("ledger").merge(&self.ledger);
        Ok(())
    }
}

/// Waits until everything in the kernel has reached the rings: until `seen` has not changed for a while.
pub(crate) fn settle(running: &Running) {
    let deadline = Instant::now() + Duration::from_secs(10);
    let mut last = u64::MAX;
    while Instant::now() < deadline {
        let seen = running.report().interfaces.iter().map(|interface| interface.xdp.seen).sum();
        if seen == last {
            return;
        }
        last = seen;
        std::thread::sleep(Duration::from_millis(30));
    }
    panic!("frames kept coming for 10 s after the generator had ended");
}

pub(crate) fn assert_balanced(report: &Report) {
    assert_eq!(report.accounting.residue, 0, "{}", serde_json::to_string_pretty(report).expect("JSON"));
}

/// Checks that every generated frame is in a ledger or in one of the kernel's loss counters.
/// `sent_errors_before` is how many frames the sender had failed to transmit at the start.
pub(crate) fn assert_explained(
    cable: &Cable,
    sent_errors_before: u64,
    report: &Report,
    generated: &Generated,
    ledger: &SequenceLedger,
) {
    assert_balanced(report);
    let interface = &report.interfaces[0];
    let sent_errors = cable.sender_counters().xdp_xmit_errors() - sent_errors_before;
    assert_eq!(
        interface.xdp.seen + sent_errors,
        generated.total(),
        "what the program saw and what the sender could not transmit is what was generated"
    );
    assert_eq!((ledger.duplicates(), ledger.unreadable()), (0, 0));
    let missing: usize = generated
        .per_cpu
        .iter()
        .map(|&(cpu, sent)| {
            let cpu = u16::try_from(cpu).expect("CPU number");
            assert_eq!(ledger.beyond(cpu, sent), 0, "numbers that were never sent");
            ledger.missing(cpu, sent).len()
        })
        .sum();
    assert_eq!(ledger.received() + missing as u64, generated.total());
    let lost: u64 = interface.queues.iter().map(|queue| queue.rx_dropped + queue.rx_ring_full).sum();
    let judged = interface.xdp.passed.total() + interface.xdp.dropped.total();
    assert_eq!(
        missing as u64,
        lost + interface.xdp.redirect_failed.unwrap_or(0) + judged + sent_errors,
        "each missing number is a counted loss"
    );
}
