//! A sink for a part of the frames.

use std::sync::Arc;

use super::{SinkFactory, shared::delegate_factory};
use crate::select::Selection;

/// Restricts a sink to a selection of the run's frames, and names it in the report. The worker counts the
/// other frames as deselected for this sink.
///
/// # Examples
///
/// ```
/// use mirror_user::{select::Allow, sink};
///
/// let tenant = sink::for_each("any", |_| Ok(()));
/// let tenant = sink::selected("tenant-7", Allow::all().vnis([7]), tenant);
/// assert_eq!(tenant.name(), "tenant-7");
/// ```
pub fn selected(
    name: impl Into<String>,
    selection: impl Into<Selection>,
    factory: impl SinkFactory + 'static,
) -> Arc<dyn SinkFactory> {
    Arc::new(Selected { name: name.into(), selection: Arc::new(selection.into()), factory })
}

struct Selected<F> {
    name: String,
    selection: Arc<Selection>,
    factory: F,
}

impl<F: SinkFactory> SinkFactory for Selected<F> {
    delegate_factory!(self => self.factory);

    fn name(&self) -> &str {
        &self.name
    }

    fn selection(&self) -> Option<Arc<Selection>> {
        Some(Arc::clone(&self.selection))
    }
}
