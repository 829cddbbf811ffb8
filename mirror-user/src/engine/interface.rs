//! One interface of a running engine: its program, its sockets, its workers.

use std::{
    collections::BTreeMap,
    io,
    os::fd::{AsRawFd, RawFd},
    panic::{self, AssertUnwindSafe},
    sync::{Arc, Mutex, PoisonError},
    thread::{self, JoinHandle},
};

use crossbeam_channel::{Receiver, Sender, bounded};
use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};

use super::{
    BindMode, EngineError, Event, InterfacePlan, Mode, QueuePlan, ThreadHook, Wait,
    builder::Options,
    threads::{Watcher, watch_log},
};
use crate::{
    account::{InterfaceReport, QueueReport},
    host::{
        interface::CounterReader,
        statistics::loss_deltas,
        tunables::{BusyPollTunables, TunablesGuard},
    },
    sink::{SinkError, SinkFactory, WorkerContext},
    worker::{
        Control, Pipeline, PipelineConfig, Published, RingConfig, RingOutcome, RingWorker, SinkSlot,
        panic_message,
    },
    xdp::{self, Program, ProgramSetupError, Settings},
    xsk::{self, Bind, HugePages, Socket, XskError},
};

/// Settings of the interface that are changed while the run lasts, shared with whoever may have to end it in a hurry.
pub(super) type HeldSettings = Arc<Mutex<Option<TunablesGuard>>>;

/// What all workers of a run share.
#[derive(Clone)]
pub(super) struct Common {
    pub(super) pipeline: PipelineConfig,
    pub(super) control: Arc<Control>,
    pub(super) events: Sender<Event>,
    pub(super) stamp: bool,
    /// Workers of the run, over all interfaces.
    pub(super) workers: usize,
}

/// An interface whose frames are taken. Dropped, it detaches first (fields drop in order), then its workers end.
pub(super) struct LiveInterface {
    plan: InterfacePlan,
    /// [`Mode::Native`] or [`Mode::Generic`].
    mode: Mode,
    stamp: bool,
    program: Program,
    workers: Vec<Worker>,
    /// A lock only because a report needs no more than a shared engine.
    counters: Mutex<CounterReader>,
    counters_before: BTreeMap<String, u64>,
    settings: HeldSettings,
    _log: Option<Watcher>,
}

/// A worker's thread, seen from outside.
struct Worker {
    place: QueuePlan,
    published: Arc<Mutex<Published>>,
    /// Opened to let the worker run; closed without a word, it ends.
    gate: Option<Sender<()>>,
    thread: Option<JoinHandle<Option<RingOutcome>>>,
    socket: RawFd,
}

/// The account of an interface at rest.
pub(super) struct Settled {
    pub(super) report: InterfaceReport,
    pub(super) outcomes: Vec<RingOutcome>,
}

impl LiveInterface {
    /// Takes memory, binds sockets, attaches. Its workers wait behind their gates until [`open`](Self::open).
    pub(super) fn start(
        options: &Options,
        plan: &InterfacePlan,
        common: &Common,
        first_worker: usize,
    ) -> Result<Self, EngineError> {
        let tunables = match options.wait {
            Wait::BusyPoll => Some(TunablesGuard::set(&plan.interface, BusyPollTunables::default())?),
            Wait::Poll | Wait::Spin => None,
        };
        let workers = start_workers(options, plan, common, first_worker)?;
        let mut counters = plan.interface.counters()?;
        let counters_before = counters.read()?;
        let mut plan = plan.clone();
        let (program, mode) = attach(options, &mut plan, common.stamp, &workers)?;
        let mut live = Self {
            plan,
            mode,
            stamp: common.stamp,
            program,
            workers,
            counters: Mutex::new(counters),
            counters_before,
            settings: Arc::new(Mutex::new(tunables)),
            _log: None,
        };
        if options.kernel_log {
            live._log =
                live.program.logger().map(|logger| watch_log(logger, options.hook.clone())).transpose()?;
        }
        Ok(live)
    }

    /// Lets the workers run.
    pub(super) fn open(&mut self) {
        for gate in self.workers.iter_mut().filter_map(|worker| worker.gate.as_ref()) {
            // A worker that has gone already shows when it is joined.
            let _ = gate.send(());
        }
    }

    pub(super) fn warnings(&self) -> &[String] {
        &self.plan.warnings
    }

    pub(super) fn link(&self) -> (String, u32) {
        (self.plan.interface.name.clone(), self.plan.interface.index)
    }

    pub(super) fn settings(&self) -> HeldSettings {
        Arc::clone(&self.settings)
    }

    /// Stops new frames from coming. What is in the rings stays there.
    pub(super) fn detach(&mut self) {
        self.program.detach();
    }

