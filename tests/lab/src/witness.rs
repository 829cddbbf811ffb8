//! tcpdump as an independent witness of what crossed an interface.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    path::{Path, PathBuf},
    process::{Child, ChildStderr, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::{
    capture,
    command::{end, interrupt},
    error::{LabError, Result},
    namespace::Namespace,
};

/// Capture buffer of the witness, KiB: it must lose nothing.
const BUFFER_KIB: &str = "65536";
/// The file counts as complete when it has not grown for this long.
const QUIET: Duration = Duration::from_millis(200);
const PATIENCE: Duration = Duration::from_secs(10);

/// A tcpdump that writes to a file. Dropping it stops it.
#[derive(Debug)]
pub struct Witness {
    child: Child,
    stderr: BufReader<ChildStderr>,
    file: PathBuf,
}

/// What a witness saw.
#[derive(Clone, Debug)]
pub struct Testimony {
    /// Frames in the order they came, as on the interface.
    pub frames: Vec<Vec<u8>>,
    /// Its own "packets captured".
    pub captured: u64,
    /// Its own "packets dropped by kernel": with any, it is no witness.
    pub dropped: u64,
}

impl Witness {
    /// Starts tcpdump on an interface and returns once it listens. `filter` is an expression, or empty.
    ///
    /// Where the interface has offloads on, as a new TAP has, the ring has slots of 64 KiB and holds a
    /// thousand frames, else ten thousands: turn them off first
    /// ([`VethEnd::offloads`](crate::VethEnd::offloads)), or count on losses.
    ///
    /// # Errors
    ///
    /// [`LabError::Command`] with tcpdump's own words where it does not get to listen.
    pub fn start(namespace: &Namespace, interface: &str, file: &Path, filter: &str) -> Result<Self> {
        let mut command = namespace.command("tcpdump");
        // -Z root: otherwise it would drop the privilege to write into root's directories.
        command.args(["-i", interface, "-n", "-p", "-s", "0", "-U", "--immediate-mode", "-B", BUFFER_KIB]);
        command.args(["--time-stamp-precision=nano", "-Z", "root", "-w"]).arg(file);
        if !filter.is_empty() {
            command.arg(filter);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| LabError::io("tcpdump", error))?;
        let Some(stderr) = child.stderr.take() else {
            return Err(LabError::Unexpected("tcpdump has no standard error".to_owned()));
        };
        let mut witness = Self { child, stderr: BufReader::new(stderr), file: file.to_owned() };
        let mut said = String::new();
        loop {
            let start = said.len();
            let read = witness.stderr.read_line(&mut said).map_err(|error| LabError::io("tcpdump", error))?;
            if said.get(start..).is_some_and(|line| line.contains("listening on")) {
                return Ok(witness);
            }
            if read == 0 {
                let status = witness.child.wait().map_err(|error| LabError::io("tcpdump", error))?;
                return Err(LabError::Command {
                    command: crate::command::line(&command),
                    status: status.to_string(),
                    stderr: said.trim().to_owned(),
                });
            }
        }
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Where it writes.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Waits until no more frames arrive, stops it cleanly and returns what it captured.
    ///
    /// # Errors
    ///
    /// [`LabError::Unexpected`] if its closing lines or its file cannot be read, or disagree.
    pub fn stop(mut self) -> Result<Testimony> {
        settle(&self.file);
        interrupt(&self.child, "tcpdump")?;
        let mut said = String::new();
        self.stderr.read_to_string(&mut said).map_err(|error| LabError::io("tcpdump", error))?;
        self.child.wait().map_err(|error| LabError::io("tcpdump", error))?;
        let count = |what: &str| {
            let line = said.lines().find(|line| line.contains(what));
            let count = line.and_then(|line| line.split_ascii_whitespace().next()?.parse().ok());
            count.ok_or_else(|| {
                LabError::Unexpected(format!("no \"{what}\" in the output of tcpdump: {said}"))
            })
        };
        let captured = count("captured")?;
        let dropped = count("dropped by kernel")?;
        let frames = capture::read(&self.file)?.frames();
        if frames.len() as u64 != captured {
            return Err(LabError::Unexpected(format!(
                "tcpdump captured {captured} packets and its file holds {}",
                frames.len()
            )));
        }
        Ok(Testimony { frames, captured, dropped })
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

/// Waits until a growing file has stopped growing.
fn settle(file: &Path) {
    let deadline = Instant::now() + PATIENCE;
    let (mut size, mut since) = (capture::size(file), Instant::now());
    while since.elapsed() < QUIET && Instant::now() < deadline {
        thread::sleep(QUIET / 10);
        let now = capture::size(file);
        if now != size {
            (size, since) = (now, Instant::now());
        }
    }
}
