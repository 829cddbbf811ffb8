//! `cargo xtask deploy check`: each file below `deploy/` is read by a checker that knows its format; with
//! `--twins`, each checker is shown to fail.

mod dashboard;
mod guide;
mod monitoring;
mod moto;
mod objects;
mod read;
mod schema;
mod sources;
mod templates;
pub(crate) mod tools;
mod twins;
mod user_data;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;
use std::{fs, io};

use anyhow::{Context as _, Result, bail, ensure};
use clap::{Arg, ArgAction, ArgMatches, Command};

pub(crate) use self::guide::on_target;
use crate::setup::{self, Group};
use crate::{host, parallel, process};

/// Takes the root of the repository, and returns the files that it has read, from there.
type Check = fn(&Path) -> Result<BTreeSet<PathBuf>>;

const CHECKS: [(&str, Check); 8] = [
    ("dashboard and alerts", monitoring::check),
    ("cfn-lint", templates::cfn_lint),
    ("checkov", templates::checkov),
    ("provider schema", schema::check),
    ("mirror objects", objects::check),
    ("user data", user_data::check),
    ("sources by tag", sources::check),
    ("commands of the guide", guide::check),
];

pub(crate) fn command() -> Command {
    Command::new("deploy")
        .about("What is below deploy/: templates, user data, scripts, dashboard and alerts")
        .subcommand_required(true)
        .subcommand(
            Command::new("check").about("Check all of it, and that nothing is left unread").arg(
                Arg::new("twins")
                    .long("twins")
                    .action(ArgAction::SetTrue)
                    .help("Also show that each check fails, on a copy with a broken file"),
            ),
        )
        .subcommand(
            Command::new("schema").about("Renew the copy of the provider's schema, for the types in use"),
        )
}

/// # Errors
/// If a check failed, or a file was read by none.
pub(crate) fn run(matches: &ArgMatches) -> Result<ExitCode> {
    setup::ensure(&[Group::Deploy], false, "deploy check")?;
    let root = host::workspace();
    match matches.subcommand() {
        Some(("schema", _)) => schema::renew(&root),
        Some((_, matches)) => check(&root, matches.get_flag("twins")),
        None => unreachable!("clap refuses a command line without a known subcommand"),
    }
}

/// Runs all checks, then lists those that failed and the files that none has read.
fn check(root: &Path, twins: bool) -> Result<ExitCode> {
    let outcomes = parallel::per_cpu(&CHECKS, |(name, check)| {
        process::stopped()?;
        let start = Instant::now();
        let outcome = check(root);
        match &outcome {
            Ok(files) => {
                eprintln!("deploy: {name}: clean, {} files ({:.0?})", files.len(), start.elapsed());
            }
            Err(error) => eprintln!("deploy: {name}: FAILED: {error:#}"),
        }
        outcome
    });
    process::stopped()?;
    let (mut read, mut failed) = (BTreeSet::new(), Vec::new());
    for ((name, _), outcome) in CHECKS.iter().zip(outcomes) {
        match outcome {
            Ok(files) => read.extend(files),
            Err(_) => failed.push(*name),
        }
    }
    if !failed.is_empty() {
        bail!("deploy: failed: {}", failed.join("; "));
    }
    let unread: Vec<_> = files(root, "deploy")?
        .into_iter()
        .filter(|file| !read.contains(file))
        .map(|file| file.display().to_string())
        .collect();
    ensure!(unread.is_empty(), "deploy: no check reads {}", unread.join(", "));
    println!("deploy: {} checks clean, {} files", CHECKS.len(), read.len());
    if twins {
        println!("deploy: {} broken twins refused", twins::check(root)?);
    } else {
        eprintln!("deploy: NOT shown: that the checks fail where they should (--twins)");
    }
    Ok(ExitCode::SUCCESS)
}

/// All files below `folder`, from `root`, sorted.
fn files(root: &Path, folder: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    collect(&root.join(folder), &mut found).with_context(|| format!("cannot list {folder}"))?;
    let mut found: Vec<_> =
        found.iter().map(|file| file.strip_prefix(root).unwrap_or(file).to_owned()).collect();
    found.sort();
    Ok(found)
}

fn collect(folder: &Path, found: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, found)?;
        } else {
            found.push(path);
        }
    }
    Ok(())
}
