//! What the main thread finds out for health checks, once a second.

use std::{sync::Arc, time::Instant};

use mirror_user::engine::{HookVitals, InterfaceVitals, QueueVitals, Running, SinkVitals};

use crate::{
    http::{
        Board,
        health::{Facts, Frames, Health, Hook, INTERVAL, Interface, Sink},
    },
    outputs::Outputs,
};

/// Evaluates the health of a run.
pub(super) struct HealthWatch {
    board: Arc<Board>,
    health: Health,
    next: Instant,
}

impl HealthWatch {
    pub(super) fn new(board: Arc<Board>, most_loss: Option<f64>) -> Self {
        Self { board, health: Health::new(most_loss), next: Instant::now() }
    }

    /// The main loop turns; evaluates, if it is time.
    pub(super) fn turn(&mut self, now: Instant, running: &Running, outputs: &Outputs) {
        self.board.turn(now);
        if now < self.next {
            return;
        }
        self.next = now + INTERVAL;
        let facts = facts(running, outputs, self.health.counts_losses());
        self.board.put(self.health.evaluate(now, &facts));
    }
}

fn facts(running: &Running, outputs: &Outputs, with_losses: bool) -> Facts {
    let vitals = running.vitals();
    let sinks = vitals.sinks.into_iter().map(|SinkVitals { name, state, reason, lag, .. }| Sink {
        required: outputs.requires(&name),
        name,
        state,
        reason,
        lag,
    });
    Facts {
        interfaces: vitals.interfaces.into_iter().map(interface).collect(),
        sinks: sinks.collect(),
        frames: with_losses.then(|| frames(running)),
    }
}

fn interface(vitals: InterfaceVitals) -> Interface {
    let InterfaceVitals { name, lost, up, hook, unread_queues, queues, .. } = vitals;
    let hook = match hook {
        HookVitals::Ours => Hook::Ours,
        HookVitals::Empty => Hook::Empty,
        HookVitals::Other(id) => Hook::Other(id),
        _ => Hook::Unknown,
    };
    let queues = queues.into_iter().map(|QueueVitals { queue, since_tick, .. }| (queue, since_tick));
    Interface { name, lost, up, hook, unread_queues, queues: queues.collect() }
}

/// Frames that were to be taken, and those lost: before the workers, and for want of a block in the sink that
/// lost most.
fn frames(running: &Running) -> Frames {
    let report = running.report();
    let kernel = report.dropped_by_kernel();
    let blocks = report.sinks.iter().filter_map(|sink| sink.dropped.get("no_block")).max();
    Frames { all: report.frames.received + kernel, lost: kernel + blocks.copied().unwrap_or_default() }
}
