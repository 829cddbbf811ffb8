//! One `mirror ingest`: started, fed, ended.

use std::{
    fs::{self, File},
    num::NonZeroU32,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{
    card::{Raised, ip},
    file_stem,
    numbered::Sent,
    plan::{Cell, During},
};
use crate::{
    command::{end, ends_within, line},
    error::{LabError, Result},
    injector::Injector,
};

/// How long a run may take to attach or to end.
const PATIENCE: Duration = Duration::from_secs(60);
/// Time between two checks.
const PAUSE: Duration = Duration::from_millis(100);
/// All frames have arrived when the interface has counted none for this long.
const QUIET: Duration = Duration::from_millis(600);
/// How long a process is stopped: rings of 64 are full long before.
const STOPPED: Duration = Duration::from_millis(1_500);
/// How long a run receives frames before it is stopped.
const BEFORE_STOPPED: Duration = Duration::from_millis(500);

/// It may be asked too early.
const ASK_AGAIN: Duration = Duration::from_secs(2);

/// How a run ended, and its output.
#[derive(Debug)]
pub(super) struct Ending {
    pub(super) status: ExitStatus,
    /// All of standard error.
    pub(super) said: String,
    /// Where the report is, if it was written.
    pub(super) report: PathBuf,
    pub(super) capture: PathBuf,
    /// Where both are, and nothing else.
    pub(super) directory: PathBuf,
    /// Whether a program is still on the interface.
    pub(super) program_left: bool,
    /// What the two cards counted.
    pub(super) counted: Counted,
    /// What doctor said before, where it was asked.
    pub(super) doctor: Option<Doctor>,
}

/// Frames by the counters of both cards, which tell a loss of the sender's from one of the card under test.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Counted {
    /// Passed to the source's driver.
    pub(super) asked: u64,
    /// Sent, by the counters of the source's NIC.
    pub(super) sent: u64,
    /// Received, by the counters of the NIC under test.
    pub(super) received: u64,
}

impl Counted {
    /// Frames that never left the source: a failure of the lab.
    pub(super) fn unsent(&self) -> u64 {
        self.asked.saturating_sub(self.sent)
    }
}

/// `mirror doctor` on the card under test, with the rights of the run.
#[derive(Debug)]
pub(super) struct Doctor {
    /// Whether ingest can run.
    pub(super) yes: bool,
    pub(super) said: String,
}

/// Runs it. Its report and standard error stay among the papers, its capture does not.
pub(super) fn run(cell: &Cell, card: &Raised, frames: &Sent, papers: &Path) -> Result<Ending> {
    let stem = file_stem(&cell.name);
    let paper = |extension: &str| papers.join(format!("{stem}.{extension}"));
    // The capture is too large to be kept, and a user without rights could not write to the papers.
    let directory = std::env::temp_dir().join(&stem);
    // Left by nothing but a cell of the same name.
    let _not_there = fs::remove_dir_all(&directory);
    fs::create_dir(&directory).map_err(|error| LabError::file(&directory, error))?;
    open_to_all(&directory)?;
    let (capture, report) = (directory.join("out.pcapng"), directory.join("report.json"));
    let said_file = paper("err");
    let doctor = if cell.arguments.is_empty() { Some(doctor(cell, card, &paper("doctor"))?) } else { None };
    let mut command = command(cell, card, &capture, &report);
    let file = |path: &Path| File::create(path).map_err(|error| LabError::file(path, error));
    command.stdin(Stdio::null()).stdout(file(&paper("out"))?).stderr(file(&said_file)?);
    let mut child =
        command.spawn().map_err(|error| LabError::io(format!("cannot start `{}`", line(&command)), error))?;

    let fed = feed(cell, card, frames, &mut child, &said_file);
    // In any case nothing may continue into the next cell.
    if fed.is_err() {
        end(&mut child);
    }
    let counted = fed?;
    if !ends_within(&mut child, PATIENCE) {
        end(&mut child);
        return Err(LabError::Unexpected(format!("`{}` did not end within {PATIENCE:?}", line(&command))));
    }
    let status = child.wait().map_err(|error| LabError::io("waiting for mirror", error))?;
    if report.exists() {
        fs::copy(&report, paper("json")).map_err(|error| LabError::file(&report, error))?;
    }
    let said = fs::read(&said_file).map_err(|error| LabError::file(&said_file, error))?;
    // The kernel takes a link down shortly after its holder ended.
    let deadline = Instant::now() + PATIENCE / 10;
    while card.has_program() && Instant::now() < deadline {
        thread::sleep(PAUSE);
    }
    Ok(Ending {
        status,
        said: String::from_utf8_lossy(&said).into_owned(),
        report,
        capture,
        directory,
        program_left: card.has_program(),
        counted,
        doctor,
    })
}

