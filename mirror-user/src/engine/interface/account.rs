//! The account of an interface, during a run and at its end.

use std::{
    sync::PoisonError,
    thread,
    time::{Duration, Instant},
};

use super::LiveInterface;
use crate::{
    account::{
        ForwardPathReport, ForwardedOrigins, InterfaceReport, QueueReport, Report, WorkerCounters, XdpReport,
    },
    engine::worker::{Published, RingOutcome, Worker},
    host::statistics::loss_deltas,
    xdp::Sent,
    xsk::Statistics,
};

/// The account of an interface at rest.
pub(in crate::engine) struct ClosedAccount {
    pub(in crate::engine) report: InterfaceReport,
    pub(in crate::engine) origins: ForwardedOrigins,
    pub(in crate::engine) outcomes: Vec<RingOutcome>,
}

impl LiveInterface {
    /// Waits for the workers, after [`drain`](Self::drain), and closes the interface's account.
    pub(in crate::engine) fn close_account(mut self) -> ClosedAccount {
        let outcomes: Vec<_> = self.workers.iter_mut().map(Worker::outcome).collect();
        let queues = self.workers.iter().zip(&outcomes);
        let queues = queues
            .map(|(worker, outcome)| self.queue_report(worker, &outcome.counters, &outcome.statistics))
            .collect();
        let unstamped = outcomes.iter().map(|outcome| outcome.unstamped).sum::<u64>();
        self.await_fates();
        let mut report = self.report(&[]);
        report.queues = queues;
        report.unstamped = unstamped;
        let received = outcomes.iter().map(|outcome| outcome.counters.frames.received).sum::<u64>();
        if unstamped > 0 && unstamped == received {
            report.time = "user".into();
        }
        ClosedAccount { report, origins: self.forwarded_origins(), outcomes }
    }

    /// Frames that its XDP program has redirected or forwarded; `None` if its counters cannot be read.
    pub(in crate::engine) fn taken(&self) -> Option<u64> {
        self.program.report().ok().map(|xdp| xdp.redirected + xdp.forwarded)
    }

    /// Frames that the kernel forwarded, by origin.
    pub(in crate::engine) fn forwarded_origins(&self) -> ForwardedOrigins {
        self.program.forwarded_origins().unwrap_or_else(|error| {
            let interface = &self.plan.interface.name;
            tracing::error!(interface, %error, "the origins of forwarded frames cannot be read");
            ForwardedOrigins::default()
        })
    }

    /// Where frames are forwarded, and what became of those that the kernel forwarded.
    fn forward_path(&self) -> Option<ForwardPathReport> {
        let mut path = self.forward.report()?;
        match self.program.sent() {
            Ok(sent) => {
                for (target, Sent { sent, not_sent }) in
                    path.targets.iter_mut().zip(sent.into_iter().flatten())
                {
                    (target.sent, target.not_sent) = (Some(sent), Some(not_sent));
                }
            }
            Err(error) => {
                let interface = &self.plan.interface.name;
                tracing::error!(interface, %error, "the counters of forwarded frames cannot be read");
            }
        }
        Some(path)
    }

    /// Waits, for a short time, until each forwarded frame is sent or not sent: a driver may flush them after
    /// the program was detached. A frame that is neither by then remains in the residue.
    fn await_fates(&self) {
        const PATIENCE: Duration = Duration::from_millis(500);
        const PAUSE: Duration = Duration::from_millis(5);
        let deadline = Instant::now() + PATIENCE;
        while let (Ok(xdp), Ok(Some(sent))) = (self.program.report(), self.program.sent()) {
            let known: u64 = sent.iter().map(|Sent { sent, not_sent }| sent + not_sent.total()).sum();
            if xdp.forwarded == known || Instant::now() >= deadline {
                return;
            }
            thread::sleep(PAUSE);
        }
    }

    /// Takes over where the account of the process that handed over has ended: the kernel's counters of its
    /// sockets go on.
    pub(in crate::engine) fn continue_account(&self, predecessor: &InterfaceReport) {
        for worker in &self.workers {
            let queue = worker.place.queue;
            if let Some(before) = predecessor.queues.iter().find(|before| before.queue == queue) {
                let earlier = self.earlier.get(&queue).copied().unwrap_or_default();
                worker.continue_statistics(since(&statistics_of(before), &earlier));
            }
        }
    }

