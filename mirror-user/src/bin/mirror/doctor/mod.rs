//! `mirror doctor`: what this host, driver and interface can do, and the command that fixes what they cannot.

mod apply;
mod fix;
mod outcome;
mod record;
mod system;
mod undo;

use std::{
    fmt::Write as _,
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::Context;
use clap::Args;
use mirror_user::{
    Tunnels,
    doctor::{Fact, Facts, Report, gather},
    escape,
    host::run_state,
    settings::{Many, Settings, TunnelPorts},
};
use nix::unistd::geteuid;
use serde::Serialize;

use self::{
    fix::{Kept, Planned},
    outcome::{FileOutcome, FileState, Outcome, SettingOutcome, SettingState},
    record::{RECORD, Record},
    system::ThisHost,
};
use crate::{
    config::{self, ConfigSource},
    exit::Usage,
};

/// Arguments of `mirror doctor`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct DoctorArgs {
    /// Check only these interfaces [default: all but loopback]
    #[arg(short, long, help_heading = "Source", value_name = "IF[,IF…]", value_delimiter = ',')]
    interface: Vec<String>,
    /// UDP ports of the tunnels, as in `mirror ingest` [default: 4789]
    #[arg(long, help_heading = "Source", value_name = "PORT[=PROTOCOL],…")]
    port: Option<TunnelPorts>,
    /// Take interfaces and ports from a configuration file of `mirror ingest`
    #[arg(long, help_heading = "Source", value_name = "FILE", conflicts_with_all = ["interface", "port"])]
    config: Option<PathBuf>,
    /// Diagnose another host from what --json printed there
    #[arg(
        long,
        help_heading = "Source",
        value_name = "FILE",
        conflicts_with_all = ["interface", "port", "config"]
    )]
    facts: Option<PathBuf>,
    /// Print facts and findings as JSON; with --fix and --undo, what they do
    #[arg(long, help_heading = "Output")]
    json: bool,
    /// Print the files that set at each start what the findings suggest: sysctl and a drop-in of the service.
    /// With --config /etc/mirror/NAME.toml, that of mirror@NAME.service
    #[arg(long, help_heading = "Output")]
    fix: bool,
    /// With --fix: write these files, set the same on the running host, and record what was changed in
    /// /etc/mirror/applied.json; needs -i or --config, and root
    #[arg(long, help_heading = "Host", requires = "fix", conflicts_with = "facts")]
    apply: bool,
    /// Put back what --apply has changed, as far as nobody else has changed it since, and remove its files;
    /// needs root
    #[arg(
        long,
        help_heading = "Host",
        conflicts_with_all = ["interface", "port", "config", "facts", "fix", "apply"]
    )]
    undo: bool,
}

const EXAMPLES: &str = "\
Examples:
  mirror doctor -i ens6
  mirror doctor -i ens6 --port 6081          behind a Gateway Load Balancer
  mirror doctor -i ens6 --fix                the same as files, to keep
  mirror doctor -i ens6 --fix --apply        written, and set at once
  mirror doctor --undo                       and put back
  mirror doctor --json > target.json         on the mirror target
  mirror doctor --facts target.json          on any other host";

/// Gathers, judges and prints to standard output.
pub(crate) fn run(args: &DoctorArgs) -> anyhow::Result<ExitCode> {
    if args.undo {
        return undo(args);
    }
    let source = Source::of(args)?;
    let report = match &args.facts {
        Some(path) => Report::of(recorded(path).with_context(|| {
            format!("{}: not the JSON of `mirror doctor --json`, nor its facts", escape::path(path))
        })?),
        None => source.report(),
    };
    let unit = fix::unit(args.config.as_deref());
    if args.apply {
        return apply(args, &source, &report, &unit);
    }
    let text = if args.fix {
        let new = fix::kept(&report, &unit);
        // What has been applied on this host stays in its files.
        let record = if args.facts.is_some() { Record::default() } else { Record::read(&ThisHost)? };
        let files = fix::files(&record.with(&new));
        if args.json { json(&planned(&new, files, report.can_run))? } else { printed(&files) }
    } else if args.json {
        json(&report)?
    } else {
        report.to_string()
    };
    print(&text)?;
    Ok(code(report.can_run))
}

/// What is looked at.
struct Source {
    interfaces: Vec<String>,
    tunnels: Tunnels,
}

impl Source {
    fn of(args: &DoctorArgs) -> anyhow::Result<Self> {
        let (interfaces, ports) = match &args.config {
            None => (args.interface.clone(), args.port.clone()),
            Some(file) => {
                let read = ConfigSource::of(config::Command::Ingest, Settings::default(), Some(file.clone()));
                let (settings, _) = read.read()?;
                let interfaces = settings.interface.iter().flat_map(Many::values);
                let interfaces: Vec<_> = interfaces.map(|interface| interface.0.clone()).collect();
                if interfaces.is_empty() {
                    let place = config::place_of_key(file, "interface");
                    return Err(Usage(format!("{place}: no interface is given")).into());
                }
                (interfaces, settings.port.as_deref().cloned())
            }
        };
        Ok(Self { interfaces, tunnels: ports.map_or_else(Tunnels::default, |ports| ports.0) })
    }

