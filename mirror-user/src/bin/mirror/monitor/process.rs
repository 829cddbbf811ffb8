//! The monitor's side: answers requests until the run ends.

use std::{
    ffi::OsString,
    fs, io, iter,
    os::fd::{AsFd as _, OwnedFd},
    process::ExitCode,
    sync::{Arc, atomic::AtomicBool},
};

use anyhow::Context as _;
use clap::{Args, FromArgMatches as _};
use mirror_user::{
    escape,
    sink::forward::{HeldTarget, Target, TargetParts},
};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2},
    flag,
};

use super::{
    launch::Launcher,
    protocol::{Answer, Request},
};
use crate::{
    Cli, Command,
    channel::{LONGEST_TEXT, borrowed, parse, receive, send},
    config::{self, ConfigSource},
    output_config::OutputConfig,
    outputs::PlannedOutput,
    privileges::RetainedCaps,
    remedy, terminal,
};

/// Targets that are open at once.
const MOST_TARGETS: usize = 256;

/// Arguments of the monitor: those of its run.
#[derive(Args, Debug)]
pub(crate) struct MonitorArgs {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    run: Vec<OsString>,
}

/// Answers requests on standard input, a socket, until its other end is closed.
pub(crate) fn run(args: MonitorArgs) -> anyhow::Result<ExitCode> {
    // For ps(1) and top(1), which would show the name of a link in /proc.
    nix::sys::prctl::set_name(c"mirror-monitor").context("cannot set the name")?;
    // Those that a service manager, or a terminal, sends to all processes of a service are for the run.
    for signal in [SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2] {
        flag::register(signal, Arc::new(AtomicBool::default())).context("cannot ignore signals")?;
    }
    let words = iter::once(OsString::from("mirror")).chain(args.run.iter().cloned());
    let cli = crate::command().try_get_matches_from(words).and_then(|found| Cli::from_arg_matches(&found))?;
    let arguments = args.run;
    let Some(Command::Ingest(args)) = cli.command else {
        anyhow::bail!("this is for `mirror ingest` to start")
    };
    let file = args.output.config.clone();
    let source = ConfigSource::of(config::Command::Ingest, args.settings(), file);
    let (settings, tables) = source.read()?;
    let output = OutputConfig::of(&settings, tables);
    terminal::start_log(output.log_verbosity(), output.quiet);
    let launcher = Launcher::new(arguments)?;
    RetainedCaps::to_open_targets().lower_others().context("cannot lower privileges")?;
    let mut server = Server { source, targets: Vec::new(), held: Vec::new(), launcher };
    server.serve().context("the monitor")?;
    Ok(ExitCode::SUCCESS)
}

struct Server {
    source: ConfigSource,
    /// Those of the configuration that was read last.
    targets: Vec<Target>,
    held: Vec<HeldTarget>,
    launcher: Launcher,
}

impl Server {
    fn serve(&mut self) -> anyhow::Result<()> {
        let socket = io::stdin();
        let socket = socket.as_fd();
        send(socket, &Answer::Ready, &[])?;
        loop {
            let held = self.held.iter().map(|target| PollFd::new(target.as_fd(), PollFlags::empty()));
            let request = PollFd::new(socket, PollFlags::POLLIN);
            let mut polled: Vec<_> = iter::once(request).chain(held).collect();
            match poll(&mut polled, PollTimeout::NONE) {
                Ok(_) => {}
                Err(nix::errno::Errno::EINTR) => continue,
                Err(error) => return Err(error.into()),
            }
            let ready: Vec<_> = polled.iter().map(|fd| fd.any().unwrap_or_default()).collect();
            let mut ready = ready.iter().copied();
            let is_asked = ready.next().unwrap_or_default();
            // The run is done with them.
            self.held.retain(|_| !ready.next().unwrap_or_default());
            if is_asked {
                let Some((bytes, _)) = receive(socket)? else { return Ok(()) };
                let (answer, descriptors) = self.answer(&bytes);
                send(socket, &answer, &borrowed(&descriptors))?;
            }
        }
    }

    fn answer(&mut self, request: &[u8]) -> (Answer, Vec<OwnedFd>) {
        let answered = match parse(request) {
            Ok(Request::Configuration) => {
                self.read().map(|text| (Answer::Configuration { text }, Vec::new()))
            }
            Ok(Request::Open { target, max_frame }) => self.open(&target, max_frame),
            Ok(Request::Launch) => {
                self.launcher.launch().map(|(socket, pid)| (Answer::Launched { pid }, vec![socket]))
            }
            Ok(Request::Kill) => self.launcher.kill().map(|()| (Answer::Killed, Vec::new())),
            Err(error) => {
                tracing::warn!("the monitor refuses what is no request: {error}");
                Err(anyhow::anyhow!("not a request: {error}"))
            }
        };
        answered
            .unwrap_or_else(|error| (Answer::Refused { message: remedy::with_remedy(&error) }, Vec::new()))
    }

    /// Reads and validates the file, whose targets may be opened from now on.
    fn read(&mut self) -> anyhow::Result<String> {
        let file = self.source.file.as_deref().context("this run has no configuration file")?;
        let shown = || escape::path(file).to_string();
        let text = fs::read_to_string(file).with_context(shown)?;
        anyhow::ensure!(text.len() <= LONGEST_TEXT, "{}: longer than {LONGEST_TEXT} bytes", shown());
        let (settings, tables) = self.source.of_text(&text)?;
        let output = OutputConfig::of(&settings, tables);
        self.targets = output.outputs().iter().flat_map(PlannedOutput::targets).cloned().collect();
        Ok(text)
    }

    /// Opens a target.
    fn open(&mut self, target: &str, max_frame: usize) -> anyhow::Result<(Answer, Vec<OwnedFd>)> {
        let shown = escape::line(target);
        let Some(target) = self.targets.iter().find(|known| known.to_string() == target) else {
            tracing::warn!("the monitor refuses to open {shown}: the configuration does not name it");
            anyhow::bail!("{shown}: not a target of the configuration");
        };
        anyhow::ensure!(self.held.len() < MOST_TARGETS, "{MOST_TARGETS} targets are open already");
        let (held, TargetParts { interface, mut descriptors, lifeline }) =
            HeldTarget::open(target, max_frame)?;
        self.held.push(held);
        descriptors.push(lifeline);
        Ok((Answer::Opened { interface }, descriptors))
    }
}
