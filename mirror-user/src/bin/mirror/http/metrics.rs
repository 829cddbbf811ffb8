//! `/metrics`: a report as Prometheus' text format, version 0.0.4.
//!
//! One table has the names. Counters never go back and their series never leave, whatever the report says:
//! otherwise rate() would be wrong. Origins have bounded series: those that are seen first, the most frames
//! first; the others are counted together.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::{self, Write as _},
    net::IpAddr,
};

use mirror_user::{
    Report,
    account::{InterfaceReport, MemberReport, NotSent, QueueReport, SinkReport, SinkState},
};

use super::{
    board::State,
    health::{Level, Verdict},
    process::ProcessFacts,
};

/// Source and VNI of an origin, by which its series are labelled.
pub(crate) type OriginId = (IpAddr, u32);

/// The most origins with a series of their own.
const ORIGINS: usize = 256;
/// The most counters of drivers with a series of their own.
const NIC_COUNTERS: usize = 64;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    Counter,
    Gauge,
}

macro_rules! families {
    ($($family:ident = $kind:ident $name:literal, $help:literal;)*) => {
        /// The families of metrics, in the order in which they are written.
        #[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
        enum Family { $($family,)* }

        impl Family {
            #[cfg(test)]
            const ALL: &[Self] = &[$(Self::$family,)*];

            fn described(self) -> (&'static str, Kind, &'static str) {
                match self { $(Self::$family => ($name, Kind::$kind, $help),)* }
            }
        }
    };
}

families! {
    Build = Gauge "mirror_build_info", "Version of mirror.";
    Interface = Gauge "mirror_interface_info", "How an interface is read.";
    Health = Gauge "mirror_health_check", "1 if a check of /health passes, degraded or not; else 0.";
    Degraded = Gauge "mirror_health_check_degraded", "1 if a check of /health is degraded.";
    Seen = Counter "mirror_xdp_seen_frames_total", "Frames that entered the XDP program.";
    Xdp = Counter "mirror_xdp_frames_total", "Frames by verdict of the XDP program.";
    Forwarded = Counter "mirror_xdp_forwarded_bytes_total", "Bytes that the XDP program forwarded.";
    KernelLost = Counter "mirror_kernel_lost_frames_total", "Redirected frames that no worker received.";
    KernelSent = Counter "mirror_kernel_forwarded_frames_total", "Frames that the kernel forwarded.";
    Allowance = Counter "mirror_nic_allowance_exceeded_total", "Packets over an allowance of the instance.";
    NicLost = Counter "mirror_nic_lost_frames_total", "Frames that the NIC lost before the XDP program.";
    Nic = Counter "mirror_nic_driver_losses_total", "Loss counters of the driver, which may overlap.";
    Worker = Counter "mirror_worker_frames_total", "Frames that a worker received.";
    Busy = Counter "mirror_worker_busy_seconds_total", "Time that a worker spent on frames.";
    Saturated = Counter "mirror_worker_saturated_total", "Times that a worker was saturated for 10 ms.";
    Frames = Counter "mirror_frames_total", "Received frames by result.";
    Odd = Counter "mirror_odd_frames_total", "Frames that were decapsulated, but were unusual.";
    Reassembled = Counter "mirror_reassembled_datagrams_total", "Datagrams reassembled from fragments.";
    Bytes = Counter "mirror_bytes_total", "Captured bytes of received frames.";
    SinkFrames = Counter "mirror_sink_frames_total", "Frames offered to a sink, by result.";
    Deselected = Counter "mirror_sink_deselected_frames_total", "Frames that a sink does not select.";
    Pending = Gauge "mirror_sink_pending_frames", "Frames that a sink holds.";
    SinkUp = Gauge "mirror_sink_up", "1 while a sink takes frames.";
    Lag = Gauge "mirror_sink_lag_seconds", "Age of the oldest frames that wait for a sink's thread.";
    Target = Counter "mirror_target_frames_total", "Frames by target of a sink, or by part.";
    OriginFrames = Counter "mirror_origin_frames_total", "Inner frames by origin.";
    OriginBytes = Counter "mirror_origin_bytes_total", "Captured bytes of inner frames by origin.";
    Origins = Gauge "mirror_origins", "Origins in the report.";
    Unlisted = Counter "mirror_origins_unlisted_frames_total", "Inner frames of origins without a series.";
    Residue = Gauge "mirror_accounting_residue_frames", "Frames unaccounted for, at rest.";
    Processes = Counter "mirror_process_changes_total", "Times that a new process went on with the run.";
    ProcessCpu = Counter "process_cpu_seconds_total", "CPU time used, in seconds.";
    ProcessResident = Gauge "process_resident_memory_bytes", "Resident memory, in bytes.";
    ProcessVirtual = Gauge "process_virtual_memory_bytes", "Virtual memory, in bytes.";
    ProcessFiles = Gauge "process_open_fds", "Open file descriptors.";
    ProcessMostFiles = Gauge "process_max_fds", "The most file descriptors that may be open.";
    ProcessStart = Gauge "process_start_time_seconds", "Start of the process, in seconds since the epoch.";
}

