//! Starts the new process of an upgrade.
//!
//! In two steps, so that it is no child of the process that it follows, but of the service manager, which
//! notices its end: the monitor starts this executable once more, that one starts the installed executable,
//! and ends.

use std::{
    ffi::OsString,
    fs,
    io::{Read as _, Write as _},
    os::{fd::OwnedFd, unix::process::CommandExt as _},
    path::PathBuf,
    process::{Command, ExitCode, Stdio},
};

use anyhow::Context as _;
use clap::Args;
use mirror_user::escape;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::client::TAKE_OVER;
use crate::{channel, exit::FAILED, privileges};

/// Arguments of the process in between.
#[derive(Args, Debug)]
pub(crate) struct LaunchArgs {
    /// The executable
    executable: PathBuf,
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    run: Vec<OsString>,
}

/// Starts the executable, and ends. Writes its process id to standard output, or why there is none: standard
/// error is that of the new process, too.
pub(crate) fn launch(args: LaunchArgs) -> anyhow::Result<ExitCode> {
    let started = Command::new(&args.executable)
        .arg0("mirror")
        .arg(TAKE_OVER)
        .args(args.run)
        // It names the process that it was meant for.
        .env_remove("WATCHDOG_PID")
        .stdout(Stdio::null())
        .spawn();
    let mut stdout = std::io::stdout();
    match started {
        Ok(child) => write!(stdout, "{}", child.id())?,
        Err(error) => {
            write!(stdout, "{}: {error}", escape::path(&args.executable))?;
            return Ok(FAILED.into());
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What the monitor launches processes with.
pub(super) struct Launcher {
    /// The path at which this executable was, and its successor will be.
    executable: PathBuf,
    run: Vec<OsString>,
    /// The one that was launched last.
    launched: Option<OwnedFd>,
}

impl Launcher {
    pub(super) fn new(run: Vec<OsString>) -> anyhow::Result<Self> {
        let executable = fs::read_link("/proc/self/exe").context("/proc/self/exe")?;
        Ok(Self { executable, run, launched: None })
    }

    /// Launches a process with all privileges that the run was started with. Returns the connection to it,
    /// and its id.
    pub(super) fn launch(&mut self) -> anyhow::Result<(OwnedFd, u32)> {
        // One at a time, whatever the run asks for.
        self.kill()?;
        let (socket, other) = channel::pair().context("cannot connect to a new process")?;
        let pid = privileges::inherited(|| self.start(other))?;
        let id = i32::try_from(pid).ok().and_then(Pid::from_raw).context("no process id")?;
        // One that has ended already is found out at its connection.
        self.launched = pidfd_open(id, PidfdFlags::empty()).ok();
        Ok((socket, pid))
    }

    fn start(&self, socket: OwnedFd) -> anyhow::Result<u32> {
        const WHAT: &str = "cannot start a new process";
        let mut between = Command::new("/proc/self/exe")
            .arg0("mirror")
            .arg("launch")
            .arg(&self.executable)
            .args(&self.run)
            .stdin(socket)
            .stdout(Stdio::piped())
            .spawn()
            .context(WHAT)?;
        let mut said = String::new();
        // The process that stays has another standard output, and keeps no end of this pipe open.
        if let Some(mut stdout) = between.stdout.take() {
            stdout.read_to_string(&mut said).context(WHAT)?;
        }
        anyhow::ensure!(between.wait().context(WHAT)?.success(), "{WHAT}: {}", escape::line(&said));
        said.parse().context(WHAT)
    }

    /// Ends the process that was launched last, if it has not ended.
    pub(super) fn kill(&mut self) -> anyhow::Result<()> {
        let Some(launched) = self.launched.take() else { return Ok(()) };
        match pidfd_send_signal(&launched, Signal::KILL) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(error).context("cannot end the new process"),
        }
    }
}