    /// What each worker has shown last.
    pub(super) fn published(&self) -> impl Iterator<Item = Published> + '_ {
        self.workers
            .iter()
            .map(|worker| worker.published.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }

    /// Waits for the workers, which must have been told to drain, and closes the interface's account.
    pub(super) fn settle(mut self) -> Settled {
        let mut outcomes = Vec::with_capacity(self.workers.len());
        let mut queues = Vec::with_capacity(self.workers.len());
        for worker in &mut self.workers {
            let Some(outcome) = worker.join() else { continue };
            queues.push(queue_report(worker.place, &outcome));
            outcomes.push(outcome);
        }
        let unstamped = outcomes.iter().map(|outcome| outcome.unstamped).sum::<u64>();
        let mut report = self.report();
        report.queues = queues;
        if unstamped > 0 {
            report.time = "user";
        }
        put_back(&self.settings);
        Settled { report, outcomes }
    }

    /// The interface's account as it stands, without what its workers hold.
    pub(super) fn report(&self) -> InterfaceReport {
        let interface = &self.plan.interface;
        let xdp = self.program.report().unwrap_or_else(|error| {
            tracing::error!(interface = interface.name, %error, "the XDP program's counters cannot be read");
            crate::account::XdpReport::default()
        });
        // A deleted interface has no counters any more.
        let nic = self
            .counters
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .read()
            .map(|after| loss_deltas(&self.counters_before, &after))
            .inspect_err(|error| tracing::debug!(%error, "interface counters"))
            .unwrap_or_default();
        InterfaceReport {
            name: interface.name.clone(),
            driver: interface.driver.as_ref().map(|driver| driver.name.clone()),
            xdp_mode: if self.mode == Mode::Generic { "generic" } else { "native" },
            bind: if self.plan.bind == BindMode::ZeroCopy { "zerocopy" } else { "copy" },
            time: if self.stamp { "kernel" } else { "user" },
            xdp,
            nic,
            queues: self
                .workers
                .iter()
                .zip(self.published())
                .map(|(worker, published)| {
                    let Published { counters, statistics } = published;
                    let outcome =
                        RingOutcome { counters, sinks: Vec::new(), statistics, unstamped: 0, died: None };
                    queue_report(worker.place, &outcome)
                })
                .collect(),
        }
    }
}

impl Worker {
    fn join(&mut self) -> Option<RingOutcome> {
        self.gate = None;
        // The worker catches its own panics; one that gets here has been printed by the panic hook.
        self.thread.take()?.join().ok().flatten()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.join();
    }
}

fn queue_report(place: QueuePlan, outcome: &RingOutcome) -> QueueReport {
    let RingOutcome { counters, statistics, .. } = outcome;
    let received = counters.frames.received;
    #[expect(clippy::cast_precision_loss, reason = "ratios for people")]
    let ratio = |part: u64, whole: u64| if whole == 0 { 0.0 } else { part as f64 / whole as f64 };
    QueueReport {
        queue: place.queue,
        cpu: Some(place.cpu),
        received,
        rx_dropped: statistics.rx_dropped,
        rx_ring_full: statistics.rx_ring_full,
        rx_invalid_descs: statistics.rx_invalid_descs,
        fill_ring_empty: statistics.fill_ring_empty,
        oversize: statistics.rx_dropped.saturating_sub(statistics.fill_ring_empty),
        busy_ns_per_frame: ratio(counters.busy_ns, received),
        busy_ratio: ratio(counters.busy_ns, counters.elapsed_ns),
    }
}

/// Puts an interface's settings back, once.
pub(super) fn put_back(settings: &HeldSettings) {
    let held = settings.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(Err(error)) = held.map(TunablesGuard::restore) {
        tracing::warn!(%error, "a setting of the interface was not put back");
    }
}