/// A whole number, or one with a fraction.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Number {
    Whole(u64),
    Real(f64),
}

impl Number {
    /// The greater of two of a series.
    fn at_least(self, other: Self) -> Self {
        match (self, other) {
            (Self::Whole(one), Self::Whole(other)) => Self::Whole(one.max(other)),
            (Self::Real(one), Self::Real(other)) => Self::Real(one.max(other)),
            _ => self,
        }
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(number) => number.fmt(f),
            Self::Real(number) => number.fmt(f),
        }
    }
}

/// Writes metrics, and remembers the series of counters.
#[derive(Debug, Default)]
pub(super) struct Exporter {
    /// By family, then by labels as they are written.
    series: BTreeMap<Family, BTreeMap<String, Number>>,
    /// Those with series of their own, and their frames and bytes.
    origins: HashMap<OriginId, (u64, u64)>,
    /// Their sessions, as far as they are known.
    sessions: HashMap<OriginId, Session>,
}

/// The labels of an origin's session.
#[derive(Clone, Debug)]
struct Session {
    id: String,
    interface: String,
    owner: String,
}

impl Exporter {
    /// Lists these origins before others, as the process before this one did.
    pub(super) fn list(&mut self, origins: impl IntoIterator<Item = OriginId>) {
        self.origins.extend(origins.into_iter().map(|origin| (origin, (0, 0))));
    }

    /// The origins that have series of their own.
    pub(super) fn listed(&self) -> impl ExactSizeIterator<Item = OriginId> {
        self.origins.keys().copied()
    }

    /// The metrics of a report and of what else is known.
    pub(super) fn text(&mut self, report: &Report, state: &State) -> String {
        self.series.retain(|family, _| family.described().1 == Kind::Counter);
        self.set(Family::Build, &[("version", env!("CARGO_PKG_VERSION"))], 1);
        report.interfaces.iter().for_each(|interface| self.interface(interface));
        self.frames(report);
        report.sinks.iter().for_each(|sink| self.sink(sink));
        self.origins(report);
        for (kind, count) in [
            ("upgrade", report.upgrades.count),
            ("cold_upgrade", report.upgrades.cold),
            ("restart", report.restarts.count),
        ] {
            self.set(Family::Processes, &[("kind", kind)], count);
        }
        // Before the end of the run the laws are not compared.
        if !report.accounting.laws.is_empty() {
            self.set(Family::Residue, &[], report.accounting.residue);
        }
        if let Some(verdict) = &state.verdict {
            self.verdict(verdict);
        }
        self.process(&state.process);
        self.written()
    }

    fn written(&self) -> String {
        let mut text = String::with_capacity(64 << 10);
        for (family, series) in &self.series {
            let (name, kind, help) = family.described();
            let kind = if kind == Kind::Counter { "counter" } else { "gauge" };
            // Writing to a String cannot fail.
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
            for (labels, number) in series {
                let _ = writeln!(text, "{name}{labels} {number}");
            }
        }
        text
    }

    fn set(&mut self, family: Family, labels: &[(&str, &str)], whole: u64) {
        self.put(family, labels, Number::Whole(whole));
    }

