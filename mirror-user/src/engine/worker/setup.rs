//! What a worker's thread does before its first frame: all that needs privileges or that thread's memory
//! node.

use std::{
    os::fd::{AsRawFd, OwnedFd, RawFd},
    panic::{self, AssertUnwindSafe},
    sync::{Arc, Mutex},
};

use crossbeam_channel::{Receiver, Sender};

use super::{
    orders::Orders,
    priority::{self, Granted, Saturation},
    ring::{Control, Published, RingConfig, RingOutcome, RingWorker},
};
use crate::{
    engine::{EngineError, Event, Priority, QueuePlan, ThreadHook, Wait, WorkerStep, diagnose},
    error::panic_message,
    host::{
        affinity::pin,
        scheduling::{self, Scheduling},
    },
    pipeline::{Pipeline, PipelineConfig, SinkSlot},
    sink::{SinkError, SinkFactory, WorkerContext},
    xsk::{self, Socket, SocketError, SocketParts, ToBind},
};

/// What all workers of a run share.
#[derive(Clone)]
pub(crate) struct Common {
    pub(crate) pipeline: PipelineConfig,
    pub(crate) control: Arc<Control>,
    pub(crate) events: Sender<Event>,
    pub(crate) stamp: bool,
    /// The most bytes an outer frame can have.
    pub(crate) max_frame: usize,
    /// Workers of the run, over all interfaces.
    pub(crate) workers: usize,
    /// Whether the host has CPUs without one.
    pub(crate) spare_cpus: bool,
}

/// Where a worker has its socket from.
pub(crate) enum Origin {
    /// It opens one and binds it.
    New,
    /// It opens one, which is bound when that of another process is closed.
    NewToBind,
    Inherited(Inherited),
}

/// What the worker of another process leaves to one of this.
pub(crate) struct Inherited {
    pub(crate) parts: SocketParts,
    /// Says when that one has stopped; `None` if its process has ended.
    pub(crate) signal: Option<OwnedFd>,
}

/// A worker that is ready to run, seen from outside.
pub(super) struct Ready {
    pub(super) socket: RawFd,
    /// With [`Origin::NewToBind`].
    pub(super) to_bind: Option<ToBind>,
    /// Where its worker begins, see [`Socket::position`].
    pub(super) position: u32,
    pub(super) priority: Granted,
}

/// What a worker's thread starts with.
pub(super) struct Setup {
    pub(super) cx: WorkerContext,
    pub(super) ifindex: u32,
    pub(super) place: QueuePlan,
    pub(super) socket: xsk::Config,
    pub(super) origin: Origin,
    pub(super) facts: diagnose::SocketFacts,
    pub(super) ring: RingConfig,
    pub(super) priority: Priority,
    pub(super) factories: Vec<Arc<dyn SinkFactory>>,
    pub(super) hook: Option<ThreadHook>,
    pub(super) orders: Arc<Orders>,
    pub(super) common: Common,
}

impl Setup {
    /// Prepares, answers with the socket or the error, and works once the gate opens.
    pub(super) fn work(
        self,
        published: Arc<Mutex<Published>>,
        ready: &Sender<Result<Ready, EngineError>>,
        gate: &Receiver<()>,
    ) -> Option<RingOutcome> {
        let prepared = self.prepare(published);
        let (worker, answer) = match prepared {
            Ok((worker, to_bind, priority)) => {
                let (socket, position) = (worker.socket.as_raw_fd(), worker.socket.position());
                (Some(worker), Ok(Ready { socket, to_bind, position, priority }))
            }
            Err(error) => (None, Err(error)),
        };
        // The starter waits for the answer; if it was dropped, so was the other end of the gate.
        let _ = ready.send(answer);
        let worker = worker?;
        gate.recv().ok()?;
        Some(worker.run())
    }

    /// All that needs privileges or this thread's memory node.
    fn prepare(
        self,
        published: Arc<Mutex<Published>>,
    ) -> Result<(RingWorker, Option<ToBind>, Granted), EngineError> {
        let Self {
            cx,
            ifindex,
            place,
            socket,
            origin,
            facts,
            ring,
            priority,
            factories,
            hook,
            orders,
            common,
        } = self;
        let interface = cx.interface.clone().unwrap_or_default();
        let step_failed = |step| {
            let interface = interface.to_string();
            move |source| EngineError::Worker { interface, queue: place.queue, step, source }
        };
        pin(place.cpu).map_err(step_failed(WorkerStep::Pin { cpu: place.cpu }))?;
        let sinks = factories.iter().map(|factory| build(&**factory, &cx)).collect::<Result<_, _>>()?;
        let failed = |source| EngineError::Socket {
            interface: interface.to_string(),
            queue: place.queue,
            cause: diagnose::socket(&source, &facts),
            source,
        };
        let (mut to_bind, mut after) = (None, None);
        let socket = match origin {
            Origin::New => Socket::open(ifindex, place.queue, &socket),
            Origin::NewToBind => Socket::open_to_bind(ifindex, place.queue, &socket).map(|(socket, it)| {
                to_bind = Some(it);
                socket
            }),
            Origin::Inherited(Inherited { parts, signal }) => {
                let adopted = Socket::adopt(parts, &socket);
                after = signal;
                adopted.map(|mut socket| {
                    if after.is_none() {
                        socket.recover();
                    }
                    socket
                })
            }
        };
        let socket = socket.map_err(failed)?;
        if ring.wait == Wait::BusyPoll {
            let budget = i32::try_from(ring.batch).unwrap_or(i32::MAX);
            socket.prefer_busy_poll(budget).map_err(SocketError::BusyPoll).map_err(failed)?;
        }
        tracing::debug!(
            interface = &*interface,
            queue = place.queue,
            cpu = place.cpu,
            huge_pages = socket.in_huge_pages(),
            "socket opened"
        );
        // Before the hook, which may drop the capability for it. Threads of sinks do not inherit it.
        let ordinary = Scheduling::own().map_err(step_failed(WorkerStep::Priority))?;
        let granted = priority::set(priority, ring.wait).map_err(step_failed(WorkerStep::Priority))?;
        // A hook may drop the capability.
        let can_return = hook.is_none() || scheduling::limit_permits_realtime();
        if let Some(hook) = hook {
            hook().map_err(step_failed(WorkerStep::Hook))?;
        }
        let saturation = Saturation::new(granted.level, ring.wait, ordinary, can_return);
        let worker = RingWorker {
            config: ring,
            place: (interface, place.queue),
            socket,
            pipeline: Pipeline::new(common.pipeline, place.queue, sinks),
            control: common.control,
            orders,
            after,
            yields: None,
            built: Vec::new(),
            cx,
            published,
            events: common.events,
            saturation,
        };
        Ok((worker, to_bind, granted))
    }
}

/// Builds a sink; a panic in it is its error.
pub(super) fn build(factory: &dyn SinkFactory, cx: &WorkerContext) -> Result<SinkSlot, EngineError> {
    panic::catch_unwind(AssertUnwindSafe(|| SinkSlot::build(factory, cx)))
        .unwrap_or_else(|payload| Err(SinkError::Other(panic_message(&*payload))))
        .map_err(|source| EngineError::Sink { sink: factory.name().to_owned(), source })
}
