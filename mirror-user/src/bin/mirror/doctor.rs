//! `mirror doctor`: what this host, driver and interface can do, and the command that mends what they cannot.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context;
use clap::Args;
use mirror_user::doctor::{Facts, Report, gather};

/// What this host, driver and interface can do, and the command that mends what they cannot.
///
/// Changes nothing. Exits with 0 if ingest can run, with 1 if not.
#[derive(Args, Debug)]
pub(crate) struct DoctorArgs {
    /// Look at this interface only [default: all but the loopback device]
    #[arg(short, long, value_name = "IF")]
    interface: Option<String>,
    /// Print facts and findings as JSON
    #[arg(long)]
    json: bool,
    /// Judge facts recorded elsewhere: what --json printed there
    #[arg(long, value_name = "FILE", conflicts_with = "interface")]
    facts: Option<PathBuf>,
}

/// Gathers, judges and prints to standard output.
pub(crate) fn run(args: &DoctorArgs) -> anyhow::Result<ExitCode> {
    let report = Report::of(match &args.facts {
        Some(path) => recorded(path).with_context(|| format!("{}: no facts to judge", path.display()))?,
        None => gather(args.interface.as_deref()),
    });
    let text = if args.json {
        let mut json = serde_json::to_string_pretty(&report).context("cannot write the report as JSON")?;
        json.push('\n');
        json
    } else {
        report.to_string()
    };
    match io::stdout().lock().write_all(text.as_bytes()) {
        // `mirror doctor | head` has read enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        written => written.context("cannot print the report")?,
    }
    Ok(if report.can_run { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Reads facts, alone or with the report they came in.
fn recorded(path: &Path) -> anyhow::Result<Facts> {
    let mut value: serde_json::Value = serde_json::from_str(&fs::read_to_string(path)?)?;
    if let Some(facts) = value.get_mut("facts") {
        value = facts.take();
    }
    Ok(serde_json::from_value(value)?)
}
