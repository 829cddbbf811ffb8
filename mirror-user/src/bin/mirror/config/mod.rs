//! `--config FILE` and `mirror config`: settings from a TOML file.
//!
//! File and command line give values of one type, and the command line overrides the file.

mod check;
mod entry;
mod file;
mod flags;
mod print;

use std::{
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use mirror_user::{escape, settings::Settings};

pub(crate) use self::flags::{Command, key};
use self::{
    check::{Checked, Scope, check, check_text},
    file::{ParsedFile, SINK},
    print::{printed, printed_sinks},
};
use crate::{output_config::SinkTable, terminal};

/// Arguments of `mirror config`.
#[derive(Args, Debug)]
#[command(after_help = KEYS)]
pub(crate) struct ConfigArgs {
    #[command(subcommand)]
    action: Action,
}

const KEYS: &str = "\
Keys are the long names of flags: `vni = \"7,100-199\"` for --vni 7,100-199, and
`outer = true` for --outer. Flags that have only a letter:

  read (-r)  write (-w)  unbuffered (-U)  count (-c)  quiet (-q)  verbose (-v)
  link (-e)  hex (-x)  hexascii (-X)  ascii (-A)  timestamps (-t)  absolute (-S)

`filter` is the filter expression. Lists may be arrays.

Flags on the command line override the file. `mirror replay` ignores keys that
only interfaces have, `mirror ingest` those that only capture files have.

Each table [[sink]] adds outputs, for those of the run's packets that it selects:

  name     name
  health   required
  select   vnis, sources, filter, outer-filter
  write    write, format, outer, unbuffered, snap, file-size, rotate-seconds,
           file-count, postrotate-command, buffer-size, writers, per-origin,
           max-origins, min-free, when-full
  print    print, outer, link, hex, hexascii, ascii, timestamps, absolute, verbose
  forward  forward, forward-balance, vlan-per-vni, community-id

Only one output of a run may print.";

#[derive(Debug, Subcommand)]
enum Action {
    /// Check a configuration file, and report the first error
    Check {
        /// The configuration file
        file: PathBuf,
    },
    /// Print the effective settings of a configuration file, defaults included, as such a file
    Print {
        /// The configuration file
        file: PathBuf,
    },
}

/// What a run is configured by: a command line, and perhaps a file.
#[derive(Debug)]
pub(crate) struct ConfigSource {
    command: Command,
    typed: Settings,
    pub(crate) file: Option<PathBuf>,
}

impl ConfigSource {
    pub(crate) fn of(command: Command, typed: Settings, file: Option<PathBuf>) -> Self {
        Self { command, typed, file }
    }

    /// The settings: those typed, over those of the file, over the defaults; and the sinks of its tables.
    pub(crate) fn read(&self) -> anyhow::Result<(Settings, Vec<SinkTable>)> {
        let Self { command, typed, file } = self;
        let Some(file) = file else { return Ok((typed.clone().resolve(), Vec::new())) };
        let checked = check(file, Scope::Run { command: *command, typed })?;
        Ok(self.with(checked))
    }

    /// The same, of a text of the file.
    pub(crate) fn of_text(&self, text: &str) -> anyhow::Result<(Settings, Vec<SinkTable>)> {
        let Self { command, typed, file } = self;
        let file = file.as_deref().unwrap_or(Path::new(""));
        check_text(file, text, Scope::Run { command: *command, typed }).map(|checked| self.with(checked))
    }

    fn with(&self, checked: Checked) -> (Settings, Vec<SinkTable>) {
        (self.typed.clone().over(checked.settings).resolve(), checked.tables)
    }
}

/// Where a key is to be written that a file does not set: the file and the line in which it is commented out,
/// or else its first one.
pub(crate) fn place_of_key(file: &Path, key: &str) -> String {
    let text = fs::read_to_string(file).unwrap_or_default();
    let sets = |line: &str| {
        let line = line.trim_start_matches(['#', ' ', '\t']);
        line.strip_prefix(key).is_some_and(|rest| rest.trim_start().starts_with('='))
    };
    let line = text.lines().position(sets).unwrap_or_default() + 1;
    format!("{}:{line}", escape::path(file))
}

/// Runs `mirror config`.
pub(crate) fn run(args: &ConfigArgs) -> anyhow::Result<ExitCode> {
    match &args.action {
        Action::Check { file } => {
            let ParsedFile { settings, sinks } = check(file, Scope::AnyCommand)?.read;
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
            let Checked { read: ParsedFile { sinks, .. }, settings, .. } = check(file, Scope::AnyCommand)?;
            let command = if settings.read.is_some() { Command::Replay } else { Command::Ingest };
            let text = printed(command, settings)? + &printed_sinks(&sinks);
            io::stdout().write_all(text.as_bytes()).context("standard output")?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_is_commented_out_has_its_line() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("mirror.toml");
        let place = |text: &str| {
            fs::write(&file, text).unwrap();
            let place = place_of_key(&file, "interface");
            place.strip_prefix(file.to_str().unwrap()).unwrap().to_owned()
        };
        assert_eq!(place("# The interfaces.\n#interfaces = 1\n  # interface = ['ens6']\n"), ":3");
        assert_eq!(place("vni = 7\n"), ":1");
    }
}
