//! A running tool: on its CPU, in the receiving namespace, ended and waited for in all cases.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, SysconfVar, sysconf},
};

/// How long a tool may take to start and to end.
const PATIENCE: Duration = Duration::from_secs(20);
const GLANCE: Duration = Duration::from_millis(10);

/// A running tool. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    output: PathBuf,
}

impl Process {
    /// Starts it, with standard output and error in a file in `directory`.
    pub(crate) fn start(mut command: Command, directory: &Path) -> Result<Self> {
        let output = directory.join("output");
        let file = File::create(&output).with_context(|| output.display().to_string())?;
        command.stdin(Stdio::null()).stderr(file.try_clone()?).stdout(file);
        let child = command.spawn().context("cannot be started")?;
        Ok(Self { child, output })
    }

    /// Waits until `ready` accepts the output so far.
    pub(crate) fn wait_until(&mut self, ready: impl Fn(&str) -> Result<bool>) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while !ready(&self.said()?)? {
            self.is_alive()?;
            if Instant::now() > deadline {
                bail!("not ready within {PATIENCE:?}: {}", last_line(&self.said()?));
            }
            thread::sleep(GLANCE);
        }
        Ok(())
    }

    /// Fails with its last line if it has ended.
    pub(crate) fn is_alive(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("it ended with {status}: {}", last_line(&self.said()?));
        }
        Ok(())
    }

    /// CPU time of all its threads so far, user and system.
    pub(crate) fn cpu_time(&self) -> Result<Duration> {
        let path = format!("/proc/{}/stat", self.child.id());
        let stat = fs::read_to_string(&path).with_context(|| path.clone())?;
        let ticks = ticks_in_stat(&stat).with_context(|| format!("{path}: {stat}"))?;
        let per_second = sysconf(SysconfVar::CLK_TCK)?.context("no clock ticks")?.cast_unsigned();
        Ok(Duration::from_secs(ticks) / u32::try_from(per_second)?)
    }

    /// Sends SIGINT, waits, and returns its output.
    pub(crate) fn end(mut self) -> Result<String> {
        self.is_alive()?;
        kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGINT)?;
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait()? {
                break status;
            }
            if Instant::now() > deadline {
                bail!("did not end within {PATIENCE:?}");
            }
            thread::sleep(GLANCE);
        };
        let said = self.said()?;
        if !status.success() {
            bail!("it ended with {status}: {}", last_line(&said));
        }
        Ok(said)
    }

    fn said(&self) -> Result<String> {
        let said = fs::read(&self.output).with_context(|| self.output.display().to_string())?;
        Ok(String::from_utf8_lossy(&said).into_owned())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Once it has been waited for, its PID may be reused: check before sending a signal.
        if !matches!(self.child.try_wait(), Ok(Some(_))) {
            // It may end by itself in between.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// The last line of any words: mostly the error of a tool that ended.
pub(crate) fn last_line(said: &str) -> &str {
    said.lines().rev().map(str::trim).find(|line| !line.is_empty()).unwrap_or("nothing")
}

/// utime and stime of proc_pid_stat(5), fields 14 and 15; the second is a name in parentheses that may hold
/// anything.
fn ticks_in_stat(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> (Process, tempfile::TempDir) {
        let directory = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        (Process::start(command, directory.path()).unwrap(), directory)
    }

    #[test]
    fn cpu_time_is_user_and_system_whatever_the_name() {
        let stat = "42 (a) b) S 1 42 42 0 -1 4194304 100 0 0 0 7 5 0 0 20 0 1 0 100 0 0";
        assert_eq!(ticks_in_stat(stat), Some(12));
    }

    #[test]
    fn its_output_up_to_its_end_is_returned() {
        let (mut process, _directory) =
            shell("trap 'echo bye; exit 0' INT; echo ready >&2; while :; do sleep 0.01; done");
        process.wait_until(|said| Ok(said.contains("ready"))).unwrap();
        assert_eq!(process.end().unwrap(), "ready\nbye\n");
    }

    #[test]
    fn a_tool_that_ends_early_is_reported_with_its_last_line() {
        let (mut process, _directory) = shell("echo no such device; exit 3");
        let error = process.wait_until(|_| Ok(false)).unwrap_err().to_string();
        assert!(error.contains('3') && error.contains("no such device"), "{error}");
    }
}
