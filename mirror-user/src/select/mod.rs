//! Selection of frames: by tunnel, by filter expression, and by number.

mod allow;
mod budget;
mod filter;
#[cfg(feature = "af-xdp")]
pub(crate) mod split;

pub(crate) use budget::Budget;
pub use {
    allow::Allow,
    filter::{Filter, FilterError},
};

use arrayvec::ArrayVec;

use crate::frame::{Frame, MAX_BATCH, Segments};

/// Which frames are selected.
///
/// VNIs and outer sources are checked first, on a live interface by the XDP program. Workers run filters on
/// decapsulated frames.
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

    /// Only frames that match including their outer headers.
    pub fn outer_filter(mut self, filter: Filter) -> Self {
        self.outer_filter = Some(filter);
        self
    }

    /// The expressions of both filters, as written.
    pub(crate) fn expressions(&self) -> (Option<String>, Option<String>) {
        let expression =
            |filter: &Option<Filter>| filter.as_ref().map(|filter| filter.expression().to_owned());
        (expression(&self.filter), expression(&self.outer_filter))
    }

    /// Removes frames that are not selected.
    pub(crate) fn retain(&self, frames: &mut ArrayVec<Frame<'_>, MAX_BATCH>, scratch: &mut Scratch) {
        if !self.allow.is_all() {
            frames.retain(|frame| {
                self.allow.allows_vni(frame.vni()) && self.allow.allows_source(frame.source())
            });
        }
        self.retain_matching(frames, scratch);
    }

    /// Removes frames that do not match the filters.
    pub(crate) fn retain_matching(&self, frames: &mut ArrayVec<Frame<'_>, MAX_BATCH>, scratch: &mut Scratch) {
        if self.filter.is_none() && self.outer_filter.is_none() {
            return;
        }
        let mut matching = [u64::MAX; MAX_BATCH.div_ceil(Filter::TOGETHER)];
        for (matching, frames) in matching.iter_mut().zip(frames.chunks(Filter::TOGETHER)) {
            if let Some(filter) = &self.filter {
                *matching &= scratch.matching(filter, frames, |frame| (frame.inner(), frame.wire_len()));
            }
            if let Some(filter) = &self.outer_filter {
                *matching &=
                    scratch.matching(filter, frames, |frame| (frame.outer(), frame.outer_wire_len()));
            }
        }
        let mut numbers = 0..;
        frames.retain(|_| {
            let number = numbers.next().unwrap_or_default();
            matching[number / Filter::TOGETHER] >> (number % Filter::TOGETHER) & 1 == 1
        });
    }

    /// The same filters for all tunnels, for a worker whose XDP program has checked these.
    #[cfg(feature = "af-xdp")]
    pub(crate) fn filters_only(&self) -> Self {
        Self { allow: Allow::all(), ..self.clone() }
    }
}

/// Buffer in which a frame of several slices is joined for a filter. Allocated with the first such frame.
#[derive(Debug, Default)]
pub(crate) struct Scratch(Vec<u8>);

impl Scratch {
    /// [`Filter::matching`] over a `part` of each frame, with its length on the wire.
    fn matching<'a>(
        &mut self,
        filter: &Filter,
        frames: &[Frame<'a>],
        part: impl Fn(&Frame<'a>) -> (Segments<'a>, u32),
    ) -> u64 {
        let mut matching = filter.matching(frames.iter().map(|frame| {
            let (bytes, wire_len) = part(frame);
            (bytes.first(), wire_len)
        }));
        for (number, frame) in frames.iter().enumerate().filter(|(_, frame)| frame.is_in_several()) {
            let (bytes, wire_len) = part(frame);
            self.0.clear();
            bytes.iter().for_each(|slice| self.0.extend_from_slice(slice));
            let matches = u64::from(filter.matches(&self.0, wire_len));
            matching = matching & !(1 << number) | matches << number;
        }
        matching
    }
}

impl From<Allow> for Selection {
    fn from(allow: Allow) -> Self {
        Self::all().allow(allow)
    }
}
