//! What is wrong with a file: each key is judged by the flag that it stands for.

use std::{ffi::OsString, fs, path::Path};

use anyhow::Context as _;
use clap::{Arg, Command, CommandFactory as _, Parser};
use mirror_user::select::{Filter, Selection};

use super::{
    file::{Read, SINK, Setting, Value, read},
    flags::{EXPRESSION, find, flags, key, subcommand, words},
};
use crate::{Usage, output::OutputArgs};

/// The commands that take a file, and what each cannot do without.
pub(super) const COMMANDS: [(&str, &[&str]); 2] =
    [("ingest", &["--interface=none"]), ("replay", &["-r", "none"])];
/// Arguments that are filter expressions, which are compiled after flags are parsed.
const FILTERS: [&str; 2] = [EXPRESSION.0, "outer_filter"];

/// A capture with a selection of its own: a table `[[sink]]`.
#[derive(Debug)]
pub(crate) struct SinkTable {
    /// In the report.
    pub(crate) name: String,
    pub(crate) selection: Selection,
    pub(crate) output: OutputArgs,
}

/// What the flags of a capture and of a selection are in a table.
#[derive(Debug, Parser)]
#[command(name = "sink")]
struct SinkArgs {
    #[command(flatten)]
    output: OutputArgs,
}

/// The keys of a table, and the flags that they stand for.
const SINK_KEYS: &[(&str, &str)] = &[
    ("write", "write"),
    ("format", "format"),
    ("outer", "outer"),
    ("unbuffered", "unbuffered"),
    ("snap", "snap"),
    ("file-size", "file-size"),
    ("rotate-seconds", "rotate-seconds"),
    ("file-count", "file-count"),
    ("postrotate-command", "postrotate-command"),
    ("per-origin", "per-origin"),
    ("max-origins", "max-origins"),
    ("min-free", "min-free"),
    ("when-full", "when-full"),
    ("print", "print"),
    ("link", "link"),
    ("hex", "hex"),
    ("hexascii", "hexascii"),
    ("ascii", "ascii"),
    ("timestamps", "timestamps"),
    ("absolute", "absolute"),
    ("verbose", "verbose"),
    #[cfg(feature = "af-xdp")]
    ("forward", "forward"),
    #[cfg(feature = "af-xdp")]
    ("forward-balance", "forward-balance"),
    #[cfg(feature = "af-xdp")]
    ("vlan-per-vni", "vlan-per-vni"),
    #[cfg(feature = "af-xdp")]
    ("community-id", "community-id"),
    ("vnis", "vni"),
    ("sources", "source"),
    ("filter", EXPRESSION.1),
    ("outer-filter", "outer-filter"),
];
/// The keys of which a table has one at least.
const SINK_USES: &str = if cfg!(feature = "af-xdp") {
    "`write = \"FILE\"`, `print = true` or `forward = \"TARGET\"`"
} else {
    "`write = \"FILE\"` or `print = true`"
};
/// The key of a table's name, which stands for no flag.
const NAME: &str = "name";

/// A file in which nothing is wrong.
pub(super) struct Checked {
    pub(super) read: Read,
    pub(super) tables: Vec<SinkTable>,
}

/// Reads a file and has each key judged by the commands that have its flag.
pub(super) fn check(file: &Path) -> anyhow::Result<Checked> {
    let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let read = read(&text).map_err(|(line, message)| wrong(file, line, &message))?;
    let settings = &read.settings;
    let commands = COMMANDS.map(|(name, needed)| (subcommand(name), needed));
    for setting in settings {
        let mut known = false;
        for (command, needed) in &commands {
            let Some(arg) = find(command, &setting.key) else { continue };
            known = true;
            let judged = words(arg, &setting.value)
                .and_then(|flags| judge(command, needed, arg, &setting.value, flags));
            judged.map_err(|message| wrong(file, setting.line, &format!("{}: {message}", setting.key)))?;
        }
        if !known {
            let mut keys: Vec<_> =
                commands.iter().flat_map(|(command, _)| command.get_arguments()).filter_map(key).collect();
            keys.sort();
            keys.dedup();
            keys.push(format!("[[{SINK}]]"));
            let message = format!("there is no key {}; there are: {}", setting.key, keys.join(", "));
            return Err(wrong(file, setting.line, &message).into());
        }
    }
    // Together they may say what none says alone.
    for (command, needed) in &commands {
        let found = |key: &str| settings.iter().any(|setting| setting.key == key);
        let needed = if found("interface") || found("read") { &[] } else { *needed };
        let stands_alone = settings.iter().all(|setting| find(command, &setting.key).is_some());
        if stands_alone {
            let words = needed.iter().map(OsString::from).chain(flags(command, settings, |_| true));
            parsed(command, words).map_err(|message| Usage(format!("{}: {message}", file.display())))?;
        }
    }
    let mut tables: Vec<SinkTable> = Vec::new();
    for (line, settings) in &read.sinks {
        let table =
            sink_table(settings).map_err(|(at, message)| wrong(file, at.unwrap_or(*line), &message))?;
        if tables.iter().any(|other| other.name == table.name) {
            let message =
                format!("there are two sinks of the name {}; `{NAME}` gives one another", table.name);
            return Err(wrong(file, *line, &message).into());
        }
        tables.push(table);
    }
    Ok(Checked { read, tables })
}

