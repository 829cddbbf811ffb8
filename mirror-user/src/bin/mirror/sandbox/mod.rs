//! `--sandbox`: restricts threads and commands once a run has started, whatever their user may do.
//!
//! Each thread confines itself at its start, besides dropping its capabilities ([`crate::hooks::Threads`]):
//! with Landlock (`writes`) where it may write and connect, with a filter of seccomp(2) (`calls`) which
//! system calls it may make. The main thread does so when the run has started, because it opens interfaces
//! and outputs.
//!
//! It belongs to this command and not to the library, because an embedder's own sinks may need anything.

mod announce;
mod calls;
#[expect(unsafe_code, reason = "system calls without a safe wrapper")]
mod refused;
mod writes;

use std::{
    fs::DirBuilder,
    io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use anyhow::Context as _;
use landlock::RulesetCreated;
use mirror_user::hidden_file;
use mirror_user::host::run_state::DIRECTORY as RUN_STATE;
use nix::unistd::geteuid;
use seccompiler::BpfProgram;

pub(crate) use mirror_user::settings::Sandbox as SandboxArg;

use self::{
    announce::announce,
    refused::Supervisor,
    writes::{Support, Writes},
};

/// Kinds of threads, by what they do.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) enum ThreadKind {
    /// Starts and ends a run, or handles signals; reads no packet.
    Main,
    /// Answers denied system calls of other threads.
    Supervisor,
    /// Answers requests over the control socket.
    Control,
    /// Of the engine: workers, and those that watch links and the kernel's log.
    Worker,
    /// Reads capture files, and runs the pipeline.
    Reader,
    /// Writes a capture.
    Writer,
    Printer,
    Forwarder,
    /// Of `mirror source`: reads copies of packets, and sends them.
    Agent,
    /// Answers HTTP requests on sockets that it accepts.
    Http,
    /// Starts commands, which inherit its restrictions.
    Command,
}

impl ThreadKind {
    const ALL: [Self; 11] = [
        Self::Main,
        Self::Supervisor,
        Self::Control,
        Self::Worker,
        Self::Reader,
        Self::Writer,
        Self::Printer,
        Self::Forwarder,
        Self::Agent,
        Self::Http,
        Self::Command,
    ];

    /// Its name in the log.
    fn name(self) -> &'static str {
        match self {
            Self::Main => "the main thread",
            Self::Supervisor => "the sandbox thread",
            Self::Control => "the control thread",
            Self::Worker => "a worker",
            Self::Reader => "the file reader",
            Self::Writer => "a capture writer",
            Self::Printer => "the printer",
            Self::Forwarder => "a forwarder",
            Self::Agent => "the agent's thread",
            Self::Http => "the HTTP server",
            Self::Command => "commands of -z",
        }
    }
}

/// What a run writes, and where.
#[derive(Debug, Default)]
pub(crate) struct Places {
    /// Captures.
    pub(crate) outputs: Vec<PathBuf>,
    pub(crate) report: Option<PathBuf>,
    /// Directories in which captures and sockets may be created later.
    pub(crate) writable: Vec<PathBuf>,
    /// Unix sockets that readers connect to; they are removed at the end.
    pub(crate) sockets: Vec<PathBuf>,
    /// TCP ports of targets.
    pub(crate) connect: Vec<u16>,
    /// Interfaces whose settings are restored at the end.
    pub(crate) restored: Vec<String>,
    /// Whether commands are run, which directories they may write beneath besides those of captures, and
    /// which TCP ports they may connect to.
    pub(crate) commands: bool,
    pub(crate) command_write: Vec<PathBuf>,
    pub(crate) command_connect: Vec<u16>,
}

/// The restrictions of all kinds, prepared at the start, while all directories can be opened.
pub(crate) struct Sandbox {
    wanted: SandboxArg,
    /// For each kind.
    confines: Vec<Confine>,
    supervisor: OnceLock<Supervisor>,
}

struct Confine {
    kind: ThreadKind,
    writes: Option<RulesetCreated>,
    calls: Option<BpfProgram>,
}

impl Sandbox {
    /// Prepares all kinds, and logs what the kernel does not cover.
    ///
    /// # Errors
    ///
    /// With [`SandboxArg::Require`]: the kernel does not cover all of it.
    pub(crate) fn prepare(wanted: SandboxArg, places: &Places) -> anyhow::Result<Arc<Self>> {
        let confines = if wanted == SandboxArg::Off { Vec::new() } else { confines(wanted, places)? };
        Ok(Arc::new(Self { wanted, confines, supervisor: OnceLock::new() }))
    }

    /// Starts the thread that answers denied calls, which first calls `prepare`. Must be called once, before
    /// any thread is confined.
    ///
    /// # Errors
    ///
    /// With [`SandboxArg::Require`]: the thread cannot be started. With [`SandboxArg::Auto`] that is logged.
    pub(crate) fn supervise(
        &self,
        prepare: impl FnOnce() -> io::Result<()> + Send + 'static,
    ) -> anyhow::Result<()> {
        if self.confines.iter().all(|confine| confine.calls.is_none()) {
            return Ok(());
        }
        let log = |kind: ThreadKind, call: &str| {
            tracing::warn!("sandbox: system call {call} denied to {}", kind.name());
        };
        match Supervisor::start(prepare, log) {
            Ok(supervisor) => drop(self.supervisor.set(supervisor)),
            Err(error) if self.wanted == SandboxArg::Auto => {
                tracing::warn!("sandbox: no seccomp: cannot start its thread: {error}");
            }
            Err(error) => return Err(error).context("--sandbox require: cannot start the thread of seccomp"),
        }
        Ok(())
    }

