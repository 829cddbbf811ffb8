//! `--config FILE` and `mirror config`: what flags say, from a TOML file.
//!
//! A file becomes flags in front of those that were typed, so that each has one meaning and one place that judges it. What
//! was typed wins.

mod check;
mod file;
mod flags;
mod print;

use std::{
    ffi::OsString,
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::Context as _;
use clap::{Arg, Args, CommandFactory as _, Subcommand, parser::ValueSource};

pub(crate) use self::check::SinkTable;
use self::{
    check::{Checked, For, check},
    file::{Read, SINK},
    flags::{CONFIG, flags, subcommand},
    print::{printed, printed_sinks},
};
use mirror_user::escape;

use crate::{Cli, terminal};

/// Arguments of `mirror config`.
#[derive(Args, Debug)]
#[command(after_help = "\
Keys are the names of the flags: `vni = \"7,100-199\"` for --vni 7,100-199, `outer = true` for --outer. Those that have
a letter only: read, write, unbuffered, count, quiet, verbose; for what is printed: link (-e), hex (-x), hexascii (-X),
ascii (-A), timestamps (-t), absolute (-S). `filter` is the filter expression. Lists may be arrays. What is typed beside --config wins
over the file; `mirror replay` skips what only an interface has, and `mirror ingest` what only files have.

Each table [[sink]] is a capture of its own: write, name, format, outer, unbuffered, snap, file-size, rotate-seconds,
file-count, postrotate-command, per-origin, max-origins, min-free, when-full; or, one of them at most, prints: print,
link, hex, hexascii, ascii, timestamps, absolute, verbose; and which packets it gets, of those that the run selects: vnis, sources,
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

/// Puts what a file says in front of what was typed, if a file was named; the tables of its sinks beside it.
pub(crate) fn expand(typed: Vec<OsString>) -> anyhow::Result<(Vec<OsString>, Vec<SinkTable>)> {
    let none = |typed| Ok((typed, Vec::new()));
    // What is wrong with the rest, the second reading will tell, with all that belongs to it.
    let Ok(early) = Cli::command().ignore_errors(true).try_get_matches_from(&typed) else {
        return none(typed);
    };
    let Some((name, matches)) = early.subcommand() else { return none(typed) };
    let Some(file) = matches.try_get_one::<PathBuf>(CONFIG).ok().flatten() else { return none(typed) };
    let command = subcommand(name);
    let typed_already =
        |arg: &Arg| matches.value_source(arg.get_id().as_str()) == Some(ValueSource::CommandLine);
    let whom = For::Run { command: name, typed: &typed_already };
    let Checked { read: Read { settings, .. }, tables } = check(file, whom)?;
    let flags = flags(&command, &settings, |arg| !typed_already(arg));
    // The program itself may have the name of a command.
    let place = typed.iter().skip(1).position(|word| word == name).map_or(typed.len(), |place| place + 2);
    let mut all = typed;
    all.splice(place..place, flags);
    Ok((all, tables))
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
            let Read { settings, sinks } = check(file, For::Any)?.read;
            let reads = settings.iter().any(|setting| setting.key == "read");
            let name = if reads { "replay" } else { "ingest" };
            let command = subcommand(name);
            let words = [OsString::from(name)].into_iter().chain(flags(&command, &settings, |_| true));
            // A file need not name the interface: that may be typed.
            let matches = command.clone().ignore_errors(true).try_get_matches_from(words)?;
            let text = printed(&command, &matches) + &printed_sinks(&sinks);
            io::stdout().write_all(text.as_bytes()).context("standard output")?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
