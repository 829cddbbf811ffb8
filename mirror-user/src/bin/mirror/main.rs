//! The `mirror` command.

#[cfg(feature = "af-xdp")]
mod doctor;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser, Debug)]
#[command(name = "mirror", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    #[cfg(feature = "af-xdp")]
    Doctor(doctor::DoctorArgs),
}

fn main() -> anyhow::Result<ExitCode> {
    match Cli::parse().command {
        #[cfg(feature = "af-xdp")]
        Command::Doctor(args) => doctor::run(&args),
    }
}
