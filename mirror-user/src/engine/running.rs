//! A running engine.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant, SystemTime},
};

use crossbeam_channel::{Receiver, Sender, unbounded};
use nix::unistd::{SysconfVar, sysconf};

use super::{
    Change, ChangeError, EngineError, Event, KeptAccount, Plan, Wait, assemble,
    change::{Sinks, change_workers},
    forward::Choice,
    hand_over::{HandOverError, Inheritance, Offer, SocketsPass},
    interface::{HeldSettings, LiveInterface, restore},
    kept::Recovered,
    options::{OnInterfaceLost, Options},
    ports::ReservedPorts,
    threads::{Watcher, watch_links},
    vitals::Vitals,
    worker::{Common, Order, Yield, announce, died_of},
};
use crate::{
    account::{Accounting, Report, Restarts},
    error::with_causes,
    host::{
        clock::monotonic,
        kernel::{KernelVersion, since},
        links::LinkWatch,
        tunables,
    },
    pipeline::{PipelineConfig, SharedReassembler},
    select::{Budget, Selection},
    sink::{SinkFactory, WorkerContext},
    xdp::ProgramSetupError,
};

/// Between two polls of the interfaces' queues and counters.
const STATE_INTERVAL: Duration = Duration::from_secs(1);
/// For how long a softirq that had a replaced program when it was replaced may go on counting.
const IN_FLIGHT: Duration = Duration::from_millis(20);
/// Between two polls of their addresses, and of the targets that are up: what was sent to a new address
/// meanwhile passed to the host, and what was forwarded to a target that is down is lost.
const ADDRESS_INTERVAL: Duration = Duration::from_millis(100);

/// When the next polls are due.
#[derive(Clone, Copy, Debug)]
struct Due {
    /// Of queues and counters.
    state: Instant,
    /// Of addresses.
    addresses: Instant,
}

/// An attached engine whose workers run. Dropping it detaches and ends them; [`stop`](Self::stop) also
/// accounts.
///
/// All but [`stop`](Self::stop) takes it shared: one thread may [`wait`](Self::wait) while others ask for a
/// [`report`](Self::report).
pub struct Running {
    // Fields drop in this order: watchers first, ports last.
    _links: Watcher,
    interfaces: Vec<LiveInterface>,
    on_interface_lost: OnInterfaceLost,
    events: Receiver<Event>,
    sender: Sender<Event>,
    sinks: Mutex<Sinks>,
    wait: Wait,
    /// For sinks that are added.
    workers: usize,
    cx: WorkerContext,
    started: Instant,
    started_at: SystemTime,
    /// Held only while it is read or set, not while interfaces are polled.
    due: Mutex<Due>,
    ended_by: Mutex<Option<String>>,
    selection: Mutex<Selection>,
    /// Whether it ends after so many frames.
    counts_down: bool,
    /// The account of the process that it follows, as far as it is known.
    predecessor: Mutex<Option<Arc<Report>>>,
    /// How the sockets of that process have passed.
    sockets: SocketsPass,
    /// For how long frames have passed to the host, if it has opened its own.
    passed_for: Option<Duration>,
    ports: ReservedPorts,
}

/// An engine that is ready to run, with its own sockets or those of another process.
pub struct Prepared {
    running: Running,
    inheritance: Option<Arc<Inheritance>>,
    /// The account of a process that was killed, until that of its program is final.
    recovered: Option<Recovered>,
}

impl Prepared {
    pub(super) fn of(options: Options, plan: &Plan) -> Result<Self, EngineError> {
        let inheritance = options.inheritance.clone();
        Ok(Self { running: Running::prepare(options, plan)?, inheritance, recovered: None })
    }

    /// The engine, which takes no frames yet.
    #[must_use]
    pub fn engine(&self) -> &Running {
        &self.running
    }

