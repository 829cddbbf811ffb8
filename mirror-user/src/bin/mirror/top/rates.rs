//! Rates: differences of two reports of a run.

use std::{collections::HashMap, net::IpAddr};

use mirror_user::{
    Report,
    account::{InterfaceReport, Origin, QueueReport, SinkReport, SinkState},
};

use crate::{control::RunStatus, observed::Phase};

/// A counter, and how much it grew in a second, if that is known.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Count {
    pub(super) total: u64,
    pub(super) rate: Option<f64>,
}

/// What is drawn of a run.
#[derive(Clone, Debug)]
pub(super) struct View {
    pub(super) name: String,
    pub(super) pid: u32,
    pub(super) phase: Phase,
    /// Since when the run takes packets, in seconds; `None` if it starts.
    pub(super) age: Option<f64>,
    /// Frames with an inner packet, and bytes of them with outer headers.
    pub(super) packets: Count,
    pub(super) bytes: Count,
    /// What frames go through.
    pub(super) path: Vec<(&'static str, Count)>,
    /// Where they are lost.
    pub(super) losses: Vec<(&'static str, Count)>,
    pub(super) queues: Vec<Queue>,
    pub(super) sinks: Vec<Sink>,
    /// The fastest first.
    pub(super) origins: Vec<OriginCounts>,
    /// Origins that did not fit the table of the run.
    pub(super) other_origins: u64,
    pub(super) warnings: Vec<String>,
}

#[derive(Clone, Debug)]
pub(super) struct Queue {
    /// Interface and number.
    pub(super) name: String,
    pub(super) cpu: Option<usize>,
    pub(super) received: Count,
    /// Share of the time, since the last report, that its worker was busy.
    pub(super) busy: Option<f64>,
    pub(super) saturated: u64,
    pub(super) lost: Count,
}

#[derive(Clone, Debug)]
pub(super) struct Sink {
    pub(super) name: String,
    pub(super) state: SinkState,
    pub(super) removed: bool,
    pub(super) reason: Option<String>,
    pub(super) written: Count,
    pub(super) lost: Count,
    pub(super) pending: u64,
}

#[derive(Clone, Debug)]
pub(super) struct OriginCounts {
    /// Of its session, if that is known.
    pub(super) label: Option<String>,
    pub(super) source: IpAddr,
    pub(super) vni: u32,
    pub(super) frames: Count,
    pub(super) bytes: Count,
}

/// A report, and an earlier one of the same run.
struct Pair<'a> {
    now: &'a Report,
    before: Option<&'a Report>,
    /// Between the two.
    seconds: f64,
}

impl View {
    pub(super) fn of(status: &RunStatus<Report>, before: Option<&RunStatus<Report>>) -> Self {
        let mut view = Self {
            name: status.name.clone(),
            pid: status.pid,
            phase: status.phase,
            age: None,
            packets: Count { total: 0, rate: None },
            bytes: Count { total: 0, rate: None },
            path: Vec::new(),
            losses: Vec::new(),
            queues: Vec::new(),
            sinks: Vec::new(),
            origins: Vec::new(),
            other_origins: 0,
            warnings: Vec::new(),
        };
        let Some(now) = &status.report else { return view };
        let before = before.and_then(|before| before.report.as_ref());
        // Several processes may have a run in turn; another one starts at another time.
        let before = before.filter(|before| before.started == now.started);
        // The same report a second time has no rates.
        let before = before.filter(|before| before.duration_s < now.duration_s);
        let seconds = before.map_or(0.0, |before| now.duration_s - before.duration_s);
        let pair = Pair { now, before, seconds };
        view.age = Some(now.duration_s);
        view.packets = pair.count(|report| report.frames.decapsulated + report.forwarded_by_kernel());
        view.bytes = pair.count(bytes);
        view.path = pair.path();
        view.losses = pair.losses();
        view.queues = pair.queues();
        view.sinks = pair.sinks();
        view.origins = pair.origins();
        view.other_origins = now.origins_other.origins;
        view.warnings.clone_from(&now.warnings);
        view
    }
}

fn bytes(report: &Report) -> u64 {
    let forwarded = report.interfaces.iter().map(|interface| interface.xdp.forwarded_outer_bytes);
    report.frames.outer_bytes + forwarded.sum::<u64>()
}

impl Pair<'_> {
    /// A counter; counters do not fall.
    fn count(&self, of: impl Fn(&Report) -> u64) -> Count {
        self.counts(of(self.now), self.before.map(of))
    }

    #[expect(clippy::cast_precision_loss, reason = "rates for people")]
    fn counts(&self, total: u64, before: Option<u64>) -> Count {
        let rate = before.map(|before| total.saturating_sub(before) as f64 / self.seconds);
        Count { total, rate }
    }