    fn put(&mut self, family: Family, labels: &[(&str, &str)], number: Number) {
        let place = self.series.entry(family).or_default().entry(written(labels)).or_insert(number);
        *place = if family.described().1 == Kind::Counter { place.at_least(number) } else { number };
    }

    fn interface(&mut self, report: &InterfaceReport) {
        let InterfaceReport { name, driver, xdp_mode, bind, time, xdp, forward_path, nic, queues, .. } =
            report;
        let of = ("interface", name.as_str());
        let driver = driver.as_deref().unwrap_or_default();
        self.set(
            Family::Interface,
            &[of, ("driver", driver), ("mode", &**xdp_mode), ("bind", &**bind), ("time", &**time)],
            1,
        );
        self.set(Family::Seen, &[of], xdp.seen);
        for (verdict, frames) in [("redirected", xdp.redirected), ("forwarded", xdp.forwarded)] {
            self.set(Family::Xdp, &[of, ("verdict", verdict), ("reason", "")], frames);
        }
        for (reason, frames, _) in xdp.passed.reasons() {
            self.set(Family::Xdp, &[of, ("verdict", "passed"), ("reason", reason)], frames);
        }
        for (reason, frames, _) in xdp.dropped.reasons() {
            self.set(Family::Xdp, &[of, ("verdict", "dropped"), ("reason", reason)], frames);
        }
        self.set(Family::Forwarded, &[of, ("headers", "outer")], xdp.forwarded_outer_bytes);
        self.set(Family::Forwarded, &[of, ("headers", "inner")], xdp.forwarded_inner_bytes);
        if let Some(failed) = xdp.redirect_failed {
            self.set(Family::KernelLost, &[of, ("queue", ""), ("cause", "redirect")], failed);
        }
        for target in forward_path.iter().flat_map(|path| &path.targets) {
            let to = ("target", target.name.as_str());
            if let Some(sent) = target.sent {
                self.set(Family::KernelSent, &[of, to, ("result", "sent"), ("reason", "")], sent);
            }
            for (reason, frames, _) in target.not_sent.iter().flat_map(NotSent::reasons) {
                self.set(Family::KernelSent, &[of, to, ("result", "not_sent"), ("reason", reason)], frames);
            }
        }
        queues.iter().for_each(|queue| self.queue(of, queue));
        self.nic(of, nic);
    }

    fn queue(&mut self, interface: (&str, &str), report: &QueueReport) {
        let queue = report.queue.to_string();
        let of = [interface, ("queue", queue.as_str())];
        self.set(Family::Worker, &of, report.received);
        self.set(Family::Saturated, &of, report.saturated);
        #[expect(clippy::cast_precision_loss, reason = "a time in seconds")]
        let busy = report.busy_ns_per_frame * report.received as f64 / 1e9;
        self.put(Family::Busy, &of, Number::Real(busy));
        for (cause, frames) in [
            ("rx_dropped", report.rx_dropped),
            ("ring_full", report.rx_ring_full),
            ("restart", report.lost_at_restart),
        ] {
            self.set(Family::KernelLost, &[of[0], of[1], ("cause", cause)], frames);
        }
    }

    fn nic(&mut self, of: (&str, &str), counters: &BTreeMap<String, u64>) {
        const STANDARD: [(&str, &str); 3] =
            [("rx_over_errors", "overrun"), ("rx_missed_errors", "missed"), ("rx_fifo_errors", "fifo")];
        for (name, count) in counters {
            if let Some(kind) = name.strip_suffix("_allowance_exceeded") {
                self.set(Family::Allowance, &[of, ("kind", kind)], *count);
            } else if let Some((_, cause)) = STANDARD.iter().find(|(known, _)| known == name) {
                self.set(Family::NicLost, &[of, ("cause", cause)], *count);
            } else {
                let labels = [of, ("counter", name.as_str())];
                let known = self.series.entry(Family::Nic).or_default();
                // Drivers have some for each queue.
                if known.contains_key(&written(&labels)) || known.len() < NIC_COUNTERS {
                    self.set(Family::Nic, &labels, *count);
                }
            }
        }
    }

