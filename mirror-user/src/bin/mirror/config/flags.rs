//! The commands that take a configuration file, and the flag of each key.

use clap::{Arg, CommandFactory as _};
use mirror_user::{error::with_causes, settings::Settings};

use crate::{Cli, ingest::IngestRun, output_config::SinkTable, replay::ReplayRun};

/// A command that takes a configuration file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Command {
    Ingest,
    Replay,
}

impl Command {
    pub(super) const ALL: [Self; 2] = [Self::Ingest, Self::Replay];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ingest => "ingest",
            Self::Replay => "replay",
        }
    }

    /// The key of its source.
    pub(super) fn source(self) -> &'static str {
        match self {
            Self::Ingest => "interface",
            Self::Replay => "read",
        }
    }

    /// Whether a key applies to it.
    pub(super) fn has(self, key: &str) -> bool {
        match self {
            Self::Ingest => !matches!(key, "read" | "wait-reader"),
            Self::Replay => !matches!(
                key,
                "interface"
                    | "queues"
                    | "cpus"
                    | "mode"
                    | "bind"
                    | "wait"
                    | "priority"
                    | "destination"
                    | "rx-ring"
                    | "forward-path"
                    | "no-monitor"
                    | "writable"
                    | "duration"
                    | "stats"
                    | "drain-max"
                    | "drain-quiet"
                    | "control"
                    | "control-group"
                    | "http"
                    | "http-allow"
                    | "health-loss"
            ),
        }
    }

    /// Validates how and what it reads, without this host. The source itself may still be typed.
    pub(super) fn validate_source(self, settings: Settings) -> Result<(), String> {
        let settings = settings.resolve();
        let result = match self {
            Self::Ingest => IngestRun::of(&settings, Vec::new()).validate_source(),
            Self::Replay => ReplayRun::of(&settings, Vec::new()).validate_source(),
        };
        result.map_err(|error| with_causes(error.as_ref()))
    }

    /// Validates settings and tables as a run does before it touches the host. The source itself may still be
    /// typed.
    pub(super) fn validate(self, settings: Settings, tables: Vec<SinkTable>) -> Result<(), String> {
        let settings = settings.resolve();
        let result = match self {
            Self::Ingest => IngestRun::of(&settings, tables).validate(),
            Self::Replay => ReplayRun::of(&settings, tables).validate(),
        };
        result.map_err(|error| with_causes(error.as_ref()))
    }
}

/// The key of an argument, if it has one.
pub(crate) fn key(arg: &Arg) -> Option<&str> {
    match (arg.get_id().as_str(), arg.get_long()) {
        // About the command line itself, or without effect.
        ("help" | "version" | "config" | "list_interfaces" | "_tcpdump", _) => None,
        ("expression", _) => Some("filter"),
        (_, Some(long)) => Some(long),
        (id, None) => Some(id),
    }
}

/// The flag of a key, as clap prints it.
pub(super) fn flag_of(command: Command, wanted: &str) -> Option<String> {
    let mut cli = Cli::command();
    cli.build();
    let arguments = cli.find_subcommand(command.name())?.get_arguments();
    arguments.into_iter().find(|arg| key(arg) == Some(wanted)).map(ToString::to_string)
}

#[cfg(test)]
mod tests {
    use clap::{ArgAction, FromArgMatches as _};
    use proptest::prelude::*;
    use toml::Value;

    use super::*;
    use crate::{
        config::{entry::setting, file::read},
        ingest::IngestArgs,
        replay::ReplayArgs,
    };

    /// The settings of a command line.
    fn typed(command: Command, words: &[String]) -> Settings {
        let mut cli = Cli::command();
        cli.build();
        let mut clap = cli.find_subcommand(command.name()).unwrap().clone();
        let words = std::iter::once(command.name()).chain(words.iter().map(String::as_str));
        let matches = clap.try_get_matches_from_mut(words).unwrap();
        match command {
            Command::Ingest => IngestArgs::from_arg_matches(&matches).unwrap().settings(),
            Command::Replay => ReplayArgs::from_arg_matches(&matches).unwrap().settings(),
        }
    }

    /// A key with its value as a flag.
    fn words(arg: &Arg, value: &Value) -> Vec<String> {
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let flag = match (arg.get_long(), arg.get_short()) {
            (Some(long), _) => format!("--{long}"),
            (None, Some(short)) => format!("-{short}"),
            // The positional argument, after all flags.
            (None, None) => return vec![text(value)],
        };
        match (arg.get_action(), value) {
            (ArgAction::SetTrue, Value::Boolean(true)) => vec![flag],
            (ArgAction::Count, Value::Integer(times)) => vec![flag; usize::try_from(*times).unwrap()],
            (_, Value::Array(values)) => {
                values.iter().map(|value| format!("{flag}={}", text(value))).collect()
            }
            (_, value) => vec![format!("{flag}={}", text(value))],
        }
    }

