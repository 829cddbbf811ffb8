//! The parts of a run, each independent of the failure of others.

use anyhow::Result;

use crate::{
    captures, gaps, ladder, micro, neighbour,
    options::Options,
    peers, rates,
    report::schema::{PartRun, Report},
    source, sweep,
};

/// A part that can be run by itself.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Part {
    /// Parts of the engine by themselves.
    Micro,
    /// The ladder, no-drop rates and latency, in the lab.
    Lab,
    /// Other tools on the same traffic.
    Peers,
    /// Frames lost while another thread wants the worker's CPU.
    Neighbour,
    /// Losses at full speed, beside what the worker's CPU did.
    Gaps,
    /// Captures into files.
    Captures,
    /// A mirror source, and production beside it.
    Source,
    /// Ring and UMEM sizes.
    Sweep,
}

impl Part {
    /// As on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Micro => "micro",
            Self::Lab => "lab",
            Self::Peers => "peers",
            Self::Neighbour => "neighbour",
            Self::Gaps => "gaps",
            Self::Captures => "captures",
            Self::Source => "source",
            Self::Sweep => "sweep",
        }
    }

    /// Whether it sends frames through namespaces, which needs root.
    #[must_use]
    pub fn is_in_the_lab(self) -> bool {
        match self {
            Self::Micro => false,
            Self::Lab
            | Self::Peers
            | Self::Neighbour
            | Self::Gaps
            | Self::Captures
            | Self::Source
            | Self::Sweep => true,
        }
    }

    /// Measures it. What it has added to the report stays valid if it fails later.
    ///
    /// # Errors
    ///
    /// If it cannot be measured, and after a signal.
    pub fn run(self, options: &Options, report: &mut Report) -> Result<()> {
        match self {
            Self::Micro => micro::run(options, report),
            Self::Lab => ladder::run(options, report).and_then(|()| rates::run(options, report)),
            Self::Peers => peers::run(options, report),
            Self::Neighbour => neighbour::run(options, report),
            Self::Gaps => gaps::run(options, report),
            Self::Captures => captures::run(options, report),
            Self::Source => source::run(options, report),
            Self::Sweep => sweep::run(options, report),
        }
    }
}

/// Runs `parts` by `run`, one after the other, and records in the report how each ended. After a failure the
/// next is run, after a signal none. Returns whether all are complete.
pub fn run_each(
    parts: &[Part],
    options: &Options,
    report: &mut Report,
    mut run: impl FnMut(Part, &Options, &mut Report) -> Result<()>,
) -> bool {
    for &part in parts {
        let incomplete = options.go_on().and_then(|()| run(part, options, report)).err();
        if let Some(error) = &incomplete {
            eprintln!("{}: {error:#}", part.name());
        }
        let incomplete = incomplete.map(|error| format!("{error:#}"));
        report.parts.push(PartRun { part: part.name().into(), incomplete });
    }
    report.parts.iter().all(|run| run.incomplete.is_none())
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, atomic::Ordering};

    use anyhow::bail;

    use super::*;
    use crate::report::schema::Micro;

    fn options() -> Options {
        Options { quick: true, rounds: 1, kernel_cpu: 0, worker_cpu: 1, stop: Arc::default() }
    }

    fn measured(report: &mut Report) {
        report.micro.push(Micro::default());
    }

    fn incomplete(report: &Report) -> Vec<(&str, Option<&str>)> {
        report.parts.iter().map(|run| (run.part.as_str(), run.incomplete.as_deref())).collect()
    }

    #[test]
    fn a_part_that_fails_is_named_and_the_others_are_kept() {
        let mut report = Report::default();
        let complete = run_each(&[Part::Micro, Part::Lab], &options(), &mut report, |part, _, report| {
            if part == Part::Micro {
                bail!("no valgrind");
            }
            measured(report);
            Ok(())
        });
        assert!(!complete && !report.is_empty());
        assert_eq!(incomplete(&report), [("micro", Some("no valgrind")), ("lab", None)]);
    }

    #[test]
    fn after_a_signal_no_part_begins_and_the_results_are_kept() {
        let (options, mut report) = (options(), Report::default());
        let mut begun = 0;
        let parts = [Part::Micro, Part::Lab, Part::Peers];
        let complete = run_each(&parts, &options, &mut report, |_, options, report| {
            begun += 1;
            measured(report);
            options.stop.store(begun == 2, Ordering::Relaxed);
            options.go_on()
        });
        assert!(!complete);
        assert_eq!((begun, report.micro.len()), (2, 2));
        let stopped = Some("stopped by a signal");
        assert_eq!(incomplete(&report), [("micro", None), ("lab", stopped), ("peers", stopped)]);
    }
}
