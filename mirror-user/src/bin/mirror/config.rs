//! `--config FILE` and `mirror config`: what flags say, from a TOML file.
//!
//! A file becomes flags in front of those that were typed, so that each has one meaning and one place that judges it. What
//! was typed wins.

use std::{
    ffi::OsString,
    fmt::Write as _,
    fs,
    io::{self, Write as _},
    ops::Range,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context as _;
use clap::{
    Arg, ArgAction, ArgMatches, Args, Command, CommandFactory as _, Parser, Subcommand, parser::ValueSource,
};
use mirror_user::select::Filter;
use toml::de::{DeTable, DeValue};

use crate::{Cli, Usage, output::OutputArgs, terminal};

/// Arguments of `mirror config`.
#[derive(Args, Debug)]
#[command(after_help = "\
Keys are the names of the flags: `vni = \"7,100-199\"` for --vni 7,100-199, `outer = true` for --outer. Those that have
a letter only: read, write, unbuffered, snaplen, count, quiet, verbose. `filter` is the filter expression. Lists may be
arrays. What is typed beside --config wins over the file; `mirror replay` skips what only an interface has, and
`mirror ingest` what only files have.

Each table [[sink]] is a capture of its own: write, name, format, outer, unbuffered, snaplen; and which packets it gets,
of those that the run selects: vnis, sources, filter, outer-filter.")]
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

/// The commands that take a file, and what each cannot do without.
const COMMANDS: [(&str, &[&str]); 2] = [("ingest", &["--interface=none"]), ("replay", &["-r", "none"])];
/// The argument with the file's name.
const CONFIG: &str = "config";
/// The words of the filter expression have no flag.
const EXPRESSION: (&str, &str) = ("expression", "filter");
/// Arguments that are filter expressions, which are compiled after flags are parsed.
const FILTERS: [&str; 2] = [EXPRESSION.0, "outer_filter"];
/// What is asked of the command itself, or means nothing.
const NO_KEYS: [&str; 5] = ["help", "version", CONFIG, "list_interfaces", "_tcpdump"];

/// A key of a file.
struct Setting {
    key: String,
    /// Counted from 1.
    line: usize,
    value: Value,
}

/// What a key can have.
enum Value {
    Boolean(bool),
    Words(Vec<String>),
}

/// A capture with a selection of its own: a table `[[sink]]`.
#[derive(Debug)]
pub(crate) struct SinkTable {
    /// In the report.
    pub(crate) name: String,
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
const SINK_KEYS: [(&str, &str); 9] = [
    ("write", "write"),
    ("format", "format"),
    ("outer", "outer"),
    ("unbuffered", "unbuffered"),
    ("snaplen", "snaplen"),
    ("vnis", "vni"),
    ("sources", "source"),
    ("filter", EXPRESSION.1),
    ("outer-filter", "outer-filter"),
];
/// The key of a table's name, which stands for no flag.
const NAME: &str = "name";
/// The key of all tables.
const SINK: &str = "sink";

/// A file that was read: settings, and the tables of sinks, each with its line.
struct Read {
    settings: Vec<Setting>,
    sinks: Vec<(usize, Vec<Setting>)>,
}

/// A file in which nothing is wrong.
struct Checked {
    read: Read,
    tables: Vec<SinkTable>,
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
    let Checked { read: Read { settings, .. }, tables } = check(file)?;
    let typed_already =
        |arg: &Arg| matches.value_source(arg.get_id().as_str()) == Some(ValueSource::CommandLine);
    let flags = flags(&command, &settings, |arg| !typed_already(arg));
    let place = typed.iter().position(|word| word == name).map_or(typed.len(), |place| place + 1);
    let mut all = typed;
    all.splice(place..place, flags);
    Ok((all, tables))
}

/// The command itself.
pub(crate) fn run(args: &ConfigArgs) -> anyhow::Result<ExitCode> {
    match &args.action {
        Action::Check { file } => {
            let Read { settings, sinks } = check(file)?.read;
            let counted =
                |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
            let sinks =
                if sinks.is_empty() { String::new() } else { format!(", {}", counted(sinks.len(), SINK)) };
            terminal::say!("{}: {}{sinks}, nothing wrong", file.display(), counted(settings.len(), "key"));
        }
        Action::Print { file } => {
            let Read { settings, sinks } = check(file)?.read;
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

fn subcommand(name: &str) -> Command {
    let mut command = Cli::command();
    command.build();
    command.find_subcommand(name).cloned().unwrap_or(command)
}

/// The key of an argument, if it has one.
fn key(arg: &Arg) -> Option<String> {
    let id = arg.get_id().as_str();
    if NO_KEYS.contains(&id) {
        return None;
    }
    Some(match arg.get_long() {
        _ if id == EXPRESSION.0 => EXPRESSION.1.to_owned(),
        Some(long) => long.to_owned(),
        None => id.to_owned(),
    })
}

fn find<'c>(command: &'c Command, wanted: &str) -> Option<&'c Arg> {
    command.get_arguments().find(|arg| key(arg).as_deref() == Some(wanted))
}

/// Reads a file and has each key judged by the commands that have its flag.
fn check(file: &Path) -> anyhow::Result<Checked> {
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
    let Some(path) = output.writes().next() else {
        return Err((None, "a sink writes somewhere: `write = \"FILE\"` is missing".to_owned()));
    };
    let name = name.unwrap_or_else(|| path.display().to_string());
    Ok(SinkTable { name, output })
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
    // Some flags are about the capture file.
    if arg.get_id() != "write" {
        words.extend(given(&["-w", "none"]));
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

/// The flags of those settings that a command has and that are wanted.
fn flags(command: &Command, settings: &[Setting], wanted: impl Fn(&Arg) -> bool) -> Vec<OsString> {
    let known = settings.iter().filter_map(|setting| Some((find(command, &setting.key)?, &setting.value)));
    // They have been judged: none is refused.
    known
        .filter(|(arg, _)| wanted(arg))
        .flat_map(|(arg, value)| words(arg, value).unwrap_or_default())
        .collect()
}

/// A flag with its value, as one would type it.
fn words(arg: &Arg, value: &Value) -> Result<Vec<OsString>, String> {
    let flag = |value: Option<&str>| {
        let mut flag = match (arg.get_long(), arg.get_short()) {
            (Some(long), _) => format!("--{long}"),
            (None, Some(short)) => format!("-{short}"),
            // A word that stands for itself.
            (None, None) => return OsString::from(value.unwrap_or_default()),
        };
        if let Some(value) = value {
            flag.push('=');
            flag.push_str(value);
        }
        OsString::from(flag)
    };
    match (arg.get_action(), value) {
        (ArgAction::SetTrue, Value::Boolean(is_set)) => {
            Ok(if *is_set { vec![flag(None)] } else { Vec::new() })
        }
        (ArgAction::SetTrue, _) => Err("true or false is wanted".to_owned()),
        (ArgAction::Count, Value::Words(words)) if words.len() == 1 => {
            let times = words[0].parse::<u8>().map_err(|_| "a number from 0 to 255 is wanted".to_owned())?;
            Ok(vec![flag(None); times.into()])
        }
        (ArgAction::Count, _) => Err("a number is wanted".to_owned()),
        (_, Value::Boolean(_)) => Err("neither true nor false means anything here".to_owned()),
        (ArgAction::Append, Value::Words(words)) => Ok(words.iter().map(|word| flag(Some(word))).collect()),
        (_, Value::Words(words)) => Ok(vec![flag(Some(&words.join(",")))]),
    }
}

/// The keys of a file, in its order.
fn read(text: &str) -> Result<Read, (usize, String)> {
    let line = |span: Range<usize>| {
        let before = text.get(..span.start).unwrap_or(text);
        before.matches('\n').count() + 1
    };
    let table = DeTable::parse(text).map_err(|error| {
        let message = error.message().trim().replace('\n', ", ");
        (line(error.span().unwrap_or(text.len()..text.len())), message)
    })?;
    let settings = |table: &DeTable<'_>| -> Result<Vec<Setting>, (usize, String)> {
        let mut settings = Vec::new();
        for (key, value) in table {
            let line = line(key.span());
            let value = read_value(value.get_ref())
                .map_err(|message| (line, format!("{}: {message}", key.get_ref())))?;
            settings.push(Setting { key: key.get_ref().to_string(), line, value });
        }
        settings.sort_by_key(|setting| setting.line);
        Ok(settings)
    };
    let mut table = table.into_inner();
    let mut sinks = Vec::new();
    if let Some(tables) = table.remove(SINK) {
        let at = line(tables.span());
        let not = || (at, format!("`[[{SINK}]]` is wanted, a table for each"));
        let DeValue::Array(tables) = tables.into_inner() else { return Err(not()) };
        for table in &tables {
            let DeValue::Table(keys) = table.get_ref() else { return Err(not()) };
            sinks.push((line(table.span()), settings(keys)?));
        }
    }
    Ok(Read { settings: settings(&table)?, sinks })
}

fn read_value(value: &DeValue<'_>) -> Result<Value, String> {
    let word =
        |value: &DeValue<'_>| match value {
            DeValue::String(string) => Ok(string.to_string()),
            DeValue::Integer(integer) => match i64::from_str_radix(integer.as_str(), integer.radix()) {
                Ok(number) => Ok(number.to_string()),
                Err(_) => Err(format!("{integer} is too large")),
            },
            _ => Err("a string, a whole number, true, false, or an array of strings and numbers is wanted"
                .to_owned()),
        };
    match value {
        DeValue::Boolean(boolean) => Ok(Value::Boolean(*boolean)),
        DeValue::Array(array) => {
            array.iter().map(|value| word(value.get_ref())).collect::<Result<_, _>>().map(Value::Words)
        }
        one => Ok(Value::Words(vec![word(one)?])),
    }
}

/// What a command was told, as a file.
fn printed(command: &Command, matches: &ArgMatches) -> String {
    let mut text = format!("# mirror {}\n", command.get_name());
    for arg in command.get_arguments() {
        let Some(key) = key(arg) else { continue };
        let id = arg.get_id().as_str();
        let set = matches.value_source(id) == Some(ValueSource::CommandLine);
        let value = match arg.get_action() {
            ArgAction::SetTrue => matches.get_flag(id).to_string(),
            ArgAction::Count => matches.get_count(id).to_string(),
            action => {
                let values = matches.get_raw(id).into_iter().flatten().map(|value| value.to_string_lossy());
                let values: Vec<_> = if id == EXPRESSION.0 {
                    let words = values.collect::<Vec<_>>().join(" ");
                    (!words.is_empty()).then(|| quoted(&words)).into_iter().collect()
                } else {
                    values.map(|value| quoted(&value)).collect()
                };
                match (action, &values[..]) {
                    (_, []) => {
                        // Writing to a String cannot fail.
                        let _ = writeln!(text, "# {key} is not set");
                        continue;
                    }
                    (ArgAction::Append, values) if id != EXPRESSION.0 => format!("[{}]", values.join(", ")),
                    (_, values) => values.join(" "),
                }
            }
        };
        let origin = if set { "" } else { "  # default" };
        let _ = writeln!(text, "{key} = {value}{origin}");
    }
    text
}

/// Tables of sinks as they were given.
fn printed_sinks(sinks: &[(usize, Vec<Setting>)]) -> String {
    let mut text = String::new();
    for (_, settings) in sinks {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "\n[[{SINK}]]");
        for Setting { key, value, .. } in settings {
            let value = match value {
                Value::Boolean(boolean) => boolean.to_string(),
                Value::Words(words) => match &words[..] {
                    [word] => quoted(word),
                    words => {
                        format!("[{}]", words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(", "))
                    }
                },
            };
            let _ = writeln!(text, "{key} = {value}");
        }
    }
    text
}

/// A number as it is, all else as a string of TOML's.
fn quoted(value: &str) -> String {
    if value.parse::<i64>().is_ok_and(|number| number.to_string() == value) {
        return value.to_owned();
    }
    toml::Value::from(value).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each setting of a text: its line, its key and its words.
    fn settings(text: &str) -> Result<Vec<String>, (usize, String)> {
        let words = |value| match value {
            Value::Boolean(boolean) => boolean.to_string(),
            Value::Words(words) => words.join("|"),
        };
        let settings = read(text)?.settings.into_iter();
        Ok(settings.map(|Setting { key, line, value }| format!("{line} {key} {}", words(value))).collect())
    }

    #[test]
    fn keys_have_their_lines_and_words() {
        let text =
            "# of a target\ncount = 5\n\nvni = [7, \"100-199\"]\nouter = true # all of it\nwrite = '-'\n";
        assert_eq!(settings(text).unwrap(), ["2 count 5", "4 vni 7|100-199", "5 outer true", "6 write -"]);
        assert!(settings("").unwrap().is_empty());
    }

    #[test]
    fn what_is_no_setting_is_refused_with_its_line() {
        let line = |text: &str| settings(text).expect_err(text).0;
        assert_eq!(line("count = 5\nsink = { write = 'x' }"), 2);
        assert_eq!(line("count = 5\nsink = 'x'"), 2);
        assert_eq!(line("[[sink]]\nwrite = 'x'\n[[sink]]\n\nwrite = 1.5"), 5);
        assert_eq!(line("[table]\nwrite = 'x'"), 1);
        assert_eq!(line("count = 5\nvni = [[7]]"), 2);
        assert_eq!(line("count = 1.5"), 1);
        assert_eq!(line("\ncount = 99999999999999999999"), 2);
        assert_eq!(line("count = 5\ncount = 6"), 2);
        assert_eq!(line("count = 5\n\ncount"), 3);
    }

    #[test]
    fn every_flag_has_a_key_of_its_own() {
        for (name, _) in COMMANDS {
            let command = subcommand(name);
            let mut keys: Vec<_> = command.get_arguments().filter_map(key).collect();
            let all = keys.len();
            keys.sort();
            keys.dedup();
            let without = command.get_arguments().filter(|arg| key(arg).is_none()).count();
            assert_eq!((keys.len(), all + without), (all, command.get_arguments().count()));
            assert!(keys.iter().all(|key| find(&command, key).is_some()));
        }
    }

    #[test]
    fn sinks_have_their_lines_and_keys() {
        let text = "count = 5\n\n[[sink]]\nwrite = 'a'\n[[sink]]\nwrite = 'b'\nvnis = [1, 2]\n";
        let Ok(read) = read(text) else { panic!("two sinks") };
        let lines: Vec<_> = read.sinks.iter().map(|(line, settings)| (*line, settings.len())).collect();
        assert_eq!((read.settings.len(), lines), (1, vec![(3, 1), (5, 2)]));
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_or_refused_with_a_line_it_has(text in "[a-z =\\[\\]\"'0-9,#.{}\n-]{0,60}") {
            if let Err((line, message)) = read(&text) {
                proptest::prop_assert!(line >= 1 && line <= text.matches('\n').count() + 1, "{line} {message}");
            }
        }
    }
}
