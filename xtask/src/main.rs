//! The development tasks of this repository: `cargo xtask --help` lists them.

mod apt;
mod bench;
mod columns;
mod demo;
mod deploy;
mod dist;
mod ebpf;
mod fuzz;
mod host;
mod lint;
mod pages;
mod parallel;
mod pins;
mod process;
mod programs;
mod setup;
mod test;
mod tree;
#[cfg(test)]
mod units;
mod vmtest;

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

fn main() -> ExitCode {
    match process::watch_signals().and_then(|()| dispatch(&cli().get_matches())) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(matches: &ArgMatches) -> Result<ExitCode> {
    match matches.subcommand() {
        Some(("setup", m)) => {
            let groups: Vec<setup::Group> = m.get_many("group").unwrap_or_default().copied().collect();
            setup::run(&setup::Group::expand(&groups), m.get_flag("dry-run"), m.get_flag("yes"))
        }
        Some(("ebpf", m)) => ebpf::run(m.get_flag("check")),
        Some(("demo", m)) => demo::run(m.get_flag("yes"), &rest(m)),
        Some(("test", m)) => {
            test::run(m.get_flag("yes"), m.get_flag("require-ebpf"), m.get_flag("all"), &rest(m))
        }
        Some(("bench", m)) => bench::run(m),
        Some(("vmtest", m)) => vmtest::run(m),
        Some(("dist", m)) => dist::run(m),
        Some(("deploy", m)) => deploy::run(m),
        Some(("lint", m)) if m.get_flag("columns") => columns::list(),
        Some(("lint", _)) => lint::run(),
        Some(("fuzz", m)) => {
            let seconds = *m.get_one::<u32>("seconds").unwrap_or(&fuzz::DEFAULT_SECONDS);
            fuzz::run(seconds, m.get_one::<String>("target").map(String::as_str))
        }
        _ => unreachable!("clap refuses a command line without a known subcommand"),
    }
}

/// The arguments for the program that is started, in their order.
fn rest(matches: &ArgMatches) -> Vec<OsString> {
    matches.get_many("args").unwrap_or_default().cloned().collect()
}

fn cli() -> Command {
    let flag = |name: &'static str, help: &'static str| {
        Arg::new(name).long(name).action(ArgAction::SetTrue).help(help)
    };
    let yes = || flag("yes", "Install what is missing without asking");
    let args = |help: &'static str| {
        Arg::new("args")
            .num_args(0..)
            .trailing_var_arg(true)
            .allow_hyphen_values(true)
            .value_parser(value_parser!(OsString))
            .help(help)
    };
    Command::new("cargo xtask")
        .about("The development tasks of this repository")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(
            Command::new("setup")
                .about("Install what this host lacks (default: what demo and test need)")
                .arg(Arg::new("group").num_args(0..).value_parser(setup::Group::parse).help(
                    "build | lab | test | ebpf | lint | fuzz | bench | vm | deploy | peers | dist | all \
                    (without peers and dist)",
                ))
                .arg(flag("dry-run", "List what would be installed, and exit"))
                .arg(yes()),
        )
        .subcommand(
            Command::new("ebpf")
                .about("Rebuild the eBPF programs into mirror-ebpf/objects with the pinned toolchain")
                .arg(flag(
                    "check",
                    "Rebuild elsewhere and compare with the committed objects, instruction by instruction",
                )),
        )
        .subcommand(
            Command::new("demo")
                .about("Set up, build and run the demonstration (root)")
                .arg(yes())
                .arg(args("Arguments for the demonstration itself")),
        )
        .subcommand(
            Command::new("test")
                .about("Set up and run the tests, serially (root)")
                .arg(yes())
                .arg(flag("require-ebpf", "Fail where the eBPF toolchain is absent, as under CI=true"))
                .arg(flag("all", "Also the tests of the library without its features, built for them"))
                .arg(args("Arguments for `cargo test`; with any, only that one run is made")),
        )
        .subcommand(bench::command())
        .subcommand(vmtest::command())
        .subcommand(dist::command())
        .subcommand(deploy::command())
        .subcommand(
            Command::new("lint")
                .about("Run all checks except tests, and list those that failed")
                .arg(flag("columns", "Only list the lines that are too long, Rust included")),
        )
        .subcommand(
            Command::new("fuzz")
                .about("Run the fuzz targets, one per CPU at a time")
                .arg(
                    Arg::new("seconds")
                        .long("seconds")
                        .value_name("N")
                        .value_parser(value_parser!(u32).range(1..))
                        .help("Time for each target [default: 60]"),
                )
                .arg(Arg::new("target").help("Only this target")),
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        cli().debug_assert();
    }

    #[test]
    fn arguments_after_the_subcommand_reach_cargo_test_untouched() {
        let matches =
            cli().get_matches_from(["xtask", "test", "--yes", "-p", "mirror-user", "--", "--nocapture"]);
        let (_, m) = matches.subcommand().unwrap();
        assert!(m.get_flag("yes"));
        assert_eq!(rest(m), ["-p", "mirror-user", "--", "--nocapture"]);
    }
}
