//! Statistics of a run: a live line on a terminal, else a log line at intervals.

use std::time::Instant;
use std::{
    io::{self, IsTerminal},
    time::Duration,
};

use mirror_user::{Report, account::SinkState, escape};

use crate::terminal;

const LIVE: Duration = Duration::from_secs(1);

/// Prints statistics on request.
pub(crate) struct Statistics {
    /// Time, frames and bytes of the last line.
    last: (Instant, u64, u64),
}

/// Prints statistics at intervals.
pub(crate) struct Status {
    live: bool,
    every: Duration,
    next: Instant,
    statistics: Statistics,
    quiet: bool,
}

impl Status {
    pub(crate) fn new(every: Duration, quiet: bool) -> Self {
        let live = io::stderr().is_terminal();
        let every = if live { LIVE } else { every };
        Self { live, every, next: Instant::now() + every, statistics: Statistics::new(), quiet }
    }

    /// When the next line is due.
    pub(crate) fn due(&self) -> Option<Instant> {
        (!self.quiet).then_some(self.next)
    }

    /// Prints them, if it is time.
    pub(crate) fn log_if_due(&mut self, now: Instant, report: impl FnOnce() -> Report) {
        if self.quiet || now < self.next {
            return;
        }
        self.next = now + self.every;
        let line = self.statistics.line(now, &report());
        if self.live {
            terminal::live_line(&line);
        } else {
            tracing::info!(target: "mirror", "{line}");
        }
    }

    /// Prints them now, on request.
    pub(crate) fn print(&mut self, now: Instant, report: &Report) {
        self.statistics.print(now, report);
    }
}

impl Statistics {
    pub(crate) fn new() -> Self {
        Self { last: (Instant::now(), 0, 0) }
    }

    /// Prints them now.
    pub(crate) fn print(&mut self, now: Instant, report: &Report) {
        let line = self.line(now, report);
        terminal::clear_live_line();
        terminal::say!("{line}");
        for sink in &report.sinks {
            if let Some(reason) = &sink.reason {
                terminal::say!(
                    "  {} {}: {}",
                    escape::line(&sink.name),
                    state(sink.state),
                    escape::line(reason)
                );
            }
        }
    }

    fn line(&mut self, now: Instant, report: &Report) -> String {
        let xdp = || report.interfaces.iter().map(|interface| &interface.xdp);
        let frames = report.frames.decapsulated + report.forwarded_by_kernel();
        let bytes =
            report.frames.outer_bytes + xdp().map(|counted| counted.forwarded_outer_bytes).sum::<u64>();
        let (since, frames_before, bytes_before) = std::mem::replace(&mut self.last, (now, frames, bytes));
        let seconds = now.duration_since(since).as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "rates for people")]
        let rate = |now: u64, before: u64| {
            if seconds > 0.0 { now.saturating_sub(before) as f64 / seconds } else { 0.0 }
        };
        let pps = rate(frames, frames_before);
        let bits = rate(bytes, bytes_before) * 8.0;
        let kernel = report.dropped_by_kernel();
        let dropped: u64 = report.sinks.iter().flat_map(|sink| sink.dropped.values()).sum();
        let rejected = report.frames.rejected.total();
        let mut line = format!(
            "{:.0} s: {frames} frames, {}pps, {}bit/s, {kernel} dropped by kernel",
            report.duration_s,
            scaled(pps),
            scaled(bits)
        );
        let not_sent = report.not_sent_by_kernel();
        for (count, what) in [(dropped, "dropped by sinks"), (not_sent, "not sent"), (rejected, "rejected")] {
            if count > 0 {
                line.push_str(&format!(", {count} {what}"));
            }
        }
        for sink in report.sinks.iter().filter(|sink| sink.state != SinkState::Done) {
            line.push_str(&format!(", {} {}", escape::line(&sink.name), state(sink.state)));
        }
        line
    }
}

/// The state of an output that takes no packets.
pub(crate) fn state(state: SinkState) -> &'static str {
    match state {
        SinkState::Waiting => "waiting",
        SinkState::Ended => "ended",
        _ => "failed",
    }
}

/// A number with a decimal prefix: `1.23 M`.
pub(crate) fn scaled(value: f64) -> String {
    match value {
        value if value >= 1e9 => format!("{:.2} G", value / 1e9),
        value if value >= 1e6 => format!("{:.2} M", value / 1e6),
        value if value >= 1e3 => format!("{:.2} k", value / 1e3),
        value => format!("{value:.0} "),
    }
}
