//! What is wrong with a file: each key is judged by the flag that it stands for.

use std::{ffi::OsString, fs, path::Path};

use anyhow::Context as _;
use clap::{Arg, ArgMatches, Command, CommandFactory as _, FromArgMatches as _, Parser};
use mirror_user::error::with_causes;
use mirror_user::escape;
use mirror_user::select::{Filter, Selection};

use super::{
    file::{Place, Read, SINK, Setting, Value, read},
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
    ("forward", "forward"),
    ("forward-balance", "forward-balance"),
    ("vlan-per-vni", "vlan-per-vni"),
    ("community-id", "community-id"),
    ("vnis", "vni"),
    ("sources", "source"),
    ("filter", EXPRESSION.1),
    ("outer-filter", "outer-filter"),
];
/// The keys of which a table has one at least.
const SINK_USES: &str = "`write = \"FILE\"`, `print = true` or `forward = \"TARGET\"`";
/// The key of a table's name, which stands for no flag.
const NAME: &str = "name";

/// A file in which nothing is wrong.
pub(super) struct Checked {
    pub(super) read: Read,
    pub(super) tables: Vec<SinkTable>,
}

/// For whom a file is judged.
#[derive(Clone, Copy)]
pub(super) enum For<'a> {
    /// Whoever it could be for.
    Any,
    /// A run of this command, for which these of its flags have been typed, and win.
    Run { command: &'a str, typed: &'a dyn Fn(&Arg) -> bool },
}

/// Reads a file and has each key judged by the commands that have its flag, and then all of it by the judge of a run.
pub(super) fn check(file: &Path, whom: For<'_>) -> anyhow::Result<Checked> {
    let text = fs::read_to_string(file).with_context(|| escape::path(file).to_string())?;
    let read = read(&text).map_err(|(place, message)| wrong(file, place, &message))?;
    let settings = &read.settings;
    let commands = COMMANDS.map(|(name, needed)| (subcommand(name), needed));
    let has = |key: &str| settings.iter().any(|setting| setting.key == key);
    // What a key says alone.
    for setting in settings {
        let mut known = false;
        for (command, needed) in &commands {
            let Some(arg) = find(command, &setting.key) else { continue };
            known = true;
            // An argument is asked of its own command alone.
            let by_run = is_for(command, whom, &has) && !matches!(whom, For::Run { typed, .. } if typed(arg));
            let judged = words(arg, &setting.value)
                .and_then(|flags| judge(command, needed, arg, &setting.value, flags, by_run));
            judged.map_err(|message| {
                wrong(file, setting.place, &format!("{}: {message}", escape::line(&setting.key)))
            })?;
        }
        if !known {
            let mut keys: Vec<_> =
                commands.iter().flat_map(|(command, _)| command.get_arguments()).filter_map(key).collect();
            keys.sort();
            keys.dedup();
            keys.push(format!("[[{SINK}]]"));
            let message =
                format!("there is no key {}; there are: {}", escape::line(&setting.key), keys.join(", "));
            return Err(wrong(file, setting.place, &message).into());
        }
    }
    let mut tables: Vec<SinkTable> = Vec::new();
    for (place, settings) in &read.sinks {
        let table =
            sink_table(settings).map_err(|(at, message)| wrong(file, at.unwrap_or(*place), &message))?;
        if tables.iter().any(|other| other.name == table.name) {
            let message = format!(
                "there are two sinks of the name {}; `{NAME}` gives one another",
                escape::line(&table.name)
            );
            return Err(wrong(file, *place, &message).into());
        }
        tables.push(table);
    }
    // Together they may say what none says alone.
    for (command, needed) in &commands {
        let stands_alone = settings.iter().all(|setting| find(command, &setting.key).is_some());
        if is_for(command, whom, &has) && (stands_alone || matches!(whom, For::Run { .. })) {
            together(command, needed, &read, whom).map_err(|(place, message)| match place {
                Some(place) => wrong(file, place, &message),
                None => Usage(format!("{}: {message}", escape::path(file))),
            })?;
        }
    }
    Ok(Checked { read, tables })
}

/// Whether a file is, or could be, for this command.
fn is_for(command: &Command, whom: For<'_>, has: &dyn Fn(&str) -> bool) -> bool {
    match whom {
        For::Run { command: name, .. } => command.get_name() == name,
        For::Any if has("interface") != has("read") => has("interface") == (command.get_name() == "ingest"),
        For::Any => true,
    }
}

