//! The command of -z: run for each completed file, at the lowest priority.

use std::{
    collections::HashSet,
    io,
    os::{fd::AsFd as _, unix::process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::Context as _;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, unbounded};

use mirror_user::escape;

use crate::terminal;

/// How many commands run at the same time; further files wait.
const AT_ONCE: usize = 4;
/// How long the end of a run waits for commands.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(60);
/// The lowest priority, setpriority(2).
const LOWEST: i32 = 19;

/// A command, and the file to run it for.
struct Job {
    command: PathBuf,
    file: PathBuf,
}

/// The threads that run commands, each one at a time.
pub(crate) struct Postrotate {
    /// `None` ends one thread.
    jobs: Sender<Option<Job>>,
    /// Disconnected when the last thread has ended; nothing is sent.
    ended: Receiver<()>,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    /// Files whose command waits or runs.
    open: Mutex<HashSet<PathBuf>>,
    failed: AtomicU64,
}

impl Counts {
    fn open(&self) -> MutexGuard<'_, HashSet<PathBuf>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Postrotate {
    /// Starts the threads. Each first calls `prepare`, whose restrictions its commands inherit.
    pub(crate) fn start(
        prepare: impl Fn() -> io::Result<()> + Clone + Send + 'static,
    ) -> anyhow::Result<Self> {
        const FAILED: &str = "cannot start a thread for the command of -z";
        let (jobs, queue) = unbounded();
        let (alive, ended) = unbounded();
        let (ready, is_ready) = unbounded();
        let counts = Arc::new(Counts::default());
        for _ in 0..AT_ONCE {
            let (queue, counts, alive): (Receiver<Option<Job>>, _, Sender<()>) =
                (queue.clone(), Arc::clone(&counts), alive.clone());
            let (ready, prepare) = (ready.clone(), prepare.clone());
            thread::Builder::new()
                .name("mirror-z".to_owned())
                .spawn(move || {
                    let _alive = alive;
                    // For this thread and its children only; last, because the start of the run waits until
                    // here.
                    let lower =
                        || rustix::process::setpriority_process(None, LOWEST).map_err(io::Error::from);
                    let prepared = prepare().and_then(|()| lower());
                    let failed = prepared.is_err();
                    if ready.send(prepared).is_err() || failed {
                        return;
                    }
                    for job in queue.iter().map_while(|job| job) {
                        if let Err(error) = job.run() {
                            counts.failed.fetch_add(1, Ordering::Relaxed);
                            let (command, operand) = (&job.command, job.operand());
                            tracing::error!(
                                "-z {} {}: {error:#}",
                                escape::path(command),
                                escape::path(&operand)
                            );
                        }
                        counts.open().remove(&job.file);
                    }
                })
                .context(FAILED)?;
            is_ready.recv().context(FAILED)?.context(FAILED)?;
        }
        Ok(Self { jobs, ended, counts })
    }

    /// Called with each completed file. Never blocks.
    pub(crate) fn hook(&self, command: &Path) -> impl FnMut(&Path) + Send + use<> {
        let (jobs, counts, command) = (self.jobs.clone(), Arc::clone(&self.counts), command.to_owned());
        move |file| {
            counts.open().insert(file.to_owned());
            // The threads end only after the last file.
            drop(jobs.send(Some(Job { command: command.clone(), file: file.to_owned() })));
        }
    }

    /// Whether the command of a file waits or runs.
    pub(crate) fn keeps(&self) -> impl Fn(&Path) -> bool + Send + use<> {
        let counts = Arc::clone(&self.counts);
        move |file| counts.open().contains(file)
    }

    /// Waits, for a limited time, until all commands have ended, and returns whether all succeeded.
    pub(crate) fn finish(&self) -> bool {
        for _ in 0..AT_ONCE {
            drop(self.jobs.send(None));
        }
        if self.ended.recv_timeout(COMMAND_TIMEOUT) == Err(RecvTimeoutError::Timeout) {
            terminal::say!(
                "mirror: -z: the commands of {} files have not ended after {} s; they are left running",
                self.counts.open().len(),
                COMMAND_TIMEOUT.as_secs()
            );
            return false;
        }
        self.counts.failed.load(Ordering::Relaxed) == 0
    }
}

impl Job {
    /// Runs the command to its end.
    fn run(&self) -> anyhow::Result<()> {
        let stderr = || io::stderr().as_fd().try_clone_to_owned();
        let mut child = Command::new(&self.command)
            .arg(self.operand())
            .stdin(Stdio::null())
            // Standard output is reserved for packets or the report.
            .stdout(stderr()?)
            // Ctrl-C ends the capture, but not the commands.
            .process_group(0)
            .spawn()
            .context("cannot be run")?;
        let status = child.wait().context("cannot wait for its end")?;
        anyhow::ensure!(status.success(), "{status}");
        Ok(())
    }

    /// The file as an operand: a name that begins with a dash would be an option.
    fn operand(&self) -> PathBuf {
        let Self { file, .. } = self;
        if file.as_os_str().as_encoded_bytes().starts_with(b"-") {
            Path::new(".").join(file)
        } else {
            file.clone()
        }
    }
}