    /// Continues the account of a process that was killed, and whose sockets this one has. Returns what is
    /// not known of that process's frames.
    pub fn recover(&mut self, kept: KeptAccount) -> Restarts {
        let workers = self.running.interfaces.iter().flat_map(LiveInterface::workers_in_sequence);
        let begun: Vec<_> = workers.map(|worker| worker.stands_at(worker.position)).collect();
        let recovered = kept.recover(&begun);
        self.running.continue_account(recovered.report());
        self.recovered.insert(recovered).restarts()
    }

    /// Lets the workers run; of a run that is taken over, once those of the other process have stopped. Where
    /// they open their own sockets, this waits for that.
    ///
    /// # Errors
    ///
    /// The kernel refuses to put the program in the place of the other one, or to bind a socket.
    pub fn go(self) -> Result<Running, EngineError> {
        let Self { mut running, inheritance, recovered } = self;
        match inheritance.as_deref().map(|left| (left, left.sockets())) {
            Some((_, SocketsPass::Over | SocketsPass::Kept)) => {
                running.interfaces.iter().try_for_each(LiveInterface::take_over)?;
            }
            Some((left, SocketsPass::OpenedAnew)) => {
                let since = left.await_closed().map_err(|source| EngineError::Inherited {
                    interface: running.interfaces.first().map_or("", LiveInterface::name).to_owned(),
                    source,
                })?;
                for interface in &mut running.interfaces {
                    interface.bind_sockets()?;
                    interface.take_over()?;
                }
                running.passed_for = Some(Duration::from_nanos(monotonic().saturating_sub(since)));
            }
            None => {}
        }
        running.interfaces.iter().for_each(LiveInterface::open);
        if let Some(recovered) = recovered {
            // Before this process leaves an account of its own: it may be killed at once, too.
            thread::sleep(IN_FLIGHT);
            running.complete(recovered);
        }
        Ok(running)
    }

    /// A handle that starts workers whose predecessors cannot say any more that they have stopped, because
    /// their process has ended. Frames of a batch that one of them had begun are taken again.
    ///
    /// # Errors
    ///
    /// The system refuses descriptors.
    pub fn release(&self) -> std::io::Result<Release> {
        let signals = self.inheritance.as_ref().map_or_else(|| Ok(Vec::new()), |left| left.signals())?;
        Ok(Release { signals })
    }
}

impl std::fmt::Debug for Prepared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Prepared").field("running", &self.running).finish_non_exhaustive()
    }
}

/// Starts workers whose predecessors have ended without a word, see [`Prepared::release`].
#[derive(Debug)]
pub struct Release {
    signals: Vec<std::os::fd::OwnedFd>,
}

impl Release {
    /// The other process has ended: its workers take nothing any more.
    pub fn release(self) {
        self.signals.iter().for_each(|signal| announce(signal, monotonic()));
    }
}

/// Ends the wait of a [`Running`] engine from another thread.
#[derive(Clone, Debug)]
pub struct Stopper {
    events: Sender<Event>,
    settings: Vec<HeldSettings>,
}

impl Stopper {
    /// Makes [`Running::wait`] return [`Event::StopRequested`].
    pub fn stop(&self) {
        // An engine that was dropped has stopped.
        let _ = self.events.send(Event::StopRequested);
    }

    /// Restores what the engine changed on the host (the interface's settings for busy polling), for a
    /// process that is about to exit without [`Running::stop`]. All else the kernel undoes when the process
    /// exits.
    pub fn put_settings_back(&self) {
        self.settings.iter().for_each(restore);
    }
}