/// Starts the interface's workers and waits until each has its socket.
fn start_workers(
    options: &Options,
    plan: &InterfacePlan,
    common: &Common,
    first_worker: usize,
) -> Result<Vec<Worker>, EngineError> {
    let name: Arc<str> = plan.interface.name.as_str().into();
    let mut starting = Vec::with_capacity(plan.queues.len());
    for (position, &place) in plan.queues.iter().enumerate() {
        let setup = Setup {
            cx: WorkerContext {
                interface: Some(Arc::clone(&name)),
                queue: place.queue,
                worker: first_worker + position,
                workers: common.workers,
                cpu: Some(place.cpu),
                max_frame: (plan.chunk_size - xsk::HEADROOM) as usize,
                can_wait: false,
            },
            place,
            socket: xsk::Config {
                rx_ring: options.rx_ring,
                chunks: plan.chunks,
                chunk_size: plan.chunk_size,
                bind: if plan.bind == BindMode::ZeroCopy { Bind::ZeroCopy } else { Bind::Copy },
                scatter_gather: options.scatter_gather,
                huge_pages: if options.huge_pages { HugePages::Try } else { HugePages::Never },
            },
            ring: RingConfig { wait: options.wait, batch: options.batch, stamp: common.stamp },
            factories: options.sinks.clone(),
            hook: options.hook.clone(),
            common: common.clone(),
        };
        let published = Arc::new(Mutex::new(Published::default()));
        let (ready, is_ready) = bounded(1);
        let (gate, gate_opens) = bounded(1);
        let shown = Arc::clone(&published);
        let thread = thread::Builder::new()
            .name(format!("mirror-q{}", place.queue))
            .spawn(move || setup.work(shown, &ready, &gate_opens))
            .map_err(|source| EngineError::Thread {
                what: format!("{name} queue {}: thread", place.queue),
                source,
            })?;
        let worker = Worker { place, published, gate: Some(gate), thread: Some(thread), socket: -1 };
        starting.push((worker, is_ready));
    }
    let mut workers = Vec::with_capacity(starting.len());
    let mut failure = None;
    for (mut worker, is_ready) in starting {
        match is_ready.recv() {
            Ok(Ok(socket)) => worker.socket = socket,
            Ok(Err(error)) => failure = failure.or(Some(error)),
            Err(gone) => {
                let what = format!("{name} queue {}: worker", worker.place.queue);
                failure = failure.or(Some(EngineError::Thread { what, source: io::Error::other(gone) }));
            }
        }
        workers.push(worker);
    }
    failure.map_or(Ok(workers), Err)
}

/// What a worker's thread starts with.
struct Setup {
    cx: WorkerContext,
    place: QueuePlan,
    socket: xsk::Config,
    ring: RingConfig,
    factories: Vec<Arc<dyn SinkFactory>>,
    hook: Option<ThreadHook>,
    common: Common,
}

impl Setup {
    fn work(
        self,
        published: Arc<Mutex<Published>>,
        ready: &Sender<Result<RawFd, EngineError>>,
        gate: &Receiver<()>,
    ) -> Option<RingOutcome> {
        let prepared = self.prepare(published);
        let (worker, answer) = match prepared {
            Ok(worker) => {
                let socket = worker.socket.as_raw_fd();
                (Some(worker), Ok(socket))
            }
            Err(error) => (None, Err(error)),
        };
        // The starter waits for the answer; if it has gone, so has the other end of the gate.
        let _ = ready.send(answer);
        let worker = worker?;
        gate.recv().ok()?;
        Some(worker.run())
    }

    /// Everything that needs privileges or this thread's own memory.
    fn prepare(self, published: Arc<Mutex<Published>>) -> Result<RingWorker, EngineError> {
        let Self { cx, place, socket, ring, factories, hook, common } = self;
        let interface = cx.interface.as_deref().unwrap_or_default().to_owned();
        pin(place.cpu).map_err(|source| EngineError::Thread {
            what: format!("{interface} queue {}: pinning to CPU {}", place.queue, place.cpu),
            source,
        })?;
        let sinks = factories.iter().map(|factory| build(&**factory, &cx)).collect::<Result<_, _>>()?;
        let failed =
            |reason| EngineError::Socket { interface: interface.clone(), queue: place.queue, reason };
        let socket =
            Socket::open(&interface, place.queue, &socket).map_err(|error| failed(bind_advice(&error)))?;
        if ring.wait == Wait::BusyPoll {
            let budget = i32::try_from(ring.batch).unwrap_or(i32::MAX);
            socket.prefer_busy_poll(budget).map_err(|error| {
                failed(format!("busy polling: {error}; it needs kernel 5.11, `--wait spin` works everywhere"))
            })?;
        }
        tracing::debug!(
            interface,
            queue = place.queue,
            cpu = place.cpu,
            huge_pages = socket.in_huge_pages(),
            "socket bound"
        );
        if let Some(hook) = hook {
            hook().map_err(|source| EngineError::Thread {
                what: format!("{interface} queue {}: preparing the thread", place.queue),
                source,
            })?;
        }
        Ok(RingWorker {
            config: ring,
            socket,
            pipeline: Pipeline::new(common.pipeline, place.queue, sinks),
            control: common.control,
            published,
            events: common.events,
        })
    }
}

/// Builds a sink; a panic in it is its error.
fn build(factory: &dyn SinkFactory, cx: &WorkerContext) -> Result<SinkSlot, EngineError> {
    panic::catch_unwind(AssertUnwindSafe(|| factory.build(cx)))
        .unwrap_or_else(|payload| Err(SinkError::Other(panic_message(&*payload))))
        .map(SinkSlot::new)
        .map_err(|source| EngineError::Sink { sink: factory.name().to_owned(), source })
}

