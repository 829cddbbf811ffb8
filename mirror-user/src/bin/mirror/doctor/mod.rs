//! `mirror doctor`: what this host, driver and interface can do, and the command that fixes what they cannot.

mod fix;

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context;
use clap::Args;
use mirror_user::{
    Tunnels,
    doctor::{Facts, Report, gather},
    escape,
    settings::TunnelPorts,
};

/// Arguments of `mirror doctor`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct DoctorArgs {
    /// Check only this interface [default: all but loopback]
    #[arg(short, long, help_heading = "Source", value_name = "IF")]
    interface: Option<String>,
    /// UDP ports of the tunnels, as in `mirror ingest` [default: 4789]
    #[arg(long, help_heading = "Source", value_name = "PORT[=PROTOCOL],…")]
    port: Option<TunnelPorts>,
    /// Diagnose another host from what --json printed there
    #[arg(long, help_heading = "Source", value_name = "FILE", conflicts_with_all = ["interface", "port"])]
    facts: Option<PathBuf>,
    /// Print facts and findings as JSON
    #[arg(long, help_heading = "Output")]
    json: bool,
    /// Print the files that set at each start what the findings suggest: sysctl and a drop-in of the service
    #[arg(long, help_heading = "Output", conflicts_with = "json")]
    fix: bool,
}

const EXAMPLES: &str = "\
Examples:
  mirror doctor -i ens6
  mirror doctor -i ens6 --port 6081          behind a Gateway Load Balancer
  mirror doctor -i ens6 --fix                the same as files, to keep
  mirror doctor --json > target.json         on the mirror target
  mirror doctor --facts target.json          on any other host";

/// Gathers, judges and prints to standard output.
pub(crate) fn run(args: &DoctorArgs) -> anyhow::Result<ExitCode> {
    let report = Report::of(match &args.facts {
        Some(path) => recorded(path).with_context(|| {
            format!("{}: not the JSON of `mirror doctor --json`, nor its facts", escape::path(path))
        })?,
        None => {
            let tunnels = args.port.as_ref().map_or_else(Tunnels::default, |ports| ports.0.clone());
            gather(args.interface.as_deref(), &tunnels)
        }
    });
    let text = if args.json {
        let mut json = serde_json::to_string_pretty(&report).context("cannot write the report as JSON")?;
        json.push('\n');
        json
    } else if args.fix {
        fix::files(&report)
    } else {
        report.to_string()
    };
    match io::stdout().lock().write_all(text.as_bytes()) {
        // `mirror doctor | head` closed the pipe: done.
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
