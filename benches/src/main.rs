//! `mirror-bench`: what `cargo xtask bench` runs.

use std::{
    collections::BTreeMap,
    env,
    path::PathBuf,
    process::ExitCode,
    sync::{Arc, atomic::AtomicBool},
    time::Instant,
};

use anyhow::{Context as _, Result, bail};
use clap::{Parser, ValueEnum, value_parser};
use mirror_bench::{
    bed,
    cpus::Cpus,
    options::Options,
    parts::{self, Part},
    report::{self, compare, host, schema::Report, table},
};
use nix::unistd::geteuid;
use signal_hook::{
    consts::{SIGINT, SIGTERM},
    flag,
};

/// How fast mirror is on this host, where the time is spent, and how it compares with other tools
#[derive(Debug, Parser)]
#[command(name = "mirror-bench")]
struct Arguments {
    /// What to measure
    #[arg(value_enum, default_value_t = Selection::All)]
    part: Selection,
    /// Fewer rounds and points: under three minutes, and the report says so
    #[arg(long)]
    quick: bool,
    /// Rounds of the ladder and the sweep [default: 9, or 5 with --quick]
    #[arg(long, value_name = "N", value_parser = value_parser!(u16).range(1..))]
    rounds: Option<u16>,
    /// The CPU that sends and receives, and the one for what is measured [default: two cores of this host]
    #[arg(long, value_name = "KERNEL,WORKER")]
    cpus: Option<Cpus>,
    /// Directory for report.json, report.md and the plots
    #[arg(long, value_name = "DIR", default_value = "target/bench")]
    output: PathBuf,
    /// Compare with an earlier report.json, and show which changes exceed the noise
    #[arg(long, value_name = "OLD.json")]
    compare: Option<PathBuf>,
    /// Exit with 1 if a goal is not reached
    #[arg(long)]
    check_goals: bool,
}

impl Arguments {
    fn rounds(&self) -> usize {
        let default = if self.quick { Options::QUICK_ROUNDS } else { Options::FULL_ROUNDS };
        self.rounds.map_or(default, usize::from)
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Selection {
    /// All parts but sweep
    All,
    /// Parts of the engine by themselves: time, instructions, allocations
    Micro,
    /// The ladder, no-drop rates and latency (root)
    Lab,
    /// Other tools on the same traffic (root)
    Peers,
    /// Frames lost while another thread wants the worker's CPU (root)
    Neighbour,
    /// Losses at full speed each millisecond, beside what the worker's CPU did (root)
    Gaps,
    /// Captures into files, in memory and on the disk of the working directory (root)
    Captures,
    /// A mirror source, and production beside it (root)
    Source,
    /// Ring and UMEM sizes (root)
    Sweep,
}

/// Without a selection.
const ALL: [Part; 7] =
    [Part::Micro, Part::Lab, Part::Peers, Part::Neighbour, Part::Gaps, Part::Captures, Part::Source];

impl Selection {
    fn parts(self) -> &'static [Part] {
        match self {
            Self::All => &ALL,
            Self::Micro => &[Part::Micro],
            Self::Lab => &[Part::Lab],
            Self::Peers => &[Part::Peers],
            Self::Neighbour => &[Part::Neighbour],
            Self::Gaps => &[Part::Gaps],
            Self::Captures => &[Part::Captures],
            Self::Source => &[Part::Source],
            Self::Sweep => &[Part::Sweep],
        }
    }
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("mirror-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Measures, prints and writes the report. Returns whether all requested results are there.
fn run(arguments: &Arguments) -> Result<bool> {
    let parts = arguments.part.parts();
    let in_the_lab = parts.iter().any(|part| part.is_in_the_lab());
    if in_the_lab && !geteuid().is_root() {
        bail!("namespaces and XDP need root; run\n  {}", as_root());
    }
    // Read before anything is measured, and before it is overwritten.
    let old = arguments.compare.as_deref().map(compare::load).transpose()?;
    let options = options(arguments)?;
    let (driver, mode) = if in_the_lab { (bed::DRIVER, bed::XDP_MODE) } else { ("", "") };
    let mut report = Report::begin(options.quick, host::facts(driver, mode));
    report.settings = settings(&options);

    let begun = Instant::now();
    let complete = parts::run_each(parts, &options, &mut report, Part::run);
    report.duration_s = begun.elapsed().as_secs_f64();
    let output = arguments.output.display();
    if report.is_empty() {
        bail!("nothing was measured; {output} is unchanged");
    }

    let comparison = old.map(|old| compare::compare(&old, &report));
    report::write(&report, comparison.as_ref(), &arguments.output)?;
    print!("{}", table::render(&report, comparison.as_ref()));
    println!("\n{output}: report.md, report.json and the plots");
    let reached = report.goals.iter().all(|goal| goal.reached);
    Ok(complete && (reached || !arguments.check_goals))
}

fn options(arguments: &Arguments) -> Result<Options> {
    let cpus = arguments.cpus.map_or_else(Cpus::of_this_host, Ok)?;
    cpus.check()?;
    Ok(Options {
        quick: arguments.quick,
        rounds: arguments.rounds(),
        kernel_cpu: cpus.kernel,
        worker_cpu: cpus.worker,
        stop: stop_on_signals()?,
    })
}

fn settings(options: &Options) -> BTreeMap<String, String> {
    let cpus = format!("{} sends and receives, {} is measured", options.kernel_cpu, options.worker_cpu);
    [("CPUs".into(), cpus), ("rounds".into(), options.rounds.to_string())].into()
}

/// The first signal ends the run between two measurements, so that the lab is removed; a second one ends it
/// at once.
fn stop_on_signals() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        flag::register_conditional_shutdown(signal, 1, Arc::clone(&stop))
            .and_then(|_| flag::register(signal, Arc::clone(&stop)))
            .context("cannot install signal handlers")?;
    }
    Ok(stop)
}

/// The same command with sudo.
fn as_root() -> String {
    let words = env::args_os().map(|word| word.to_string_lossy().into_owned());
    ["sudo".to_owned()].into_iter().chain(words).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn parse(line: &str) -> Result<Arguments, clap::Error> {
        Arguments::try_parse_from(["mirror-bench"].into_iter().chain(line.split_whitespace()))
    }

    #[test]
    fn the_command_line_is_well_formed() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn without_a_part_all_but_the_sweep_are_run() {
        let arguments = parse("").unwrap();
        assert_eq!(arguments.part.parts(), ALL);
        assert_eq!(arguments.output, PathBuf::from("target/bench"));
        assert_eq!(parse("sweep").unwrap().part.parts(), [Part::Sweep]);
    }

    #[test]
    fn every_part_has_the_same_name_on_the_command_line_and_in_the_report() {
        for part in ALL.into_iter().chain([Part::Sweep]) {
            assert_eq!(parse(part.name()).unwrap().part.parts(), [part]);
        }
    }

    #[test]
    fn bad_usage_ends_with_2() {
        for line in ["everything", "--rounds 0", "--cpus 1,1", "--cpus 1", "--compare"] {
            assert_eq!(parse(line).unwrap_err().exit_code(), 2, "{line}");
        }
    }

    #[test]
    fn a_quick_run_has_fewer_rounds_by_default() {
        let rounds = |line| parse(line).unwrap().rounds();
        assert_eq!(rounds(""), Options::FULL_ROUNDS);
        assert_eq!(rounds("--quick"), Options::QUICK_ROUNDS);
        assert_eq!(rounds("--quick --rounds 3"), 3);
    }
}