fn pin(cpu: usize) -> io::Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu)?;
    sched_setaffinity(Pid::from_raw(0), &set)?;
    Ok(())
}

fn bind_advice(error: &XskError) -> String {
    let XskError::Bind(cause) = error else { return error.to_string() };
    let advice = match cause.raw_os_error() {
        Some(libc::EBUSY) => "another AF_XDP socket holds the queue; stop the program that reads it",
        Some(libc::EOPNOTSUPP) => "the driver has no AF_XDP zero-copy; use `--bind copy`",
        Some(libc::ENOBUFS | libc::ENOMEM) => {
            "no memory for the rings; raise the memlock limit (`ulimit -l unlimited`) or read fewer queues"
        }
        Some(libc::EPERM) => "CAP_NET_RAW and CAP_NET_ADMIN are needed; run as root",
        Some(libc::ENODEV) => "the interface has gone",
        Some(libc::EAFNOSUPPORT) => "the kernel has no AF_XDP (CONFIG_XDP_SOCKETS)",
        _ => return format!("bind: {cause}"),
    };
    format!("bind: {cause}: {advice}")
}

/// Loads and attaches the program in the first mode that the interface takes.
fn attach(
    options: &Options,
    plan: &mut InterfacePlan,
    stamp: bool,
    workers: &[Worker],
) -> Result<(Program, Mode), EngineError> {
    let name = plan.interface.name.clone();
    let failed = |error: ProgramSetupError| EngineError::Program {
        interface: name.clone(),
        reason: xdp::chain(&error),
    };
    for (position, &mode) in plan.modes.iter().enumerate() {
        let native = mode == Mode::Native;
        let settings = Settings {
            ports: &options.ports,
            allow: &options.allow,
            stamp,
            log: options.kernel_log,
            frags: plan.frags && native,
            queues: plan.rx_queues,
        };
        let mut program = Program::load(&settings).map_err(failed)?;
        for worker in workers {
            program.set_socket(worker.place.queue, worker.socket).map_err(failed)?;
        }
        match program.attach(plan.interface.index, native) {
            Ok(()) => return Ok((program, mode)),
            Err(ProgramSetupError::Attach(cause)) => {
                let is_last = position + 1 == plan.modes.len();
                let final_cause = matches!(
                    cause.raw_os_error(),
                    Some(libc::EBUSY | libc::EEXIST | libc::EPERM | libc::ENODEV)
                );
                let reason = attach_advice(plan, native, &cause);
                if is_last || final_cause {
                    return Err(EngineError::Attach { interface: name, reason, source: cause });
                }
                plan.warnings.push(format!(
                    "{name}: generic mode, several times slower than native, which failed: {reason}"
                ));
            }
            Err(error) => return Err(failed(error)),
        }
    }
    Err(EngineError::Options(format!("{name}: no mode to attach in")))
}

/// A bpf_link carries no word from the driver: the cause is inferred from the errno and the interface's facts.
fn attach_advice(plan: &InterfacePlan, native: bool, cause: &io::Error) -> String {
    let interface = &plan.interface;
    let (name, mtu) = (&interface.name, interface.mtu);
    let driver = interface.driver.as_ref().map_or("its driver", |driver| driver.name.as_str());
    match cause.raw_os_error() {
        Some(libc::EBUSY | libc::EEXIST) => {
            format!("another XDP program came first; stop its owner, or run `ip link set dev {name} xdp off`")
        }
        Some(libc::EPERM) => "CAP_NET_ADMIN and CAP_BPF are needed; run as root".to_owned(),
        Some(libc::ENODEV) => "the interface has gone".to_owned(),
        Some(libc::ENOSPC) => format!(
            "{driver} has too few RX queues for its peer's TX queues; `ethtool -L {name} rx N` with N no less than \
             the peer's tx"
        ),
        Some(libc::EOPNOTSUPP) if native => {
            format!("{driver} has no native XDP; use `--mode generic`")
        }
        Some(libc::EINVAL | libc::ERANGE) if native && mtu > 1500 => format!(
            "{driver} refuses ({cause}), most likely for its MTU of {mtu}; run `ip link set dev {name} mtu 1500` (most \
             drivers take up to 3498), and see `mirror doctor -i {name}`"
        ),
        Some(libc::EINVAL | libc::ERANGE | libc::ENOMEM) if native => format!(
            "{driver} refuses ({cause}), most likely for want of free channels; run `ethtool -L {name} combined N` with \
             N at most half the maximum, and see `mirror doctor -i {name}`"
        ),
        _ => format!("{cause}; see `mirror doctor -i {name}`"),
    }
}
