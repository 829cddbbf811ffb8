//! Commands of the host, whose errors have the command line, the exit status and standard error.

use std::{
    net::{SocketAddr, TcpStream},
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{
    error::{LabError, Result},
    namespace::Namespace,
};

/// Time between two checks of a child.
const PAUSE: Duration = Duration::from_millis(10);
/// How long a program may take until it listens.
const PATIENCE: Duration = Duration::from_secs(20);

/// Runs a command to its end and returns its standard output.
///
/// # Errors
///
/// [`LabError::Io`] if it cannot be started, [`LabError::Command`] if it ends with something else than
/// 0.
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

/// Sends SIGINT to a child of ours.
pub(crate) fn interrupt(child: &Child, program: &str) -> Result<()> {
    let pid = i32::try_from(child.id())
        .map_err(|_| LabError::Unexpected(format!("no process id: {}", child.id())))?;
    kill(Pid::from_raw(pid), Signal::SIGINT).map_err(|error| LabError::io(format!("{program} {pid}"), error))
}

/// Waits for a child of ours to end, and says whether it has.
pub(crate) fn ends_within(child: &mut Child, patience: Duration) -> bool {
    let deadline = Instant::now() + patience;
    loop {
        // If it cannot be waited for, it already was.
        if !matches!(child.try_wait(), Ok(None)) {
            return true;
        }
        if Instant::now() > deadline {
            return false;
        }
        thread::sleep(PAUSE);
    }
}

/// Kills a child of ours if it has not ended yet.
pub(crate) fn end(child: &mut Child) {
    // Once waited for, its PID may be reused: check before sending a signal.
    if !matches!(child.try_wait(), Ok(Some(_))) {
        // It may end by itself in between.
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// Waits until a child of ours accepts connections at an address of a namespace.
pub(crate) fn wait_for_listener(
    namespace: &Namespace,
    address: SocketAddr,
    child: &mut Child,
    command: &Command,
) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        // From the same namespace: no interface but its loopback sees it.
        let Err(error) = namespace.enter(|| TcpStream::connect(address))? else { return Ok(()) };
        if let Some(status) = child.try_wait().map_err(|error| LabError::io(line(command), error))? {
            return Err(LabError::Unexpected(format!("`{}` ended: {status}", line(command))));
        }
        if Instant::now() > deadline {
            let late = format!("`{}` is not at {address} within {PATIENCE:?}: {error}", line(command));
            return Err(LabError::Unexpected(late));
        }
        thread::sleep(PAUSE);
    }
}

/// Splits words at blanks: arguments of `ip` and `tc` hold none.
pub(crate) fn words(arguments: &str) -> impl Iterator<Item = &str> {
    arguments.split_ascii_whitespace()
}
