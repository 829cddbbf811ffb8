//! A factory that somebody else holds, too.

use std::sync::Arc;

use super::{Sink, SinkError, SinkFactory, WorkerContext};
use crate::{
    account::{Report, SinkHalt, SinkReport},
    select::Selection,
};

/// For whoever asks the factory something afterwards, and for factories that are made elsewhere. Every method
/// is the inner one's: one that is left away here would have its default.
impl<F: SinkFactory + ?Sized> SinkFactory for Arc<F> {
    fn name(&self) -> &str {
        (**self).name()
    }

    fn build(&self, cx: &WorkerContext) -> Result<Box<dyn Sink>, SinkError> {
        (**self).build(cx)
    }

    fn selection(&self) -> Option<Arc<Selection>> {
        (**self).selection()
    }

    fn needs_time(&self) -> bool {
        (**self).needs_time()
    }

    fn report(&self, entry: &mut SinkReport, report: &mut Report) {
        (**self).report(entry, report);
    }

    fn halted(&self) -> Option<SinkHalt> {
        (**self).halted()
    }

    fn close(&self, report: &Report) -> Result<(), SinkError> {
        (**self).close(report)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::select::Allow;

    /// Has each method do what its default does not.
    #[derive(Default)]
    struct Asked(Mutex<Vec<&'static str>>);

    impl Asked {
        fn note(&self, what: &'static str) {
            self.0.lock().unwrap().push(what);
        }
    }

    impl SinkFactory for Asked {
        fn name(&self) -> &str {
            "asked"
        }

        fn build(&self, _: &WorkerContext) -> Result<Box<dyn Sink>, SinkError> {
            Err(SinkError::other("not built"))
        }

        fn selection(&self) -> Option<Arc<Selection>> {
            Some(Arc::new(Allow::all().vnis([7]).into()))
        }

        fn needs_time(&self) -> bool {
            true
        }

        fn report(&self, _: &mut SinkReport, _: &mut Report) {
            self.note("report");
        }

        fn halted(&self) -> Option<SinkHalt> {
            Some(SinkHalt::failed("halted"))
        }

        fn close(&self, _: &Report) -> Result<(), SinkError> {
            self.note("close");
            Err(SinkError::other("not closed"))
        }
    }

    #[test]
    fn each_method_of_a_shared_factory_is_the_factorys_own() {
        let asked = Arc::new(Asked::default());
        let shared: Arc<dyn SinkFactory> = Arc::<Asked>::clone(&asked);
        let factory: &dyn SinkFactory = &shared;
        let mut report = Report::new("file", std::time::SystemTime::UNIX_EPOCH);
        report.expect_sinks([factory.name()]);
        assert_eq!(report.sinks[0].name, "asked");
        let built = factory.build(&WorkerContext::single(2048)).err().map(|error| error.to_string());
        assert_eq!(built.as_deref(), Some("not built"));
        assert!(factory.needs_time() && factory.selection().is_some() && factory.halted().is_some());
        factory.report(&mut SinkReport::default(), &mut report);
        assert_eq!(factory.close(&report).unwrap_err().to_string(), "not closed");
        assert_eq!(*asked.0.lock().unwrap(), ["report", "close"]);
    }
}
