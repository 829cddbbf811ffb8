//! Watches a run.

use std::{
    collections::BTreeMap,
    process,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use crossbeam_channel::Receiver;
use mirror_user::{
    Report,
    engine::{Event, Running},
    log_limit::LogLimit,
};

use super::{
    IngestRun, drain::Draining, fd_store::FdStore, notify::Notifier, vitals::HealthWatch, watchdog::Watchdog,
};
use crate::{
    conclude::ALL_ENDED,
    http::Board,
    observed::{Observed, Phase},
    outputs::Outputs,
    reload::{Reloaded, Reloader},
    remedy,
    requests::Request,
    signals::SignalRequests,
    status::Status,
    terminal,
    upgrade::{Account, Predecessor, Successor, Upgrader},
};

/// What a run is watched with.
pub(super) struct Watch<'a> {
    pub(super) args: &'a IngestRun,
    pub(super) requests: &'a SignalRequests,
    pub(super) outputs: &'a mut Outputs,
    /// With a configuration file.
    pub(super) reload: Option<Reload<'a>>,
    /// With a monitor.
    pub(super) upgrader: Option<Upgrader>,
    /// The process that had the run before.
    pub(super) predecessor: Option<&'a mut Predecessor>,
    /// How long the run has lasted in other processes.
    pub(super) elapsed: Duration,
    pub(super) fd_store: Option<FdStore>,
    pub(super) workers: usize,
    pub(super) observed: &'a Observed,
    pub(super) notifier: &'a Notifier,
    /// With the HTTP server.
    pub(super) board: Option<&'a Arc<Board>>,
}

/// Requests to reload, and what serves them.
pub(super) struct Reload<'a> {
    pub(super) requests: Receiver<Request<Reloaded>>,
    pub(super) reloader: Reloader<'a>,
}

/// Why a run is not watched any more.
enum Ends {
    /// It stops, after a drain if one has begun.
    Stops(Option<Draining>),
    /// Another process has it.
    HandedOver(Successor),
}

