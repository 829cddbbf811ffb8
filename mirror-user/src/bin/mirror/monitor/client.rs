//! The run's side: starts the monitor, and asks it.

use std::{
    env,
    ffi::OsString,
    io,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::process::CommandExt as _,
    },
    process::{Child, Command, Stdio},
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use mirror_user::sink::forward::{OpenError, Target, TargetParts};
use rustix::net::{
    Shutdown, shutdown,
    sockopt::{Timeout, set_socket_timeout},
};

use super::protocol::{Answer, Request};
use crate::channel::{self, parse, receive, send};

/// How long an answer may take: a veth pair that ends may take 3 s.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long its end is waited for when the run ends.
const END: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(10);

/// The command of a process that is started for an upgrade.
pub(super) const TAKE_OVER: &str = "take-over";

/// The monitor of this run.
#[derive(Debug)]
pub(crate) struct Monitor {
    line: Mutex<Line>,
    child: Child,
}

#[derive(Debug)]
struct Line {
    socket: OwnedFd,
    /// An answer has not come in time: when it does, it would pass for the next one.
    is_late: bool,
}

impl Monitor {
    /// Starts it, with the arguments of the run. Must be called before privileges are dropped, and while
    /// this process has one thread.
    ///
    /// # Errors
    ///
    /// It does not start.
    pub(crate) fn start() -> anyhow::Result<Self> {
        const FAILED: &str = "cannot start the monitor; see --no-monitor";
        let (socket, other) = channel::pair().context(FAILED)?;
        set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE)).context(FAILED)?;
        let child = Command::new("/proc/self/exe")
            .arg0("mirror")
            .arg("monitor")
            .args(of_the_run(env::args_os()))
            .stdin(other)
            .stdout(Stdio::null())
            // A terminal's Ctrl-C is for the run.
            .process_group(0)
            .spawn()
            .context(FAILED)?;
        let mut monitor = Self { line: Mutex::new(Line { socket, is_late: false }), child };
        match monitor.line().receive().context(FAILED)? {
            (Answer::Ready, _) => Ok(monitor),
            _ => anyhow::bail!(FAILED),
        }
    }

    /// The text of the configuration file, which the monitor has validated.
    pub(crate) fn configuration(&self) -> anyhow::Result<String> {
        match self.ask(&Request::Configuration)? {
            (Answer::Configuration { text }, _) => Ok(text),
            answer => Err(refused(answer)),
        }
    }

    /// Opens a target of the configuration that was read last.
    pub(crate) fn open(&self, target: &Target, max_frame: usize) -> Result<TargetParts, OpenError> {
        let open = || match self.ask(&Request::Open { target: target.to_string(), max_frame })? {
            (Answer::Opened { interface }, mut descriptors) => {
                let lifeline = descriptors.pop().context("a message without descriptors")?;
                Ok(TargetParts { interface, descriptors, lifeline })
            }
            answer => Err(refused(answer)),
        };
        open().map_err(|error| OpenError::Refused { reason: format!("{error:#}") })
    }

    /// Starts a new process of the installed executable for this run. Returns the connection to it, and its
    /// id.
    pub(crate) fn launch(&self) -> anyhow::Result<(OwnedFd, u32)> {
        match self.ask(&Request::Launch)? {
            (Answer::Launched { pid }, mut descriptors) => {
                Ok((descriptors.pop().context("a message without descriptors")?, pid))
            }
            answer => Err(refused(answer)),
        }
    }

    /// Ends the process that was launched last, if it has not ended.
    pub(crate) fn kill(&self) -> anyhow::Result<()> {
        match self.ask(&Request::Kill)? {
            (Answer::Killed, _) => Ok(()),
            answer => Err(refused(answer)),
        }
    }

    fn ask(&self, request: &Request) -> anyhow::Result<(Answer, Vec<OwnedFd>)> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner).ask(request)
    }

    fn line(&mut self) -> &mut Line {
        self.line.get_mut().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Line {
    fn ask(&mut self, request: &Request) -> anyhow::Result<(Answer, Vec<OwnedFd>)> {
        if self.is_late {
            return Err(ended(&io::ErrorKind::WouldBlock.into()));
        }
        send(self.socket.as_fd(), request, &[]).map_err(|error| ended(&error))?;
        self.receive()
    }

    fn receive(&mut self) -> anyhow::Result<(Answer, Vec<OwnedFd>)> {
        let received = receive(self.socket.as_fd()).map_err(|error| {
            self.is_late = error.kind() == io::ErrorKind::WouldBlock;
            ended(&error)
        })?;
        let (bytes, fds) = received.ok_or_else(|| ended(&io::ErrorKind::BrokenPipe.into()))?;
        Ok((parse(&bytes).context("an answer of the monitor")?, fds))
    }
}

/// The monitor ends with the run's end of the socket.
impl Drop for Monitor {
    fn drop(&mut self) {
        // If it has ended already, there is nobody to tell.
        let _ = shutdown(&self.line().socket, Shutdown::Both);
        let deadline = Instant::now() + END;
        // One that is stopped, for a debugger for example, must not keep the run.
        while matches!(self.child.try_wait(), Ok(None)) {
            if Instant::now() > deadline {
                tracing::warn!("the monitor, process {}, has not ended", self.child.id());
                return;
            }
            thread::sleep(POLL);
        }
    }
}

/// The arguments of a run among those of a process: one that was started for an upgrade has a word before
/// them.
pub(super) fn of_the_run(words: impl Iterator<Item = OsString>) -> impl Iterator<Item = OsString> {
    let mut words = words.skip(1).peekable();
    words.next_if(|first| first == TAKE_OVER);
    words
}

fn refused(answer: (Answer, Vec<OwnedFd>)) -> anyhow::Error {
    match answer.0 {
        Answer::Refused { message } => anyhow::anyhow!(message),
        _ => anyhow::anyhow!("the monitor answered another request"),
    }
}

fn ended(error: &io::Error) -> anyhow::Error {
    match error.kind() {
        io::ErrorKind::WouldBlock => anyhow::anyhow!("the monitor does not answer: restart the run"),
        _ => anyhow::anyhow!("the monitor has ended ({error}): restart the run"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_was_started_for_an_upgrade_has_the_arguments_of_its_run() {
        let of = |words: &[&str]| of_the_run(words.iter().map(OsString::from)).collect::<Vec<_>>();
        let expected = ["ingest", "-i", "take-over"].map(OsString::from);
        assert_eq!(of(&["mirror", "ingest", "-i", "take-over"]), expected);
        assert_eq!(of(&["mirror", "take-over", "ingest", "-i", "take-over"]), expected);
    }
}
