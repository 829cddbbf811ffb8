//! The counters of a run's workers, summed in its report.

use super::{
    counters::{FrameCounters, SinkCounters},
    report::{Frames, Odd, Report, SinkReport},
    stats::{SinkHalt, SinkState},
};

impl Report {
    /// Makes an entry for each sink, in the order of the factories. Call it once, before the first worker is
    /// added.
    pub(crate) fn expect_sinks<'n>(&mut self, names: impl IntoIterator<Item = &'n str>) {
        self.sinks = names
            .into_iter()
            .map(|name| SinkReport { name: name.to_owned(), ..SinkReport::default() })
            .collect();
    }

    /// Adds the counters of a worker's pipeline: its frames, and its sinks by position.
    ///
    /// A worker with counters of fewer sinks than the run has leaves a residue.
    pub(crate) fn add_worker(&mut self, frames: &FrameCounters, sinks: &[SinkCounters]) {
        self.frames.add(&Frames::from(frames));
        for (sink, counters) in self.sinks.iter_mut().zip(sinks) {
            sink.add(counters);
        }
    }
}

impl Frames {
    pub(super) fn add(&mut self, other: &Self) {
        let Self {
            received,
            decapsulated,
            selected,
            abandoned,
            fragments_consumed,
            reassembled,
            outer_bytes,
            inner_bytes,
            multi_descriptor,
            rejected,
            odd,
        } = self;
        *received += other.received;
        *decapsulated += other.decapsulated;
        *selected += other.selected;
        *abandoned += other.abandoned;
        *fragments_consumed += other.fragments_consumed;
        *reassembled += other.reassembled;
        *outer_bytes += other.outer_bytes;
        *inner_bytes += other.inner_bytes;
        *multi_descriptor += other.multi_descriptor;
        rejected.add(&other.rejected);
        let Odd { reserved_bits, critical_options, truncated_inner, impossible_length } = odd;
        *critical_options += other.odd.critical_options;
        *impossible_length += other.odd.impossible_length;
        *reserved_bits += other.odd.reserved_bits;
        *truncated_inner += other.odd.truncated_inner;
    }
}

impl SinkReport {
    fn add(&mut self, counters: &SinkCounters) {
        self.absent += counters.absent;
        self.deselected += counters.deselected;
        self.offered += counters.offered;
        self.written += counters.stats.written;
        self.pending += counters.stats.pending;
        for (reason, frames) in counters.stats.dropped.iter() {
            *self.dropped.entry(reason.into()).or_default() += frames;
        }
        for (reason, frames) in counters.stats.failed.iter().chain(counters.failed.iter()) {
            *self.failed.entry(reason.into()).or_default() += frames;
        }
        if let Some(end) = &counters.end {
            self.halt(end);
        }
    }

    /// Records why a sink does not take frames. The most severe state is kept, with its first reason.
    pub(crate) fn halt(&mut self, halt: &SinkHalt) {
        if severity(halt.state) > severity(self.state) {
            self.state = halt.state;
            self.reason = Some(halt.reason.clone());
        }
    }
}

fn severity(state: SinkState) -> u8 {
    match state {
        SinkState::Done => 0,
        SinkState::Waiting => 1,
        SinkState::Ended => 2,
        SinkState::Failed => 3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::{Reasons, Reject, SinkStats};

    fn counters(written: u64, failed: u64, end: Option<(SinkState, &str)>) -> SinkCounters {
        let mut reasons = Reasons::default();
        reasons.add("error", failed);
        let mut dropped = Reasons::default();
        dropped.add("no_block", 1);
        SinkCounters {
            absent: 0,
            deselected: 2,
            offered: written + failed + 1,
            failed: reasons,
            stats: SinkStats { written, dropped, ..SinkStats::default() },
            end: end.map(|(state, reason)| SinkHalt { state, reason: reason.to_owned() }),
        }
    }

    fn frames(decapsulated: u64, short: u64) -> FrameCounters {
        let mut frames =
            FrameCounters { received: decapsulated + short, decapsulated, ..FrameCounters::default() };
        frames.rejected[Reject::Short as usize] = short;
        frames
    }

    #[test]
    fn workers_add_up_and_the_law_holds() {
        let mut report = Report::new("file", std::time::SystemTime::UNIX_EPOCH);
        report.expect_sinks(["a", "b"]);
        report.add_worker(
            &frames(13, 4),
            &[counters(10, 0, None), counters(7, 3, Some((SinkState::Ended, "full")))],
        );
        report.add_worker(&frames(8, 0), &[counters(5, 0, None), counters(5, 0, None)]);
        report.close();
        assert_eq!(report.accounting.residue, 0, "{:?}", report.accounting);
        assert_eq!((report.frames.received, report.frames.rejected.short), (25, 4));
        assert_eq!((report.sinks[0].written, report.sinks[0].dropped["no_block"]), (15, 2));
        assert_eq!((report.sinks[1].state, report.sinks[1].failed["error"]), (SinkState::Ended, 3));
        assert_eq!(report.sinks[1].reason.as_deref(), Some("full"));
    }

    #[test]
    fn the_most_severe_end_is_kept_with_its_first_reason() {
        let mut report = Report::new("file", std::time::SystemTime::UNIX_EPOCH);
        report.expect_sinks(["a"]);
        for (state, reason) in [
            (SinkState::Ended, "one"),
            (SinkState::Failed, "two"),
            (SinkState::Failed, "three"),
            (SinkState::Ended, "four"),
        ] {
            report.add_worker(&frames(3, 0), &[counters(0, 0, Some((state, reason)))]);
        }
        assert_eq!(
            (report.sinks[0].state, report.sinks[0].reason.as_deref()),
            (SinkState::Failed, Some("two"))
        );
    }

    #[test]
    fn a_worker_without_outcomes_leaves_a_residue() {
        let mut report = Report::new("file", std::time::SystemTime::UNIX_EPOCH);
        report.expect_sinks(["a"]);
        report.add_worker(&frames(3, 0), &[]);
        report.close();
        assert_eq!(report.accounting.residue, 3);
    }
}