impl Watch<'_> {
    /// Watches a run until there is a reason to stop, then stops it; or until another process has it, which
    /// is returned.
    pub(super) fn watch(mut self, running: Running) -> (Report, Option<Successor>) {
        let most_loss = self.args.http.as_ref().and_then(|http| http.most_loss);
        let mut health = self.board.map(|board| HealthWatch::new(Arc::clone(board), most_loss));
        match &mut self.predecessor {
            Some(predecessor) => {
                // Not before the other process can no longer go on, and before it may end.
                let pid = process::id();
                self.notifier.notify(&format!("MAINPID={pid}\nREADY=1"));
                predecessor.taken(&running, self.workers);
                self.observed.publish(Instant::now(), running.report());
                // Else a health check that waits is answered before anything was checked.
                if let Some(health) = &mut health {
                    health.turn(Instant::now(), &running, self.outputs);
                }
                self.observed.withhold(false);
            }
            None => self.notifier.notify("READY=1"),
        }
        let ends = self.until_stop(&running, health);
        // While this process holds it, it is in no other's hands.
        self.fd_store.iter_mut().for_each(|store| store.clear(self.notifier));
        let draining = match ends {
            Ends::Stops(draining) => draining,
            Ends::HandedOver(successor) => return (running.retire(), Some(successor)),
        };
        self.observed.enter(Phase::Stopping);
        if draining.is_none() {
            self.notifier.notify(STOPPING);
        }
        let drain = draining.map(|draining| draining.end(Instant::now()));
        let mut report = running.stop();
        report.drain = drain;
        // For those who ask while outputs are completed.
        if self.board.is_some() {
            self.observed.publish(Instant::now(), report.clone());
        }
        (report, None)
    }

    /// Returns when there is a reason to.
    fn until_stop(&mut self, running: &Running, mut health: Option<HealthWatch>) -> Ends {
        /// How late a signal other than INT and TERM may be noticed.
        const POLL: Duration = Duration::from_millis(100);
        /// The same for another process.
        const UPGRADE: Duration = Duration::from_millis(5);
        let Self { args, requests, observed, notifier, .. } = *self;
        let end = args.duration.map(|duration| Instant::now() + duration.saturating_sub(self.elapsed));
        let mut status = Status::new(args.stats, args.output.quiet || args.output.prints_to_terminal());
        let mut links = Links::new();
        let mut draining: Option<Draining> = None;
        let mut watchdog = Watchdog::of_environment();
        loop {
            let now = Instant::now();
            if end.is_some_and(|end| now >= end) || requests.stop.load(Ordering::Relaxed) {
                return Ends::Stops(draining);
            }
            if self.outputs.are_over() {
                terminal::say!("{}", ALL_ENDED);
                return Ends::Stops(draining);
            }
            if let Some(health) = &mut health {
                health.turn(now, running, self.outputs);
            }
            watchdog.turn(now, running, notifier);
            if let Some(begun) = &mut draining {
                if begun.follow(now, running.taken()) {
                    return Ends::Stops(draining);
                }
            } else if let Some(limits) = args.drain.filter(|_| requests.drain.load(Ordering::Relaxed)) {
                notifier.notify(STOPPING);
                tracing::info!(
                    target: "mirror",
                    "draining: packets are taken until none has come for {}, for at most {}; TERM or INT \
                    stops at once",
                    humantime::format_duration(limits.quiet),
                    humantime::format_duration(limits.max)
                );
                draining = Some(Draining::begin(limits, now, running.taken()));
            }
            self.reload_if_asked(running, draining.is_some());
            if let Some(successor) = self.upgrade_if_asked(running, draining.is_some()) {
                return Ends::HandedOver(successor);
            }
            self.keep_if_due(now, running);
            status.log_if_due(now, || running.report());
            if observed.is_due(now) {
                observed.publish(now, running.report());
            }
            links.log_left_out(now);
            if requests.statistics.swap(false, Ordering::Relaxed) {
                status.print(now, &running.report());
            }
            if requests.flush.swap(false, Ordering::Relaxed) {
                running.flush();
            }
            let next = [end, status.due()].into_iter().flatten().min();
            let is_upgrading = self.upgrader.as_ref().is_some_and(Upgrader::is_busy);
            let poll = if is_upgrading { UPGRADE } else { POLL };
            let wait = next.map_or(poll, |next| next.saturating_duration_since(now).min(poll));
            if let Some(event) = running.wait(wait)
                && !links.goes_on(event)
            {
                return Ends::Stops(draining);
            }
        }
    }
}

impl Watch<'_> {
    /// Serves all requests that wait with one reload.
    fn reload_if_asked(&mut self, running: &Running, is_draining: bool) {
        let Some(Reload { requests, reloader }) = &mut self.reload else { return };
        let asked: Vec<_> = requests.try_iter().collect();
        if asked.is_empty() {
            return;
        }
        let outcome = if is_draining {
            Err("the run drains, and is not changed any more".to_owned())
        } else {
            self.notifier.notify(&reloading());
            let outcome = reloader.reload(running, self.outputs);
            self.requests.changed(self.outputs);
            self.notifier.notify("READY=1");
            outcome.map_err(|error| remedy::with_remedy(&error))
        };
        match &outcome {
            Ok(reloaded) => tracing::info!(target: "mirror", "configuration reloaded: {reloaded}"),
            Err(reason) => tracing::error!("configuration not reloaded, nothing has changed: {reason}"),
        }
        asked.into_iter().for_each(|request| request.answer(&outcome));
    }
}

impl Watch<'_> {
    /// Follows the process before this one to its end, and goes on with an upgrade to the next one. Returns
    /// that process once it has the run.
    fn upgrade_if_asked(&mut self, running: &Running, is_draining: bool) -> Option<Successor> {
        if let Some(predecessor) = &mut self.predecessor {
            if let Some(Account { report, cpu }) = predecessor.account() {
                running.continue_account(report);
                self.board.iter().for_each(|board| board.follow(cpu));
            }
            // One after the other.
            if predecessor.is_awaited() {
                return None;
            }
        }
        let upgrader = self.upgrader.as_mut()?;
        let output = self.reload.as_ref().map_or(&self.args.output, |reload| &reload.reloader.output);
        upgrader.start(running, self.outputs, || {
            let draining = is_draining.then(|| "the run drains, and is about to stop".to_owned());
            draining.or_else(|| output.obstacle_to_upgrade())
        });
        upgrader.hand_over(running, self.outputs, self.observed, self.board.map(|board| &**board))
    }
}

