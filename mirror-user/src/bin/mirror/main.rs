//! `mirror`: takes AWS VPC Traffic Mirroring off the NIC, or out of capture files, with every packet accounted for.

mod closing;
#[cfg(feature = "af-xdp")]
mod doctor;
#[cfg(feature = "af-xdp")]
mod ingest;
#[cfg(feature = "af-xdp")]
mod interfaces;
mod lists;
mod output;
#[cfg(feature = "af-xdp")]
mod privileges;
mod replay;
mod signals;
#[cfg(feature = "af-xdp")]
mod status;
mod terminal;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Takes AWS VPC Traffic Mirroring off the NIC (or out of capture files), with every packet accounted for.
#[derive(Debug, Parser)]
#[command(name = "mirror", version, propagate_version = true, disable_help_subcommand = true)]
struct Cli {
    /// List the interfaces there are, and exit
    #[arg(short = 'D', long)]
    list_interfaces: bool,

    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Take mirrored packets off an interface
    #[cfg(feature = "af-xdp")]
    Ingest(Box<ingest::IngestArgs>),
    /// Take mirrored packets out of capture files; the same sinks and report, and no root
    Replay(Box<replay::ReplayArgs>),
    /// Tell what this host, its driver and its interface can do, and the command that mends what they cannot
    #[cfg(feature = "af-xdp")]
    Doctor(doctor::DoctorArgs),
}

/// Wrong usage: exit code 2, as clap's own.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Usage(pub(crate) String);

const FAILED: u8 = 1;
const BAD_USAGE: u8 = 2;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli) {
        Ok(code) => code,
        Err(error) => {
            terminal::clear_live_line();
            eprintln!("mirror: {error:#}");
            ExitCode::from(if error.is::<Usage>() { BAD_USAGE } else { FAILED })
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    if cli.list_interfaces {
        #[cfg(feature = "af-xdp")]
        return interfaces::list();
        #[cfg(not(feature = "af-xdp"))]
        return Err(
            Usage("this build reads capture files only; there is no interface to list".to_owned()).into()
        );
    }
    match cli.command {
        #[cfg(feature = "af-xdp")]
        Some(Command::Ingest(args)) => ingest::run(&args),
        Some(Command::Replay(args)) => replay::run(&args),
        #[cfg(feature = "af-xdp")]
        Some(Command::Doctor(args)) => doctor::run(&args),
        None => Err(Usage(
            "what to do? `mirror ingest -i IF` or `mirror replay -r FILE`; see `mirror --help`".to_owned(),
        )
        .into()),
    }
}
