//! `mirror`: captures AWS VPC Traffic Mirroring from the NIC or from capture files, and accounts for every
//! packet.

#![deny(unsafe_code)]

mod channel;
mod closing;
mod conclude;
mod config;
mod control;
mod doctor;
mod exit;
mod files;
mod filter;
mod flag_values;
mod forward;
mod hooks;
mod http;
mod ingest;
mod interfaces;
mod journal;
mod memory;
mod monitor;
mod observed;
mod output;
mod output_config;
mod outputs;
#[cfg(test)]
mod pages;
mod places;
mod postrotate;
mod print;
mod privileges;
mod query;
mod readers;
mod reload;
mod remedy;
mod replay;
mod requests;
mod sandbox;
mod sessions;
mod signals;
mod source;
mod status;
mod streams;
mod terminal;
mod top;
mod upgrade;
mod user;
mod validate;
mod writers;

use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use mirror_user::settings::Settings;

use self::{
    config::ConfigSource,
    exit::{BAD_USAGE, FAILED, Usage},
    ingest::IngestRun,
    replay::ReplayRun,
};

/// Captures AWS VPC Traffic Mirroring from the NIC or from capture files, and accounts for every packet.
#[derive(Debug, Parser)]
#[command(
    name = "mirror",
    version,
    propagate_version = true,
    disable_help_subcommand = true,
    after_help = "Examples:
  mirror -D                                    list the interfaces
  mirror doctor -i ens6                        check the host and one interface
  mirror ingest -i ens6 -w inner.pcapng        capture the packets mirrored to it
  mirror replay -r outer.pcap -w inner.pcapng  decapsulate a capture of tcpdump
  mirror top                                   watch the run of this host

Exit status: 0 done, 1 failed or a sink ended early, 2 bad usage. See `mirror COMMAND --help`."
)]
struct Cli {
    /// List the interfaces and exit
    #[arg(short = 'D', long)]
    list_interfaces: bool,

    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Capture mirrored packets from interfaces (needs root)
    ///
    /// Runs until stopped with Ctrl-C. Drops its capabilities once it has started, and with -Z changes to
    /// another user. Packets that do not belong to the tunnel are passed to the kernel unchanged.
    Ingest(Box<ingest::IngestArgs>),
    /// Read mirrored packets from capture files
    ///
    /// Selection, outputs and report are those of ingest. Needs no root.
    Replay(Box<replay::ReplayArgs>),
    /// Show how the runs of this host stand
    ///
    /// Asks each over its control socket, /run/mirror/NAME.sock: see `mirror ingest --control`. Exits with 1
    /// if there is no such run, or it does not answer.
    Status(control::StatusArgs),
    /// Have a run take packets until no more come, then stop
    ///
    /// The same as TERM to a run that was started with --drain-max. Only root may do that.
    Drain(control::DrainArgs),
    /// Have a run read its configuration file again
    ///
    /// Changes VNIs, sources, filters and outputs, and loses no packet of outputs that stay. Exits with 1 if
    /// the file is refused; then nothing has changed. Only root may do that.
    Reload(control::ReloadArgs),
    /// Have a run pass to a new process of the installed executable, without losing a packet
    ///
    /// The new process reads the configuration file, opens its outputs, and takes over the sockets with the
    /// packets in them; if it cannot, the run goes on as it is, and this exits with 1. Needs Linux 6.4, and a
    /// run that was started with --config. Only root may do that.
    Upgrade(control::UpgradeArgs),
    /// Watch a run: rates, losses, queues, outputs, origins
    ///
    /// One screen over the control socket, drawn each second. Ends with q, Ctrl-C, or the run.
    Top(top::TopArgs),
    /// Started by a run: see `mirror ingest --no-monitor`
    #[command(hide = true)]
    Monitor(monitor::MonitorArgs),
    /// Started by a monitor: starts the new process of an upgrade, and ends
    #[command(hide = true)]
    Launch(monitor::LaunchArgs),
    /// Started for an upgrade: see `mirror upgrade`
    #[command(hide = true)]
    TakeOver(upgrade::TakeOverArgs),
    /// Check a configuration file, or print the effective settings
    Config(config::ConfigArgs),
    /// Say what Traffic Mirroring mirrors, from the JSON of `aws ec2 describe-traffic-mirror-…`
    Filter(filter::FilterArgs),
    /// Ask flow logs questions, in the language of CloudWatch Logs Insights
    ///
    /// Reads VPC flow logs as AWS delivers them, text or Parquet. Needs no root.
    Query(query::QueryArgs),
    /// Mirror interfaces of this host, as AWS does those of instances (needs root)
    ///
    /// Judges each packet by the rules of the sessions, clones what they mirror, and sends it in VXLAN to
    /// their targets. Production's packets are never dropped or changed. Runs until stopped with Ctrl-C.
    Source(Box<source::SourceArgs>),
    /// Diagnose this host and suggest fixes
    ///
    /// Changes nothing, but for --apply and --undo. Exits with 0 if ingest can run, with 1 if not.
    Doctor(doctor::DoctorArgs),
}

