//! A mirror source: what production pays for it, and what it sustains.

mod bed;
mod carrier;
mod cost;
mod load;
mod production;

use anyhow::Result;

use crate::{
    options::Options,
    progress::Progress,
    report::schema::{Report, SourceFigure},
    stats::spread,
};

pub(crate) use carrier::Preparing;

/// Measures all of it.
///
/// # Errors
///
/// If hosts, a source or a load cannot be started, or a residue is left.
pub fn run(options: &Options, report: &mut Report) -> Result<()> {
    let progress = Progress::start();
    carrier::run(options, &progress, report)?;
    cost::run(options, &progress, report)?;
    production::run(options, &progress, report)
}

/// A figure of some rounds of which more is better.
fn more(what: &str, unit: &str, rounds: &[f64]) -> SourceFigure {
    let measured = spread(rounds.iter().copied());
    SourceFigure {
        what: what.into(),
        unit: unit.into(),
        rounds: rounds.len(),
        measured,
        more_is_better: true,
    }
}

/// The same of which less is better.
fn less(what: &str, unit: &str, rounds: &[f64]) -> SourceFigure {
    SourceFigure { more_is_better: false, ..more(what, unit, rounds) }
}
