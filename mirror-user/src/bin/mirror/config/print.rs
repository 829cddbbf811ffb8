//! Prints settings as a configuration file.

use std::fmt::Write as _;

use anyhow::Context as _;
use mirror_user::settings::Settings;
use toml::{Table, Value as Toml};

use super::{
    file::{Position, SINK, Setting, Value},
    flags::Command,
};

/// The effective settings of a command as a file. Defaults are marked, and keys that are not set are
/// comments.
pub(super) fn printed(command: Command, settings: Settings) -> anyhow::Result<String> {
    let table = |settings: Settings| Table::try_from(settings.resolve()).context("the settings as a file");
    let (settings, defaults) = (table(settings)?, table(Settings::default())?);
    let mut text = format!("# mirror {}\n", command.name());
    for key in Settings::keys().iter().filter(|key| **key != SINK && command.has(key)) {
        // Writing to a String cannot fail.
        let _ = match settings.get(*key) {
            None => writeln!(text, "# {key} is not set"),
            value if value == defaults.get(*key) => {
                writeln!(text, "{key} = {}  # default", settings[*key])
            }
            Some(value) => writeln!(text, "{key} = {value}"),
        };
    }
    Ok(text)
}

/// Tables of sinks, in the form and order of their file.
pub(super) fn printed_sinks(sinks: &[(Position, Vec<Setting>)]) -> String {
    let mut text = String::new();
    for (_, settings) in sinks {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "\n[[{SINK}]]");
        for Setting { key, value, .. } in settings {
            let value = match value {
                Value::Boolean(boolean) => Toml::Boolean(*boolean),
                Value::Words(words) => match &words[..] {
                    [word] => quoted(word),
                    words => Toml::Array(words.iter().map(|word| quoted(word)).collect()),
                },
            };
            let _ = writeln!(text, "{key} = {value}");
        }
    }
    text
}

/// A TOML integer or string.
fn quoted(value: &str) -> Toml {
    match value.parse::<i64>() {
        Ok(number) if number.to_string() == value => Toml::Integer(number),
        _ => value.into(),
    }
}
