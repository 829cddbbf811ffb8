//! Factories that wrap another.

use std::sync::Arc;

use super::SinkFactory;
use crate::select::Selection;

/// The methods of [`SinkFactory`] that call those of an inner factory: all but `name` and `selection`, which
/// a wrapper may have of its own. Add each new method of the trait here, or wrappers have its default.
macro_rules! delegate_factory {
    ($self:ident => $inner:expr) => {
        fn check(&$self, interface: &str, tunnels: &$crate::Tunnels) -> Result<(), $crate::sink::SinkError> {
            $inner.check(interface, tunnels)
        }

        fn prepare(
            &$self,
            workers: usize,
            cx: &$crate::sink::WorkerContext,
        ) -> Result<(), $crate::sink::SinkError> {
            $inner.prepare(workers, cx)
        }

        fn build(
            &$self,
            cx: &$crate::sink::WorkerContext,
        ) -> Result<Box<dyn $crate::sink::Sink>, $crate::sink::SinkError> {
            $inner.build(cx)
        }

        fn needs_time(&$self) -> bool {
            $inner.needs_time()
        }

        fn needs(&$self) -> $crate::sink::SinkNeeds {
            $inner.needs()
        }

        fn report(&$self, entry: &mut $crate::account::SinkReport, report: &mut $crate::account::Report) {
            $inner.report(entry, report);
        }

        fn halted(&$self) -> Option<$crate::account::SinkHalt> {
            $inner.halted()
        }

        fn lag(&$self) -> Option<std::time::Duration> {
            $inner.lag()
        }

        fn close(&$self, report: &$crate::account::Report) -> Result<(), $crate::sink::SinkError> {
            $inner.close(report)
        }
    };
}
pub(super) use delegate_factory;

/// For embedders that keep the factory to query it during or after the run.
impl<F: SinkFactory + ?Sized> SinkFactory for Arc<F> {
    delegate_factory!(self => (**self));

    fn name(&self) -> &str {
        (**self).name()
    }

    fn selection(&self) -> Option<Arc<Selection>> {
        (**self).selection()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        account::{Report, SinkHalt, SinkReport},
        select::Allow,
        sink::{Sink, SinkError, SinkNeeds, WorkerContext, selected},
    };

    /// Each method differs from its default.
    struct Inner;

    impl SinkFactory for Inner {
        fn name(&self) -> &str {
            "inner"
        }

        fn prepare(&self, _: usize, _: &WorkerContext) -> Result<(), SinkError> {
            Err(SinkError::other("not prepared"))
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

        fn needs(&self) -> SinkNeeds {
            SinkNeeds::Origins { most: 7 }
        }

        fn report(&self, entry: &mut SinkReport, _: &mut Report) {
            entry.name = "reported".into();
        }

        fn halted(&self) -> Option<SinkHalt> {
            Some(SinkHalt::failed("halted"))
        }

        fn lag(&self) -> Option<Duration> {
            Some(Duration::from_secs(7))
        }

        fn close(&self, _: &Report) -> Result<(), SinkError> {
            Err(SinkError::other("not closed"))
        }
    }

    #[test]
    fn wrapped_factories_keep_every_method_of_the_inner_one() {
        let selected = selected("selected", Selection::all(), Inner);
        for (name, factory) in [("inner", Arc::new(Inner) as Arc<dyn SinkFactory>), ("selected", selected)] {
            // As in an engine's list: through the implementation for `Arc`.
            let factory: &dyn SinkFactory = &factory;
            let mut report = Report::new("file", std::time::SystemTime::UNIX_EPOCH);
            assert_eq!(factory.name(), name);
            let prepared = factory.prepare(1, &WorkerContext::single(2048)).unwrap_err();
            assert_eq!(prepared.to_string(), "not prepared");
            let built = factory.build(&WorkerContext::single(2048)).err().map(|error| error.to_string());
            assert_eq!(built.as_deref(), Some("not built"));
            assert!(factory.needs_time() && factory.selection().is_some() && factory.halted().is_some());
            assert_eq!(factory.lag(), Some(Duration::from_secs(7)));
            assert!(matches!(factory.needs(), SinkNeeds::Origins { most: 7 }));
            let mut entry = SinkReport::default();
            factory.report(&mut entry, &mut report);
            assert_eq!(entry.name, "reported");
            assert_eq!(factory.close(&report).unwrap_err().to_string(), "not closed");
        }
    }
}
