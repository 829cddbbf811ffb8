//! `cargo xtask dist`: the packages of x86-64, or the command alone for another machine.

mod check;
mod cross;
mod notices;
mod packages;
mod portable;
mod source;
mod symbols;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Arg, ArgAction, ArgMatches, Command};

pub(crate) use self::cross::guest_base;
use self::packages::Packages;
use self::source::Source;
use crate::setup::{self, Group};

pub(crate) fn command() -> Command {
    Command::new("dist")
        .about("Make the .deb and the .rpm of x86-64 in target/dist, or cross-compile the command")
        .arg(Arg::new("target").long("target").value_name("MACHINE").value_parser(["aarch64"]).help(
            "aarch64: the command alone; compilers and libraries are Debian's, unpacked below target/dist \
            (300 MB are fetched once)",
        ))
        .arg(Arg::new("check").long("check").action(ArgAction::SetTrue).conflicts_with("target").help(
            "Also check the packages by lintian and rpmlint, and install, upgrade and purge them (root)",
        ))
}

/// Makes what is asked for and prints where it is.
///
/// # Errors
/// If something that is needed is not to be had, does not build, or is wrong with a package.
pub(crate) fn run(matches: &ArgMatches) -> Result<ExitCode> {
    if matches.contains_id("target") {
        return cross::run();
    }
    setup::ensure(&[Group::Build, Group::Dist], false, "dist")?;
    let made = make(&Source::this())?;
    if matches.get_flag("check") {
        check::run(&made, &make(&Source::next()?)?)?;
    }
    for package in [&made.deb, &made.rpm] {
        println!("{}", package.display());
    }
    Ok(ExitCode::SUCCESS)
}

fn make(source: &Source) -> Result<Packages> {
    packages::make(source, &portable::build(source)?)
}

/// The `.deb` of this source, and that of the same source as a later version.
///
/// # Errors
/// If one does not build.
pub(crate) fn two_versions() -> Result<[PathBuf; 2]> {
    Ok([make(&Source::this())?.deb, make(&Source::next()?)?.deb])
}