    fn frames(&mut self, report: &Report) {
        let frames = &report.frames;
        for (result, count) in [
            ("decapsulated", frames.decapsulated),
            ("abandoned", frames.abandoned),
            ("fragment_consumed", frames.fragments_consumed),
        ] {
            self.set(Family::Frames, &[("result", result), ("reason", "")], count);
        }
        for (reason, count, _) in frames.rejected.reasons() {
            self.set(Family::Frames, &[("result", "rejected"), ("reason", reason)], count);
        }
        for (kind, count) in [
            ("reserved_bits", frames.odd.reserved_bits),
            ("truncated_inner", frames.odd.truncated_inner),
            ("impossible_length", frames.odd.impossible_length),
        ] {
            self.set(Family::Odd, &[("kind", kind)], count);
        }
        self.set(Family::Reassembled, &[], frames.reassembled);
        self.set(Family::Bytes, &[("headers", "outer")], frames.outer_bytes);
        self.set(Family::Bytes, &[("headers", "inner")], frames.inner_bytes);
    }

    fn sink(&mut self, report: &SinkReport) {
        let SinkReport {
            name, state, removed, deselected, written, dropped, failed, pending, members, ..
        } = report;
        let of = ("sink", name.as_str());
        // One that a reload has removed is neither up nor down.
        if !removed {
            self.set(Family::SinkUp, &[of], u64::from(*state == SinkState::Done));
        }
        self.set(Family::Deselected, &[of], *deselected);
        self.set(Family::Pending, &[of], *pending);
        self.set(Family::SinkFrames, &[of, ("result", "written"), ("reason", "")], *written);
        for (result, losses) in [("dropped", dropped), ("failed", failed)] {
            for (reason, frames) in losses {
                self.set(Family::SinkFrames, &[of, ("result", result), ("reason", &**reason)], *frames);
            }
        }
        for MemberReport { target, written, dropped, failed, .. } in members {
            let to = ("target", target.as_str());
            self.set(Family::Target, &[of, to, ("result", "written"), ("reason", "")], *written);
            for (result, losses) in [("dropped", dropped), ("failed", failed)] {
                for (reason, frames) in losses {
                    let labels = [of, to, ("result", result), ("reason", &**reason)];
                    self.set(Family::Target, &labels, *frames);
                }
            }
        }
    }

    fn origins(&mut self, report: &Report) {
        let mut all = report.origins_other.frames;
        for origin in &report.origins {
            all += origin.frames;
            let key = (origin.source, origin.vni);
            if self.origins.contains_key(&key) || self.origins.len() < ORIGINS {
                let (frames, bytes) = self.origins.entry(key).or_default();
                (*frames, *bytes) = ((*frames).max(origin.frames), (*bytes).max(origin.inner_bytes));
                if let Some(id) = &origin.session {
                    self.sessions.entry(key).or_insert_with(|| Session {
                        id: id.clone(),
                        interface: origin.interface.clone().unwrap_or_default(),
                        owner: origin.owner.clone().unwrap_or_default(),
                    });
                }
            }
        }
        let listed: Vec<_> = self.origins.iter().map(|(key, counts)| (*key, *counts)).collect();
        for ((source, vni), (frames, bytes)) in &listed {
            let session = self.sessions.get(&(*source, *vni)).cloned();
            let (vni, source) = (vni.to_string(), source.to_string());
            let mut of = vec![("vni", vni.as_str()), ("source", source.as_str())];
            if let Some(Session { id, interface, owner }) = &session {
                of.extend([("session", id.as_str()), ("interface", interface), ("owner", owner)]);
            }
            self.set(Family::OriginFrames, &of, *frames);
            self.set(Family::OriginBytes, &of, *bytes);
        }
        let listed: u64 = listed.iter().map(|(_, (frames, _))| frames).sum();
        self.set(Family::Unlisted, &[], all.saturating_sub(listed));
        self.set(Family::Origins, &[], report.origins.len() as u64);
    }

    fn verdict(&mut self, verdict: &Verdict) {
        for (check, finding) in &verdict.checks {
            let of = [("check", *check)];
            self.set(Family::Health, &of, u64::from(finding.level != Level::Failed));
            self.set(Family::Degraded, &of, u64::from(finding.level == Level::Degraded));
        }
        for (sink, lag) in &verdict.lags {
            self.put(Family::Lag, &[("sink", sink.as_str())], Number::Real(lag.as_secs_f64()));
        }
    }