/// `mirror` with the rights of this cell.
fn mirror(cell: &Cell) -> Command {
    let mut words: Vec<String> = Vec::new();
    if let Some(kib) = cell.memlock {
        // Both limits, as `ulimit -l` sets them.
        words.extend(["sh", "-c", "ulimit -l \"$0\" && exec \"$@\""].map(str::to_owned));
        words.push(kib.to_string());
    }
    if let Some(capabilities) = &cell.capabilities {
        words.extend(["mirror-lab", "with-capabilities", capabilities].map(str::to_owned));
    }
    words.push("mirror".into());
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]);
    command
}

fn doctor(cell: &Cell, card: &Raised, paper: &Path) -> Result<Doctor> {
    let mut command = mirror(cell);
    command.args(["doctor", "-i", &card.interface]).stdin(Stdio::null());
    let output = command.output().map_err(|error| LabError::io(line(&command), error))?;
    let said = [output.stdout, output.stderr].concat();
    fs::write(paper, &said).map_err(|error| LabError::file(paper, error))?;
    match output.status.code() {
        Some(code @ (0 | 1)) => {
            Ok(Doctor { yes: code == 0, said: String::from_utf8_lossy(&said).into_owned() })
        }
        _ => Err(LabError::Unexpected(format!("`{}` ended with {}", line(&command), output.status))),
    }
}

fn command(cell: &Cell, card: &Raised, capture: &Path, report: &Path) -> Command {
    let mut command = mirror(cell);
    command.args(["ingest", "-i", &card.interface, "-w"]).arg(capture).arg("--report").arg(report);
    command.args(&cell.arguments);
    command
}

/// From start to the signal that ends it, or to its own end.
fn feed(cell: &Cell, card: &Raised, frames: &Sent, child: &mut Child, said: &Path) -> Result<Counted> {
    let mut counted = Counted::default();
    if !listens(card, child, said)? {
        return Ok(counted);
    }
    thread::sleep(PAUSE * 3);
    card.wait_for_carrier()?;
    if cell.during == During::LinkDownUp {
        for state in ["down", "up"] {
            card.source_namespace.ip(&format!("link set dev {} {state}", card.source))?;
            thread::sleep(QUIET);
        }
        card.wait_for_carrier()?;
    }
    if let Some(pace) = NonZeroU32::new(frames.pace) {
        let injector = Injector::new(&card.source_namespace, &card.source)?.pace(pace);
        let injector = if card.is_wired { injector.direct()? } else { injector };
        let (sent_before, received_before) = (card.source_sent()?, card.rx_packets().unwrap_or_default());
        let mut window = Window::new(card);
        let paced = frames.outer.iter().zip(0_u64..).map(move |(frame, number)| {
            window.wait(number);
            frame.as_slice()
        });
        counted.asked = thread::scope(|scope| {
            let sending = scope.spawn(|| injector.send(paced));
            if cell.during == During::Stopped {
                thread::sleep(BEFORE_STOPPED);
                signal(child, Signal::SIGSTOP);
                thread::sleep(STOPPED);
                signal(child, Signal::SIGCONT);
            }
            sending.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })?;
        settle(card);
        counted.sent = card.source_sent()? - sent_before;
        counted.received = card.rx_packets().unwrap_or_default().saturating_sub(received_before);
    }
    match cell.during {
        During::Deleted => drop(ip(&format!("link delete dev {}", card.interface))?),
        During::Killed => signal(child, Signal::SIGKILL),
        During::Nothing | During::Stopped | During::LinkDownUp => signal(child, Signal::SIGINT),
    }
    Ok(counted)
}

