//! The end of a run: the report, the closing lines, the exit code.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use anyhow::Context as _;
use mirror_user::{Report, escape};

use crate::{closing, exit::FAILED, outputs::Outputs, postrotate::Postrotate, terminal};

/// Printed when [all outputs are over](Outputs::are_over).
pub(crate) const ALL_ENDED: &str =
    "mirror: every output has ended, so the run stops (`--on-output-end continue` keeps counting)";

/// Delivers the report, prints the closing lines, and returns the exit code.
pub(crate) fn conclude(outputs: &Outputs, report: &Report) -> anyhow::Result<ExitCode> {
    let delivered = deliver(outputs, report);
    terminal::clear_live_line();
    terminal::say!("{}", closing::lines(report, outputs.captures()).trim_end());
    let commands_succeeded = outputs.postrotate.as_ref().is_none_or(Postrotate::finish);
    delivered?;
    Ok(if report.is_clean() && commands_succeeded { ExitCode::SUCCESS } else { ExitCode::from(FAILED) })
}

/// The end of a process whose run another one has now, which writes the report: prints how it stands. Returns
/// the exit code.
pub(crate) fn conclude_part(outputs: &Outputs, report: &Report, successor: u32) -> ExitCode {
    terminal::clear_live_line();
    terminal::say!("mirror: process {successor} has the run now; until then:");
    terminal::say!("{}", closing::lines(report, outputs.captures()).trim_end());
    let commands_succeeded = outputs.postrotate.as_ref().is_none_or(Postrotate::finish);
    if commands_succeeded { ExitCode::SUCCESS } else { ExitCode::from(FAILED) }
}

/// Writes the report to file and standard output, as requested; a failure of one does not prevent the other.
fn deliver(outputs: &Outputs, report: &Report) -> anyhow::Result<()> {
    let mut text = serde_json::to_vec_pretty(report).context("report")?;
    text.push(b'\n');
    let file = outputs.report.as_ref().map_or(Ok(()), |hidden| {
        let written = hidden.file().write_all(&text).and_then(|()| hidden.complete());
        written.with_context(|| format!("{}", escape::path(hidden.path())))
    });
    if outputs.json {
        io::stdout().lock().write_all(&text).context("standard output")?;
    }
    file
}
