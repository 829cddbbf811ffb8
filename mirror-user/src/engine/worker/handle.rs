//! Workers from the outside: started, let run, joined.

use std::{
    io,
    os::fd::RawFd,
    sync::{Arc, Mutex, PoisonError},
    thread::{self, JoinHandle},
    time::Instant,
};

use crossbeam_channel::{Sender, bounded};

use super::{
    orders::Orders,
    priority::Granted,
    ring::{Published, RingConfig, RingOutcome, died_of},
    setup::{Common, Origin, Ready, Setup},
};
use crate::{
    account::SinkHalt,
    engine::{
        EngineError, InterfacePlan, Priority, QueuePlan, Warning, WorkerStep, diagnose, kept::Position,
        options::Options, threads,
    },
    sink::WorkerContext,
    xsk::{self, Bind, HugePages, Statistics, ToBind},
};

/// A worker's thread, seen from outside.
pub(crate) struct Worker {
    pub(crate) interface: Arc<str>,
    pub(crate) place: QueuePlan,
    published: Arc<Mutex<Published>>,
    /// The kernel's counters of the socket when another process handed it over.
    before: Mutex<Statistics>,
    pub(crate) orders: Arc<Orders>,
    /// A message lets the worker run; closed without one, the worker ends.
    gate: Option<Sender<()>>,
    thread: Option<JoinHandle<Option<RingOutcome>>>,
    pub(crate) socket: RawFd,
    /// Of a socket that is not bound yet.
    pub(crate) to_bind: Option<ToBind>,
    /// Where it begins, see [`Socket::position`](xsk::Socket::position).
    pub(crate) position: u32,
    pub(crate) priority: Priority,
    /// Why its priority is less than it should be.
    pub(crate) warning: Option<Warning>,
}

impl Worker {
    /// Lets it run.
    pub(crate) fn open(&self) {
        // One that has ended is found out when it is joined.
        let _ = self.gate.as_ref().map(|gate| gate.send(()));
    }

    /// The counters that it published last.
    pub(crate) fn published(&self) -> Published {
        self.published.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What the kernel's counters of the socket were when another process handed it over.
    pub(crate) fn statistics_before(&self) -> Statistics {
        *self.before.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets that.
    pub(crate) fn continue_statistics(&self, before: Statistics) {
        *self.before.lock().unwrap_or_else(PoisonError::into_inner) = before;
    }

    /// It, at a [position](xsk::Socket::position) of its socket.
    pub(crate) fn stands_at(&self, position: u32) -> Position {
        Position { interface: self.interface.to_string(), queue: self.place.queue, position }
    }

    /// When it published last, and why its sinks ended, by position.
    pub(crate) fn vitals(&self) -> (Option<Instant>, Vec<Option<SinkHalt>>) {
        let published = self.published.lock().unwrap_or_else(PoisonError::into_inner);
        (published.at, published.counters.sinks.iter().map(|sink| sink.end.clone()).collect())
    }

    fn join(&mut self) -> Option<RingOutcome> {
        self.gate = None;
        // A thread that panicked outside its own guards has no outcome; the panic hook has printed why.
        self.thread.take()?.join().ok().flatten()
    }

    /// The worker's final account; for one that died without it, what it had published.
    pub(crate) fn outcome(&mut self) -> RingOutcome {
        self.join().unwrap_or_else(|| {
            let Published { mut counters, statistics, .. } = self.published();
            let reason = died_of(&self.interface, self.place.queue, "ended without an account");
            let end = SinkHalt::failed(&reason);
            counters.sinks.iter_mut().for_each(|sink| sink.end = Some(end.clone()));
            RingOutcome { counters, statistics, unstamped: 0, died: Some(reason) }
        })
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.join();
    }
}

/// Starts a worker for each of these queues and waits until each has its socket. `origins` has one for each
/// queue.
pub(crate) fn start_workers(
    options: &Options,
    plan: &InterfacePlan,
    queues: &[QueuePlan],
    common: &Common,
    first_worker: usize,
    origins: impl IntoIterator<Item = Origin>,
) -> Result<Vec<Worker>, EngineError> {
    let name: Arc<str> = plan.interface.name.as_str().into();
    let failed = |queue, source| EngineError::Worker {
        interface: name.to_string(),
        queue,
        step: WorkerStep::Start,
        source,
    };
    let mut starting = Vec::with_capacity(queues.len());
    for ((position, &place), origin) in queues.iter().enumerate().zip(origins) {
        let setup = Setup {
            ifindex: plan.interface.index,
            cx: WorkerContext {
                interface: Some(Arc::clone(&name)),
                queue: place.queue,
                worker: first_worker + position,
                workers: common.workers,
                cpu: Some(place.cpu),
                max_frame: common.max_frame,
                tunnels: common.pipeline.tunnels.clone(),
                wait_until: None,
            },
            place,
            socket: xsk::Config {
                rx_ring: options.rx_ring,
                chunks: plan.chunks,
                chunk_size: plan.chunk_size,
                bind: plan.bind,
                scatter_gather: plan.scatter_gather,
                huge_pages: if options.huge_pages { HugePages::Try } else { HugePages::Never },
            },
            origin,
            facts: diagnose::SocketFacts::of(&plan.host, plan.bind == Bind::ZeroCopy),
            ring: RingConfig {
                wait: options.wait,
                batch: options.batch,
                stamp: common.stamp,
                rx_ring: plan.rx_ring,
                spare_cpus: common.spare_cpus,
            },
            priority: options.priority,
            factories: options.sinks.clone(),
            hook: options.hook.clone(),
            orders: Orders::new(),
            common: common.clone(),
        };
        let published = Arc::new(Mutex::new(Published::default()));
        let (ready, is_ready) = bounded(1);
        let (gate, gate_opens) = bounded(1);
        let (shown, orders) = (Arc::clone(&published), Arc::clone(&setup.orders));
        let thread = thread::Builder::new()
            .name(threads::name(&format!("q{}", place.queue), &name, plan.interface.index))
            .spawn(move || setup.work(shown, &ready, &gate_opens))
            .map_err(|source| failed(place.queue, source))?;
        let interface = Arc::clone(&name);
        let worker = Worker {
            interface,
            place,
            published,
            before: Mutex::default(),
            orders,
            gate: Some(gate),
            thread: Some(thread),
            socket: -1,
            to_bind: None,
            position: 0,
            priority: options.priority,
            warning: None,
        };
        starting.push((worker, is_ready));
    }
    let mut workers = Vec::with_capacity(starting.len());
    let mut failure = None;
    for (mut worker, is_ready) in starting {
        match is_ready.recv() {
            Ok(Ok(Ready { socket, to_bind, position, priority: Granted { level, warning } })) => {
                (worker.socket, worker.to_bind, worker.position) = (socket, to_bind, position);
                (worker.priority, worker.warning) = (level, warning);
            }
            Ok(Err(error)) => failure = failure.or(Some(error)),
            Err(gone) => {
                failure = failure.or_else(|| Some(failed(worker.place.queue, io::Error::other(gone))));
            }
        }
        workers.push(worker);
    }
    failure.map_or(Ok(workers), Err)
}
