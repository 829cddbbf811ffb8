//! What factories say of their outputs: while a run is under way, and when they are completed.

use std::{
    panic::{self, AssertUnwindSafe},
    sync::Arc,
};

use crate::{
    account::{Report, SinkHalt},
    error::panic_message,
    sink::SinkFactory,
};

/// Adds which outputs take nothing to the report of a run under way; to be called after the last worker is added.
pub(crate) fn add_halted(report: &mut Report, factories: &[Arc<dyn SinkFactory>]) {
    for (sink, factory) in report.sinks.iter_mut().zip(factories) {
        if let Some(halt) = factory.halted() {
            sink.halt(&halt);
        }
    }
}

/// Has each factory complete its output, after the accounts are closed. An error or a panic ends that sink in the report; the
/// others go on.
pub(crate) fn close_sinks(report: &mut Report, factories: &[Arc<dyn SinkFactory>]) {
    for (position, factory) in factories.iter().enumerate() {
        // Unwind safety: the report is plain data, and a factory that panicked is not called again.
        let close = || {
            let closed = factory.close(report);
            if let Some(sink) = report.sinks.get_mut(position) {
                factory.tell(sink);
                if let Some(halt) = factory.halted().filter(|_| closed.is_ok()) {
                    sink.halt(&halt);
                }
            }
            closed
        };
        let end = match panic::catch_unwind(AssertUnwindSafe(close)) {
            Ok(Ok(())) => continue,
            Ok(Err(error)) => SinkHalt::ended(error),
            Err(payload) => SinkHalt::failed(panic_message(&*payload)),
        };
        if let Some(sink) = report.sinks.get_mut(position) {
            tracing::error!(sink = sink.name, reason = end.reason, "sink could not be completed");
            sink.halt(&end);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        account::SinkState,
        sink::{Sink, SinkError, WorkerContext},
    };

    struct Closing(fn() -> Result<(), SinkError>);

    impl SinkFactory for Closing {
        fn name(&self) -> &str {
            "closing"
        }

        fn build(&self, _: &WorkerContext) -> Result<Box<dyn Sink>, SinkError> {
            Err(SinkError::other("not built in this test"))
        }

        fn close(&self, report: &mut Report) -> Result<(), SinkError> {
            report.origins_other.frames += 1;
            (self.0)()
        }
    }

    #[test]
    fn every_factory_is_closed_though_one_errs_and_one_panics() {
        let mut report = Report::new("file", std::time::SystemTime::UNIX_EPOCH);
        report.expect_sinks(["errs", "panics", "fine"]);
        let factories: [Arc<dyn SinkFactory>; 3] = [
            Arc::new(Closing(|| Err(SinkError::other("no space")))),
            Arc::new(Closing(|| panic!("on purpose"))),
            Arc::new(Closing(|| Ok(()))),
        ];
        close_sinks(&mut report, &factories);
        let states: Vec<_> = report.sinks.iter().map(|sink| (sink.state, sink.reason.as_deref())).collect();
        assert_eq!(
            states,
            [
                (SinkState::Ended, Some("no space")),
                (SinkState::Failed, Some("panicked: on purpose")),
                (SinkState::Done, None)
            ]
        );
        assert_eq!(report.origins_other.frames, 3);
    }
}
