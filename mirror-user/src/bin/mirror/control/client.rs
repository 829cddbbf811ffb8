//! Asks runs over their control sockets.

use std::{
    fs, io,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    os::unix::net::UnixStream,
    path::PathBuf,
    time::Duration,
};

use anyhow::Context as _;
use mirror_user::{Report, engine::SocketsPass, escape, host::run_state::DIRECTORY, settings::Control};

use super::{
    SUFFIX, path_of,
    protocol::{Action, DrainTimes, LONGEST_ANSWER, Outcome, RunStatus},
    server::RELOAD,
    socket,
};
use crate::{exit::Usage, reload::Reloaded, upgrade::Upgraded};

/// A run has 2 s for a connection, and 1 s for its report.
const PATIENCE: Duration = Duration::from_secs(10);
/// For a reload or an upgrade it has [`RELOAD`].
const RELOAD_PATIENCE: Duration = RELOAD.saturating_add(PATIENCE);

/// A control socket.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Client {
    name: String,
    path: PathBuf,
}

/// The control sockets of this host.
pub(crate) struct Clients {
    directory: PathBuf,
}

impl Clients {
    pub(crate) fn of_this_host() -> Self {
        Self { directory: DIRECTORY.into() }
    }

    /// Those that a run listens on, by name.
    pub(super) fn live(&self) -> anyhow::Result<Vec<Client>> {
        let mut live = Vec::new();
        let entries = match fs::read_dir(&self.directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(live),
            Err(error) => return Err(error).context(self.shown()),
        };
        for entry in entries {
            let path = entry.with_context(|| self.shown())?.path();
            let name =
                path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(SUFFIX));
            // A hidden one is being made.
            let Some(name) = name.filter(|name| !name.starts_with('.')).map(str::to_owned) else { continue };
            if socket::state(&path).is_ok_and(|state| state == socket::State::Live) {
                live.push(Client { name, path });
            }
        }
        live.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(live)
    }

    /// The run of this name, or the only one there is.
    pub(crate) fn one(&self, name: Option<&Control>) -> anyhow::Result<Client> {
        let live = self.live()?;
        if let Some(Control(name)) = name {
            let name = name.as_deref().unwrap_or("off");
            let found = live.iter().find(|client| client.name == name);
            return found.cloned().ok_or_else(|| {
                let path = path_of(&self.directory, name);
                anyhow::anyhow!("no run has {}; {}", escape::path(&path), self.which(&live))
            });
        }
        match &live[..] {
            [one] => Ok(one.clone()),
            [] => Err(anyhow::anyhow!("{}", self.which(&live))),
            _ => Err(Usage(format!("name one of several runs; {}", self.which(&live))).into()),
        }
    }

    /// Which runs there are, in words.
    pub(super) fn which(&self, live: &[Client]) -> String {
        let names: Vec<_> = live.iter().map(|client| escape::line(&client.name)).collect();
        match &names[..] {
            [] => format!(
                "no run has a control socket in {}: has `mirror ingest` been started, as root?",
                self.shown()
            ),
            names => format!("there is {}", names.join(", ")),
        }
    }

    fn shown(&self) -> String {
        escape::path(&self.directory).to_string()
    }
}

impl Client {
    /// Its name, for a line.
    pub(crate) fn shown(&self) -> String {
        escape::line(&self.name).into_owned()
    }

    /// Whether a run still listens.
    pub(crate) fn is_live(&self) -> bool {
        socket::state(&self.path).is_ok_and(|state| state == socket::State::Live)
    }

    /// How the run stands.
    pub(crate) fn status(&self) -> anyhow::Result<RunStatus<Report>> {
        match self.ask(Action::Status)? {
            Outcome::Status(status) => Ok(*status),
            outcome => Err(self.unexpected(outcome)),
        }
    }

    /// Has the run read its configuration file again.
    pub(super) fn reload(&self) -> anyhow::Result<Reloaded> {
        match self.ask(Action::Reload)? {
            Outcome::Reloaded(reloaded) => Ok(reloaded),
            outcome => Err(self.unexpected(outcome)),
        }
    }

    /// Has the run drain.
    pub(super) fn drain(&self) -> anyhow::Result<DrainTimes> {
        match self.ask(Action::Drain)? {
            Outcome::Draining(times) => Ok(times),
            outcome => Err(self.unexpected(outcome)),
        }
    }