impl Running {
    fn prepare(options: Options, plan: &Plan) -> Result<Self, EngineError> {
        let forward = Choice::of(&options)?;
        let (sender, events) = unbounded();
        let workers = plan.interfaces.iter().map(|interface| interface.queues.len()).sum();
        let cpus = sysconf(SysconfVar::_NPROCESSORS_ONLN).ok().flatten();
        let common = Common {
            pipeline: PipelineConfig {
                tunnels: options.tunnels.clone(),
                // The XDP program has dropped what is not allowed, but for GENEVE: it does not look inside.
                selection: Arc::new(if options.tunnels.geneve().is_empty() {
                    options.selection.filters_only()
                } else {
                    options.selection.clone()
                }),
                budget: Arc::new(Budget::new(options.count)),
                reassembly: options.reassemble.then(|| SharedReassembler::live(&options.tunnels, workers)),
            },
            control: Arc::default(),
            events: sender.clone(),
            stamp: options.sinks.iter().any(SinkFactory::needs_time),
            max_frame: plan.max_frame(),
            workers,
            spare_cpus: cpus.and_then(|cpus| usize::try_from(cpus).ok()).is_some_and(|cpus| cpus > workers),
        };
        for (sink, own) in
            options.sinks.iter().flat_map(|sink| plan.interfaces.iter().map(move |own| (sink, own)))
        {
            sink.check(&own.interface.name, &options.tunnels)
                .map_err(|source| EngineError::Sink { sink: sink.name().to_owned(), source })?;
        }
        let links = LinkWatch::open()?;
        tunables::recover();
        let inheritance = options.inheritance.as_deref();
        let ports = match inheritance.map(Inheritance::ports) {
            Some(left) => ReservedPorts::inherit(&options.tunnels, left.unwrap_or_default()),
            None => ReservedPorts::reserve(&options.tunnels),
        };
        let mut interfaces: Vec<LiveInterface> = Vec::with_capacity(plan.interfaces.len());
        let mut first_worker = 0;
        for own in &plan.interfaces {
            let interface = LiveInterface::start(&options, plan, own, &common, &forward, first_worker)?;
            for warning in interface.warnings() {
                tracing::warn!("{warning}");
            }
            first_worker += interface.workers();
            interfaces.push(interface);
        }
        let cx = WorkerContext {
            workers,
            tunnels: common.pipeline.tunnels.clone(),
            ..WorkerContext::single(common.max_frame)
        };
        let names = interfaces.iter().map(LiveInterface::link).collect();
        let links = watch_links(links, names, sender.clone(), options.hook.clone())?;
        let now = Instant::now();
        let started = inheritance.and_then(|left| now.checked_sub(left.elapsed())).unwrap_or(now);
        let started_at = inheritance.map_or_else(SystemTime::now, Inheritance::started);
        Ok(Self {
            _links: links,
            interfaces,
            on_interface_lost: options.on_interface_lost,
            events,
            sender,
            sinks: Mutex::new(Sinks::new(options.sinks)),
            wait: options.wait,
            workers: first_worker,
            cx,
            started,
            started_at,
            due: Mutex::new(Due { state: now + STATE_INTERVAL, addresses: now + ADDRESS_INTERVAL }),
            ended_by: Mutex::default(),
            selection: Mutex::new(options.selection),
            counts_down: options.count.is_some(),
            predecessor: Mutex::default(),
            sockets: inheritance.map(Inheritance::sockets).unwrap_or_default(),
            passed_for: None,
            ports,
        })
    }

    /// Waits for the next event, at most as long as `timeout`. Of several threads that wait, one gets it.
    ///
    /// Some thread has to wait most of the time: changes that the kernel sends no message of, as of queues,
    /// are polled here.
    pub fn wait(&self, timeout: Duration) -> Option<Event> {
        let start = Instant::now();
        let mut event = loop {
            let left = timeout.saturating_sub(start.elapsed());
            let Due { state, addresses } = *lock(&self.due);
            let poll = state.min(addresses).saturating_duration_since(Instant::now());
            // There is always a sender: this engine's own.
            if let Ok(event) = self.events.recv_timeout(left.min(poll)) {
                break event;
            }
            if let Some(event) = self.poll_state() {
                break event;
            }
            if start.elapsed() >= timeout {
                return None;
            }
        };
        match &mut event {
            Event::InterfaceDeleted { interface, goes_on } => {
                *goes_on = self.lose(interface);
                if !*goes_on {
                    lock(&self.ended_by)
                        .get_or_insert_with(|| format!("{interface}: the interface was deleted"));
                }
            }
            Event::WorkerDied { interface, queue, reason } => {
                lock(&self.ended_by).get_or_insert_with(|| died_of(interface, *queue, reason));
            }
            _ => {}
        }
        Some(event)
    }