    /// Confines the calling thread for good. Its `no_new_privs` must be set.
    ///
    /// # Errors
    ///
    /// With [`SandboxArg::Require`]: the kernel's error. With [`SandboxArg::Auto`] that is logged.
    pub(crate) fn confine(&self, kind: ThreadKind) -> io::Result<()> {
        let Some(confine) = self.confines.iter().find(|confine| confine.kind == kind) else { return Ok(()) };
        let writes = confine.writes.as_ref().map_or(Ok(()), writes::restrict);
        // Last, because the filter does not allow the calls that confine.
        let supervised = confine.calls.as_ref().zip(self.supervisor.get());
        let calls = supervised.map_or(Ok(()), |(program, supervisor)| supervisor.filter(kind, program));
        for (what, result) in [("Landlock", writes), ("seccomp", calls)] {
            match result {
                Err(error) if self.wanted == SandboxArg::Auto => {
                    tracing::warn!("sandbox: {what} does not confine {}: {error}", kind.name());
                }
                result => result.map_err(|error| {
                    io::Error::new(error.kind(), format!("{what} does not confine {}: {error}", kind.name()))
                })?,
            }
        }
        Ok(())
    }
}

fn confines(wanted: SandboxArg, places: &Places) -> anyhow::Result<Vec<Confine>> {
    let support = Support::of_this_kernel();
    let filters = ThreadKind::ALL.map(|kind| {
        refused::available().context("not on this kernel")?;
        calls::filter(kind).context("not for this machine")
    });
    let unfiltered =
        filters.iter().find_map(|filter| filter.as_ref().err().map(|error| format!("{error:#}")));
    announce(wanted, support, unfiltered.as_deref(), places)?;
    let mut confines = Vec::new();
    for (kind, calls) in ThreadKind::ALL.into_iter().zip(filters) {
        let writes = match (support, writes_of(kind, places).ruleset()) {
            (Support::Missing | Support::Disabled, _) => None,
            (Support::Abi(_), Ok(ruleset)) => Some(ruleset),
            (Support::Abi(_), Err(error)) if wanted == SandboxArg::Auto => {
                tracing::warn!("sandbox: Landlock does not confine {}: {error}", kind.name());
                None
            }
            (Support::Abi(_), Err(error)) => return Err(error).context("--sandbox require: Landlock"),
        };
        confines.push(Confine { kind, writes, calls: calls.ok().flatten() });
    }
    Ok(confines)
}

/// Where a kind may write, and which ports it may connect to.
fn writes_of(kind: ThreadKind, places: &Places) -> Writes {
    let mut writes = Writes::default();
    let outputs = |writes: &mut Writes| {
        places.outputs.iter().for_each(|path| writes.add_output(path));
        writes.beneath.extend_from_slice(&places.writable);
    };
    let sockets = || {
        let directories = places.sockets.iter().map(|path| hidden_file::directory_of(path).to_owned());
        directories.chain(places.writable.iter().cloned())
    };
    match kind {
        ThreadKind::Main => {
            outputs(&mut writes);
            places.report.iter().for_each(|path| writes.add_output(path));
            writes.beneath.extend(sockets());
            // For the threads of outputs that a reload opens, which are confined further.
            writes.connect.clone_from(&places.connect);
            writes.beneath.extend(run_state(places));
            writes.files.extend(places.restored.iter().flat_map(|name| settings_of(name)));
        }
        ThreadKind::Supervisor
        | ThreadKind::Control
        | ThreadKind::Worker
        | ThreadKind::Reader
        | ThreadKind::Printer
        | ThreadKind::Agent
        | ThreadKind::Http => {}
        ThreadKind::Writer => outputs(&mut writes),
        ThreadKind::Forwarder => {
            writes.connect.clone_from(&places.connect);
            writes.beneath.extend(sockets());
        }
        ThreadKind::Command => {
            outputs(&mut writes);
            writes.beneath.extend_from_slice(&places.command_write);
            // Shells open them.
            writes.files.extend(["/dev/null", "/dev/stderr"].map(PathBuf::from));
            writes.connect.clone_from(&places.command_connect);
            // For `kill -HUP` to a program that reads a completed file.
            writes.signals = true;
        }
    }
    writes
}

/// The directory of run state, created if it will be needed: a rule needs an existing path.
fn run_state(places: &Places) -> Option<PathBuf> {
    let directory = Path::new(RUN_STATE);
    if !places.restored.is_empty() && geteuid().is_root() {
        match DirBuilder::new().mode(0o755).create(directory) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                tracing::debug!("{RUN_STATE}: {error}");
            }
            _ => {}
        }
    }
    directory.is_dir().then(|| directory.to_owned())
}

/// The settings that busy polling changes.
fn settings_of(interface: &str) -> [PathBuf; 2] {
    ["napi_defer_hard_irqs", "gro_flush_timeout"]
        .map(|file| format!("/sys/class/net/{interface}/{file}").into())
}

#[cfg(test)]
mod tests;
