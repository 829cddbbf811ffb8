//! `cargo xtask deploy check`: each file below `deploy/` is read by a checker that knows its format.

mod dashboard;
mod monitoring;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{fs, io};

use anyhow::{Context as _, Result, bail};
use clap::{ArgMatches, Command};

use crate::{host, process};

/// Takes the root of the repository, and returns the files that it has read, from there.
type Check = fn(&Path) -> Result<BTreeSet<PathBuf>>;

const CHECKS: [(&str, Check); 1] = [("dashboard and alerts", monitoring::check)];

pub(crate) fn command() -> Command {
    Command::new("deploy")
        .about("What is below deploy/: templates, dashboard and alerts")
        .subcommand_required(true)
        .subcommand(Command::new("check").about("Check all of it, and that nothing is left unread"))
}

/// Runs all checks, then lists those that failed and the files that none has read.
///
/// # Errors
/// If a check failed, or a file was read by none.
pub(crate) fn run(_: &ArgMatches) -> Result<ExitCode> {
    let root = host::workspace();
    let (mut read, mut failed) = (BTreeSet::new(), Vec::new());
    for (name, check) in CHECKS {
        match check(&root) {
            Ok(files) => {
                eprintln!("deploy: {name}: clean, {} files", files.len());
                read.extend(files);
            }
            Err(error) => {
                eprintln!("deploy: {name}: FAILED: {error:#}");
                failed.push(name);
            }
        }
        process::stopped()?;
    }
    if !failed.is_empty() {
        bail!("deploy: failed: {}", failed.join("; "));
    }
    let mut files = BTreeSet::new();
    collect(&root.join("deploy"), &mut files).context("cannot list deploy/")?;
    let files = files.iter().map(|file| file.strip_prefix(&root).unwrap_or(file));
    let unread: Vec<_> =
        files.filter(|file| !read.contains(*file)).map(|file| file.display().to_string()).collect();
    if !unread.is_empty() {
        bail!("deploy: no check reads {}", unread.join(", "));
    }
    println!("deploy: {} checks clean, {} files", CHECKS.len(), read.len());
    Ok(ExitCode::SUCCESS)
}

fn collect(folder: &Path, files: &mut BTreeSet<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else {
            files.insert(path);
        }
    }
    Ok(())
}