    /// Detaches a deleted interface. Returns whether the run continues with others.
    fn lose(&self, name: &str) -> bool {
        let is_left = |interface: &LiveInterface| !interface.is_lost() && interface.name() != name;
        let goes_on = self.on_interface_lost == OnInterfaceLost::GoOn && self.interfaces.iter().any(is_left);
        if let Some(lost) = self.interfaces.iter().find(|interface| interface.name() == name) {
            lost.lose(goes_on);
        }
        goes_on
    }

    /// Polls what is due: the kernel sends no message when queues change.
    fn poll_state(&self) -> Option<Event> {
        let now = Instant::now();
        // The thread that finds a poll due does it; other threads that wait do not wait for that.
        let (state, addresses) = {
            let mut due = lock(&self.due);
            let is_due = (now >= due.state, now >= due.addresses);
            if is_due.0 {
                due.state = now + STATE_INTERVAL;
            }
            if is_due.1 {
                due.addresses = now + ADDRESS_INTERVAL;
            }
            is_due
        };
        if addresses {
            self.interfaces.iter().for_each(LiveInterface::follow_addresses);
            self.interfaces.iter().for_each(LiveInterface::follow_members);
        }
        if !state {
            return None;
        }
        self.complete_removed();
        self.interfaces.iter().find_map(LiveInterface::poll_state)
    }

    /// Changes what is selected and which sinks there are, between two batches of each worker.
    ///
    /// Sinks that stay lose no frame. Everything is opened and built before anything is changed. Frames of
    /// tunnels that only the old or only the new selection has are judged by the one that their worker has;
    /// where the XDP program was loaded without a list of VNIs or sources, and for frames that were on their
    /// way, workers apply it, and count what they refuse as `rejected`.
    ///
    /// The outputs of removed sinks are completed while a thread [`wait`](Self::wait)s, or at the end.
    ///
    /// # Errors
    ///
    /// Why nothing was changed.
    pub fn change(&self, change: Change) -> Result<(), ChangeError> {
        if let Some(interface) = self.interfaces.iter().find(|interface| interface.forwards_in_kernel()) {
            return Err(ChangeError::ForwardedInKernel { interface: interface.name().to_owned() });
        }
        let mut sinks = lock(&self.sinks);
        let positions = sinks.positions(&change)?;
        for sink in &change.add {
            let failed = |source| ChangeError::Sink { sink: sink.name().to_owned(), source };
            let mut interfaces = self.interfaces.iter().map(LiveInterface::name);
            interfaces.try_for_each(|interface| sink.check(interface, &self.cx.tunnels)).map_err(failed)?;
            sink.prepare(self.workers, &self.cx).map_err(failed)?;
        }
        let mut selection = lock(&self.selection);
        let wanted = change.selection.map(Arc::new);
        if let Some(wanted) = &wanted
            && let Err(error) = self.for_lists(|interface| interface.widen(&wanted.allow))
        {
            self.narrow(&selection);
            return Err(error);
        }
        if let Err(error) = change_workers(&self.interfaces, &positions, wanted.as_ref()) {
            self.narrow(&selection);
            return Err(error);
        }
        sinks.change(positions);
        if let Some(wanted) = wanted {
            *selection = Selection::clone(&wanted);
            self.narrow(&selection);
        }
        Ok(())
    }

    /// Has the XDP programs take what is selected, and no more.
    fn narrow(&self, selection: &Selection) {
        if let Err(error) = self.for_lists(|interface| interface.narrow(&selection.allow)) {
            tracing::error!("{error}: workers refuse what the XDP program does not");
        }
    }