    /// Of each worker: what the kernel has counted in sockets that the run had before the present one, by the
    /// account of the process before this one.
    pub(super) fn statistics_of_earlier_sockets(&self, before: Option<&Report>) -> Vec<Statistics> {
        let interfaces = before.iter().flat_map(|before| &before.interfaces);
        let of_interface = interfaces.filter(|other| other.name == self.plan.interface.name);
        let queues: Vec<_> = of_interface.flat_map(|other| &other.queues).collect();
        let earlier = self.workers.iter().map(|worker| {
            let before = queues.iter().find(|other| other.queue == worker.place.queue);
            before.map(|before| since(&statistics_of(before), &worker.statistics_before()))
        });
        earlier.map(Option::unwrap_or_default).collect()
    }

    fn queue_report(
        &self,
        worker: &Worker,
        counters: &WorkerCounters,
        statistics: &Statistics,
    ) -> QueueReport {
        let received = counters.frames.received;
        let statistics = since(statistics, &worker.statistics_before());
        #[expect(clippy::cast_precision_loss, reason = "ratios for people")]
        let ratio = |part: u64, whole: u64| if whole == 0 { 0.0 } else { part as f64 / whole as f64 };
        QueueReport {
            queue: worker.place.queue,
            cpu: Some(worker.place.cpu),
            priority: Some(worker.priority.name().into()),
            received,
            rx_dropped: statistics.rx_dropped,
            rx_ring_full: statistics.rx_ring_full,
            rx_invalid_descs: statistics.rx_invalid_descs,
            fill_ring_empty: statistics.fill_ring_empty,
            oversize: (!self.plan.scatter_gather)
                .then(|| statistics.rx_dropped.saturating_sub(statistics.fill_ring_empty)),
            busy_ns_per_frame: ratio(counters.busy_ns, received),
            busy_ratio: ratio(counters.busy_ns, counters.elapsed_ns),
            saturated: counters.saturated,
            lost_at_restart: 0,
        }
    }

    /// The interface's account as it stands, with what its workers have published.
    pub(in crate::engine) fn report(&self, published: &[Published]) -> InterfaceReport {
        let interface = &self.plan.interface;
        let mut xdp = self.program.report().unwrap_or_else(|error| {
            tracing::error!(interface = interface.name, %error, "the XDP program's counters cannot be read");
            XdpReport::default()
        });
        let (at_start, at_upgrade) = {
            let queues = &self.watched().queues;
            (queues.at_start(), queues.since_withdrawn(xdp.passed.no_socket))
        };
        (xdp.no_socket_at_start, xdp.no_socket_at_upgrade) = (at_start, at_upgrade.unwrap_or_default());
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
            xdp_mode: self.mode.name().into(),
            bind: self.plan.bind.name().into(),
            time: (if self.stamp { "kernel" } else { "user" }).into(),
            unstamped: 0,
            all_queues: self.plan.all_queues,
            lost: self.is_lost(),
            xdp,
            forward_path: self.forward_path(),
            nic,
            queues: self
                .workers
                .iter()
                .zip(published)
                .map(|(worker, shown)| self.queue_report(worker, &shown.counters, &shown.statistics))
                .collect(),
        }
    }
}

/// The kernel's counters of a queue's sockets, as reported.
fn statistics_of(report: &QueueReport) -> Statistics {
    let QueueReport { rx_dropped, rx_ring_full, rx_invalid_descs, fill_ring_empty, .. } = *report;
    Statistics { rx_dropped, rx_ring_full, rx_invalid_descs, fill_ring_empty }
}

/// The kernel's counters of a socket, without what they were when another process handed it over.
fn since(now: &Statistics, before: &Statistics) -> Statistics {
    let Statistics { rx_dropped, rx_ring_full, rx_invalid_descs, fill_ring_empty } = now;
    Statistics {
        rx_dropped: rx_dropped.saturating_sub(before.rx_dropped),
        rx_ring_full: rx_ring_full.saturating_sub(before.rx_ring_full),
        rx_invalid_descs: rx_invalid_descs.saturating_sub(before.rx_invalid_descs),
        fill_ring_empty: fill_ring_empty.saturating_sub(before.fill_ring_empty),
    }
}
