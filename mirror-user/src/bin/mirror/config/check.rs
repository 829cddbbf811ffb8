//! What is wrong with a file: with each key alone, with each table, and with all of it for a run.

use std::{cmp::Reverse, fs, path::Path};

use anyhow::Context as _;
use mirror_user::{
    escape,
    select::Filter,
    settings::{Phrase, Settings, SinkSettings, Written},
};

use super::{
    entry::{setting, sink_setting},
    file::{Place, Read, SINK, Setting, read},
    flags::Command,
};
use crate::{
    Usage,
    output_config::{OutputConfig, SinkTable},
};

/// The keys of which a table has one at least.
const SINK_USES: &str = "`write = \"FILE\"`, `print = true` or `forward = \"TARGET\"`";

/// A file in which nothing is wrong.
pub(super) struct Checked {
    pub(super) read: Read,
    pub(super) settings: Settings,
    pub(super) tables: Vec<SinkTable>,
}

/// For whom a file is judged.
#[derive(Clone, Copy)]
pub(super) enum For<'a> {
    /// Whoever it could be for.
    Any,
    /// A run of this command, for which these have been typed, and win.
    Run { command: Command, typed: &'a Settings },
}

/// Reads a file and judges each key alone, each table, and then all of it as a run does.
pub(super) fn check(file: &Path, whom: For<'_>) -> anyhow::Result<Checked> {
    let text = fs::read_to_string(file).with_context(|| escape::path(file).to_string())?;
    let read = read(&text).map_err(|(place, message)| wrong(file, place, &message))?;
    let has = |key: &str| read.settings.iter().any(|setting| setting.key == key);
    let commands: Vec<_> = Command::ALL.into_iter().filter(|command| is_for(*command, whom, &has)).collect();
    let mut each = Vec::new();
    for entry in &read.settings {
        let one = alone(entry, &commands, whom).map_err(|message| wrong(file, entry.place, &message))?;
        each.push((entry.place, one));
    }
    let mut tables: Vec<SinkTable> = Vec::new();
    for (place, entries) in &read.sinks {
        let sink = sink_settings(entries).map_err(|(at, message)| wrong(file, at, &message))?;
        let table = sink_table(sink).map_err(|message| wrong(file, *place, &message))?;
        if tables.iter().any(|other| other.name == table.name) {
            let message = format!(
                "there are two sinks of the name {}; give one of them another `name`",
                escape::line(&table.name)
            );
            return Err(wrong(file, *place, &message).into());
        }
        tables.push(table);
    }
    // Together they may say what none says alone.
    let whole = Whole { each: &each, sinks: &read.sinks };
    for command in commands {
        if matches!(whom, For::Any) && !read.settings.iter().all(|setting| command.has(&setting.key)) {
            continue;
        }
        whole.validate(command, whom).map_err(|(place, message)| match place {
            Some(place) => wrong(file, place, &message),
            None => Usage(format!("{}: {message}", escape::path(file))),
        })?;
    }
    let settings = merged(each.into_iter().map(|(_, one)| one));
    Ok(Checked { read, settings, tables })
}

/// Whether a file is, or could be, for this command.
fn is_for(command: Command, whom: For<'_>, has: &dyn Fn(&str) -> bool) -> bool {
    let others = Command::ALL.into_iter().filter(|other| *other != command);
    match whom {
        For::Run { command: run, .. } => command == run,
        For::Any => has(command.source()) || !others.into_iter().any(|other| has(other.source())),
    }
}

/// What a key says alone, or what is wrong with it. Those of what is read are asked of the command that it is
/// for.
fn alone(entry: &Setting, commands: &[Command], whom: For<'_>) -> Result<Settings, String> {
    let key = entry.key.as_str();
    if key == SINK || !Settings::keys().contains(&key) {
        let mut keys: Vec<_> = Settings::keys().iter().filter(|key| **key != SINK).copied().collect();
        keys.sort_unstable();
        let (key, keys) = (escape::line(key), keys.join(", "));
        return Err(format!("there is no key {key}; there are: {keys}, [[{SINK}]]"));
    }
    let failed = |message: String| format!("{}: {message}", escape::line(key));
    let one = setting(entry).map_err(failed)?;
    compile(&one.filter, &one.outer_filter).map_err(failed)?;
    let is_typed = match whom {
        For::Run { typed, .. } => typed.clone().over(one.clone()) == *typed,
        For::Any => false,
    };
    for command in commands.iter().filter(|command| command.has(key) && !is_typed) {
        command.validate_source(without_filters(one.clone())).map_err(failed)?;
    }
    Ok(one)
}