    fn of_interfaces(&self, of: impl Fn(&InterfaceReport) -> u64) -> Count {
        self.count(|report| report.interfaces.iter().map(&of).sum())
    }

    fn of_queues(&self, of: impl Fn(&QueueReport) -> u64) -> Count {
        self.of_interfaces(|interface| interface.queues.iter().map(&of).sum())
    }

    fn of_sinks(&self, of: impl Fn(&SinkReport) -> u64) -> Count {
        self.count(|report| report.sinks.iter().map(&of).sum())
    }

    fn path(&self) -> Vec<(&'static str, Count)> {
        vec![
            ("seen", self.of_interfaces(|interface| interface.xdp.seen)),
            ("passed to host", self.of_interfaces(|interface| interface.xdp.passed.total())),
            ("refused", self.of_interfaces(|interface| interface.xdp.dropped.refused())),
            ("forwarded", self.of_interfaces(|interface| interface.xdp.forwarded)),
            ("redirected", self.of_interfaces(|interface| interface.xdp.redirected)),
            ("received", self.count(|report| report.frames.received)),
            ("decapsulated", self.count(|report| report.frames.decapsulated)),
            ("selected", self.count(|report| report.frames.selected)),
        ]
    }

    fn losses(&self) -> Vec<(&'static str, Count)> {
        vec![
            ("interface", self.count(Report::dropped_by_interface)),
            ("ring full", self.of_queues(|queue| queue.rx_ring_full)),
            ("no memory", self.of_queues(|queue| queue.rx_dropped)),
            ("redirect", self.of_interfaces(|interface| interface.xdp.redirect_failed.unwrap_or(0))),
            ("not sent", self.count(Report::not_sent_by_kernel)),
            ("rejected", self.count(|report| report.frames.rejected.total())),
            ("sinks dropped", self.of_sinks(|sink| sink.dropped.values().sum())),
            ("sinks failed", self.of_sinks(|sink| sink.failed.values().sum())),
        ]
    }

    fn queues(&self) -> Vec<Queue> {
        let each = |report: &Report, name: &str, queue: u32| {
            let interface = report.interfaces.iter().find(|interface| interface.name == name)?;
            interface.queues.iter().find(|found| found.queue == queue).cloned()
        };
        let mut queues = Vec::new();
        for interface in &self.now.interfaces {
            for now in &interface.queues {
                let before = self.before.and_then(|report| each(report, &interface.name, now.queue));
                let busy = |report: &Report, queue: &QueueReport| queue.busy_ratio * report.duration_s;
                let busy_before = self.before.zip(before.as_ref()).map(|(report, queue)| busy(report, queue));
                let count = |of: fn(&QueueReport) -> u64| self.counts(of(now), before.as_ref().map(of));
                queues.push(Queue {
                    name: format!("{} {}", interface.name, now.queue),
                    cpu: now.cpu,
                    received: count(|queue| queue.received),
                    busy: busy_before
                        .map(|before| ((busy(self.now, now) - before) / self.seconds).clamp(0.0, 1.0)),
                    saturated: now.saturated,
                    lost: count(|queue| queue.rx_dropped + queue.rx_ring_full + queue.lost_at_restart),
                });
            }
        }
        queues
    }

    fn sinks(&self) -> Vec<Sink> {
        let lost = |sink: &SinkReport| sink.dropped.values().chain(sink.failed.values()).sum::<u64>();
        let before = |index: usize, name: &str| {
            let sink = self.before.and_then(|report| report.sinks.get(index));
            sink.filter(|sink| sink.name == name)
        };
        let each = self.now.sinks.iter().enumerate().map(|(index, sink)| {
            let before = before(index, &sink.name);
            Sink {
                name: sink.name.clone(),
                state: sink.state,
                removed: sink.removed,
                reason: sink.reason.clone(),
                written: self.counts(sink.written, before.map(|sink| sink.written)),
                lost: self.counts(lost(sink), before.map(lost)),
                pending: sink.pending,
            }
        });
        each.collect()
    }