    fn for_lists(
        &self,
        change: impl Fn(&LiveInterface) -> Result<(), ProgramSetupError>,
    ) -> Result<(), ChangeError> {
        let present = self.interfaces.iter().filter(|interface| !interface.is_lost());
        present.map(|interface| (interface, change(interface))).try_for_each(|(interface, changed)| {
            changed.map_err(|source| ChangeError::Lists { interface: interface.name().to_owned(), source })
        })
    }

    /// Completes the outputs of removed sinks, if they have left every worker.
    fn complete_removed(&self) {
        let mut sinks = lock(&self.sinks);
        if sinks.has_leaving() && self.interfaces.iter().all(|interface| interface.leaving() == 0) {
            let mut report = self.empty_report();
            let published = assemble::published(&self.interfaces);
            assemble::live(&mut report, &self.interfaces, &published, &sinks.all());
            sinks.complete(&report);
        }
    }

    /// The names of sinks that were [removed](Change::remove) and whose outputs are not completed yet.
    #[must_use]
    pub fn leaving(&self) -> Vec<String> {
        lock(&self.sinks).leaving().map(str::to_owned).collect()
    }

    /// A handle that ends [`wait`](Self::wait) from another thread, such as one that handles signals.
    #[must_use]
    pub fn stopper(&self) -> Stopper {
        let settings = self.interfaces.iter().map(LiveInterface::settings).collect();
        Stopper { events: self.sender.clone(), settings }
    }

    /// Has every sink hand over what it buffers, at its worker's next tick.
    pub fn flush(&self) {
        self.interfaces.iter().for_each(LiveInterface::flush);
    }

    /// Packets that the XDP programs have taken so far: redirected to a worker, or forwarded by the kernel.
    /// Far cheaper than a [`report`](Self::report). `None` if the counters cannot be read.
    #[must_use]
    pub fn taken(&self) -> Option<u64> {
        self.interfaces.iter().map(LiveInterface::taken).sum()
    }

    /// The account as it stands, up to a tick (100 ms) old, with origins, latency, members and VLANs. The law
    /// holds only at rest, so it is not closed here.
    #[must_use]
    pub fn report(&self) -> Report {
        let mut report = self.empty_report();
        let published = assemble::published(&self.interfaces);
        assemble::live(&mut report, &self.interfaces, &published, &lock(&self.sinks).all());
        self.follow(&mut report);
        report
    }

    /// Adds the account of the process that it follows. Returns whether there is one.
    fn follow(&self, report: &mut Report) -> bool {
        let predecessor = lock(&self.predecessor).clone();
        if let Some(predecessor) = &predecessor {
            report.follow(predecessor);
        }
        predecessor.is_some()
    }

    /// Offers the run to another process, with its sockets or without. Nothing changes yet, nor if the offer
    /// is dropped.
    ///
    /// # Errors
    ///
    /// Why it cannot be handed over.
    pub fn offer(&self, sockets: SocketsPass) -> Result<Offer, HandOverError> {
        self.check_offer(sockets)?;
        let mut offer = Offer::new(sockets, self.started.elapsed(), self.started_at);
        let before = lock(&self.predecessor).clone();
        self.interfaces.iter().try_for_each(|interface| interface.offer(&mut offer, before.as_deref()))?;
        let ports = self.ports.lend();
        offer.add_ports(ports.map_err(|source| HandOverError::System { what: "the tunnel ports", source })?);
        Ok(offer)
    }

    /// Whether the run can be [offered](Self::offer).
    ///
    /// # Errors
    ///
    /// Why not.
    pub fn check_offer(&self, sockets: SocketsPass) -> Result<(), HandOverError> {
        let state = |reason: String| HandOverError::State { reason };
        if sockets != SocketsPass::OpenedAnew
            && let Ok(running) = KernelVersion::running()
            && running < since::RINGS_MAPPED_AGAIN
        {
            return Err(HandOverError::Kernel { running });
        }
        if self.counts_down {
            return Err(state("the run ends after a number of packets, which does not pass over".into()));
        }
        if self.wait == Wait::BusyPoll {
            return Err(state("the interface's settings for busy polling do not pass over".into()));
        }
        if let Some(reason) = &*lock(&self.ended_by) {
            return Err(state(reason.clone()));
        }
        self.interfaces.iter().try_for_each(|interface| interface.check_offer(sockets))
    }

