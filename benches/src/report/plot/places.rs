//! An axis of bars: each has a place of length 1, named at its centre.

use std::ops::Range;

use plotters::coord::{
    ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter},
    types::RangedCoordf64,
};

pub(super) struct Places {
    names: Vec<String>,
    axis: RangedCoordf64,
}

impl Places {
    #[expect(clippy::cast_precision_loss, reason = "a few bars")]
    pub(super) fn new(names: Vec<String>) -> Self {
        let axis = (0.0..names.len() as f64).into();
        Self { names, axis }
    }
}

impl Ranged for Places {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        self.axis.map(value, limit)
    }

    fn key_points<Hint: KeyPointHint>(&self, _every_place_is_named: Hint) -> Vec<f64> {
        (0_u32..).zip(&self.names).map(|(place, _)| f64::from(place) + 0.5).collect()
    }

    fn range(&self) -> Range<f64> {
        self.axis.range()
    }
}

impl ValueFormatter<f64> for Places {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the centre of a place")]
    fn format_ext(&self, centre: &f64) -> String {
        self.names.get(*centre as usize).cloned().unwrap_or_default()
    }
}