fn main() -> ExitCode {
    let matches = command().try_get_matches().unwrap_or_else(|error| refused(&error));
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| refused(&error));
    match run(cli) {
        Ok(code) => code,
        Err(error) => {
            terminal::clear_live_line();
            terminal::print_error(&format!("mirror: {}", remedy::with_remedy(&error)));
            ExitCode::from(if error.is::<Usage>() { BAD_USAGE } else { FAILED })
        }
    }
}

/// The command line, with the defaults of settings in its help.
fn command() -> clap::Command {
    let defaults = toml::Table::try_from(Settings::default().resolve()).unwrap_or_default();
    let with_default = |arg: clap::Arg| {
        let default = config::key(&arg).and_then(|key| defaults.get(key));
        match (default, arg.get_help()) {
            (Some(default), Some(help)) if arg.get_action().takes_values() => {
                let default = default.as_str().map_or_else(|| default.to_string(), str::to_owned);
                let help = format!("{help} [default: {default}]");
                arg.help(help)
            }
            _ => arg,
        }
    };
    let commands = [config::Command::Ingest, config::Command::Replay];
    commands.into_iter().fold(Cli::command(), |cli, command| {
        cli.mut_subcommand(command.name(), |command| command.mut_args(with_default))
    })
}

/// Prints help unchanged; errors are escaped, because flags may come from a file.
fn refused(error: &clap::Error) -> ! {
    if !error.use_stderr() {
        error.exit();
    }
    terminal::print_error(error.render().to_string().trim_end());
    std::process::exit(BAD_USAGE.into())
}

fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    if cli.list_interfaces {
        return interfaces::list();
    }
    match cli.command {
        Some(Command::Ingest(args)) if args.list_interfaces => interfaces::list(),
        Some(Command::Ingest(args)) => {
            let file = args.output.config.clone();
            let source = ConfigSource::of(config::Command::Ingest, args.settings(), file);
            let (settings, tables) = source.read()?;
            ingest::run(&IngestRun::read(&settings, tables)?, &settings, &source, None)
        }
        Some(Command::Replay(args)) => {
            let file = args.output.config.clone();
            let source = ConfigSource::of(config::Command::Replay, args.settings(), file);
            let (settings, tables) = source.read()?;
            replay::run(&ReplayRun::read(&settings, tables)?)
        }
        Some(Command::Status(args)) => control::status(&args),
        Some(Command::Drain(args)) => control::drain(&args),
        Some(Command::Reload(args)) => control::reload(&args),
        Some(Command::Upgrade(args)) => control::upgrade(&args),
        Some(Command::Top(args)) => top::run(&args),
        Some(Command::Monitor(args)) => monitor::run(args),
        Some(Command::Launch(args)) => monitor::launch(args),
        Some(Command::TakeOver(args)) => upgrade::take_over(args),
        Some(Command::Config(args)) => config::run(&args),
        Some(Command::Source(args)) => source::run(&args),
        Some(Command::Filter(args)) => filter::run(&args),
        Some(Command::Query(args)) => query::run(&args),
        Some(Command::Doctor(args)) => doctor::run(&args),
        None => Err(Usage(
            "no command given: use `mirror ingest -i IF` or `mirror replay -r FILE`, see `mirror --help`"
                .to_owned(),
        )
        .into()),
    }
}