    /// Has the workers stop, each between two batches, and say so to the process that has taken the offer. If
    /// that one opens its own sockets, frames pass to the host from here on, and the workers empty and close
    /// theirs. There is no way back.
    pub fn hand_over(&self, offer: Offer) {
        let passing_since = (offer.sockets() == SocketsPass::OpenedAnew).then(|| self.withdraw_sockets());
        let workers = self.interfaces.iter().flat_map(LiveInterface::workers_in_sequence);
        for (worker, to) in workers.zip(offer.signals) {
            worker.orders.give(Order::Yield(Yield { to, passing_since }));
        }
    }

    /// Has frames pass to the host. Returns since when, CLOCK_MONOTONIC in ns.
    fn withdraw_sockets(&self) -> u64 {
        let since = monotonic();
        for interface in &self.interfaces {
            if let Err(error) = interface.withdraw_sockets() {
                tracing::error!("{error}: frames that are in rings when these are closed show as a residue");
            }
        }
        since
    }

    /// Frames that have passed to the host since this engine's sockets were withdrawn to
    /// [hand over](Self::hand_over); `None` if they were not, or the counters cannot be read.
    #[must_use]
    pub fn passed_since_withdrawn(&self) -> Option<u64> {
        self.interfaces.iter().map(LiveInterface::passed_since_withdrawn).sum()
    }

    /// Ends the run for a reason, which the report names: [`wait`](Self::wait) returns
    /// [`Event::StopRequested`].
    pub fn end(&self, reason: String) {
        lock(&self.ended_by).get_or_insert(reason);
        // There is always a receiver: this engine's own.
        let _ = self.sender.send(Event::StopRequested);
    }

    /// Puts this engine's programs back in their places, because the other process could not go on. What the
    /// kernel counted in those of the other process meanwhile shows as a residue.
    pub fn take_back(&self) {
        for interface in self.interfaces.iter().filter(|interface| !interface.is_lost()) {
            if let Err(error) = interface.replace_program() {
                tracing::error!("{error}: what is counted here does not include what passes it");
            }
        }
    }

    /// Ends this process's part of a run that was [handed over](Self::hand_over): waits for the workers, and
    /// completes the outputs. To be called when the other process's program has replaced this one's, so that
    /// the counters of this one are final. The laws hold only for the accounts of both together, so they are
    /// not closed here.
    #[must_use]
    pub fn retire(mut self) -> Report {
        thread::sleep(IN_FLIGHT);
        let mut report = self.empty_report();
        let closed = self.interfaces.drain(..).map(LiveInterface::close_account).collect();
        assemble::at_rest(&mut report, closed, &mut lock(&self.sinks));
        report.upgrades.cold_frames = report.interfaces.iter().map(|it| it.xdp.no_socket_at_upgrade).sum();
        self.follow(&mut report);
        report.accounting = Accounting::default();
        report
    }

    /// Continues the account of the process that handed over. What it counted after an earlier account is
    /// added, so this may be called again with a later one.
    pub fn continue_account(&self, predecessor: Report) {
        for interface in self.interfaces.iter().filter(|_| self.sockets != SocketsPass::OpenedAnew) {
            if let Some(before) = predecessor.interfaces.iter().find(|one| one.name == interface.name()) {
                interface.continue_account(before);
            }
        }
        *lock(&self.predecessor) = Some(Arc::new(predecessor));
    }