impl Watch<'_> {
    /// Keeps the run for the time after a crash: once the account of the process before this one is closed,
    /// and while it does not pass to the next one, for which sockets may have to be closed.
    fn keep_if_due(&mut self, now: Instant, running: &Running) {
        let Some(store) = &mut self.fd_store else { return };
        if self.upgrader.as_ref().is_some_and(Upgrader::is_busy) {
            store.clear(self.notifier);
        } else if !self.predecessor.as_ref().is_some_and(|before| before.is_awaited()) {
            store.turn(now, self.notifier, running, self.board.map(|board| &**board));
        }
    }
}

/// As of `sd_notify(3)`: the time tells this reload from earlier ones.
fn reloading() -> String {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let microseconds = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1000;
    format!("RELOADING=1\nMONOTONIC_USEC={microseconds}")
}

const STOPPING: &str = "STOPPING=1";

/// Logs events; links may lose their carrier without limit.
struct Links {
    begun: Instant,
    /// Interfaces whose link went down because of the attach, and whether it is up again.
    reset: BTreeMap<String, bool>,
    /// A link may flap without limit.
    limit: LogLimit,
}

impl Links {
    /// How long after the attach a lost carrier is most likely the driver's reset, which it does within the
    /// attach; the message arrives at once.
    const RESET: Duration = Duration::from_secs(1);

    fn new() -> Self {
        Self { begun: Instant::now(), reset: BTreeMap::new(), limit: LogLimit::default() }
    }

    /// Logs an event. Returns whether the run continues.
    fn goes_on(&mut self, event: Event) -> bool {
        match event {
            Event::InterfaceDown { interface } => self.is_down(&interface),
            Event::InterfaceNoCarrier { interface } => self.lost_carrier(interface),
            Event::InterfaceUp { interface } => self.is_up(&interface),
            Event::QueuesUnread { interface, queues, read, frames } => {
                tracing::warn!(
                    "{interface}: {queues} RX queues, of which {read} are read: frames of the others are \
                    passed to the kernel ({frames} so far); restart mirror to read all queues"
                );
            }
            Event::NotLocal { interface, frames } => {
                tracing::warn!(
                    "{interface}: every tunnel packet of the last 5 s was addressed to another MAC or IP \
                    address and passed to the kernel ({frames} so far); to capture such packets (SPAN port, \
                    promiscuous mode), use `--destination any`"
                );
            }
            Event::InterfaceDeleted { interface, goes_on: true } => {
                tracing::error!("{interface}: the interface was deleted; ingest continues with the others");
            }
            Event::InterfaceDeleted { interface, .. } => {
                tracing::error!("{interface}: the interface was deleted");
                return false;
            }
            Event::InterfaceReturned { interface } => {
                tracing::warn!(
                    "{interface}: an interface of this name is back, but is not captured; restart mirror to \
                    capture it"
                );
            }
            _ => return false,
        }
        true
    }

    /// Whether one more line may be logged.
    fn log(&mut self) -> bool {
        self.limit.passes(Instant::now())
    }

    /// Logs how many lines were suppressed.
    fn log_left_out(&mut self, now: Instant) {
        if let Some(lines) = self.limit.left_out(now) {
            tracing::warn!("{lines} more messages about link changes were suppressed");
        }
    }

    fn is_down(&mut self, interface: &str) {
        if self.log() {
            tracing::warn!("{interface}: the link is down; ingest resumes when it is up");
        }
    }

    fn lost_carrier(&mut self, interface: String) {
        if self.begun.elapsed() < Self::RESET && !self.reset.contains_key(&interface) {
            tracing::info!(
                "{interface}: the link lost its carrier right after the attach, as some drivers reset it; \
                ingest starts when it is back"
            );
            self.reset.insert(interface, false);
        } else if self.log() {
            tracing::warn!("{interface}: the link has no carrier; ingest resumes when it is back");
        }
    }

    fn is_up(&mut self, interface: &str) {
        match self.reset.get_mut(interface) {
            Some(back) if !*back => {
                *back = true;
                tracing::info!("{interface}: the link is up");
            }
            _ => {
                if self.log() {
                    tracing::warn!("{interface}: the link is up; ingest resumes");
                }
            }
        }
    }
}
