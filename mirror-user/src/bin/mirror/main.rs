//! `mirror`: takes AWS VPC Traffic Mirroring off the NIC, or out of capture files, with every packet
//! accounted for.

#![deny(unsafe_code)]

mod closing;
mod conclude;
mod config;
mod doctor;
mod files;
mod forward;
mod hooks;
mod ingest;
mod interfaces;
mod judge;
mod memory;
mod output;
mod outputs;
mod places;
mod postrotate;
mod print;
mod privileges;
mod replay;
mod sandbox;
mod signals;
mod status;
mod streams;
mod terminal;
mod user;
mod wanted;

use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use mirror_user::{error::with_causes, settings::Settings};

use self::{ingest::Ingest, replay::Replaying};

/// Takes AWS VPC Traffic Mirroring off the NIC or out of capture files, every packet accounted for.
#[derive(Debug, Parser)]
#[command(
    name = "mirror",
    version,
    propagate_version = true,
    disable_help_subcommand = true,
    after_help = "Examples:
  mirror -D                                    which interfaces there are
  mirror doctor -i ens6                        whether this one will do, and what mends it
  mirror ingest -i ens6 -w inner.pcapng        capture what is mirrored to it
  mirror replay -r outer.pcap -w inner.pcapng  the same from a capture of tcpdump's

Exit status: 0 done, 1 failed or a sink ended early, 2 bad usage. See `mirror COMMAND --help`."
)]
struct Cli {
    /// List the interfaces, and exit
    #[arg(short = 'D', long)]
    list_interfaces: bool,

    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Take mirrored packets off interfaces (root)
    ///
    /// Runs until it is stopped with Ctrl-C. Capabilities are given up once it has started, and with -Z the
    /// user root is, too. Packets that are not of the tunnel go to the host as ever.
    Ingest(Box<ingest::IngestArgs>),
    /// Take mirrored packets out of capture files
    ///
    /// The same selection, outputs and report as live, and no root.
    Replay(Box<replay::ReplayArgs>),
    /// Check a configuration file, or print what it comes to
    Config(config::ConfigArgs),
    /// Tell what stands in the way on this host, and the command that mends it
    ///
    /// Changes nothing. Exits with 0 if ingest can run, with 1 if not.
    Doctor(doctor::DoctorArgs),
}

/// Wrong usage: exit code 2, as clap's own.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Usage(pub(crate) String);

const FAILED: u8 = 1;
const BAD_USAGE: u8 = 2;

fn main() -> ExitCode {
    let matches = command().try_get_matches().unwrap_or_else(|error| refused(&error));
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| refused(&error));
    match run(cli) {
        Ok(code) => code,
        Err(error) => {
            terminal::clear_live_line();
            terminal::say!("mirror: {}", with_remedy(&error));
            ExitCode::from(if error.is::<Usage>() { BAD_USAGE } else { FAILED })
        }
    }
}

/// The command line, whose help has the defaults of settings.
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

/// Help goes out as it is, what is wrong with flags like all else: they may come from a file.
fn refused(error: &clap::Error) -> ! {
    if !error.use_stderr() {
        error.exit();
    }
    terminal::say!("{}", error.render().to_string().trim_end());
    std::process::exit(BAD_USAGE.into())
}

/// An error with its causes, and with what to do where the system ran out of something and nothing has said
/// so.
fn with_remedy(error: &anyhow::Error) -> String {
    let told = with_causes(error.as_ref());
    let of_cause = |cause: &(dyn std::error::Error + 'static)| match cause.downcast_ref::<std::io::Error>() {
        Some(error) => error.raw_os_error(),
        None => cause.downcast_ref::<nix::errno::Errno>().map(|errno| *errno as i32),
    };
    // Where it is text already: as std::io::Error has it.
    let of_text = || told.rsplit_once("(os error ")?.1.split_once(')')?.0.parse().ok();
    let errno = error.chain().find_map(of_cause).or_else(of_text);
    match errno.and_then(mirror_user::host::limits::remedy) {
        // EAGAIN means other things elsewhere.
        Some(_) if errno == Some(nix::errno::Errno::EAGAIN as i32) && !told.contains("thread") => told,
        Some(_) if told.contains("ulimit") => told,
        Some(remedy) => format!("{told}; {remedy}"),
        None => told,
    }
}

fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    if cli.list_interfaces {
        return interfaces::list();
    }
    match cli.command {
        Some(Command::Ingest(args)) if args.list_interfaces => interfaces::list(),
        Some(Command::Ingest(args)) => {
            let file = args.output.config.clone();
            let (settings, tables) =
                config::settings(config::Command::Ingest, args.settings(), file.as_deref())?;
            ingest::run(&Ingest::of(&settings, tables))
        }
        Some(Command::Replay(args)) => {
            let file = args.output.config.clone();
            let (settings, tables) =
                config::settings(config::Command::Replay, args.settings(), file.as_deref())?;
            replay::run(&Replaying::of(&settings, tables))
        }
        Some(Command::Config(args)) => config::run(&args),
        Some(Command::Doctor(args)) => doctor::run(&args),
        None => Err(Usage(
            "what to do? `mirror ingest -i IF` or `mirror replay -r FILE`; see `mirror --help`".to_owned(),
        )
        .into()),
    }
}