    /// The account as it stands, for a process that is to [recover](Prepared::recover) the run if this one is
    /// killed: with it goes an [offer](Self::offer) of sockets that are [kept](SocketsPass::Kept). `None` for
    /// some milliseconds after the start, until each worker has said up to where it has read its ring.
    #[must_use]
    pub fn account_to_keep(&self) -> Option<KeptAccount> {
        let mut own = self.empty_report();
        let published = assemble::published(&self.interfaces);
        if published.iter().flatten().any(|shown| shown.at.is_none()) {
            return None;
        }
        assemble::live(&mut own, &self.interfaces, &published, &lock(&self.sinks).all());
        let before = lock(&self.predecessor).as_deref().cloned();
        let queues = self.interfaces.iter().zip(&published).flat_map(|(interface, published)| {
            let workers = interface.workers_in_sequence().zip(published);
            workers.map(|(worker, shown)| worker.stands_at(shown.position))
        });
        Some(KeptAccount::new(own, before, queues.collect()))
    }

    /// Completes the account of a process that was killed, when its program was replaced.
    fn complete(&self, mut recovered: Recovered) {
        for interface in &self.interfaces {
            match interface.clear_left() {
                Some(Ok(counted)) => recovered.set_program(interface.name(), counted),
                Some(Err(error)) => {
                    let error = with_causes(&error);
                    tracing::error!("{}: {error}: the residue has what is missing", interface.name());
                }
                None => {}
            }
        }
        self.continue_account(recovered.report());
    }

    /// For how long frames passed to the host when this process opened sockets in the place of another's.
    #[must_use]
    pub fn passed_for(&self) -> Option<Duration> {
        self.passed_for
    }

    /// For how long nobody took frames of each queue while the run was handed over to this process with its
    /// sockets: of those whose worker has begun.
    #[must_use]
    pub fn pauses(&self) -> Vec<Duration> {
        self.interfaces.iter().flat_map(LiveInterface::published).filter_map(|shown| shown.pause).collect()
    }

    /// The state of interfaces, workers and sinks at this moment, from counters in memory and one request to
    /// the kernel for each interface.
    #[must_use]
    pub fn vitals(&self) -> Vitals {
        Vitals::of(&self.interfaces, &lock(&self.sinks).all())
    }

    /// Detaches, empties the rings, finishes the sinks, and closes the account.
    #[must_use]
    pub fn stop(mut self) -> Report {
        self.halt();
        let mut report = self.empty_report();
        let closed = self.interfaces.drain(..).map(LiveInterface::close_account).collect();
        report.duration_s = self.started.elapsed().as_secs_f64();
        assemble::at_rest(&mut report, closed, &mut lock(&self.sinks));
        if self.follow(&mut report) {
            report.close();
        }
        report
    }

    /// Detaches, and has the workers empty their rings and end.
    fn halt(&self) {
        for interface in &self.interfaces {
            interface.detach();
        }
        self.interfaces.iter().for_each(LiveInterface::drain);
    }

    fn empty_report(&self) -> Report {
        let mut report = Report::new("af_xdp", self.started_at);
        report.duration_s = self.started.elapsed().as_secs_f64();
        if let Some(passed) = self.passed_for {
            report.upgrades.cold = 1;
            report.upgrades.cold_s = passed.as_secs_f64();
        } else if self.sockets == SocketsPass::Over && lock(&self.predecessor).is_some() {
            let longest = self.pauses().into_iter().max().unwrap_or_default();
            report.upgrades.count = 1;
            report.upgrades.longest_pause_ns = u64::try_from(longest.as_nanos()).unwrap_or(u64::MAX);
        }
        report.ended_by.clone_from(&lock(&self.ended_by));
        (report.filter, report.outer_filter) = lock(&self.selection).expressions();
        report.warnings = self.interfaces.iter().flat_map(LiveInterface::warnings).collect();
        report
    }
}

/// Whole values are put in under these locks, so one poisoned by a panic is as good as any.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Running {
    fn drop(&mut self) {
        // Otherwise the workers would never end.
        self.halt();
    }
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Running").field("interfaces", &self.interfaces.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As a health endpoint needs: a report while another thread waits.
    #[test]
    fn an_engine_is_shared_between_threads() {
        fn is_shared<T: Send + Sync>() {}
        is_shared::<Running>();
        let _: fn(&Running, Duration) -> Option<Event> = Running::wait;
        let _: fn(&Running) -> Report = Running::report;
    }
}