    fn report(&self) -> Report {
        let names: Vec<_> = self.interfaces.iter().map(String::as_str).collect();
        Report::of(gather(&names, &self.tunnels))
    }
}

/// Reads facts, alone or with the report they came in.
fn recorded(path: &Path) -> anyhow::Result<Facts> {
    let mut value: serde_json::Value = serde_json::from_str(&fs::read_to_string(path)?)?;
    if let Some(facts) = value.get_mut("facts") {
        value = facts.take();
    }
    Ok(serde_json::from_value(value)?)
}

/// Each file after its path and the command that has it read; nothing if no setting is to be changed.
fn printed(files: &[Planned]) -> String {
    let mut text = String::new();
    for Planned { path, text: file, read_by } in files {
        // Writing to a string does not fail.
        let _ = writeln!(text, "# {}, then `{read_by}`\n{file}", escape::line(path));
    }
    text
}

fn planned(new: &[Kept], files: Vec<Planned>, can_run: bool) -> Outcome {
    let setting = |kept: &Kept| SettingOutcome {
        setting: kept.assignment.setting.clone(),
        value: kept.assignment.value.clone(),
        before: None,
        state: SettingState::Planned,
        error: None,
    };
    let file = |Planned { path, text, .. }| FileOutcome { path, state: FileState::Planned, text: Some(text) };
    let mut outcome = Outcome::default();
    outcome.settings = new.iter().map(setting).collect();
    outcome.files = files.into_iter().map(file).collect();
    outcome.can_run = Some(can_run);
    outcome
}

fn apply(args: &DoctorArgs, source: &Source, report: &Report, unit: &str) -> anyhow::Result<ExitCode> {
    if source.interfaces.is_empty() {
        let usage = "--apply changes settings of interfaces: name them with `-i IF`, or with `--config \
                     /etc/mirror/mirror.toml`";
        return Err(Usage(usage.to_owned()).into());
    }
    refuse_others("--fix --apply")?;
    match &report.facts.interfaces {
        Fact::Unknown { unreadable } => anyhow::bail!("{}; nothing was changed", escape::line(unreadable)),
        Fact::Known(interfaces) => {
            if let Some(captured) = interfaces.iter().find(|interface| interface.is_captured()) {
                // Its huge pages would count as taken, and its link would be reset.
                anyhow::bail!(
                    "{}: a run of mirror captures here: stop it first; nothing was changed",
                    escape::line(&captured.name)
                );
            }
        }
    }
    let _lock = lock()?;
    let now = jiff::Timestamp::now().to_string();
    let mut outcome = apply::apply(&mut ThisHost, &fix::kept(report, unit), &now)?;
    outcome.find_programs();
    outcome.can_run = Some(source.report().can_run);
    finish(args, outcome, "nothing to fix")
}

fn undo(args: &DoctorArgs) -> anyhow::Result<ExitCode> {
    refuse_others("--undo")?;
    let _lock = lock()?;
    let outcome = undo::undo(&mut ThisHost)?;
    finish(args, outcome, &format!("nothing to undo: there is no {RECORD}"))
}

/// Has systemd read what has changed, and prints.
fn finish(args: &DoctorArgs, mut outcome: Outcome, nothing: &str) -> anyhow::Result<ExitCode> {
    if outcome.changed_units() {
        outcome.not_reloaded = reload_systemd().err().map(|error| format!("{error:#}"));
    }
    let text = if args.json { json(&outcome)? } else { outcome.to_string() };
    print(if text.is_empty() { nothing } else { text.trim_end() })?;
    print("\n")?;
    Ok(code(outcome.is_complete() && outcome.can_run != Some(false)))
}

fn refuse_others(what: &str) -> anyhow::Result<()> {
    anyhow::ensure!(
        geteuid().is_root(),
        "{what} changes settings and files of the host: run it as root (`sudo mirror doctor …`)"
    );
    Ok(())
}

/// Keeps other calls away until it is dropped.
fn lock() -> anyhow::Result<File> {
    let base = Path::new(run_state::DIRECTORY);
    let lock = || {
        run_state::make(base)?;
        run_state::lock(&run_state::make(&base.join("doctor"))?)
    };
    lock().with_context(|| format!("{}: cannot be locked", base.join("doctor").display()))
}

/// Where systemd runs, it reads its files again.
fn reload_systemd() -> anyhow::Result<()> {
    // sd_booted(3)
    if !Path::new("/run/systemd/system").exists() {
        return Ok(());
    }
    let output = Command::new("systemctl").arg("daemon-reload").output().context("cannot start it")?;
    let said = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "{}: {}", output.status, said.trim());
    Ok(())
}

fn json(value: &impl Serialize) -> anyhow::Result<String> {
    let mut json = serde_json::to_string_pretty(value).context("cannot write the report as JSON")?;
    json.push('\n');
    Ok(json)
}

fn print(text: &str) -> anyhow::Result<()> {
    match io::stdout().lock().write_all(text.as_bytes()) {
        // `mirror doctor | head` closed the pipe: done.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.context("cannot print the report"),
    }
}

fn code(is_well: bool) -> ExitCode {
    if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