    /// An origin that is new began at 0.
    fn origins(&self) -> Vec<OriginCounts> {
        let key = |origin: &Origin| (origin.source, origin.vni);
        let before: Option<HashMap<_, _>> = self.before.map(|report| {
            report.origins.iter().map(|origin| (key(origin), (origin.frames, origin.inner_bytes))).collect()
        });
        let each = self.now.origins.iter().map(|origin| {
            let before = before.as_ref().map(|before| before.get(&key(origin)).copied().unwrap_or_default());
            OriginCounts {
                label: origin.session_label(),
                source: origin.source,
                vni: origin.vni,
                frames: self.counts(origin.frames, before.map(|(frames, _)| frames)),
                bytes: self.counts(origin.inner_bytes, before.map(|(_, bytes)| bytes)),
            }
        });
        let mut origins: Vec<_> = each.collect();
        let rate = |origin: &OriginCounts| origin.frames.rate.unwrap_or(0.0);
        origins.sort_by(|a, b| rate(b).total_cmp(&rate(a)).then(b.frames.total.cmp(&a.frames.total)));
        origins
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A run with two queues, two sinks and two origins, after so many seconds.
    pub(in crate::top) fn status(seconds: u32) -> RunStatus<Report> {
        let s = u64::from(seconds);
        let queue = |queue: u64| {
            serde_json::json!({"queue": queue, "cpu": queue + 1, "received": 500_000 * s,
                "rx_ring_full": 100 * s * queue,
                "busy_ratio": 0.25 * f64::from(u32::try_from(queue).unwrap() + 1), "saturated": 3})
        };
        let report = serde_json::json!({
            "schema": "mirror.report/1", "source": "af_xdp", "started": "2026-01-01T00:00:00Z",
            "duration_s": f64::from(seconds),
            "interfaces": [{"name": "ens5", "xdp": {"seen": 1_001_000 * s, "redirected": 1_000_100 * s,
                "passed": {"not_tunnel": 900 * s}}, "queues": [queue(0), queue(1)]}],
            "frames": {"received": 1_000_000 * s, "decapsulated": 999_000 * s, "selected": 999_000 * s,
                "outer_bytes": 125_000_000 * s, "rejected": {"short": 1000 * s}},
            "origins": [
                {"source": "10.77.2.1", "vni": 12345, "frames": 2_000_000 + s, "inner_bytes": 100 * s,
                    "at_least": false},
                {"source": "2001:db8::1", "vni": 16_777_215, "frames": 999_000 * s,
                    "inner_bytes": 62_500_000 * s, "at_least": false}],
            "sinks": [{"name": "counters", "state": "done", "written": 999_000 * s},
                {"name": "ring\u{1b}[2J", "state": "waiting", "reason": "no space on /data",
                    "written": 500_000 * s, "dropped": {"no_block": 499_000 * s}, "pending": 64}]
        });
        RunStatus {
            name: "ens5".to_owned(),
            pid: 4711,
            version: "0.1.0".to_owned(),
            phase: Phase::Ingesting,
            drain: None,
            report: Some(serde_json::from_value(report).unwrap()),
        }
    }

    fn of<'a>(rows: &'a [(&'static str, Count)], name: &str) -> &'a Count {
        &rows.iter().find(|(found, _)| *found == name).unwrap().1
    }

    #[test]
    fn rates_are_differences_over_the_time_between_reports() {
        let view = View::of(&status(100), Some(&status(98)));
        assert_eq!(view.packets, Count { total: 99_900_000, rate: Some(999_000.0) });
        assert_eq!(view.bytes.rate, Some(125_000_000.0));
        assert_eq!(*of(&view.path, "passed to host"), Count { total: 90_000, rate: Some(900.0) });
        assert_eq!(*of(&view.losses, "ring full"), Count { total: 10_000, rate: Some(100.0) });
        assert_eq!(*of(&view.losses, "sinks dropped"), Count { total: 49_900_000, rate: Some(499_000.0) });
        assert_eq!(view.queues[1].busy, Some(0.5));
        assert_eq!((view.queues[1].lost.rate, view.queues[0].lost.rate), (Some(100.0), Some(0.0)));
        assert_eq!(view.sinks[1].lost.rate, Some(499_000.0));
        // The faster, not the larger.
        assert_eq!((view.origins[0].vni, view.origins[0].frames.rate), (16_777_215, Some(999_000.0)));
    }

    #[test]
    fn rates_go_on_over_an_upgrade() {
        let mut before = status(98);
        before.pid = 1;
        assert_eq!(View::of(&status(100), Some(&before)).packets.rate, Some(999_000.0));
    }

    #[test]
    fn without_an_earlier_report_of_this_run_there_are_no_rates() {
        let mut other = status(98);
        other.report.as_mut().unwrap().started = "1970-01-01T00:00:01Z".to_owned();
        for before in [None, Some(&other), Some(&status(100)), Some(&status(101))] {
            let view = View::of(&status(100), before);
            assert_eq!(view.packets, Count { total: 99_900_000, rate: None });
            assert!(view.queues[0].busy.is_none() && view.origins[0].frames.rate.is_none());
        }
    }

    #[test]
    fn a_run_that_starts_has_no_report() {
        let mut starting = status(0);
        starting.report = None;
        let view = View::of(&starting, None);
        assert!(view.age.is_none() && view.queues.is_empty());
    }
}
