//! Which frames go on: the tunnels asked for, what an expression matches, and how many frames.

mod allow;
mod budget;
mod filter;

pub(crate) use budget::Budget;
pub use {
    allow::Allow,
    filter::{Filter, FilterError},
};

use crate::batch::Frame;

/// Which frames are selected, of all that come.
///
/// VNIs and outer sources are judged first: on a live interface by the XDP program, before a frame costs anything. Filters
/// are run by the worker over what was decapsulated.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct Selection {
    pub(crate) allow: Allow,
    pub(crate) filter: Option<Filter>,
    pub(crate) outer_filter: Option<Filter>,
}

impl Selection {
    /// Everything.
    pub fn all() -> Self {
        Self::default()
    }

    /// Only these tunnels.
    pub fn allow(mut self, allow: Allow) -> Self {
        self.allow = allow;
        self
    }

    /// Only frames whose inner frame matches.
    pub fn filter(mut self, filter: Filter) -> Self {
        self.filter = Some(filter);
        self
    }

    /// Only frames that match as they came, outer headers included.
    pub fn outer_filter(mut self, filter: Filter) -> Self {
        self.outer_filter = Some(filter);
        self
    }

    /// Whether it has any filter.
    pub(crate) fn has_filters(&self) -> bool {
        self.filter.is_some() || self.outer_filter.is_some()
    }

    /// Whether a frame matches the filters. All that they can look at lies in the first segment.
    pub(crate) fn matches(&self, frame: &Frame<'_>) -> bool {
        let inner = |filter: &Filter| filter.matches(frame.inner().first(), frame.wire_len());
        let outer = |filter: &Filter| filter.matches(frame.outer().first(), frame.outer_wire_len());
        self.filter.as_ref().is_none_or(inner) && self.outer_filter.as_ref().is_none_or(outer)
    }

    /// The same filters, every tunnel: for a worker behind an XDP program that has judged these.
    #[cfg(feature = "af-xdp")]
    pub(crate) fn filters_only(&self) -> Self {
        Self { allow: Allow::all(), ..self.clone() }
    }
}

impl From<Allow> for Selection {
    fn from(allow: Allow) -> Self {
        Self::all().allow(allow)
    }
}
