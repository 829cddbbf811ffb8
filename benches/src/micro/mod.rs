//! Each part of what is done with a packet by itself: its time, its instructions, its allocations, and the XDP program
//! without a network.

mod allocations;
mod frames;
mod instructions;
mod part;
pub mod probe;
mod test_run;
mod timing;

use anyhow::Result;

pub use allocations::in_steady_state;
pub use frames::Shape;
pub use part::Part;
pub use timing::bench;

use crate::{
    options::Options,
    report::schema::{Goal, Report, Spread},
};

/// Measures every part, and pushes what was found to the report.
///
/// # Errors
///
/// Where something fails that is there; what is not there is told in [`Report::not_measured`].
pub fn run(options: &Options, report: &mut Report) -> Result<()> {
    test_run::run(options, report)?;
    options.go_on()?;
    instructions::run(report)?;
    allocations::run(report)?;
    timing::run(options, report)
}

/// Tells loudly what cannot be measured.
fn miss(report: &mut Report, what: String) {
    eprintln!("NOT MEASURED: {what}");
    report.not_measured.push(what);
}

/// A goal that is a bound from above.
fn at_most(what: &str, bound: f64, measured: Spread) -> Goal {
    Goal {
        what: what.to_owned(),
        relation: "<=".to_owned(),
        bound,
        measured,
        reached: measured.median <= bound,
    }
}

/// A figure that is the same each time.
const fn exactly(value: f64) -> Spread {
    Spread { median: value, q1: value, q3: value }
}

#[expect(clippy::cast_precision_loss, reason = "far fewer frames than 2^52")]
fn per_frame(total: f64, frames: u64) -> f64 {
    total / frames as f64
}

/// Median and quartiles, each the sample nearest to its place, or the mean of the two that are.
fn spread(mut samples: Vec<f64>) -> Spread {
    samples.sort_unstable_by(f64::total_cmp);
    let at = |quarters: usize| {
        let place = samples.len().saturating_sub(1) * quarters;
        let pair =
            [place / 4, place.div_ceil(4)].map(|place| samples.get(place).copied().unwrap_or_default());
        let [low, high] = pair;
        f64::midpoint(low, high)
    };
    Spread { median: at(2), q1: at(1), q3: at(3) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_spread_is_median_and_quartiles_in_any_order() {
        assert_eq!(spread(vec![5.0, 1.0, 4.0, 2.0, 3.0]), Spread { median: 3.0, q1: 2.0, q3: 4.0 });
        assert_eq!(spread(vec![2.0, 1.0]).median, 1.5);
        assert_eq!(spread(Vec::new()), Spread::default());
    }

    #[test]
    fn a_goal_is_reached_up_to_its_bound() {
        assert!(at_most("", 70.0, exactly(70.0)).reached);
        assert!(!at_most("", 0.0, exactly(0.1)).reached);
    }
}
