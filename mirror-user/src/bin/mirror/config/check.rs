//! Validates a file: each key alone, each table, and then all of it as a run does.

use std::{cmp::Reverse, fs, path::Path};

use anyhow::Context as _;
use mirror_user::{
    engine::{ForwardObstacle, OptionsError},
    escape,
    select::Filter,
    settings::{ForwardPath, Phrase, Settings, SinkSettings, Written},
};

use super::{
    entry::{setting, sink_setting},
    file::{ParsedFile, Position, SINK, Setting, read},
    flags::Command,
};
use crate::{
    exit::Usage,
    output_config::{OutputConfig, SinkTable},
    remedy::of_options,
};

/// A table has at least one of these keys.
const SINK_USES: &str = "`write = \"FILE\"`, `print = true` or `forward = \"TARGET\"`";

/// A valid file.
pub(super) struct Checked {
    pub(super) read: ParsedFile,
    pub(super) settings: Settings,
    pub(super) tables: Vec<SinkTable>,
}

/// What a file is validated for.
#[derive(Clone, Copy)]
pub(super) enum Scope<'a> {
    /// Every command that it may be for.
    AnyCommand,
    /// A run of this command. What was typed overrides the file.
    Run { command: Command, typed: &'a Settings },
}

/// Reads and validates a file.
pub(super) fn check(file: &Path, scope: Scope<'_>) -> anyhow::Result<Checked> {
    let text = fs::read_to_string(file).with_context(|| escape::path(file).to_string())?;
    check_text(file, &text, scope)
}

/// Validates the text of a file.
pub(super) fn check_text(file: &Path, text: &str, scope: Scope<'_>) -> anyhow::Result<Checked> {
    let read = read(text).map_err(|(position, message)| wrong(file, position, &message))?;
    let has = |key: &str| read.settings.iter().any(|setting| setting.key == key);
    let commands: Vec<_> = Command::ALL.into_iter().filter(|command| is_for(*command, scope, &has)).collect();
    let mut each = Vec::new();
    for entry in &read.settings {
        let one =
            validate_key(entry, &commands, scope).map_err(|message| wrong(file, entry.position, &message))?;
        each.push((entry.position, one));
    }
    let mut tables: Vec<SinkTable> = Vec::new();
    for (position, entries) in &read.sinks {
        let sink = sink_settings(entries).map_err(|(at, message)| wrong(file, at, &message))?;
        let table = sink_table(sink).map_err(|message| wrong(file, *position, &message))?;
        if tables.iter().any(|other| other.name == table.name) {
            let message = format!(
                "there are two sinks of the name {}; give one of them another `name`",
                escape::line(&table.name)
            );
            return Err(wrong(file, *position, &message).into());
        }
        tables.push(table);
    }
    // Keys that are valid alone may contradict each other.
    let whole = WholeFile { each: &each, sinks: &read.sinks };
    for command in commands {
        if matches!(scope, Scope::AnyCommand)
            && !read.settings.iter().all(|setting| command.has(&setting.key))
        {
            continue;
        }
        whole.validate(command, scope).map_err(|(position, message)| match position {
            Some(position) => wrong(file, position, &message),
            None => Usage(format!("{}: {message}", escape::path(file))),
        })?;
    }
    let settings = merged(each.into_iter().map(|(_, one)| one));
    Ok(Checked { read, settings, tables })
}

/// Whether a file is, or may be, for this command.
fn is_for(command: Command, scope: Scope<'_>, has: &dyn Fn(&str) -> bool) -> bool {
    let others = Command::ALL.into_iter().filter(|other| *other != command);
    match scope {
        Scope::Run { command: run, .. } => command == run,
        Scope::AnyCommand => has(command.source()) || !others.into_iter().any(|other| has(other.source())),
    }
}

/// The settings of one key, validated. Keys about the source are validated by each of `commands`.
fn validate_key(entry: &Setting, commands: &[Command], scope: Scope<'_>) -> Result<Settings, String> {
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
    let is_overridden = match scope {
        Scope::Run { typed, .. } => typed.clone().over(one.clone()) == *typed,
        Scope::AnyCommand => false,
    };
    for command in commands.iter().filter(|command| command.has(key) && !is_overridden) {
        command.validate_source(without_filters(one.clone())).map_err(failed)?;
    }
    Ok(one)
}

