//! What factories add to reports: during a run, and when their outputs are completed.

use std::{
    mem,
    panic::{self, AssertUnwindSafe},
    sync::Arc,
};

use crate::{
    account::{Report, SinkHalt},
    error::panic_message,
    sink::SinkFactory,
};

/// Lets each factory add to a report, after the last worker was added. One that panics is reported as failed;
/// the others continue.
pub(crate) fn add_sinks(report: &mut Report, factories: &[Arc<dyn SinkFactory>]) {
    // Out of reach of the factories, each of which has its own entry alone.
    let mut entries = mem::take(&mut report.sinks);
    for (entry, factory) in entries.iter_mut().zip(factories) {
        // Unwind safety: the report is plain data, and a factory's lock that is poisoned is the factory's
        // own.
        let add = || {
            factory.report(entry, report);
            factory.halted()
        };
        let halt = panic::catch_unwind(AssertUnwindSafe(add))
            .unwrap_or_else(|payload| Some(SinkHalt::failed(panic_message(&*payload))));
        if let Some(halt) = halt {
            entry.halt(&halt);
        }
    }
    report.sinks = entries;
}

/// Why a factory's output takes no frames. One that panics has failed.
#[cfg(feature = "af-xdp")]
pub(crate) fn halted(factory: &dyn SinkFactory) -> Option<SinkHalt> {
    panic::catch_unwind(AssertUnwindSafe(|| factory.halted()))
        .unwrap_or_else(|payload| Some(SinkHalt::failed(panic_message(&*payload))))
}

/// Lets each factory complete its output, after the last counters are in, and then add to the report. An
/// error or a panic ends that sink in the report; the others continue.
pub(crate) fn close_sinks(report: &mut Report, factories: &[Arc<dyn SinkFactory>]) {
    for (position, factory) in factories.iter().enumerate() {
        // Unwind safety: the report is only read.
        let end = match panic::catch_unwind(AssertUnwindSafe(|| factory.close(report))) {
            Ok(Ok(())) => continue,
            Ok(Err(error)) => SinkHalt::ended(error),
            Err(payload) => SinkHalt::failed(panic_message(&*payload)),
        };
        if let Some(sink) = report.sinks.get_mut(position) {
            tracing::error!(sink = sink.name, reason = end.reason, "sink could not be completed");
            sink.halt(&end);
        }
    }
    add_sinks(report, factories);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        account::{SinkReport, SinkState},
        sink::{Sink, SinkError, WorkerContext},
    };

    /// Closes like this, and reports one frame of other origins, unless it panics.
    struct Closing(fn() -> Result<(), SinkError>, fn());

    impl SinkFactory for Closing {
        fn name(&self) -> &str {
            "closing"
        }

        fn build(&self, _: &WorkerContext) -> Result<Box<dyn Sink>, SinkError> {
            Err(SinkError::other("not built in this test"))
        }

        fn report(&self, entry: &mut SinkReport, report: &mut Report) {
            assert!(report.sinks.is_empty(), "others' entries are out of reach");
            entry.vlans_given_up = 7;
            (self.1)();
            report.origins_other.frames += 1;
        }

        fn close(&self, report: &Report) -> Result<(), SinkError> {
            assert_eq!(report.sinks.len(), 4);
            (self.0)()
        }
    }

    fn report_of<const N: usize>(names: [&str; N]) -> Report {
        let mut report = Report::new("file", std::time::SystemTime::UNIX_EPOCH);
        report.expect_sinks(names);
        report
    }

    fn states(report: &Report) -> Vec<(SinkState, Option<&str>)> {
        report.sinks.iter().map(|sink| (sink.state, sink.reason.as_deref())).collect()
    }

    #[test]
    fn every_factory_is_closed_and_reports_though_one_errs_and_two_panic() {
        let mut report = report_of(["errs", "panics", "panics reporting", "fine"]);
        let factories: [Arc<dyn SinkFactory>; 4] = [
            Arc::new(Closing(|| Err(SinkError::other("no space")), || ())),
            Arc::new(Closing(|| panic!("on purpose"), || ())),
            Arc::new(Closing(|| Ok(()), || panic!("in its report"))),
            Arc::new(Closing(|| Ok(()), || ())),
        ];
        close_sinks(&mut report, &factories);
        let expected = [
            (SinkState::Ended, Some("no space")),
            (SinkState::Failed, Some("panicked: on purpose")),
            (SinkState::Failed, Some("panicked: in its report")),
            (SinkState::Done, None),
        ];
        assert_eq!(states(&report), expected);
        assert_eq!(report.origins_other.frames, 3);
        assert!(report.sinks.iter().all(|sink| sink.vlans_given_up == 7), "{:?}", report.sinks);
    }

    #[test]
    fn a_live_report_has_what_factories_add_and_completes_nothing() {
        let factories: [Arc<dyn SinkFactory>; 1] =
            [Arc::new(Closing(|| unreachable!("not closed while it runs"), || ()))];
        for _ in 0..2 {
            let mut report = report_of(["a"]);
            add_sinks(&mut report, &factories);
            assert_eq!((report.origins_other.frames, report.sinks[0].vlans_given_up), (1, 7));
            assert_eq!(states(&report), [(SinkState::Done, None)]);
        }
    }
}
