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
    report::schema::{Goal, Report, SourceFigure},
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

/// Adds a figure of some rounds of which more is better, and that it is to be at least so much, if it has a
/// goal.
fn more(report: &mut Report, what: &str, unit: &str, rounds: &[f64], least: Option<f64>) {
    let measured = spread(rounds.iter().copied());
    let goal = least.map(|least| Goal::at_least(goal(what, unit), least, measured));
    report.goals.extend(goal);
    report.source.push(SourceFigure {
        what: what.into(),
        unit: unit.into(),
        rounds: rounds.len(),
        measured,
        more_is_better: true,
    });
}

/// The same where less is better, and it is to be at most so much.
fn less(report: &mut Report, what: &str, unit: &str, rounds: &[f64], most: Option<f64>) {
    more(report, what, unit, rounds, None);
    let Some(figure) = report.source.last_mut() else { return };
    figure.more_is_better = false;
    let goal = most.map(|most| Goal::at_most(goal(what, unit), most, figure.measured));
    report.goals.extend(goal);
}

fn goal(what: &str, unit: &str) -> String {
    let unit = if unit.is_empty() { String::new() } else { format!(", {unit}") };
    format!("mirror source: {what}{unit}")
}
