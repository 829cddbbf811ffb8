//! `cargo xtask bench`: benchmarks of this host, and a comparison with other tools.

use std::ffi::OsString;
use std::process::{Command as Process, ExitCode};

use anyhow::{Result, bail};
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use crate::setup::{self, Group};
use crate::{host, process};

/// Options with a value that are passed on: name, placeholder, help.
const WITH_VALUE: [(&str, &str, &str); 4] = [
    ("rounds", "N", "Rounds of the ladder and the sweep [default: 9, or 5 with --quick]"),
    ("cpus", "KERNEL,WORKER", "CPU that sends and receives packets, and CPU of what is measured"),
    ("output", "DIR", "Directory for report.json, report.md and the plots [default: target/bench]"),
    ("compare", "OLD.json", "Show changes since an earlier report.json, and whether they exceed the noise"),
];

/// Options that are passed on: name, help.
const FLAGS: [(&str, &str); 2] = [
    ("quick", "Fewer rounds and points: under three minutes, and the report says so"),
    ("check-goals", "Exit with 1 if a goal is missed"),
];

pub(crate) fn command() -> Command {
    let flag = |name: &'static str, help: &'static str| {
        Arg::new(name).long(name).action(ArgAction::SetTrue).help(help)
    };
    Command::new("bench")
        .about("Set up, build and run the benchmarks (root, except for micro)")
        .arg(
            Arg::new("part")
                .value_parser([
                    "all",
                    "micro",
                    "lab",
                    "peers",
                    "neighbour",
                    "gaps",
                    "captures",
                    "source",
                    "sweep",
                ])
                .default_value("all")
                .help("What to measure; all is all but sweep"),
        )
        .args(FLAGS.map(|(name, help)| flag(name, help)))
        .args(WITH_VALUE.map(|(name, placeholder, help)| {
            Arg::new(name).long(name).value_name(placeholder).value_parser(value_parser!(OsString)).help(help)
        }))
        .arg(flag("install", "Install the tools that peers compares with, too"))
        .arg(flag("yes", "Install what is missing without asking"))
}

/// Sets up, builds and runs them, and ends with their exit code.
///
/// # Errors
/// Without root where the part needs it, or where set-up or build fail.
pub(crate) fn run(matches: &ArgMatches) -> Result<ExitCode> {
    let args = handed_on(matches);
    if part(matches) != "micro" && !host::is_root() {
        bail!("namespaces and XDP need root; run\n  {}", host::as_root(&line(&args)));
    }
    let mut groups = vec![Group::Build, Group::Lab, Group::Bench];
    if matches.get_flag("install") {
        groups.push(Group::Peers);
    }
    setup::ensure(&groups, matches.get_flag("yes"), &line(&args))?;
    let packages = ["--package", "mirror-user", "--package", "mirror-bench"];
    process::check(host::cargo().args(["build", "--release", "--locked"]).args(packages))?;
    let program = host::target_dir().join("release/mirror-bench");
    // In the caller's directory, so that relative paths keep their meaning.
    let mut bench = Process::new(program);
    if matches.get_one::<OsString>("output").is_none() {
        bench.arg("--output").arg(host::target_dir().join("bench"));
    }
    Ok(process::code(process::run(bench.args(args))?))
}

fn part(matches: &ArgMatches) -> &str {
    matches.get_one::<String>("part").map_or("all", String::as_str)
}

/// Arguments of the benchmarks.
fn handed_on(matches: &ArgMatches) -> Vec<OsString> {
    let mut args = vec![part(matches).into()];
    let flags = FLAGS.iter().filter(|(name, _)| matches.get_flag(name));
    args.extend(flags.map(|(name, _)| format!("--{name}").into()));
    for (name, ..) in WITH_VALUE {
        if let Some(value) = matches.get_one::<OsString>(name) {
            args.extend([format!("--{name}").into(), value.clone()]);
        }
    }
    args
}

/// The command line to repeat it.
fn line(args: &[OsString]) -> String {
    let words = args.iter().map(|arg| process::quote(&arg.to_string_lossy()));
    ["bench".to_owned()].into_iter().chain(words).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(words: &str) -> String {
        let matches = command().get_matches_from(["bench"].into_iter().chain(words.split_whitespace()));
        line(&handed_on(&matches))
    }

    #[test]
    fn benchmark_options_are_passed_on_and_setup_options_are_not() {
        assert_eq!(typed(""), "bench all");
        assert_eq!(typed("--quick --install --yes"), "bench all --quick");
        assert_eq!(
            typed("lab --compare old.json --rounds 3 --cpus 2,3 --output x"),
            "bench lab --rounds 3 --cpus 2,3 --output x --compare old.json"
        );
    }

    #[test]
    fn an_unknown_part_is_refused() {
        assert!(command().try_get_matches_from(["bench", "everything"]).is_err());
    }
}
