//! One interface of a running engine: its program, its sockets, its workers.

mod account;

use std::{
    collections::BTreeMap,
    iter,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

pub(super) use account::ClosedAccount;
use crossbeam_channel::bounded;

use super::{
    Bind, Destination, EngineError, Event, InterfacePlan, Plan, QueuePlan, Queues, Wait, Warning, XdpMode,
    attach::{Attached, attach},
    diagnose,
    forward::Choice,
    hand_over::{HandOverError, HandedInterface, Inheritance, InheritedInterface, Offer, SocketsPass},
    local::LocalWatch,
    options::Options,
    queues::QueueWatch,
    threads::{self, Watcher, watch_log},
    vitals::{HookVitals, InterfaceVitals, QueueVitals},
    worker::{Common, Control, Order, Origin, Published, Worker, start_workers},
};
use crate::{
    account::{Report, SinkHalt, XdpReport},
    error::with_causes,
    host::{
        addresses::AddressWatch,
        affinity,
        interface::{CounterReader, Interface, link_and_program},
        tunables::{BusyPollTunables, TunablesGuard},
    },
    select::Allow,
    xdp::{LeftMaps, Program, ProgramSetupError},
    xsk::Statistics,
};

/// How long a worker may take to answer: it looks for orders between any two batches, and sleeps for less
/// than a tick of 50 ms.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// Settings of the interface that are changed during the run, shared with the handles that restore them on a
/// sudden end.
pub(super) type HeldSettings = Arc<Mutex<Option<TunablesGuard>>>;

/// An interface whose frames are taken.
pub(super) struct LiveInterface {
    plan: InterfacePlan,
    mode: XdpMode,
    forward: Choice,
    stamp: bool,
    program: Program,
    workers: Vec<Worker>,
    /// Behind a lock, because a report borrows the engine shared.
    counters: Mutex<CounterReader>,
    counters_before: BTreeMap<String, u64>,
    /// By queue: what the kernel has counted in sockets that the run had before those of another process.
    earlier: BTreeMap<u32, Statistics>,
    /// What a process that has ended has left in the kernel.
    left: Mutex<Option<Left>>,
    settings: HeldSettings,
    /// Commands to its workers.
    control: Arc<Control>,
    /// Whether it has been deleted.
    lost: AtomicBool,
    watched: Mutex<Watched>,
    begun: Instant,
    _log: Option<Watcher>,
}

/// The maps of a program whose process has ended, and the queues whose sockets are in them.
struct Left {
    maps: LeftMaps,
    queues: Vec<u32>,
}

/// State of the periodic polls, which changes while the engine is shared. No thread holds this lock for
/// longer than a request to the kernel takes.
struct Watched {
    queues: QueueWatch,
    /// With [`Destination::Own`].
    addresses: Option<AddressWatch>,
    local: LocalWatch,
    /// Warnings since the start.
    warnings: Vec<Warning>,
}

/// Loads a program while the workers of another process take frames. The verifier and the zeroing of maps
/// take milliseconds in which a kernel without full preemption (`PREEMPT_NONE`) does not run another thread
/// on that CPU, not even a real-time one; so that is a CPU without a worker, if there is one. The workers of
/// the other process are where this one's will be, unless its options say otherwise.
fn load_beside_workers(
    plan: &Plan,
    load: impl FnOnce() -> Result<Attached, EngineError> + Send,
) -> Result<Attached, EngineError> {
    const NAME: &str = "mirror-load";
    let queues = plan.interfaces.iter().flat_map(|interface| &interface.queues);
    let cpus: Vec<_> = queues.map(|queue| queue.cpu).collect();
    let failed = |source| EngineError::Thread { name: NAME.to_owned(), source };
    affinity::keeping_off(&cpus, NAME, load).map_err(failed)?
}

impl LiveInterface {
    /// Takes memory, binds sockets, attaches; or takes what another process leaves. Its workers wait behind
    /// their gates until [`open`](Self::open).
    ///
    /// The present queues have their sockets before the program is attached, so that none of their frames
    /// passes; those that the driver adds for the program get theirs right after.
    pub(super) fn start(
        options: &Options,
        plan: &Plan,
        interface: &InterfacePlan,
        common: &Common,
        forward: &Choice,
        first_worker: usize,
    ) -> Result<Self, EngineError> {
        let tunables = match options.wait {
            Wait::BusyPoll => Some(TunablesGuard::set(&interface.interface, BusyPollTunables::default())?),
            Wait::Poll | Wait::Spin => None,
        };
        let control = Arc::<Control>::default();
        let common = &Common { control: Arc::clone(&control), ..common.clone() };
        let mut own = interface.clone();
        for (worker, place) in (first_worker..).zip(&mut own.queues) {
            place.cpu = plan.cpu(worker);
        }
        let (inherited, left, sockets, before, earlier) = match &options.inheritance {
            Some(inheritance) => {
                let interface = &own.interface.name;
                let failed = |source| EngineError::Inherited { interface: interface.clone(), source };
                let InheritedInterface { link, maps, mode, counters, queues, earlier, workers } =
                    inheritance.of(interface).map_err(failed)?;
                let earlier = queues.iter().copied().zip(earlier).collect();
                let maps = maps.map(LeftMaps::of).transpose().map_err(|source| EngineError::Program {
                    interface: interface.clone(),
                    counts_as_locked: false,
                    source,
                })?;
                let left = maps.map(|maps| Left { maps, queues });
                (Some((link, mode)), left, workers, Some(counters), earlier)
            }
            None => (None, None, Vec::new(), None, BTreeMap::new()),
        };
        // As many as queues, if any are left.
        let sockets = sockets.into_iter().map(Origin::Inherited);
        let opens = match options.inheritance.as_deref().map(Inheritance::sockets) {
            Some(SocketsPass::OpenedAnew) => || Origin::NewToBind,
            Some(SocketsPass::Over | SocketsPass::Kept) | None => || Origin::New,
        };
        let origins = sockets.chain(iter::repeat_with(opens));
        let workers = start_workers(options, &own, &own.queues, common, first_worker, origins)?;
        let mut counters = own.interface.counters()?;
        let counters_before = before.map_or_else(|| counters.read(), Ok)?;
        let addresses = match options.destination {
            Destination::Own => Some(AddressWatch::open(own.interface.index)?),
            Destination::Any => None,
        };
        let known = addresses.as_ref().map(AddressWatch::known);
        let follows = inherited.is_some();
        let load = || attach(options, &mut own, forward, common.stamp, &workers, known, inherited);
        let attached = if follows { load_beside_workers(plan, load)? } else { load()? };
        let Attached { program, mode, forward } = attached;
        let mut live = Self {
            plan: own,
            mode,
            forward,
            stamp: common.stamp,
            program,
            workers,
            counters: Mutex::new(counters),
            counters_before,
            earlier,
            left: Mutex::new(left),
            settings: Arc::new(Mutex::new(tunables)),
            control,
            lost: AtomicBool::new(false),
            watched: Mutex::new(Watched {
                queues: QueueWatch::new(options.queues == Queues::All),
                addresses,
                local: LocalWatch::default(),
                warnings: Vec::new(),
            }),
            begun: Instant::now(),
            _log: None,
        };
        live.read_added_queues(options, plan, common, first_worker)?;
        if options.kernel_log {
            let Interface { name, index, .. } = &live.plan.interface;
            let name = threads::name("log", name, *index);
            let logger = live.program.logger();
            live._log = logger.map(|logger| watch_log(&name, logger, options.hook.clone())).transpose()?;
        }
        Ok(live)
    }

    /// Reads the queues that virtio_net adds for each CPU when a program is attached: its device spreads
    /// frames over them, too.
    fn read_added_queues(
        &mut self,
        options: &Options,
        plan: &Plan,
        common: &Common,
        first_worker: usize,
    ) -> Result<(), EngineError> {
        let InterfacePlan { interface, rx_queues, .. } = &self.plan;
        let (before, now) = (*rx_queues, interface.rx_queues()?);
        if now == before {
            return Ok(());
        }
        tracing::info!(
            "{}: {now} RX queues with the XDP program attached, {before} before it",
            interface.name
        );
        self.plan.rx_queues = now;
        if now < before || options.queues != Queues::All {
            return Ok(());
        }
        let first_worker = first_worker + self.workers.len();
        let added: Vec<_> = (before..now)
            .zip(first_worker..)
            .map(|(queue, worker)| QueuePlan { queue, cpu: plan.cpu(worker) })
            .collect();
        // A zero-copy pool must be gone before its queue is. virtio_net gives the added queues up when the
        // program is detached, and their pools stay behind: the next attach crashed a 7.3 kernel
        // (`virtnet_rx_resume_all`). A killed process cannot keep the order. In copy mode the driver has no
        // pool.
        let mut their_plan = self.plan.clone();
        if self.plan.bind == Bind::ZeroCopy {
            their_plan.bind = Bind::Copy;
            let most = self.plan.most_queues;
            self.plan.warnings.push(Warning::AddedQueues { added: now - before, most });
        }
        let origins = iter::repeat_with(|| Origin::New);
        let workers = start_workers(options, &their_plan, &added, common, first_worker, origins)?;
        for worker in &workers {
            let set = self.program.set_socket(worker.place.queue, worker.socket);
            set.map_err(|source| self.program_failed(source))?;
        }
        self.plan.queues.extend(added);
        self.workers.extend(workers);
        Ok(())
    }

    /// How many workers it has.
    pub(super) fn workers(&self) -> usize {
        self.workers.len()
    }

    /// Lets the workers run.
    pub(super) fn open(&self) {
        match self.program.report() {
            Ok(report) => self.watched().queues.begin(report.passed.no_socket, self.plan.rx_queues),
            Err(error) => tracing::debug!(%error, "the XDP program's counters"),
        }
        self.workers.iter().for_each(Worker::open);
    }

    /// Whether its sockets can pass to another process in this way.
    pub(super) fn check_offer(&self, sockets: SocketsPass) -> Result<(), HandOverError> {
        let reason = match sockets {
            SocketsPass::Over | SocketsPass::OpenedAnew => return Ok(()),
            SocketsPass::Kept if self.plan.scatter_gather => {
                "frames may have several descriptors (multi-buffer XDP, which its MTU needs), and cannot be \
                accounted for after a crash then"
            }
            SocketsPass::Kept if self.forwards_in_kernel() => {
                "what the kernel forwards cannot be accounted for after a crash"
            }
            SocketsPass::Kept => return Ok(()),
        };
        Err(HandOverError::State { reason: format!("{}: {reason}", self.plan.interface.name) })
    }

    /// Adds what another process needs to go on with this interface. `before` is the account of the process
    /// before this one.
    pub(super) fn offer(&self, offer: &mut Offer, before: Option<&Report>) -> Result<(), HandOverError> {
        let name = &self.plan.interface.name;
        let state = |reason| HandOverError::State { reason: format!("{name}: {reason}") };
        let system = |what| move |source| HandOverError::System { what, source };
        let link = self.program.link().map_err(system("the bpf_link"))?;
        let link = link.filter(|_| !self.is_lost()).ok_or_else(|| state("the interface is gone".into()))?;
        let maps = match offer.sockets() {
            SocketsPass::Over | SocketsPass::OpenedAnew => None,
            SocketsPass::Kept => {
                Some(self.program.lend_maps().map_err(system("the maps of the XDP program"))?)
            }
        };
        let InterfacePlan { interface, bind, rx_ring, chunk_size, chunks, scatter_gather, .. } = &self.plan;
        let handed = HandedInterface {
            name: name.clone(),
            index: interface.index,
            program: self.program.id(),
            mode: self.mode,
            bind: *bind,
            rx_ring: *rx_ring,
            chunk_size: *chunk_size,
            chunks: *chunks,
            scatter_gather: *scatter_gather,
            counters: self.counters_before.clone(),
            queues: self.workers.iter().map(|worker| worker.place.queue).collect(),
            earlier: self.statistics_of_earlier_sockets(before),
        };
        offer.add_interface(handed, link, maps);
        if offer.sockets() == SocketsPass::OpenedAnew {
            let added = self.workers.iter().try_for_each(|_| offer.add_queue(None));
            return added.map_err(system("a signal between workers"));
        }
        let lends = self.workers.iter().map(|worker| {
            let (lent, is_lent) = bounded(1);
            worker.orders.give(Order::Lend { lent });
            (worker.place.queue, is_lent)
        });
        for (queue, is_lent) in lends.collect::<Vec<_>>() {
            let parts = is_lent
                .recv_timeout(PATIENCE)
                .map_err(|_| state(format!("the worker of queue {queue} does not answer")))?
                .map_err(system("the socket of a queue"))?;
            offer.add_queue(Some(parts)).map_err(system("a signal between workers"))?;
        }
        Ok(())
    }

    /// Puts its program, with the sockets, in the place of that of another process. They are in its map only
    /// now, because each of them keeps the map in the kernel for as long as it is in it.
    pub(super) fn take_over(&self) -> Result<(), EngineError> {
        let mut workers = self.workers.iter();
        let set = workers.try_for_each(|it| self.program.set_socket(it.place.queue, it.socket));
        set.map_err(|source| self.program_failed(source))?;
        self.replace_program()
    }

    /// Gives up what a process that has ended has left in the kernel, and returns what its program, which was
    /// replaced, has counted; `None` if there is nothing, or no more.
    pub(super) fn clear_left(&self) -> Option<Result<XdpReport, ProgramSetupError>> {
        let Left { mut maps, queues } = self.left.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        for queue in queues {
            if let Err(error) = maps.unset_socket(queue) {
                tracing::debug!("{}: the last XSKMAP stays in the kernel", with_causes(&error));
            }
        }
        Some(maps.report())
    }

    /// Puts its program in the place of that of another process.
    pub(super) fn replace_program(&self) -> Result<(), EngineError> {
        self.program.replace().map_err(|source| self.program_failed(source))
    }

    /// Has frames pass to the host: its sockets are about to be closed.
    pub(super) fn withdraw_sockets(&self) -> Result<(), EngineError> {
        let xdp = self.program.report().map_err(|source| self.program_failed(source))?;
        self.watched().queues.withdraw(xdp.passed.no_socket);
        let withdrawn = self.workers.iter().try_for_each(|it| self.program.unset_socket(it.place.queue));
        withdrawn.map_err(|source| self.program_failed(source))
    }

    /// Frames that have passed to the host since then; `None` before, or if the counters cannot be read.
    pub(super) fn passed_since_withdrawn(&self) -> Option<u64> {
        self.watched().queues.since_withdrawn(self.program.report().ok()?.passed.no_socket)
    }

    /// Binds the sockets that are not bound yet, when those of another process are closed.
    pub(super) fn bind_sockets(&mut self) -> Result<(), EngineError> {
        let InterfacePlan { interface, host, bind, .. } = &self.plan;
        for worker in &mut self.workers {
            let Some(to_bind) = worker.to_bind.take() else { continue };
            to_bind.bind().map_err(|source| EngineError::Socket {
                interface: interface.name.clone(),
                queue: worker.place.queue,
                cause: diagnose::socket(&source, &diagnose::SocketFacts::of(host, *bind == Bind::ZeroCopy)),
                source,
            })?;
        }
        Ok(())
    }

    fn program_failed(&self, source: ProgramSetupError) -> EngineError {
        EngineError::Program { interface: self.plan.interface.name.clone(), counts_as_locked: false, source }
    }

    fn watched(&self) -> MutexGuard<'_, Watched> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Passes changed addresses to the XDP program.
    pub(super) fn follow_addresses(&self) {
        if self.is_lost() {
            return;
        }
        let mut watched = self.watched();
        let Some(watch) = &mut watched.addresses else { return };
        let name = &self.plan.interface.name;
        let refused = match watch.changed() {
            Ok(None) => return,
            Ok(Some(addresses)) => {
                tracing::info!("{name}: packets are taken that are addressed to {}", addresses);
                self.program.set_addresses(addresses).err().map(|error| with_causes(&error))
            }
            // A deleted interface has none; the link watch reports that.
            Err(error) => {
                tracing::debug!(%error, "the addresses of {name}");
                None
            }
        };
        if let Some(error) = refused {
            tracing::error!(
                "{name}: the XDP program does not get the interface's new addresses: {error}; packets to \
                them pass to the host until the run is started again"
            );
        }
    }

    /// Has the kernel path forward to the targets that are up.
    pub(super) fn follow_members(&self) {
        if let Err(error) = self.program.follow_members() {
            let name = &self.plan.interface.name;
            let error = with_causes(&error);
            tracing::error!("{name}: the kernel forwards to the targets that were up before: {error}");
        }
    }

    /// Reports, once in a while, when all packets are addressed to other hosts, or frames come by queues
    /// without a socket although all queues were asked for.
    pub(super) fn poll_state(&self) -> Option<Event> {
        if self.is_lost() {
            return None;
        }
        let xdp = match self.program.report() {
            Ok(report) => report,
            Err(error) => {
                tracing::debug!(%error, "the XDP program's counters");
                return None;
            }
        };
        let no_socket = xdp.passed.no_socket;
        let others = xdp.redirected + xdp.forwarded + no_socket + xdp.dropped.total();
        let name = &self.plan.interface.name;
        // A deleted interface has none; the link watch reports that.
        let queues = self.plan.interface.rx_queues().unwrap_or(self.plan.rx_queues);
        let Watched { queues: queue_watch, local, warnings, .. } = &mut *self.watched();
        let event = local.check(name, xdp.passed.not_local, others, Instant::now());
        if event.is_some() {
            warnings.push(Warning::NotLocal);
            return event;
        }
        let event = queue_watch.check(name, no_socket, queues)?;
        let Event::QueuesUnread { queues, read, .. } = event else { return Some(event) };
        let warning = Warning::QueuesUnread { queues, read };
        if !warnings.contains(&warning) {
            warnings.push(warning);
        }
        Some(event)
    }

    /// Those of the plan, then what was found since, a line each.
    pub(super) fn warnings(&self) -> Vec<String> {
        let line = |warning: &Warning| warning.line(self.name());
        // The same for all workers.
        let priority = self.workers.iter().find_map(|worker| worker.warning.as_ref());
        self.plan.warnings.iter().chain(priority).chain(&self.watched().warnings).map(line).collect()
    }

    pub(super) fn link(&self) -> (String, u32) {
        (self.plan.interface.name.clone(), self.plan.interface.index)
    }

    pub(super) fn settings(&self) -> HeldSettings {
        Arc::clone(&self.settings)
    }

    /// Handles its deletion: its workers empty their rings and end. `goes_on` is whether the run continues
    /// with other interfaces.
    pub(super) fn lose(&self, goes_on: bool) {
        self.lost.store(true, Ordering::Relaxed);
        // One that was moved to another network namespace keeps the program.
        self.detach();
        self.drain();
        // Now: at the end another interface may have its name.
        restore(&self.settings);
        if goes_on {
            self.watched().warnings.push(Warning::Lost);
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.plan.interface.name
    }

    pub(super) fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Relaxed)
    }

    /// Detaches the program. Frames in the rings stay there.
    pub(super) fn detach(&self) {
        self.program.detach();
    }

    /// Has the workers empty their rings and end.
    pub(super) fn drain(&self) {
        self.control.drain.store(true, Ordering::Release);
    }

    /// Has every sink hand over what it buffers, at its worker's next tick.
    pub(super) fn flush(&self) {
        self.control.flush.fetch_add(1, Ordering::Relaxed);
    }

    /// Its workers, in the sequence of their queues.
    pub(super) fn workers_in_sequence(&self) -> impl Iterator<Item = &Worker> {
        self.workers.iter()
    }

    /// Its workers, unless it is lost.
    pub(super) fn live_workers(&self) -> impl Iterator<Item = &Worker> {
        self.workers.iter().filter(|_| !self.is_lost())
    }

    /// Sinks that were removed from workers and have frames still.
    pub(super) fn leaving(&self) -> usize {
        self.workers.iter().map(|worker| worker.orders.leaving.load(Ordering::Acquire)).sum()
    }

    /// Whether the kernel forwards frames.
    pub(super) fn forwards_in_kernel(&self) -> bool {
        matches!(self.forward, Choice::Kernel(_))
    }

    /// Takes frames of these tunnels, too.
    pub(super) fn widen(&self, allow: &Allow) -> Result<(), ProgramSetupError> {
        self.program.widen(allow)
    }

    /// Takes frames of these tunnels only.
    pub(super) fn narrow(&self, allow: &Allow) -> Result<(), ProgramSetupError> {
        self.program.narrow(allow)
    }

    /// Of each worker: its queue, when it published last, and why its sinks ended.
    pub(super) fn worker_vitals(&self) -> impl Iterator<Item = (u32, Instant, Vec<Option<SinkHalt>>)> + '_ {
        self.workers.iter().map(|worker| {
            let (at, ends) = worker.vitals();
            (worker.place.queue, at.unwrap_or(self.begun), ends)
        })
    }

    /// The state of the interface at this moment, with that of its queues.
    pub(super) fn vitals(&self, queues: Vec<QueueVitals>) -> InterfaceVitals {
        let lost = self.is_lost();
        let Interface { name, index, .. } = &self.plan.interface;
        let link = if lost { Ok(None) } else { link_and_program(*index) };
        let (up, hook) = match link {
            Ok(Some((up, None))) => (up, HookVitals::Empty),
            Ok(Some((up, Some(id)))) if id == self.program.id() => (up, HookVitals::Ours),
            Ok(Some((up, Some(id)))) => (up, HookVitals::Other(id)),
            // About to be reported as deleted.
            Ok(None) => (false, HookVitals::Unknown),
            Err(error) => {
                tracing::debug!(%error, "the state of {name}");
                (true, HookVitals::Unknown)
            }
        };
        let read = u32::try_from(self.workers.len()).unwrap_or(u32::MAX);
        let unread_queues = match self.plan.interface.rx_queues() {
            Ok(now) if self.plan.all_queues && !lost => now.saturating_sub(read),
            _ => 0,
        };
        InterfaceVitals { name: name.clone(), lost, up, hook, unread_queues, queues }
    }

    /// The counters that each worker published last.
    pub(super) fn published(&self) -> impl Iterator<Item = Published> + '_ {
        self.workers.iter().map(Worker::published)
    }
}

impl Drop for LiveInterface {
    /// However it ends, unwinding included: detach, end the workers, restore the settings.
    fn drop(&mut self) {
        self.program.detach();
        // Sockets that another process has would keep the map in the kernel.
        for worker in &self.workers {
            if let Err(error) = self.program.unset_socket(worker.place.queue) {
                tracing::trace!("{}", with_causes(&error));
            }
        }
        self.workers.clear();
        restore(&self.settings);
    }
}

/// Restores an interface's settings, once.
pub(super) fn restore(settings: &HeldSettings) {
    let held = settings.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(Err(error)) = held.map(TunablesGuard::restore) {
        tracing::warn!(%error, "a setting of the interface was not restored");
    }
}
