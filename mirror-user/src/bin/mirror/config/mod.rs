//! `--config FILE` and `mirror config`: settings from a TOML file.
//!
//! What a file says and what was typed are values of one type, and what was typed wins.

mod check;
mod entry;
mod file;
mod flags;
mod print;

use std::{
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use mirror_user::{escape, settings::Settings};

pub(crate) use self::flags::{Command, key};
use self::{
    check::{Checked, For, check},
    file::{Read, SINK},
    print::{printed, printed_sinks},
};
use crate::{terminal, wanted::SinkTable};

/// Arguments of `mirror config`.
#[derive(Args, Debug)]
#[command(after_help = "\
Keys are the names of the flags: `vni = \"7,100-199\"` for --vni 7,100-199, `outer = true` for --outer. \
    Those that have
a letter only: read, write, unbuffered, count, quiet, verbose; for what is printed: link (-e), hex (-x), \
    hexascii (-X),
ascii (-A), timestamps (-t), absolute (-S). `filter` is the filter expression. Lists may be arrays. What is \
    typed beside --config wins
over the file; `mirror replay` skips what only an interface has, and `mirror ingest` what only files have.

Each table [[sink]] is a capture of its own: write, name, format, outer, unbuffered, snap, file-size, \
    rotate-seconds,
file-count, postrotate-command, per-origin, max-origins, min-free, when-full; or, one of them at most, \
    prints: print,
link, hex, hexascii, ascii, timestamps, absolute, verbose; and which packets it gets, of those that the run \
    selects: vnis, sources,
filter, outer-filter.")]
pub(crate) struct ConfigArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Tell what is wrong with a file, if anything is
    Check {
        /// The file
        file: PathBuf,
    },
    /// Print all settings that a file comes to, defaults included, as such a file
    Print {
        /// The file
        file: PathBuf,
    },
}

/// The settings of a run, with their defaults: what was typed, over what the file says, if one was named; and
/// the sinks of its tables.
pub(crate) fn settings(
    command: Command,
    typed: Settings,
    file: Option<&Path>,
) -> anyhow::Result<(Settings, Vec<SinkTable>)> {
    let Some(file) = file else { return Ok((typed.resolve(), Vec::new())) };
    let Checked { settings, tables, .. } = check(file, For::Run { command, typed: &typed })?;
    Ok((typed.over(settings).resolve(), tables))
}

/// The command itself.
pub(crate) fn run(args: &ConfigArgs) -> anyhow::Result<ExitCode> {
    match &args.action {
        Action::Check { file } => {
            let Read { settings, sinks } = check(file, For::Any)?.read;
            let counted =
                |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
            let sinks =
                if sinks.is_empty() { String::new() } else { format!(", {}", counted(sinks.len(), SINK)) };
            terminal::say!(
                "{}: {}{sinks}, nothing wrong",
                escape::path(file),
                counted(settings.len(), "key")
            );
        }
        Action::Print { file } => {
            let Checked { read: Read { sinks, .. }, settings, .. } = check(file, For::Any)?;
            let command = if settings.read.is_some() { Command::Replay } else { Command::Ingest };
            let text = printed(command, settings)? + &printed_sinks(&sinks);
            io::stdout().write_all(text.as_bytes()).context("standard output")?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
