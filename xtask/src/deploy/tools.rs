//! Where the outside tools of `cargo xtask deploy` are installed, and how they are run.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::pins::PythonTools;
use crate::{host, process};

/// The folder of everything that is installed.
pub(crate) fn folder() -> PathBuf {
    host::target_dir().join("deploy")
}

/// A program of a virtual environment.
pub(crate) fn program(tools: &PythonTools, name: &str) -> PathBuf {
    folder().join(tools.environment).join("bin").join(name)
}

/// Whether all packages are there, in their versions.
pub(crate) fn installed(tools: &PythonTools) -> bool {
    let record = folder().join(tools.environment).join("installed");
    std::fs::read_to_string(record).is_ok_and(|text| text.trim_end() == tools.packages.join(" "))
}

/// Where Debian's cloud-init was unpacked, without its services.
pub(crate) fn cloud_init() -> PathBuf {
    folder().join("cloud-init")
}

/// Runs `command` silently, and fails with what it said unless it succeeds.
///
/// # Errors
/// If it cannot be started, or fails.
pub(super) fn quietly(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start `{}`", process::display(command)))?;
    let said = |bytes| String::from_utf8_lossy(bytes).into_owned();
    if !output.status.success() {
        let name = command.get_program().to_string_lossy();
        let name = name.rsplit('/').next().unwrap_or_default();
        bail!("{name}: {}\n{}{}", output.status, said(&output.stdout), said(&output.stderr));
    }
    Ok(said(&output.stdout))
}
