//! `cargo xtask fuzz`: runs each libFuzzer target for a while.

use std::fs;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, bail};

use crate::{host, parallel, pins, process};

/// Default time per target.
pub(crate) const DEFAULT_SECONDS: u32 = 60;

/// Inputs that take longer than this are findings, in seconds: code that processes frames must never be slow
/// on one.
const SLOWEST_INPUT_SECONDS: u32 = 10;

/// Runs `only`, or every target, for `seconds` each.
///
/// # Errors
/// If there is nothing to run, a target does not build, or a target found something: all of them are run
/// first.
pub(crate) fn run(seconds: u32, only: Option<&str>) -> Result<ExitCode> {
    if host::program(pins::CARGO_FUZZ.name).is_none() {
        bail!("{} is not installed: run `cargo xtask setup fuzz`", pins::CARGO_FUZZ.name);
    }
    if !host::workspace().join("fuzz/Cargo.toml").is_file() {
        bail!("there is no fuzz/Cargo.toml, so there are no targets to run");
    }
    let listed = process::output(cargo_fuzz().arg("list"))?;
    let targets: Vec<_> = listed.lines().filter(|name| only.is_none_or(|only| only == *name)).collect();
    if targets.is_empty() {
        bail!("no such fuzz target; there are: {}", listed.lines().collect::<Vec<_>>().join(", "));
    }
    process::check(cargo_fuzz().arg("build"))?;
    // One alone is watched as it runs.
    let run = if targets.len() == 1 { process::run } else { process::run_apart };
    // Each has one thread.
    let outcomes = parallel::per_cpu(&targets, |target| run(&mut command(target, seconds)?));
    let mut failed = Vec::new();
    for (target, outcome) in targets.iter().zip(outcomes) {
        if !outcome?.success() {
            failed.push(*target);
        }
    }
    if !failed.is_empty() {
        bail!("{} failed: the inputs are under fuzz/artifacts", failed.join(" and "));
    }
    println!("fuzz: {} clean over {seconds} s each", targets.join(" and "));
    Ok(ExitCode::SUCCESS)
}

/// Runs a target for a time.
fn command(target: &str, seconds: u32) -> Result<Command> {
    let mut command = cargo_fuzz();
    command.args(["run", target]);
    let seeds = host::workspace().join("fuzz/seeds").join(target);
    if seeds.is_dir() {
        // libFuzzer adds findings to the first directory and only reads the others.
        let corpus = host::workspace().join("fuzz/corpus").join(target);
        fs::create_dir_all(&corpus).with_context(|| format!("cannot create {}", corpus.display()))?;
        command.arg(corpus).arg(seeds);
    }
    command.arg("--");
    command.arg(format!("-max_total_time={seconds}")).arg(format!("-timeout={SLOWEST_INPUT_SECONDS}"));
    // One line at the start and one at the end instead of one per discovery.
    command.args(["-print_final_stats=1", "-verbosity=0"]);
    Ok(command)
}

/// cargo-fuzz passes `-Zsanitizer=address`, which stable compilers take in bootstrap mode: no nightly is
/// needed.
fn cargo_fuzz() -> Command {
    let mut command = host::cargo();
    command.arg("fuzz").env("RUSTC_BOOTSTRAP", "1");
    command
}
