//! `mirror upgrade`: a run passes to a new process of the installed executable, without losing a packet.
//!
//! The monitor starts the new process, with all that the run was started with. It reads the configuration,
//! opens its outputs, maps the rings of the sockets that it is offered, drops its privileges, and says that
//! it is ready. Only then the old process has its workers stop, each between two batches, and completes its
//! outputs. Until then any failure ends the new process, and the old one goes on.

mod predecessor;
mod protocol;
mod successor;

use std::{ffi::OsString, fmt, io, iter, os::fd::AsFd as _, process::ExitCode, time::Duration};

use anyhow::Context as _;
use clap::{Args, FromArgMatches as _};
use mirror_user::{engine::SocketsPass, escape};
use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};

pub(crate) use self::{
    predecessor::{Account, Predecessor},
    protocol::Standing,
    successor::{Left, Successor, Upgrader},
};
use crate::{
    Cli, Command,
    config::{self, ConfigSource},
    exit::FAILED,
    ingest::{self, IngestRun},
    remedy,
    requests::Requests,
};

/// Arguments of the new process: those of the run.
#[derive(Args, Debug)]
pub(crate) struct TakeOverArgs {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    run: Vec<OsString>,
}

/// How a run has passed to a new process.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub(crate) struct Upgraded {
    /// The new process, and its version.
    pub(crate) pid: u32,
    pub(crate) version: String,
    /// The version before.
    pub(crate) version_before: String,
    /// For how long nobody took packets of each queue whose socket it has taken over, in ns.
    pub(crate) pauses_ns: Vec<u64>,
    /// With new sockets: for how long packets passed to the host, in ns, and how many.
    pub(crate) cold_ns: Option<u64>,
    pub(crate) cold_packets: Option<u64>,
}

/// Requests for an upgrade.
pub(crate) type Upgrades = Requests<Upgraded, SocketsPass>;

impl fmt::Display for Upgraded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pid, version, version_before, pauses_ns, cold_ns, cold_packets } = self;
        let (before, after) = (escape::line(version_before), escape::line(version));
        write!(f, "upgraded from {before} to {after}: process {pid} takes the packets")?;
        if let Some(passed) = cold_ns {
            let passed = Duration::from_nanos(*passed);
            let packets = cold_packets.map_or_else(|| "packets".to_owned(), |count| count.to_string());
            return write!(f, "; {packets} passed to the host, within {passed:.0?}");
        }
        match pauses_ns.iter().max() {
            Some(longest) => {
                let longest = Duration::from_nanos(*longest);
                write!(f, ", which waited in the rings for at most {longest:.0?}")
            }
            None => Ok(()),
        }
    }
}

/// Takes a run over from the process at the other end of standard input, a socket.
pub(crate) fn take_over(args: TakeOverArgs) -> anyhow::Result<ExitCode> {
    let socket = io::stdin().as_fd().try_clone_to_owned().context("standard input")?;
    let nothing = rustix::fs::open(c"/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
    rustix::stdio::dup2_stdin(nothing.context("/dev/null")?).context("standard input")?;
    let mut predecessor = Predecessor::new(socket);
    let done = run(args, &mut predecessor);
    let Err(error) = &done else { return done };
    // If it still listens, it says why.
    predecessor.fail(&remedy::with_remedy(error));
    if predecessor.goes_on() { Ok(FAILED.into()) } else { done }
}

fn run(args: TakeOverArgs, predecessor: &mut Predecessor) -> anyhow::Result<ExitCode> {
    predecessor.receive()?;
    let words = iter::once(OsString::from("mirror")).chain(args.run);
    let cli = crate::command().try_get_matches_from(words).and_then(|found| Cli::from_arg_matches(&found))?;
    let Some(Command::Ingest(args)) = cli.command else {
        anyhow::bail!("this is for `mirror upgrade` to start")
    };
    let file = args.output.config.clone();
    let source = ConfigSource::of(config::Command::Ingest, args.settings(), file);
    let (settings, tables) = source.read()?;
    ingest::run(&IngestRun::read(&settings, tables)?, &settings, &source, Some(predecessor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upgrade_is_described_with_its_longest_pause() {
        let mut upgraded = Upgraded {
            pid: 7,
            version: "0.2.0".to_owned(),
            version_before: "0.1.0\u{7}".to_owned(),
            pauses_ns: vec![80_000, 1_234_000],
            ..Upgraded::default()
        };
        assert_eq!(
            upgraded.to_string(),
            "upgraded from 0.1.0\\x07 to 0.2.0: process 7 takes the packets, which waited in the rings for \
            at most 1ms"
        );
        upgraded.pauses_ns.clear();
        assert!(upgraded.to_string().ends_with("process 7 takes the packets"));
        (upgraded.cold_ns, upgraded.cold_packets) = (Some(31_200_000), Some(312));
        let expected = "process 7 takes the packets; 312 passed to the host, within 31ms";
        assert!(upgraded.to_string().ends_with(expected));
    }
}
