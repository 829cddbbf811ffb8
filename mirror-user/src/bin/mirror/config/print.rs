//! Settings as a file.

use std::fmt::Write as _;

use clap::{ArgAction, ArgMatches, Command, parser::ValueSource};

use super::{
    file::{Place, SINK, Setting, Value},
    flags::{EXPRESSION, key},
};

/// What a command was told, as a file.
pub(super) fn printed(command: &Command, matches: &ArgMatches) -> String {
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
                    (ArgAction::Append, values) if id != EXPRESSION.0 => array(values),
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
pub(super) fn printed_sinks(sinks: &[(Place, Vec<Setting>)]) -> String {
    let mut text = String::new();
    for (_, settings) in sinks {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "\n[[{SINK}]]");
        for Setting { key, value, .. } in settings {
            let value = match value {
                Value::Boolean(boolean) => boolean.to_string(),
                Value::Words(words) => match &words[..] {
                    [word] => quoted(word),
                    words => array(&words.iter().map(|word| quoted(word)).collect::<Vec<_>>()),
                },
            };
            let _ = writeln!(text, "{key} = {value}");
        }
    }
    text
}

/// Values that are in TOML's form already.
fn array(values: &[String]) -> String {
    format!("[{}]", values.join(", "))
}

/// A number as it is, all else as a string of TOML's.
fn quoted(value: &str) -> String {
    if value.parse::<i64>().is_ok_and(|number| number.to_string() == value) {
        return value.to_owned();
    }
    toml::Value::from(value).to_string()
}