/// What the judge of a run says to a file as a whole; and the place of the last without which nothing would be wrong.
fn together(
    command: &Command,
    needed: &[&str],
    read: &Read,
    whom: For<'_>,
) -> Result<(), (Option<Place>, String)> {
    let typed = |setting: &Setting| match whom {
        For::Run { typed, .. } => find(command, &setting.key).is_some_and(typed),
        For::Any => false,
    };
    let overruled = read.settings.iter().any(typed);
    let judged = |read: &Read| {
        let found = |key: &str| read.settings.iter().any(|setting| setting.key == key);
        let source = if command.get_name() == "ingest" { "interface" } else { "read" };
        let needed = if found(source) { &[] } else { needed };
        // Filters have been compiled, and names in them looked up.
        let wanted = |arg: &Arg| !FILTERS.contains(&arg.get_id().as_str());
        let words = needed.iter().map(OsString::from).chain(flags(command, &read.settings, wanted));
        let tables =
            read.sinks.iter().map(|(_, settings)| sink_table(settings).map_err(|(_, message)| message));
        let tables = tables.collect::<Result<_, _>>()?;
        // What is typed besides may be what is wrong, or what mends it: then the run itself judges both.
        if overruled { matched(command, words).map(drop) } else { run_judges(command, words, tables) }
    };
    let Err(message) = judged(read) else { return Ok(()) };
    let mut without = Vec::new();
    for (nth, setting) in read.settings.iter().enumerate() {
        let mut less = read.clone();
        less.settings.remove(nth);
        without.push((setting.place, less));
    }
    for (nth, (place, settings)) in read.sinks.iter().enumerate() {
        let mut less = read.clone();
        less.sinks.remove(nth);
        without.push((*place, less));
        for (key, setting) in settings.iter().enumerate() {
            let mut less = read.clone();
            less.sinks[nth].1.remove(key);
            without.push((setting.place, less));
        }
    }
    without.sort_by_key(|(place, _)| std::cmp::Reverse(*place));
    let place = without.into_iter().find(|(_, less)| judged(less).is_ok()).map(|(place, _)| place);
    Err((place, message))
}

/// What a run of a command would say to these flags and tables, before it touches the host.
fn run_judges(
    command: &Command,
    words: impl Iterator<Item = OsString>,
    tables: Vec<SinkTable>,
) -> Result<(), String> {
    let matches = matched(command, words)?;
    let told = |error: anyhow::Error| with_causes(error.as_ref());
    let unread = |error: clap::Error| first_line(&error);
    match command.get_name() {
        "ingest" => {
            let mut args = crate::ingest::IngestArgs::from_arg_matches(&matches).map_err(unread)?;
            args.output.tables = tables;
            args.judge().map_err(told)
        }
        _ => {
            let mut args = crate::replay::ReplayArgs::from_arg_matches(&matches).map_err(unread)?;
            args.output.tables = tables;
            args.judge().map_err(told)
        }
    }
}

/// A table's settings as a sink; or what is wrong, and the place where it is not the table as a whole.
fn sink_table(settings: &[Setting]) -> Result<SinkTable, (Option<Place>, String)> {
    let command = SinkArgs::command();
    let (mut name, mut all) = (None, Vec::new());
    for Setting { key, place, value } in settings {
        let failed = |message: String| (Some(*place), format!("{}: {message}", escape::line(key)));
        if key == NAME {
            let Value::Words(words) = value else { return Err(failed("a string is wanted".to_owned())) };
            name = Some(words.join(" "));
            continue;
        }
        let flag = SINK_KEYS.iter().find(|(known, _)| known == key).map(|(_, flag)| *flag);
        let Some(arg) = flag.and_then(|flag| find(&command, flag)) else {
            let keys: Vec<_> = SINK_KEYS.iter().map(|(known, _)| *known).collect();
            let message =
                format!("a sink has no key {}; it has: {NAME}, {}", escape::line(key), keys.join(", "));
            return Err((Some(*place), message));
        };
        let flags = words(arg, value).map_err(failed)?;
        judge(&command, &[], arg, value, flags.clone(), false).map_err(failed)?;
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

fn wrong(file: &Path, place: Place, message: &str) -> Usage {
    Usage(format!("{}:{place}: {message}", escape::path(file)))
}

/// What a flag's own parser says to a value, beside as little else as the command takes; and, where it is asked, the judge of a
/// run to what is to be read.
fn judge(
    command: &Command,
    needed: &[&str],
    arg: &Arg,
    value: &Value,
    flags: Vec<OsString>,
    by_run: bool,
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
    words.extend(given(&["--forward", "tap:none"]));
    words.extend(flags);
    let matches = matched(command, words.into_iter())?;
    if !by_run {
        return Ok(());
    }
    let told = |error: anyhow::Error| with_causes(error.as_ref());
    let unread = |error: clap::Error| first_line(&error);
    match command.get_name() {
        "ingest" => crate::ingest::IngestArgs::from_arg_matches(&matches)
            .map_err(unread)?
            .judge_source()
            .map_err(told),
        _ => crate::replay::ReplayArgs::from_arg_matches(&matches)
            .map_err(unread)?
            .judge_source()
            .map_err(told),
    }
}

/// What a command makes of flags, or says to them in one line.
fn matched(command: &Command, flags: impl Iterator<Item = OsString>) -> Result<ArgMatches, String> {
    let words = [OsString::from(command.get_name())].into_iter().chain(flags);
    command.clone().try_get_matches_from(words).map_err(|error| first_line(&error))
}

/// What is wrong, without how it is used.
fn first_line(error: &clap::Error) -> String {
    let text = error.render().to_string();
    text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned()
}
