//! Commands of the host, with their whole story when they fail.

use std::process::{Command, Output, Stdio};

use crate::error::{LabError, Result};

/// Runs a command to its end and gives its standard output.
///
/// # Errors
///
/// [`LabError::Io`] where it cannot be started, [`LabError::Command`] where it ends with something else than 0.
pub fn run(command: &mut Command) -> Result<String> {
    let Output { status, stdout, stderr } = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| LabError::io(format!("cannot start `{}`", line(command)), error))?;
    if !status.success() {
        return Err(LabError::Command {
            command: line(command),
            status: status.to_string(),
            stderr: String::from_utf8_lossy(&stderr).trim().to_owned(),
        });
    }
    Ok(String::from_utf8_lossy(&stdout).into_owned())
}

/// The command line as one would type it.
pub(crate) fn line(command: &Command) -> String {
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}

/// Splits words at blanks: arguments of `ip` and `tc` hold none.
pub(crate) fn words(arguments: &str) -> impl Iterator<Item = &str> {
    arguments.split_ascii_whitespace()
}
