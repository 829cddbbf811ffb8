//! Keys as flags: which flag a key stands for, and how one would type it.

use std::ffi::OsString;

use clap::{Arg, ArgAction, Command, CommandFactory as _};

use super::file::{Setting, Value};
use crate::Cli;

/// The argument with the file's name.
pub(super) const CONFIG: &str = "config";
/// The words of the filter expression have no flag.
pub(super) const EXPRESSION: (&str, &str) = ("expression", "filter");
/// What is asked of the command itself, or means nothing.
pub(super) const NO_KEYS: [&str; 5] = ["help", "version", CONFIG, "list_interfaces", "_tcpdump"];

pub(super) fn subcommand(name: &str) -> Command {
    let mut command = Cli::command();
    command.build();
    command.find_subcommand(name).cloned().unwrap_or(command)
}

/// The key of an argument, if it has one.
pub(super) fn key(arg: &Arg) -> Option<String> {
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

pub(super) fn find<'c>(command: &'c Command, wanted: &str) -> Option<&'c Arg> {
    command.get_arguments().find(|arg| key(arg).as_deref() == Some(wanted))
}

/// The flags of those settings that a command has and that are wanted.
pub(super) fn flags(command: &Command, settings: &[Setting], wanted: impl Fn(&Arg) -> bool) -> Vec<OsString> {
    let known = settings.iter().filter_map(|setting| Some((find(command, &setting.key)?, &setting.value)));
    // They have been judged: none is refused.
    known
        .filter(|(arg, value)| wanted(arg) && !is_default(arg, value))
        .flat_map(|(arg, value)| words(arg, value).unwrap_or_default())
        .collect()
}

/// Whether a value is what the flag has untold: to say it is to say nothing, also beside flags that it would not go with.
fn is_default(arg: &Arg, value: &Value) -> bool {
    let [default] = arg.get_default_values() else { return false };
    matches!(value, Value::Words(words) if words.len() == 1 && **default == *words[0])
}

/// A flag with its value, as one would type it.
pub(super) fn words(arg: &Arg, value: &Value) -> Result<Vec<OsString>, String> {
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
        (_, Value::Words(words)) if words.len() == 1 || takes_a_list(arg) => {
            Ok(vec![flag(Some(&words.join(",")))])
        }
        (_, Value::Words(words)) => Err(format!("one value is wanted, not {}", words.len())),
    }
}

/// Whether a flag's value is a list, as its help says.
fn takes_a_list(arg: &Arg) -> bool {
    let mut names = arg.get_value_names().into_iter().flatten();
    names.any(|name| name.contains("LIST") || name.contains('…'))
}

#[cfg(test)]
mod tests {
    use super::{super::check::COMMANDS, *};

    #[test]
    fn an_array_is_for_flags_that_take_lists_or_may_be_given_several_times() {
        let command = subcommand("ingest");
        let two = || Value::Words(vec!["1".to_owned(), "2".to_owned()]);
        let given = |key: &str| words(find(&command, key).unwrap(), &two());
        assert_eq!(given("vni").unwrap(), ["--vni=1,2"]);
        assert_eq!(given("source").unwrap(), ["--source=1,2"]);
        assert_eq!(given("interface").unwrap(), ["--interface=1", "--interface=2"]);
        assert_eq!(given("forward").unwrap(), ["--forward=1", "--forward=2"]);
        assert_eq!(given("write").unwrap_err(), "one value is wanted, not 2");
        assert_eq!(given("count").unwrap_err(), "one value is wanted, not 2");
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
}