/// A table's settings as a sink; or what is wrong, and the line where it is not the table as a whole.
fn sink_table(settings: &[Setting]) -> Result<SinkTable, (Option<usize>, String)> {
    let command = SinkArgs::command();
    let (mut name, mut all) = (None, Vec::new());
    for Setting { key, line, value } in settings {
        let failed = |message: String| (Some(*line), format!("{key}: {message}"));
        if key == NAME {
            let Value::Words(words) = value else { return Err(failed("a string is wanted".to_owned())) };
            name = Some(words.join(" "));
            continue;
        }
        let flag = SINK_KEYS.iter().find(|(known, _)| known == key).map(|(_, flag)| *flag);
        let Some(arg) = flag.and_then(|flag| find(&command, flag)) else {
            let keys: Vec<_> = SINK_KEYS.iter().map(|(known, _)| *known).collect();
            let message = format!("a sink has no key {key}; it has: {NAME}, {}", keys.join(", "));
            return Err((Some(*line), message));
        };
        let flags = words(arg, value).map_err(failed)?;
        judge(&command, &[], arg, value, flags.clone()).map_err(failed)?;
        all.extend(flags);
    }
    let words = [OsString::from(command.get_name())].into_iter().chain(all);
    // Each has been judged; what they could say together is about the file that they are written to.
    let SinkArgs { output } = SinkArgs::try_parse_from(words).map_err(|error| (None, first_line(&error)))?;
    let Some(first) = output.first_output() else {
        return Err((None, format!("a sink is for something: {SINK_USES} is missing")));
    };
    let name = name.unwrap_or(first);
    let selection = output.selection().map_err(|Usage(message)| (None, message))?;
    Ok(SinkTable { name, selection, output })
}

fn wrong(file: &Path, line: usize, message: &str) -> Usage {
    Usage(format!("{}:{line}: {message}", file.display()))
}

/// What a flag's own parser says to a value, beside as little else as the command takes.
fn judge(
    command: &Command,
    needed: &[&str],
    arg: &Arg,
    value: &Value,
    flags: Vec<OsString>,
) -> Result<(), String> {
    if FILTERS.contains(&arg.get_id().as_str())
        && let Value::Words(words) = value
    {
        return Filter::compile(&words.join(" ")).map(drop).map_err(|error| error.to_string());
    }
    let mut words = Vec::new();
    let given = |words: &[&str]| words.iter().map(OsString::from).collect::<Vec<_>>();
    if !matches!(arg.get_id().as_str(), "interface" | "read") {
        words.extend(given(needed));
    }
    // Some flags are about the capture file, or about what is printed or forwarded.
    for (id, beside) in [("write", &["-w", "none"][..]), ("print", &["--print"])] {
        if arg.get_id() != id {
            words.extend(given(beside));
        }
    }
    if cfg!(feature = "af-xdp") {
        words.extend(given(&["--forward", "tap:none"]));
    }
    words.extend(flags);
    parsed(command, words.into_iter())
}

/// What a command says to flags, in one line.
fn parsed(command: &Command, flags: impl Iterator<Item = OsString>) -> Result<(), String> {
    let words = [OsString::from(command.get_name())].into_iter().chain(flags);
    command.clone().try_get_matches_from(words).map(drop).map_err(|error| first_line(&error))
}

/// What is wrong, without how it is used.
fn first_line(error: &clap::Error) -> String {
    let text = error.render().to_string();
    text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned()
}
