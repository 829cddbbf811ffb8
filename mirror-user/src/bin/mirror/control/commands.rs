//! `mirror status`, `mirror drain`, `mirror reload` and `mirror upgrade`.

use std::{
    fmt::Write as _,
    io::{self, Write as _},
    process::ExitCode,
    thread,
    time::Duration,
};

use clap::Args;
use mirror_user::{Report, account::SinkState, engine::SocketsPass, escape, settings::Control};

use super::{
    client::{Client, Clients, name},
    protocol::{DrainTimes, RunStatus},
};
use crate::{exit::FAILED, status, terminal};

/// Arguments of `mirror status`.
#[derive(Args, Debug)]
pub(crate) struct StatusArgs {
    /// The run, by the name of its control socket [default: all]
    #[arg(value_parser = name)]
    name: Option<Control>,
    /// Print JSON: an array of runs, each with its report
    #[arg(long)]
    json: bool,
}

/// Arguments of `mirror drain`.
#[derive(Args, Debug)]
pub(crate) struct DrainArgs {
    /// The run, by the name of its control socket; not needed if there is only one
    #[arg(value_parser = name)]
    name: Option<Control>,
    /// Wait until the run has ended
    #[arg(long)]
    wait: bool,
}

/// Arguments of `mirror reload`.
#[derive(Args, Debug)]
pub(crate) struct ReloadArgs {
    /// The run, by the name of its control socket; not needed if there is only one
    #[arg(value_parser = name)]
    name: Option<Control>,
}