    /// A line of a file: a key with a valid value.
    fn line() -> impl Strategy<Value = (&'static str, Value)> {
        let text = |texts: &[&str]| {
            let texts: Vec<_> = texts.iter().map(|text| (*text).to_owned()).collect();
            proptest::sample::select(texts).prop_map(Value::String).boxed()
        };
        let number = |first: i64, last: i64| (first..=last).prop_map(Value::Integer).boxed();
        proptest::sample::select(Settings::keys().to_vec()).prop_flat_map(move |key| {
            let value = match key {
                "interface" => {
                    prop_oneof![text(&["ens6", "a,b"]), Just(Value::from(vec!["ens6", "ens7"]))].boxed()
                }
                "read" | "sessions" | "session" | "command-write" | "writable" => {
                    prop_oneof![text(&["a b", "x", "-"]), Just(Value::from(vec!["a", "7"]))].boxed()
                }
                "forward" => {
                    prop_oneof![text(&["tap:a"]), Just(Value::from(vec!["tap:a", "vxlan:192.0.2.7,vni=3"]))]
                        .boxed()
                }
                "queues" => prop_oneof![text(&["all", "0,2-4"]), number(0, 9)].boxed(),
                "cpus" | "port" | "vni" | "command-connect" => {
                    prop_oneof![text(&["1", "7,100-199"]), number(0, 9)].boxed()
                }
                "source" | "http-allow" => text(&["10.0.0.0/8", "10.1.2.3, ::1"]),
                "http" => text(&["127.0.0.1:9464", "[::]:80"]),
                "health-loss" => prop_oneof![text(&["5%", "0.5"]), number(1, 100)].boxed(),
                "mode" => text(&["auto", "native", "generic"]),
                "bind" => text(&["auto", "copy", "zerocopy"]),
                "wait" => text(&["poll", "spin", "busy-poll"]),
                "priority" => text(&["auto", "realtime", "nice", "normal"]),
                "destination" => text(&["own", "any"]),
                "buffer-size" => prop_oneof![text(&["64m", "1g"]), number(1024, 4096)].boxed(),
                "writers" => prop_oneof![text(&["auto"]), number(1, 9)].boxed(),
                "forward-path" => text(&["auto", "kernel", "user"]),
                "format" => text(&["pcapng", "pcap", "pcap-us"]),
                "when-full" => text(&["wait", "delete", "stop"]),
                "forward-balance" => text(&["copy", "flow"]),
                "control" => text(&["off", "a,b", "7"]),
                "sandbox" => text(&["auto", "require", "off"]),
                "on-output-end" => text(&["stop", "continue"]),
                "duration" | "stats" | "drain-max" | "drain-quiet" | "wait-reader" => {
                    prop_oneof![text(&["10s", "1h 30m", "1.5"]), number(1, 9)].boxed()
                }
                "file-size" | "min-free" => prop_oneof![text(&["512k", "2G"]), number(1, 9)].boxed(),
                "snap" => prop_oneof![text(&["headers"]), number(0, 9000)].boxed(),
                "rx-ring" | "rotate-seconds" | "file-count" | "max-origins" | "forward-seed" | "count" => {
                    number(1, 4096)
                }
                "hex" | "hexascii" | "ascii" | "timestamps" | "verbose" => number(1, 5),
                "filter"
                | "outer-filter"
                | "write"
                | "postrotate-command"
                | "report"
                | "control-group"
                | "relinquish-privileges" => text(&["x", "tcp port 443", "a=b, \"c\"", "7"]),
                _ => Just(Value::Boolean(true)).boxed(),
            };
            (Just(key), value)
        })
    }

    #[test]
    fn help_shows_the_default_of_each_flag() {
        let mut cli = crate::command();
        cli.build();
        let defaults = toml::Table::try_from(Settings::default().resolve()).unwrap();
        for command in Command::ALL {
            let arguments = cli.find_subcommand(command.name()).unwrap().get_arguments();
            let with_value = arguments.filter(|arg| arg.get_action().takes_values());
            let with_default = with_value.filter_map(|arg| Some((arg, defaults.get(key(arg)?)?)));
            let mut found = 0;
            for (arg, default) in with_default {
                let default = default.as_str().map_or_else(|| default.to_string(), str::to_owned);
                let help = arg.get_help().unwrap().to_string();
                assert!(help.ends_with(&format!(" [default: {default}]")), "{help}");
                found += 1;
            }
            assert!(found >= 7, "{found}");
        }
    }

    proptest! {
        #[test]
        fn flags_and_a_file_with_the_same_keys_give_equal_settings(
            lines in proptest::collection::vec(line(), 0..12)
        ) {
            for command in Command::ALL {
                let mut cli = Cli::command();
                cli.build();
                let clap = cli.find_subcommand(command.name()).unwrap();
                let lines: std::collections::BTreeMap<_, _> =
                    lines.iter().filter(|(key, _)| *key != "sink" && command.has(key)).cloned().collect();
                let (mut flags, mut last, mut file) = (Vec::new(), Vec::new(), String::new());
                for (name, value) in &lines {
                    let arg = clap.get_arguments().find(|arg| key(arg) == Some(*name)).unwrap();
                    (if arg.is_positional() { &mut last } else { &mut flags }).extend(words(arg, value));
                    file.push_str(&format!("{name} = {value}\n"));
                }
                flags.extend(last);
                let Ok(read) = read(&file) else { panic!("{file}") };
                let entries = read.settings.iter().map(|entry| setting(entry).unwrap());
                let from_file = entries.fold(Settings::default(), Settings::over);
                prop_assert_eq!(&typed(command, &flags), &from_file, "{:?} {}", flags, file);
                // The file as a whole gives the same settings as its keys one by one.
                prop_assert_eq!(&toml::from_str::<Settings>(&file).unwrap(), &from_file, "{}", file);
            }
        }
    }

    #[test]
    fn every_flag_has_its_own_key_and_every_key_a_flag() {
        let mut cli = Cli::command();
        cli.build();
        for command in Command::ALL {
            let arguments = cli.find_subcommand(command.name()).unwrap().get_arguments();
            let mut flags: Vec<_> = arguments.filter_map(key).collect();
            let mut keys: Vec<_> = Settings::keys().to_vec();
            keys.retain(|key| *key != "sink" && command.has(key));
            assert_eq!(flags, keys, "in the same order");
            flags.sort_unstable();
            flags.dedup();
            assert_eq!(flags.len(), keys.len());
        }
    }
}
