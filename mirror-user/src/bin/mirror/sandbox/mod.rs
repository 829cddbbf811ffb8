//! `--sandbox`: what threads and commands may still do once a run has begun, whatever their user may.
//!
//! Each thread confines itself at its start, beside giving up its capabilities ([`crate::hooks::Threads`]):
//! Landlock (`writes`) for what it may write and connect to, a filter of seccomp(2) (`calls`) for which
//! system calls it may make. The main thread does when the run has begun, for it opens what is written to,
//! and interfaces.
//!
//! It is of this command and not of the library: an embedder's own sinks may do what they like.

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
pub(crate) enum Kind {
    /// Opens and ends a run, or hears signals; reads no packet.
    Main,
    /// Answers for calls that are refused to others.
    Supervisor,
    /// The engine's: workers, and those that watch links and the kernel's log.
    Worker,
    /// Reads capture files, and runs the pipeline over them.
    Reader,
    /// Writes a capture.
    Writer,
    Printer,
    Forwarder,
    /// Starts commands, which inherit what it may.
    Command,
}

impl Kind {
    const ALL: [Self; 8] = [
        Self::Main,
        Self::Supervisor,
        Self::Worker,
        Self::Reader,
        Self::Writer,
        Self::Printer,
        Self::Forwarder,
        Self::Command,
    ];

    /// In the log.
    fn name(self) -> &'static str {
        match self {
            Self::Main => "the main thread",
            Self::Supervisor => "the sandbox thread",
            Self::Worker => "a worker",
            Self::Reader => "the file reader",
            Self::Writer => "a capture writer",
            Self::Printer => "the printer",
            Self::Forwarder => "a forwarder",
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
    /// Unix sockets that readers connect to, and whose names go at the end.
    pub(crate) sockets: Vec<PathBuf>,
    /// TCP ports that are forwarded to.
    pub(crate) connect: Vec<u16>,
    /// Interfaces whose settings are put back at the end.
    pub(crate) restored: Vec<String>,
    /// Whether commands are run, the directories that they may write beneath beside those of captures, and
    /// the TCP ports that they may connect to.
    pub(crate) commands: bool,
    pub(crate) command_write: Vec<PathBuf>,
    pub(crate) command_connect: Vec<u16>,
}

/// What there is to confine threads by: made at the start, while all directories can be opened.
pub(crate) struct Sandbox {
    wanted: SandboxArg,
    /// For each kind.
    confines: Vec<Confine>,
    supervisor: OnceLock<Supervisor>,
}

struct Confine {
    kind: Kind,
    writes: Option<RulesetCreated>,
    calls: Option<BpfProgram>,
}

impl Sandbox {
    /// Prepares all kinds, and logs what the kernel does not cover.
    ///
    /// # Errors
    ///
    /// With [`SandboxArg::Require`]: the kernel does not cover what is promised.
    pub(crate) fn prepare(wanted: SandboxArg, places: &Places) -> anyhow::Result<Arc<Self>> {
        let confines = if wanted == SandboxArg::Off { Vec::new() } else { confines(wanted, places)? };
        Ok(Arc::new(Self { wanted, confines, supervisor: OnceLock::new() }))
    }

    /// Starts what answers for refused calls, on a thread that first does what `prepare` says. To be called
    /// once, before any thread is confined.
    ///
    /// # Errors
    ///
    /// With [`SandboxArg::Require`]: what the system said. With [`SandboxArg::Auto`] that is logged.
    pub(crate) fn supervise(
        &self,
        prepare: impl FnOnce() -> io::Result<()> + Send + 'static,
    ) -> anyhow::Result<()> {
        if self.confines.iter().all(|confine| confine.calls.is_none()) {
            return Ok(());
        }
        let tell = |kind: Kind, call: &str| {
            tracing::warn!("sandbox: system call {call} denied to {}", kind.name());
        };
        match Supervisor::start(prepare, tell) {
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
    /// With [`SandboxArg::Require`]: what the kernel said. With [`SandboxArg::Auto`] that is logged.
    pub(crate) fn confine(&self, kind: Kind) -> io::Result<()> {
        let Some(confine) = self.confines.iter().find(|confine| confine.kind == kind) else { return Ok(()) };
        let writes = confine.writes.as_ref().map_or(Ok(()), writes::restrict);
        // Last, for the calls that confine are not among those allowed.
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
    let filters = Kind::ALL.map(|kind| {
        refused::available().context("not on this kernel")?;
        calls::filter(kind).context("not for this machine")
    });
    let unfiltered =
        filters.iter().find_map(|filter| filter.as_ref().err().map(|error| format!("{error:#}")));
    announce(wanted, support, unfiltered.as_deref(), places)?;
    let mut confines = Vec::new();
    for (kind, calls) in Kind::ALL.into_iter().zip(filters) {
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

/// What a kind may write, and whereto it may connect.
fn writes_of(kind: Kind, places: &Places) -> Writes {
    let mut writes = Writes::default();
    let outputs = |writes: &mut Writes| places.outputs.iter().for_each(|path| writes.add_output(path));
    let sockets = || places.sockets.iter().map(|path| hidden_file::directory_of(path).to_owned());
    match kind {
        Kind::Main => {
            outputs(&mut writes);
            places.report.iter().for_each(|path| writes.add_output(path));
            writes.beneath.extend(sockets());
            writes.beneath.extend(run_state(places));
            writes.files.extend(places.restored.iter().flat_map(|name| settings_of(name)));
        }
        Kind::Supervisor | Kind::Worker | Kind::Reader | Kind::Printer => {}
        Kind::Writer => outputs(&mut writes),
        Kind::Forwarder => {
            writes.connect.clone_from(&places.connect);
            writes.beneath.extend(sockets());
        }
        Kind::Command => {
            outputs(&mut writes);
            writes.beneath.extend_from_slice(&places.command_write);
            // What runs in a shell opens them. The one keeps nothing, the other it has already.
            writes.files.extend(["/dev/null", "/dev/stderr"].map(PathBuf::from));
            writes.connect.clone_from(&places.command_connect);
            // As `kill -HUP` of what is to read a file.
            writes.signals = true;
        }
    }
    writes
}

/// The directory of run state, made where it will be needed: a rule is about what is there.
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

/// What busy polling changes of an interface.
fn settings_of(interface: &str) -> [PathBuf; 2] {
    ["napi_defer_hard_irqs", "gro_flush_timeout"]
        .map(|file| format!("/sys/class/net/{interface}/{file}").into())
}

#[cfg(test)]
mod tests;