/// What keys say together.
fn merged(each: impl Iterator<Item = Settings>) -> Settings {
    each.fold(Settings::default(), Settings::over)
}

/// Filters have been compiled, and names in them looked up.
fn without_filters(mut settings: Settings) -> Settings {
    settings.filter = None;
    settings.outer_filter = None;
    settings
}

fn compile(filter: &Option<Written<Phrase>>, outer: &Option<Written<String>>) -> Result<(), String> {
    let inner = filter.iter().map(Written::text);
    for expression in inner.chain(outer.iter().map(Written::text)) {
        Filter::compile(expression).map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// All that a file says.
struct Whole<'f> {
    each: &'f [(Place, Settings)],
    sinks: &'f [(Place, Vec<Setting>)],
}

/// A part of a file that may be what is wrong with the whole.
#[derive(Clone, Copy, PartialEq)]
enum Part {
    Key(usize),
    Sink(usize),
    SinkKey(usize, usize),
}

impl Whole<'_> {
    /// What the judge of a run says to a file as a whole; and the place of the last part without which
    /// nothing would be wrong.
    fn validate(&self, command: Command, whom: For<'_>) -> Result<(), (Option<Place>, String)> {
        if let For::Run { typed, .. } = whom
            && self.without(None, command, Some(typed)).is_ok()
        {
            // What is typed besides corrects what the file says, where that is wrong.
            return Ok(());
        }
        // What is wrong only with what is typed besides, the run itself tells.
        let Err(message) = self.without(None, command, None) else { return Ok(()) };
        let mut parts: Vec<_> =
            self.each.iter().enumerate().map(|(nth, (place, _))| (*place, Part::Key(nth))).collect();
        for (nth, (place, entries)) in self.sinks.iter().enumerate() {
            parts.push((*place, Part::Sink(nth)));
            parts.extend(
                entries.iter().enumerate().map(|(key, entry)| (entry.place, Part::SinkKey(nth, key))),
            );
        }
        parts.sort_by_key(|(place, _)| Reverse(*place));
        let place = parts.into_iter().find(|(_, part)| self.without(Some(*part), command, None).is_ok());
        Err((place.map(|(place, _)| place), message))
    }

    /// What is said to all but a part.
    fn without(&self, less: Option<Part>, command: Command, typed: Option<&Settings>) -> Result<(), String> {
        let keys = self.each.iter().enumerate().filter(|(nth, _)| less != Some(Part::Key(*nth)));
        let file = merged(keys.map(|(_, (_, one))| one.clone()));
        let mut tables = Vec::new();
        for (nth, (_, entries)) in
            self.sinks.iter().enumerate().filter(|(nth, _)| less != Some(Part::Sink(*nth)))
        {
            let keys = entries.iter().enumerate();
            let keys = keys.filter(|(key, _)| less != Some(Part::SinkKey(nth, *key))).map(|(_, entry)| entry);
            let sink = sink_settings(keys).map_err(|(_, message)| message)?;
            tables.push(sink_table(sink)?);
        }
        let settings = typed.cloned().unwrap_or_default().over(file);
        command.validate(without_filters(settings), tables)
    }
}

/// What the keys of a table say, or what is wrong with one of them.
fn sink_settings<'e>(
    entries: impl IntoIterator<Item = &'e Setting>,
) -> Result<SinkSettings, (Place, String)> {
    let mut sink = SinkSettings::default();
    for entry in entries {
        let key = entry.key.as_str();
        if !SinkSettings::keys().contains(&key) {
            let keys = SinkSettings::keys().join(", ");
            let message = format!("a sink has no key {}; it has: {keys}", escape::line(key));
            return Err((entry.place, message));
        }
        let failed = |message: String| (entry.place, format!("{}: {message}", escape::line(key)));
        let one = sink_setting(entry).map_err(failed)?;
        compile(&one.filter, &one.outer_filter).map_err(failed)?;
        sink = sink.over(one);
    }
    Ok(sink)
}

/// A table as a sink; or what is wrong with it as a whole.
fn sink_table(sink: SinkSettings) -> Result<SinkTable, String> {
    let name = sink.name.as_ref().map(|name| name.text().to_owned());
    let output = OutputConfig::of(&Settings::from(sink), Vec::new());
    let said = |Usage(message)| message;
    output.needs().map_err(said)?;
    let first = output.first_output().ok_or(format!("a sink is for something: {SINK_USES} is missing"))?;
    let selection = output.selection().map_err(said)?;
    Ok(SinkTable { name: name.unwrap_or(first), selection, output })
}

fn wrong(file: &Path, place: Place, message: &str) -> Usage {
    Usage(format!("{}:{place}: {message}", escape::path(file)))
}
