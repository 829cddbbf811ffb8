//! What a health check of a running engine looks at, without the cost of a report.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::interface::LiveInterface;
use crate::{
    account::{SinkReport, SinkState},
    pipeline,
    sink::SinkFactory,
};

/// The state of a running engine at a moment.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Vitals {
    /// One entry per interface.
    pub interfaces: Vec<InterfaceVitals>,
    /// One entry per sink, in the order of [`Report::sinks`](crate::Report::sinks).
    pub sinks: Vec<SinkVitals>,
}

/// The state of an interface.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct InterfaceVitals {
    /// Name, as given.
    pub name: String,
    /// Whether it was deleted, or moved to another network namespace; then the rest has no meaning.
    pub lost: bool,
    /// Whether it is up with a carrier.
    pub up: bool,
    /// The program on its XDP hook.
    pub hook: HookVitals,
    /// RX queues that are not read although all were asked for: they were added after the start.
    pub unread_queues: u32,
    /// One entry per queue that is read.
    pub queues: Vec<QueueVitals>,
}

/// What is on an interface's XDP hook.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum HookVitals {
    /// The engine's program.
    Ours,
    /// No program.
    Empty,
    /// Another program, with this id.
    Other(u32),
    /// The kernel did not say.
    Unknown,
}

/// The state of a queue's worker.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct QueueVitals {
    /// RX queue index.
    pub queue: u32,
    /// Time since the worker's last tick; it has one every 50 ms, loaded or idle.
    pub since_tick: Duration,
}

/// The state of a sink.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SinkVitals {
    /// Name of the sink.
    pub name: String,
    /// As in the report of a run under way: [`SinkState::Done`] while it takes frames.
    pub state: SinkState,
    /// Why it takes none.
    pub reason: Option<String>,
    /// See [`SinkFactory::lag`].
    pub lag: Option<Duration>,
}

impl Vitals {
    pub(super) fn of(interfaces: &[LiveInterface], sinks: &[Arc<dyn SinkFactory>]) -> Self {
        let now = Instant::now();
        let mut entries: Vec<_> = sinks
            .iter()
            .map(|sink| SinkReport { name: sink.name().to_owned(), ..SinkReport::default() })
            .collect();
        for (entry, sink) in entries.iter_mut().zip(sinks) {
            if let Some(halt) = pipeline::halted(sink) {
                entry.halt(&halt);
            }
        }
        let mut vitals = Vec::with_capacity(interfaces.len());
        for interface in interfaces {
            let mut queues = Vec::new();
            for (queue, at, ends) in interface.worker_vitals() {
                queues.push(QueueVitals { queue, since_tick: now.saturating_duration_since(at) });
                for (entry, end) in entries.iter_mut().zip(ends) {
                    if let Some(end) = end {
                        entry.halt(&end);
                    }
                }
            }
            vitals.push(interface.vitals(queues));
        }
        let sinks = entries.into_iter().zip(sinks);
        let sinks = sinks.map(|(SinkReport { name, state, reason, .. }, sink)| SinkVitals {
            name,
            state,
            reason,
            lag: sink.lag(),
        });
        Self { interfaces: vitals, sinks: sinks.collect() }
    }
}