/// Arguments of `mirror upgrade`.
#[derive(Args, Debug)]
pub(crate) struct UpgradeArgs {
    /// The run, by the name of its control socket; not needed if there is only one
    #[arg(value_parser = name)]
    name: Option<Control>,
    /// Open new sockets, as on kernels before 6.4: their sizes can change, and packets pass to the host
    /// meanwhile, counted
    #[arg(long)]
    cold: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Prints how runs stand.
pub(crate) fn status(args: &StatusArgs) -> anyhow::Result<ExitCode> {
    let clients = Clients::of_this_host();
    let asked = match &args.name {
        Some(name) => vec![clients.one(Some(name))?],
        None => clients.live()?,
    };
    if asked.is_empty() {
        anyhow::bail!("{}", clients.which(&asked));
    }
    let (mut found, mut failed) = (Vec::new(), false);
    for client in &asked {
        match client.status() {
            Ok(status) => found.push(status),
            // Others may answer.
            Err(error) => {
                terminal::say!("mirror: {error:#}");
                failed = true;
            }
        }
    }
    let text = if args.json {
        serde_json::to_string_pretty(&found)? + "\n"
    } else {
        found.iter().map(lines).collect()
    };
    io::stdout().lock().write_all(text.as_bytes())?;
    Ok(if failed { ExitCode::from(FAILED) } else { ExitCode::SUCCESS })
}

/// Has a run drain.
pub(crate) fn drain(args: &DrainArgs) -> anyhow::Result<ExitCode> {
    let client = Clients::of_this_host().one(args.name.as_ref())?;
    let times = client.drain()?;
    terminal::say!("{}: draining: it stops when {}", client.shown(), until(times));
    if args.wait {
        await_end(&client);
        terminal::say!("{}: the run has ended", client.shown());
    }
    Ok(ExitCode::SUCCESS)
}

/// Has a run read its configuration file again.
pub(crate) fn reload(args: &ReloadArgs) -> anyhow::Result<ExitCode> {
    let client = Clients::of_this_host().one(args.name.as_ref())?;
    let reloaded = client.reload()?;
    terminal::say!("{}: reloaded: {reloaded}", client.shown());
    Ok(ExitCode::SUCCESS)
}

/// Has a run pass to a new process.
pub(crate) fn upgrade(args: &UpgradeArgs) -> anyhow::Result<ExitCode> {
    let client = Clients::of_this_host().one(args.name.as_ref())?;
    let sockets = if args.cold { SocketsPass::OpenedAnew } else { SocketsPass::Over };
    let upgraded = client.upgrade(sockets)?;
    if args.json {
        let text = serde_json::to_string_pretty(&upgraded)? + "\n";
        io::stdout().lock().write_all(text.as_bytes())?;
    } else {
        terminal::say!("{}: {upgraded}", client.shown());
    }
    Ok(ExitCode::SUCCESS)
}

fn await_end(client: &Client) {
    const POLL: Duration = Duration::from_millis(100);
    while client.is_live() {
        thread::sleep(POLL);
    }
}

/// A run in a few lines.
fn lines(run: &RunStatus<Report>) -> String {
    let RunStatus { name, pid, version, phase, drain, report } = run;
    let mut text = format!("{}: {}", escape::line(name), phase.name());
    // Writing to a String cannot fail.
    if let Some(report) = report {
        let _ = write!(text, " for {}", seconds(report.duration_s));
    }
    let _ = writeln!(text, ", pid {pid}, mirror {}", escape::line(version));
    if let Some(report) = report {
        let captured = report.frames.selected + report.forwarded_by_kernel();
        let _ = writeln!(
            text,
            "  {captured} packets captured, {} dropped by kernel, {} dropped by interface",
            report.dropped_by_kernel(),
            report.dropped_by_interface()
        );
        for sink in report.sinks.iter().filter(|sink| sink.state != SinkState::Done) {
            let _ = write!(text, "  sink {} {}", escape::line(&sink.name), status::state(sink.state));
            let reason = sink.reason.as_ref().map(|reason| format!(": {}", escape::line(reason)));
            let _ = writeln!(text, "{}", reason.unwrap_or_default());
        }
        for warning in &report.warnings {
            let _ = writeln!(text, "  warning: {}", escape::line(warning));
        }
    }
    if let Some(times) = drain {
        let _ = writeln!(text, "  after TERM it stops when {}", until(*times));
    }
    text
}

/// When a drain ends.
fn until(DrainTimes { max_s, quiet_s }: DrainTimes) -> String {
    format!("no packet has come for {}, in {} at the latest", seconds(quiet_s), seconds(max_s))
}

/// A time for people: whole seconds from one minute on, else as given.
pub(crate) fn seconds(seconds: f64) -> String {
    let time = Duration::try_from_secs_f64(seconds).unwrap_or_default();
    let fraction = if time.as_secs() < 10 { time.subsec_millis() / 100 * 100 } else { 0 };
    let shown = Duration::new(time.as_secs(), fraction * 1_000_000);
    humantime::format_duration(shown).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observed::Phase;

    #[test]
    fn a_run_is_described_with_control_characters_escaped() {
        let report = r#"{"schema": "mirror.report/1", "source": "af_xdp", "started": "1970-01-01T00:00:00Z",
            "duration_s": 3723.4, "frames": {"selected": 7},
            "sinks": [{"name": "a\u001b[2J", "state": "waiting", "reason": "no\nspace"}]}"#;
        let mut run = RunStatus {
            name: "ens5\u{7}".to_owned(),
            pid: 7,
            version: "0.1.0".to_owned(),
            phase: Phase::Draining,
            drain: Some(DrainTimes { max_s: 180.0, quiet_s: 2.5 }),
            report: Some(serde_json::from_str::<Report>(report).unwrap()),
        };
        assert_eq!(
            lines(&run),
            "ens5\\x07: draining for 1h 2m 3s, pid 7, mirror 0.1.0\n  \
            7 packets captured, 0 dropped by kernel, 0 dropped by interface\n  \
            sink a\\x1b[2J waiting: no\\nspace\n  \
            after TERM it stops when no packet has come for 2s 500ms, in 3m at the latest\n"
        );
        (run.report, run.drain, run.phase) = (None, None, Phase::Starting);
        assert_eq!(lines(&run), "ens5\\x07: starting, pid 7, mirror 0.1.0\n");
    }
}
