//! `/run/mirror/NAME.sock`: how a run is asked for its state, to drain, and to reload its
//! configuration.
//!
//! The socket is made before privileges are dropped, for root alone or for a group, too, and answered by a
//! thread that has neither. After a change of user (`-Z`) the run cannot remove it at the end; nobody listens
//! then, and the next run of that name replaces it.

mod client;
mod commands;
mod protocol;
mod server;
mod socket;

use std::{
    os::{fd::OwnedFd, unix::net::UnixListener},
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context as _;
use mirror_user::{
    escape,
    host::run_state::DIRECTORY,
    settings::{Control, Settings},
};
use nix::unistd::{Gid, Group, Uid, geteuid};

pub(crate) use self::{
    client::{Client, Clients, name},
    commands::{DrainArgs, ReloadArgs, StatusArgs, UpgradeArgs, drain, reload, seconds, status, upgrade},
    protocol::RunStatus,
    server::CONNECTIONS,
    socket::Entry,
};
use self::{
    server::Server,
    socket::{SocketError, make},
};
use crate::{
    exit::Usage, hooks::Threads, ingest::DrainLimits, observed::Observed, sandbox::ThreadKind,
    signals::SignalRequests,
};

/// Which control socket a run has.
#[derive(Debug)]
pub(crate) struct ControlConfig {
    /// As given: a name, or none; else the default.
    given: Option<Control>,
    group: Option<String>,
}

impl ControlConfig {
    pub(crate) fn of(settings: &Settings) -> Self {
        Self {
            given: settings.control.as_deref().cloned(),
            group: settings.control_group.as_deref().cloned(),
        }
    }

    /// Without this host.
    pub(crate) fn validate(&self) -> Result<(), Usage> {
        match (&self.given, &self.group) {
            (Some(Control(None)), Some(_)) => {
                Err(Usage("--control-group applies to the control socket, and --control is off".to_owned()))
            }
            _ => Ok(()),
        }
    }

    /// Makes the socket, or takes the one of its name that another process leaves. Must be called before
    /// privileges are dropped.
    ///
    /// # Errors
    ///
    /// The group does not exist; or a socket that was asked for by name or group cannot be made.
    pub(crate) fn open(
        &self,
        interfaces: &[String],
        left: Option<LeftSocket>,
    ) -> anyhow::Result<Option<ControlSocket>> {
        let (name, is_wanted) = match &self.given {
            Some(Control(None)) => return Ok(None),
            Some(Control(Some(name))) => (name.clone(), true),
            None => (default_name(interfaces), self.group.is_some()),
        };
        let group = self.group.as_deref().map(group_of).transpose()?;
        let path = path_of(Path::new(DIRECTORY), &name);
        let shown = escape::path(&path).to_string();
        let owning = group.map(|group| rustix::fs::Gid::from_raw(group.as_raw()));
        let made = match left.filter(|left| left.name == name) {
            Some(left) => socket::inherit(&path, owning, left.socket),
            None => make(&path, owning),
        };
        match made {
            Ok((listener, entry)) => {
                let (group, owner) = (group.is_some(), geteuid());
                Ok(Some(ControlSocket { name, listener, entry, group, owner }))
            }
            Err(SocketError::Live) if is_wanted => Err(anyhow::anyhow!(
                "{shown}: another run has this control socket: choose another name with `--control NAME`"
            )),
            Err(error) if is_wanted => Err(error)
                .with_context(|| format!("{shown}: cannot make the control socket; see `--control off`")),
            Err(SocketError::Live) => {
                tracing::warn!(
                    "{shown}: another run has this control socket, so this run has none; give it a name with \
                    `--control NAME`"
                );
                Ok(None)
            }
            // As of users other than root, and where /run may not be written to.
            Err(error) => {
                tracing::debug!("{shown}: no control socket: {error}");
                Ok(None)
            }
        }
    }
}

/// The socket of a run that another process has had so far.
#[derive(Debug)]
pub(crate) struct LeftSocket {
    pub(crate) name: String,
    pub(crate) socket: OwnedFd,
}

/// A socket that nobody answers yet.
pub(crate) struct ControlSocket {
    name: String,
    listener: UnixListener,
    entry: Entry,
    group: bool,
    /// Who made it.
    owner: Uid,
}

impl ControlSocket {
    /// Answers requests, on a thread of its own. The socket is removed with the entry.
    pub(crate) fn serve(
        self,
        threads: &Threads,
        drain: Option<DrainLimits>,
        observed: &Arc<Observed>,
        requests: &Arc<SignalRequests>,
    ) -> anyhow::Result<Entry> {
        let Self { name, listener, entry, group, owner } = self;
        let server = Server {
            name,
            owner: owner.as_raw(),
            group,
            drain,
            observed: Arc::clone(observed),
            requests: Arc::clone(requests),
        };
        server.start(listener, threads.hook(ThreadKind::Control))?;
        Ok(entry)
    }

    /// Its name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }
}

/// The path of a socket in its directory.
fn path_of(directory: &Path, name: &str) -> PathBuf {
    directory.join(format!("{name}{SUFFIX}"))
}

const SUFFIX: &str = ".sock";

/// The interfaces, or as many as a name has room for, and how many more there are.
fn default_name(interfaces: &[String]) -> String {
    let all = interfaces.join(",");
    if all.len() <= Control::LONGEST {
        return all;
    }
    let room = Control::LONGEST - "+65535".len();
    let fits = |count: &usize| interfaces[..*count].join(",").len() <= room;
    let count = (1..interfaces.len()).take_while(fits).last().unwrap_or(1);
    format!("{}+{}", interfaces[..count].join(","), interfaces.len() - count)
}

fn group_of(name: &str) -> anyhow::Result<Gid> {
    let group = Group::from_name(name)
        .with_context(|| format!("--control-group {name}: cannot read the group database"))?;
    let group = group.ok_or_else(|| {
        Usage(format!("--control-group {name}: there is no such group; see `getent group`"))
    })?;
    Ok(group.gid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_name_is_the_interfaces_as_far_as_there_is_room() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(default_name(&names(&["ens5"])), "ens5");
        assert_eq!(default_name(&names(&["ens5", "ens6"])), "ens5,ens6");
        let many: Vec<_> = (0..100).map(|number| format!("interface{number:06}")).collect();
        assert_eq!(default_name(&many), "interface000000,interface000001,interface000002+97");
    }

    #[test]
    fn a_group_without_a_socket_and_one_that_does_not_exist_are_bad_usage() {
        let config = |text: &str| ControlConfig::of(&toml::from_str(text).unwrap());
        assert!(config("control = 'off'\ncontrol-group = 'root'").validate().is_err());
        assert!(config("control-group = 'root'").validate().is_ok());
        let missing = config("control-group = 'no-such-group-here'");
        let error = missing.open(&["ens5".to_owned()], None).err().unwrap();
        assert!(error.is::<Usage>(), "{error}");
    }
}
