//! Medians and quartiles, and counts as figures.

use crate::report::schema::Spread;

/// Median and quartiles of some rounds; zeros where there are none. Between two values it interpolates.
#[must_use]
pub fn spread(values: impl IntoIterator<Item = f64>) -> Spread {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    Spread { median: quantile(&values, 2), q1: quantile(&values, 1), q3: quantile(&values, 3) }
}

/// A count as a float.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "frames and rates far below 2^52")]
pub fn count(count: u64) -> f64 {
    count as f64
}

/// Millions.
#[must_use]
pub fn mega(rate: u64) -> f64 {
    count(rate) / 1e6
}

/// One count over another; 0 if the other is 0.
#[must_use]
pub fn ratio(a: u64, b: u64) -> f64 {
    if b == 0 { 0.0 } else { count(a) / count(b) }
}

/// The value below which `quarters` quarters of the sorted values are.
fn quantile(sorted: &[f64], quarters: usize) -> f64 {
    let steps = sorted.len().saturating_sub(1) * quarters;
    let (below, rest) = (steps / 4, steps % 4);
    let at = |place: usize| sorted.get(place).copied().unwrap_or_default();
    #[expect(clippy::cast_precision_loss, reason = "0 to 3")]
    let part = rest as f64 / 4.0;
    at(below) + (at((below + 1).min(sorted.len().saturating_sub(1))) - at(below)) * part
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_and_quartiles_of_known_values() {
        assert_eq!(spread([5.0, 1.0, 4.0, 2.0, 3.0]), Spread { median: 3.0, q1: 2.0, q3: 4.0 });
        assert_eq!(spread([1.0, 2.0]), Spread { median: 1.5, q1: 1.25, q3: 1.75 });
        assert_eq!(spread([7.0]), Spread { median: 7.0, q1: 7.0, q3: 7.0 });
        assert_eq!(spread([]), Spread::default());
    }
}
