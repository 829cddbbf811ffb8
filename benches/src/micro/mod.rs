//! Each part of the packet path by itself: time, instructions, allocations; and the XDP program without a
//! network.

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

use crate::{options::Options, report::schema::Report};

/// Measures every part, and adds the results to the report.
///
/// # Errors
///
/// If a measurement fails; missing tools are reported in [`Report::not_measured`].
pub fn run(options: &Options, report: &mut Report) -> Result<()> {
    test_run::run(options, report)?;
    options.go_on()?;
    instructions::run(report)?;
    allocations::run(report)?;
    timing::run(options, report)
}

/// Reports what cannot be measured, also on standard error.
fn miss(report: &mut Report, what: String) {
    eprintln!("NOT MEASURED: {what}");
    report.not_measured.push(what);
}

#[expect(clippy::cast_precision_loss, reason = "far fewer frames than 2^52")]
fn per_frame(total: f64, frames: u64) -> f64 {
    total / frames as f64
}