/// The settings of several keys.
fn merged(each: impl Iterator<Item = Settings>) -> Settings {
    each.fold(Settings::default(), Settings::over)
}

/// Filters were compiled before: compiling again would look up host names again.
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

/// All keys and tables of a file.
struct WholeFile<'f> {
    each: &'f [(Position, Settings)],
    sinks: &'f [(Position, Vec<Setting>)],
}

/// A part of a file that may be the cause of an error of the whole.
#[derive(Clone, Copy, PartialEq)]
enum Part {
    Key(usize),
    Sink(usize),
    SinkKey(usize, usize),
}

impl WholeFile<'_> {
    /// Validates all parts together. An error has the position of the last part without which there would be
    /// none.
    fn validate(&self, command: Command, scope: Scope<'_>) -> Result<(), (Option<Position>, String)> {
        if let Scope::Run { typed, .. } = scope
            && self.without(None, command, Some(typed)).is_ok()
        {
            // What was typed overrides the error.
            return Ok(());
        }
        // An error that comes only with what was typed is reported by the run.
        let Err(message) = self.without(None, command, None) else { return Ok(()) };
        let mut parts: Vec<_> =
            self.each.iter().enumerate().map(|(nth, (position, _))| (*position, Part::Key(nth))).collect();
        for (nth, (position, entries)) in self.sinks.iter().enumerate() {
            parts.push((*position, Part::Sink(nth)));
            parts.extend(
                entries.iter().enumerate().map(|(key, entry)| (entry.position, Part::SinkKey(nth, key))),
            );
        }
        parts.sort_by_key(|(position, _)| Reverse(*position));
        let position = parts.into_iter().find(|(_, part)| self.without(Some(*part), command, None).is_ok());
        Err((position.map(|(position, _)| position), message))
    }

    /// Validates all parts but one.
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
        if command == Command::Ingest && filters_kernel_path(&settings) {
            return Err(of_options(&OptionsError::ForwardPath(ForwardObstacle::Filter)));
        }
        command.validate(without_filters(settings), tables)
    }
}

/// Whether a filter excludes the kernel path that is requested: [`without_filters`] hides it from the engine.
fn filters_kernel_path(settings: &Settings) -> bool {
    let resolved = settings.clone().resolve();
    let filters = resolved.filter.is_some() || resolved.outer_filter.is_some();
    filters && resolved.forward_path == Some(ForwardPath::Kernel)
}

/// The settings of a table.
fn sink_settings<'e>(
    entries: impl IntoIterator<Item = &'e Setting>,
) -> Result<SinkSettings, (Position, String)> {
    let mut sink = SinkSettings::default();
    for entry in entries {
        let key = entry.key.as_str();
        if !SinkSettings::keys().contains(&key) {
            let keys = SinkSettings::keys().join(", ");
            let message = format!("a sink has no key {}; it has: {keys}", escape::line(key));
            return Err((entry.position, message));
        }
        let failed = |message: String| (entry.position, format!("{}: {message}", escape::line(key)));
        let one = sink_setting(entry).map_err(failed)?;
        compile(&one.filter, &one.outer_filter).map_err(failed)?;
        sink = sink.over(one);
    }
    Ok(sink)
}

/// A table as a sink, validated.
fn sink_table(sink: SinkSettings) -> Result<SinkTable, String> {
    let name = sink.name.as_ref().map(|name| name.text().to_owned());
    let required = sink.required.unwrap_or_default();
    let output = OutputConfig::of(&Settings::from(sink), Vec::new());
    let message = |Usage(message)| message;
    output.require_outputs().map_err(message)?;
    let first = output.first_output().ok_or(format!("a sink is for something: {SINK_USES} is missing"))?;
    let selection = output.selection().map_err(message)?;
    Ok(SinkTable { name: name.unwrap_or(first), required, selection, output })
}

fn wrong(file: &Path, position: Position, message: &str) -> Usage {
    Usage(format!("{}:{position}: {message}", escape::path(file)))
}