    /// Has the run pass to a new process.
    pub(super) fn upgrade(&self, sockets: SocketsPass) -> anyhow::Result<Upgraded> {
        let action = match sockets {
            SocketsPass::Over | SocketsPass::Kept => Action::Upgrade,
            SocketsPass::OpenedAnew => Action::ColdUpgrade,
        };
        match self.ask(action)? {
            Outcome::Upgraded(upgraded) => Ok(upgraded),
            outcome => Err(self.unexpected(outcome)),
        }
    }

    fn unexpected(&self, outcome: Outcome<Report>) -> anyhow::Error {
        let reason = match outcome {
            Outcome::Refused(refusal) => refusal.message,
            Outcome::Status(_) | Outcome::Draining(_) | Outcome::Reloaded(_) | Outcome::Upgraded(_) => {
                "it answered another question".to_owned()
            }
        };
        anyhow::anyhow!("{}: {}", self.shown(), escape::line(&reason))
    }

    fn ask(&self, action: Action) -> anyhow::Result<Outcome<Report>> {
        let line = self.exchange(action).map_err(|error| {
            let remedy = match error.kind() {
                io::ErrorKind::PermissionDenied => {
                    ": use root; or start the run with --control-group to let a group read its status"
                }
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => ": the run has ended",
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => ": the run does not answer",
                _ => "",
            };
            anyhow::Error::new(error).context(format!("{}{remedy}", escape::path(&self.path)))
        })?;
        let unknown = || format!("{}: not an answer of this release", escape::path(&self.path));
        Outcome::parse(&line).with_context(unknown)?.with_context(unknown)
    }

    /// Sends a request, and returns the line of the answer.
    fn exchange(&self, action: Action) -> io::Result<Vec<u8>> {
        let mut stream = UnixStream::connect(&self.path)?;
        let takes_long = matches!(action, Action::Reload | Action::Upgrade | Action::ColdUpgrade);
        stream.set_read_timeout(Some(if takes_long { RELOAD_PATIENCE } else { PATIENCE }))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.write_all(&action.line()?)?;
        let mut line = Vec::new();
        BufReader::new(stream.take(LONGEST_ANSWER)).read_until(b'\n', &mut line)?;
        if line.is_empty() {
            return Err(io::Error::new(io::ErrorKind::ConnectionRefused, "closed without an answer"));
        }
        Ok(line)
    }
}

/// The name of a run on a command line.
pub(crate) fn name(text: &str) -> Result<Control, String> {
    let control: Control = text.parse().map_err(|error: mirror_user::settings::Invalid| error.to_string())?;
    if control.0.is_none() { Err("no run has this name: it stands for none".to_owned()) } else { Ok(control) }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    fn clients(names: &[&str]) -> (tempfile::TempDir, Clients, Vec<UnixListener>) {
        let scratch = tempfile::tempdir().unwrap();
        let directory = scratch.path().to_owned();
        let bind = |name: &&str| UnixListener::bind(path_of(&directory, name)).unwrap();
        let listeners = names.iter().map(bind).collect();
        (scratch, Clients { directory: directory.clone() }, listeners)
    }

    #[test]
    fn the_only_live_run_needs_no_name() {
        let (scratch, clients, listeners) = clients(&["b", "a"]);
        fs::write(scratch.path().join("c.sock"), "").unwrap();
        fs::write(scratch.path().join("state"), "").unwrap();
        let several = clients.one(None).unwrap_err();
        assert!(several.is::<Usage>() && several.to_string().ends_with("there is a, b"), "{several}");
        assert_eq!(clients.one(Some(&Control(Some("b".to_owned())))).unwrap().name, "b");
        let unknown = clients.one(Some(&Control(Some("d".to_owned())))).unwrap_err().to_string();
        assert!(unknown.contains("d.sock; there is a, b"), "{unknown}");
        drop(listeners);
        let none = clients.one(None).unwrap_err().to_string();
        assert!(none.starts_with("no run has a control socket"), "{none}");
    }

    #[test]
    fn without_a_run_the_error_names_the_directory() {
        let clients = Clients { directory: "/nonexistent/mirror".into() };
        let error = clients.one(None).unwrap_err().to_string();
        assert!(
            error.contains("/nonexistent/mirror") && error.contains("has `mirror ingest` been"),
            "{error}"
        );
    }
}