/// Whether the program comes to be on the interface and every queue has its socket; else the run has ended by
/// itself.
fn listens(card: &Raised, child: &mut Child, said: &Path) -> Result<bool> {
    let deadline = Instant::now() + PATIENCE;
    let mut asked = None::<Instant>;
    loop {
        let running = child.try_wait().map_err(|error| LabError::io("waiting for mirror", error))?.is_none();
        if !running {
            return Ok(false);
        }
        // Before its program is attached it may not handle the signal yet, and would be killed.
        if card.has_program() {
            if fs::read_to_string(said).is_ok_and(|said| said.lines().any(answers_usr1)) {
                return Ok(true);
            }
            if asked.is_none_or(|asked| asked.elapsed() > ASK_AGAIN) {
                signal(child, Signal::SIGUSR1);
                asked = Some(Instant::now());
            }
        }
        if Instant::now() > deadline {
            return Err(LabError::Unexpected(format!("mirror did not run within {PATIENCE:?}")));
        }
        thread::sleep(PAUSE);
    }
}

/// `2.0 s: 0 frames, …`: what `mirror` answers USR1 with, once it runs. Before that frames pass to the host,
/// although the program is there.
fn answers_usr1(line: &str) -> bool {
    line.split_once(" s: ").is_some_and(|(_, figures)| figures.contains(" frames, "))
}

/// Frames on their way at most. A card's ring has 256 descriptors, and on a busy host its CPU may stand still
/// for longer than they last: at a fixed pace such a card loses frames that no test is about.
const WINDOW: u64 = 128;
/// How often the window is looked at, in frames.
const LOOK_EVERY: u64 = 32;
/// Frames that have not arrived within this time are lost.
const LOST_AFTER: Duration = Duration::from_millis(500);

/// Keeps the sender from running ahead of the NIC's counters.
struct Window<'a> {
    card: &'a Raised,
    /// The card's counter before the first frame.
    base: Option<u64>,
    /// What is lost, or not counted by this driver: not waited for again.
    written_off: u64,
}

impl<'a> Window<'a> {
    fn new(card: &'a Raised) -> Self {
        Self { card, base: card.rx_packets(), written_off: 0 }
    }

    /// Waits until so many frames sent leave room for more.
    fn wait(&mut self, sent: u64) {
        if !sent.is_multiple_of(LOOK_EVERY) {
            return;
        }
        let start = Instant::now();
        while let (Some(base), Some(now)) = (self.base, self.card.rx_packets()) {
            let outstanding = (base + sent).saturating_sub(now + self.written_off);
            if outstanding <= WINDOW {
                return;
            }
            if start.elapsed() > LOST_AFTER {
                self.written_off += outstanding;
                return;
            }
            thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Waits until the interface has counted nothing for a while.
fn settle(card: &Raised) {
    let deadline = Instant::now() + PATIENCE;
    let (mut last, mut since) = (None, Instant::now());
    while since.elapsed() < QUIET && Instant::now() < deadline {
        let now = card.rx_packets();
        if now != last {
            (last, since) = (now, Instant::now());
        }
        thread::sleep(PAUSE);
    }
}

fn signal(child: &Child, signal: Signal) {
    // One that ended by itself is judged by its exit code.
    let _ended_already = kill(Pid::from_raw(child.id().cast_signed()), signal);
}

fn open_to_all(directory: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(directory, fs::Permissions::from_mode(0o777))
        .map_err(|error| LabError::file(directory, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_to_usr1_is_distinguished_from_the_lines_of_the_start() {
        assert!(answers_usr1("2.0 s: 0 frames, 0 pps, 0 bit/s, 0 dropped by kernel"));
        assert!(!answers_usr1("memory: 9 MiB for frames, up to 22 MiB for sinks"));
    }
}
