//! `cargo xtask demo`: a capture from mirror source to file, in temporary namespaces of this host.

use std::ffi::OsString;
use std::process::{Command, ExitCode};

use anyhow::{Result, bail};

use crate::setup::{self, Group};
use crate::{host, process};

/// Sets up, builds and runs it, and ends with its exit code.
///
/// # Errors
/// Without root, or where set-up or build fail.
pub(crate) fn run(yes: bool, args: &[OsString]) -> Result<ExitCode> {
    if !host::is_root() {
        bail!("namespaces and XDP need root; run\n  {}", host::as_root("demo"));
    }
    setup::ensure(&[Group::Build, Group::Lab], yes, "demo")?;
    let packages = ["--package", "mirror-user", "--package", "mirror-lab"];
    process::check(host::cargo().args(["build", "--release", "--locked"]).args(packages))?;
    let program = host::target_dir().join("release/mirror-lab");
    let status = process::run(Command::new(program).current_dir(host::workspace()).arg("demo").args(args))?;
    Ok(process::code(status))
}