    fn process(&mut self, facts: &ProcessFacts) {
        let ProcessFacts { cpu, resident, virtual_memory, open_files, most_files, started } = facts;
        for (family, whole) in [
            (Family::ProcessResident, resident),
            (Family::ProcessVirtual, virtual_memory),
            (Family::ProcessFiles, open_files),
            (Family::ProcessMostFiles, most_files),
        ] {
            if let Some(whole) = whole {
                self.set(family, &[], *whole);
            }
        }
        for (family, time) in [(Family::ProcessCpu, cpu), (Family::ProcessStart, started)] {
            if let Some(time) = time {
                self.put(family, &[], Number::Real(time.as_secs_f64()));
            }
        }
    }
}

/// Labels as they are written; empty without any.
fn written(labels: &[(&str, &str)]) -> String {
    let mut text = String::new();
    for (name, value) in labels {
        text.push(if text.is_empty() { '{' } else { ',' });
        text.push_str(name);
        text.push_str("=\"");
        for character in value.chars() {
            match character {
                '\\' => text.push_str("\\\\"),
                '"' => text.push_str("\\\""),
                '\n' => text.push_str("\\n"),
                other => text.push(other),
            }
        }
        text.push('"');
    }
    if !text.is_empty() {
        text.push('}');
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn report(fields: &Value) -> Report {
        let mut report = json!({ "schema": "mirror.report/1", "source": "af_xdp", "started": "" });
        let (all, fields) = (report.as_object_mut().unwrap(), fields.as_object().unwrap().clone());
        all.extend(fields);
        serde_json::from_value(report).unwrap()
    }

    /// Series with their values.
    fn scrape(exporter: &mut Exporter, fields: &Value) -> BTreeMap<String, f64> {
        let text = exporter.text(&report(fields), &State::default());
        let series = text.lines().filter(|line| !line.starts_with('#'));
        series
            .map(|line| line.rsplit_once(' ').unwrap())
            .map(|(series, number)| (series.to_owned(), number.parse().unwrap()))
            .collect()
    }

    /// Families and their kinds are written once each, before their series.
    #[test]
    fn a_scrape_has_help_and_type_of_each_family_and_counters_end_in_total() {
        let text =
            Exporter::default().text(&report(&json!({ "sinks": [{ "name": "a" }] })), &State::default());
        let mut family = "";
        for line in text.lines() {
            if let Some(described) = line.strip_prefix("# HELP ") {
                family = described.split(' ').next().unwrap();
                assert_eq!(text.matches(line).count(), 1);
            } else if !line.starts_with('#') {
                assert_eq!(line.split(['{', ' ']).next(), Some(family), "{line}");
            }
        }
        for family in Family::ALL {
            let (name, kind, help) = family.described();
            assert_eq!(kind == Kind::Counter, name.ends_with("_total"), "{name}");
            assert!(help.ends_with('.') && !help.contains('\n'), "{name}: {help}");
        }
    }

    #[test]
    fn the_page_about_health_and_metrics_has_every_family() {
        let page = include_str!("../../../../../docs/health.md");
        let missing = Family::ALL.iter().map(|family| family.described().0);
        let missing: Vec<_> = missing.filter(|name| !page.contains(&format!("`{name}`"))).collect();
        assert_eq!(missing, [""; 0]);
    }

    #[test]
    fn counters_are_those_of_the_report() {
        let all = scrape(
            &mut Exporter::default(),
            &json!({
                "interfaces": [{
                    "name": "ens6", "driver": "ena", "xdp_mode": "native", "bind": "copy", "time": "user",
                    "xdp": { "seen": 100, "redirected": 90, "redirect_failed": 1,
                        "passed": { "fragment": 3 }, "dropped": { "vni": 7 } },
                    "nic": { "rx_missed_errors": 4, "pps_allowance_exceeded": 5, "queue_0_rx_drops": 6 },
                    "queues": [{ "queue": 1, "received": 80, "rx_dropped": 8, "rx_ring_full": 2,
                        "busy_ns_per_frame": 1e8 }],
                }],
                "frames": { "decapsulated": 70, "rejected": { "short": 10 }, "outer_bytes": 8000 },
                "sinks": [{ "name": "pcap", "state": "waiting", "written": 60, "pending": 4,
                    "dropped": { "no_block": 6 },
                    "members": [{ "target": "a.pcap", "written": 60, "dropped": { "no_block": 6 } }] }],
            }),
        );
        for (series, value) in [
            ("mirror_xdp_seen_frames_total{interface=\"ens6\"}", 100.0),
            ("mirror_xdp_frames_total{interface=\"ens6\",verdict=\"redirected\",reason=\"\"}", 90.0),
            ("mirror_xdp_frames_total{interface=\"ens6\",verdict=\"passed\",reason=\"fragment\"}", 3.0),
            ("mirror_xdp_frames_total{interface=\"ens6\",verdict=\"dropped\",reason=\"vni\"}", 7.0),
            ("mirror_kernel_lost_frames_total{interface=\"ens6\",queue=\"1\",cause=\"rx_dropped\"}", 8.0),
            ("mirror_kernel_lost_frames_total{interface=\"ens6\",queue=\"1\",cause=\"ring_full\"}", 2.0),
            ("mirror_kernel_lost_frames_total{interface=\"ens6\",queue=\"\",cause=\"redirect\"}", 1.0),
            ("mirror_nic_lost_frames_total{interface=\"ens6\",cause=\"missed\"}", 4.0),
            ("mirror_nic_allowance_exceeded_total{interface=\"ens6\",kind=\"pps\"}", 5.0),
            ("mirror_nic_driver_losses_total{interface=\"ens6\",counter=\"queue_0_rx_drops\"}", 6.0),
            ("mirror_worker_frames_total{interface=\"ens6\",queue=\"1\"}", 80.0),
            ("mirror_worker_busy_seconds_total{interface=\"ens6\",queue=\"1\"}", 8.0),
            ("mirror_frames_total{result=\"decapsulated\",reason=\"\"}", 70.0),
            ("mirror_frames_total{result=\"rejected\",reason=\"short\"}", 10.0),
            ("mirror_bytes_total{headers=\"outer\"}", 8000.0),
            ("mirror_sink_frames_total{sink=\"pcap\",result=\"dropped\",reason=\"no_block\"}", 6.0),
            ("mirror_sink_pending_frames{sink=\"pcap\"}", 4.0),
            ("mirror_sink_up{sink=\"pcap\"}", 0.0),
            (
                "mirror_target_frames_total{sink=\"pcap\",target=\"a.pcap\",result=\"written\",reason=\"\"}",
                60.0,
            ),
        ] {
            assert_eq!(all.get(series), Some(&value), "{series} in {all:#?}");
        }
        assert!(!all.contains_key("mirror_accounting_residue_frames"), "it is known at rest only");
    }

    #[test]
    fn counters_never_go_back_and_never_leave() {
        let mut exporter = Exporter::default();
        let with = |seen: u64, reason: &str| {
            json!({
                "interfaces": [{ "name": "ens6", "xdp": { "seen": seen } }],
                "sinks": [{ "name": "a", "pending": seen, "dropped": { reason: 7 } }],
            })
        };
        scrape(&mut exporter, &with(100, "no_block"));
        let all = scrape(&mut exporter, &with(40, "no_space"));
        assert_eq!(all["mirror_xdp_seen_frames_total{interface=\"ens6\"}"], 100.0);
        assert_eq!(all["mirror_sink_pending_frames{sink=\"a\"}"], 40.0, "a gauge");
        let all = scrape(&mut exporter, &json!({}));
        assert_eq!(all["mirror_xdp_seen_frames_total{interface=\"ens6\"}"], 100.0);
        for reason in ["no_block", "no_space"] {
            let labels = format!("sink=\"a\",result=\"dropped\",reason=\"{reason}\"");
            assert_eq!(all[&format!("mirror_sink_frames_total{{{labels}}}")], 7.0);
        }
        assert!(!all.contains_key("mirror_sink_pending_frames{sink=\"a\"}"));
    }

    #[test]
    fn a_sink_that_was_removed_is_neither_up_nor_down_and_keeps_its_counts() {
        let mut exporter = Exporter::default();
        let sink = |removed: bool| json!({ "sinks": [{ "name": "a", "removed": removed, "written": 7 }] });
        assert_eq!(scrape(&mut exporter, &sink(false))["mirror_sink_up{sink=\"a\"}"], 1.0);
        let all = scrape(&mut exporter, &sink(true));
        assert!(!all.contains_key("mirror_sink_up{sink=\"a\"}"));
        assert_eq!(all["mirror_sink_frames_total{sink=\"a\",result=\"written\",reason=\"\"}"], 7.0);
    }

    #[test]
    fn origins_keep_their_series_and_further_ones_are_counted_together() {
        let origin = |vni: usize, frames: u64| {
            json!({ "source": "10.0.0.1", "vni": vni, "frames": frames, "inner_bytes": 60 * frames,
                "at_least": false })
        };
        let series = |vni: usize| format!("mirror_origin_frames_total{{vni=\"{vni}\",source=\"10.0.0.1\"}}");
        let mut exporter = Exporter::default();
        let first: Vec<_> = (0..ORIGINS).map(|vni| origin(vni, 10)).collect();
        let all = scrape(&mut exporter, &json!({ "origins": first }));
        assert_eq!((all[&series(0)], all["mirror_origins_unlisted_frames_total"]), (10.0, 0.0));
        // Busier ones come later, the first ones are evicted from the report.
        let later: Vec<_> = (ORIGINS / 2..2 * ORIGINS).map(|vni| origin(vni, 1000)).collect();
        let other = json!({ "origins": 1, "frames": 10 * ORIGINS as u64 / 2, "inner_bytes": 0 });
        let all = scrape(&mut exporter, &json!({ "origins": later, "origins_other": other }));
        assert_eq!((all[&series(0)], all[&series(ORIGINS - 1)]), (10.0, 1000.0));
        assert!(!all.contains_key(&series(ORIGINS)));
        // Those of a process that goes on with the run are the same, whatever it sees first.
        let mut next = Exporter::default();
        next.list(exporter.listed());
        let busiest: Vec<_> = (ORIGINS..2 * ORIGINS).map(|vni| origin(vni, 9000)).collect();
        assert!(!scrape(&mut next, &json!({ "origins": busiest })).contains_key(&series(ORIGINS)));
        let listed: f64 = (0..ORIGINS).map(|vni| all[&series(vni)]).sum();
        let unlisted = all["mirror_origins_unlisted_frames_total"];
        assert_eq!(unlisted, ORIGINS as f64 * 1000.0);
        assert_eq!(listed + unlisted, 1000.0 * 1.5 * ORIGINS as f64 + 10.0 * ORIGINS as f64 / 2.0);
        assert_eq!(all.keys().filter(|series| series.contains("origin_")).count(), 2 * ORIGINS);
    }

    #[test]
    fn an_origin_has_the_labels_of_its_session() {
        let origin = json!({ "source": "10.0.0.1", "vni": 7, "frames": 3, "inner_bytes": 180,
            "at_least": false, "session": "tms-1", "interface": "eni-1", "tags": { "Name": "web" } });
        let all = scrape(&mut Exporter::default(), &json!({ "origins": [origin] }));
        let of = "{vni=\"7\",source=\"10.0.0.1\",session=\"tms-1\",interface=\"eni-1\",owner=\"\"}";
        assert_eq!(all[&format!("mirror_origin_frames_total{of}")], 3.0);
        assert_eq!(all[&format!("mirror_origin_bytes_total{of}")], 180.0);
    }

    #[test]
    fn names_are_escaped_and_an_interface_has_a_bounded_number_of_counters() {
        let counters: BTreeMap<_, _> =
            (0..1000).map(|queue| (format!("rx_queue_{queue}_drops"), 1)).collect();
        let all = scrape(
            &mut Exporter::default(),
            &json!({
                "interfaces": [{ "name": "ens6", "nic": counters }],
                "sinks": [{ "name": "a\\\"\nb" }],
            }),
        );
        assert_eq!(all["mirror_sink_up{sink=\"a\\\\\\\"\\nb\"}"], 1.0);
        assert_eq!(all.keys().filter(|series| series.contains("nic_driver")).count(), NIC_COUNTERS);
    }
}
