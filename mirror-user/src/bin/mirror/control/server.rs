//! Answers requests, on a thread of its own that has neither capabilities nor files to open.
//!
//! Connections are bounded in number, size and time, so that a client that sends nothing, or reads nothing,
//! delays others by no more than its own time.

use std::{
    io::{self, Read as _, Write as _},
    os::{
        fd::AsFd as _,
        unix::net::{UnixListener, UnixStream},
    },
    process,
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use crossbeam_channel::{Receiver, TryRecvError};
use mirror_user::{Report, engine::SocketsPass};
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{getsockopt, sockopt::PeerCredentials},
};

use super::protocol::{Action, DrainTimes, LONGEST_REQUEST, Outcome, Refusal, RefusalReason, RunStatus};
use crate::{
    ingest::DrainLimits,
    observed::{Listener, Observed, Phase, WITHHELD},
    reload::Reloaded,
    signals::SignalRequests,
    upgrade::Upgraded,
};

/// Connections at once; others wait in the backlog.
pub(crate) const CONNECTIONS: usize = 16;
/// How long a connection may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long the main thread may take for a report; it polls each 100 ms.
const REPORT: Duration = Duration::from_secs(1);
/// How long it may take for a reload, which opens outputs, and for an upgrade.
pub(super) const RELOAD: Duration = Duration::from_secs(60);
/// How often its answer is looked for.
const POLL: Duration = Duration::from_millis(10);

/// What is controlled, and who may do that.
pub(super) struct Server {
    pub(super) name: String,
    /// The user who made the socket.
    pub(super) owner: u32,
    /// Whether a group may read the status.
    pub(super) group: bool,
    pub(super) drain: Option<DrainLimits>,
    pub(super) observed: Arc<Observed>,
    pub(super) requests: Arc<SignalRequests>,
}

struct Connection {
    stream: UnixStream,
    user: u32,
    /// When it is closed.
    deadline: Instant,
    state: State,
}

enum State {
    Reads(Vec<u8>),
    /// For the outcome of a reload, or of an upgrade.
    Waits(Waiting),
    Writes {
        answer: Vec<u8>,
        written: usize,
    },
}

enum Waiting {
    Reload(Receiver<Result<Reloaded, String>>),
    Upgrade(Receiver<Result<Upgraded, String>>),
}

impl Waiting {
    /// The answer, if there is one.
    fn answer(&self) -> Option<State> {
        let (answer, reason) = match self {
            Self::Reload(outcome) => {
                (outcome.try_recv().map(|it| it.map(Outcome::Reloaded)), RefusalReason::Configuration)
            }
            Self::Upgrade(outcome) => {
                (outcome.try_recv().map(|it| it.map(Outcome::Upgraded)), RefusalReason::Upgrade)
            }
        };
        match answer {
            Ok(Ok(outcome)) => Some(line(outcome)),
            Ok(Err(message)) => Some(refusal(Refusal::new(reason, message))),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => Some(refusal(stopping())),
        }
    }
}

impl Server {
    /// Starts the thread, which first calls `prepare`.
    pub(super) fn start(
        self,
        listener: UnixListener,
        prepare: impl FnOnce() -> io::Result<()> + Send + 'static,
    ) -> anyhow::Result<()> {
        const FAILED: &str = "cannot start the control thread";
        let (ready, is_ready) = mpsc::channel();
        thread::Builder::new()
            .name("mirror-control".to_owned())
            .spawn(move || {
                let prepared = prepare();
                let failed = prepared.is_err();
                // The starting thread waits.
                drop(ready.send(prepared));
                if !failed && let Err(error) = self.serve(&listener) {
                    tracing::error!(%error, "the control socket is no longer served");
                }
            })
            .context(FAILED)?;
        is_ready.recv().context(FAILED)?.context(FAILED)
    }

    /// Serves until the process ends.
    fn serve(&self, listener: &UnixListener) -> io::Result<()> {
        let mut connections: Vec<Connection> = Vec::new();
        loop {
            self.observed.serves(Listener::Control, connections.len());
            let is_withheld = self.observed.is_withheld();
            let accepts = connections.len() < CONNECTIONS && !is_withheld;
            let polled = connections.iter().map(|connection| {
                let events = match connection.state {
                    State::Reads(_) => PollFlags::POLLIN,
                    // Until the client is gone.
                    State::Waits(_) => PollFlags::empty(),
                    State::Writes { .. } => PollFlags::POLLOUT,
                };
                PollFd::new(connection.stream.as_fd(), events)
            });
            let polled = polled.chain(accepts.then(|| PollFd::new(listener.as_fd(), PollFlags::POLLIN)));
            let mut polled: Vec<_> = polled.collect();
            let now = Instant::now();
            let left = connections.iter().map(|connection| match connection.state {
                State::Waits(_) => POLL,
                _ => connection.deadline.saturating_duration_since(now),
            });
            let left = left.chain(is_withheld.then_some(WITHHELD));
            let timeout = left.min().map_or(PollTimeout::NONE, |left| {
                // Rounded up, or the last millisecond would spin.
                PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX)
            });
            match poll(&mut polled, timeout) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
            let is_ready: Vec<_> = polled.iter().map(|fd| fd.any().unwrap_or_default()).collect();
            let mut ready = is_ready.iter();
            connections.retain_mut(|connection| {
                let is_ready = ready.next().is_some_and(|ready| *ready);
                let goes_on = match connection.state {
                    State::Waits(_) => !is_ready && self.go_on(connection),
                    State::Reads(_) | State::Writes { .. } => !is_ready || self.go_on(connection),
                };
                goes_on && Instant::now() < connection.deadline
            });
            let accepts = accepts && !self.observed.is_withheld();
            if accepts && is_ready.last().is_some_and(|ready| *ready) {
                connections.extend(accept(listener)?);
            }
        }
    }

    /// Reads or writes what can be without waiting. Returns whether there is more to do.
    fn go_on(&self, connection: &mut Connection) -> bool {
        loop {
            match &mut connection.state {
                State::Reads(request) => {
                    let mut buffer = [0; 1024];
                    match connection.stream.read(&mut buffer) {
                        Ok(0) => return false,
                        Ok(read) => request.extend_from_slice(&buffer[..read]),
                        Err(error) => return is_to_be_repeated(&error),
                    }
                    let end = request.iter().position(|byte| *byte == b'\n');
                    let state = match end {
                        Some(end) if end <= LONGEST_REQUEST => self.answer(connection.user, &request[..end]),
                        None if request.len() <= LONGEST_REQUEST => continue,
                        _ => refusal(Refusal::new(RefusalReason::BadRequest, "the request is too long")),
                    };
                    connection.enter(state);
                }
                State::Waits(waiting) => {
                    let Some(state) = waiting.answer() else { return true };
                    connection.enter(state);
                }
                State::Writes { answer, written } => match connection.stream.write(&answer[*written..]) {
                    Ok(0) => return false,
                    Ok(more) if *written + more == answer.len() => return false,
                    Ok(more) => *written += more,
                    Err(error) => return is_to_be_repeated(&error),
                },
            }
        }
    }

    /// What follows a line from a user: usually its answer.
    fn answer(&self, user: u32, line: &[u8]) -> State {
        let action = match Action::parse(line) {
            Ok(action) if self.may(user, action) => action,
            Ok(Action::Status) => {
                return refusal(Refusal::new(
                    RefusalReason::NotPermitted,
                    "only root, and the group of --control-group, may read the status",
                ));
            }
            Ok(Action::Drain) => {
                return refusal(Refusal::new(RefusalReason::NotPermitted, "only root may drain a run"));
            }
            Ok(Action::Reload) => {
                return refusal(Refusal::new(RefusalReason::NotPermitted, "only root may reload a run"));
            }
            Ok(Action::Upgrade | Action::ColdUpgrade) => {
                return refusal(Refusal::new(RefusalReason::NotPermitted, "only root may upgrade a run"));
            }
            Err(refused) => return refusal(refused),
        };
        match action {
            Action::Status => self.status(),
            Action::Drain => self.drain(),
            Action::Reload => self.reload(),
            Action::Upgrade => self.upgrade(SocketsPass::Over),
            Action::ColdUpgrade => self.upgrade(SocketsPass::OpenedAnew),
        }
    }

    fn may(&self, user: u32, action: Action) -> bool {
        const ROOT: u32 = 0;
        user == ROOT || user == self.owner || (self.group && action == Action::Status)
    }

    fn status(&self) -> State {
        let phase = self.observed.phase();
        let observation = match phase {
            Phase::Starting => None,
            Phase::Ingesting | Phase::Draining => self.observed.ask(REPORT),
            Phase::Stopping => self.observed.last(),
        };
        let report = observation.as_ref().map(|observation| &*observation.report);
        line(Outcome::Status(Box::new(RunStatus {
            name: self.name.clone(),
            pid: process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            phase,
            drain: self.drain.map(DrainTimes::from),
            report,
        })))
    }

    fn drain(&self) -> State {
        let Some(limits) = self.drain else {
            return refusal(Refusal::new(
                RefusalReason::NoDrain,
                "this run does not drain: start it with --drain-max TIME, or stop it by TERM",
            ));
        };
        let begun = self.requests.begin_drain();
        match self.observed.phase() {
            Phase::Starting => refusal(Refusal::new(
                RefusalReason::NoDrain,
                "this run has not started yet, and takes no packets: stop it by TERM",
            )),
            Phase::Stopping if !begun => refusal(stopping()),
            _ => line(Outcome::Draining(limits.into())),
        }
    }

    fn reload(&self) -> State {
        let Some(requests) = self.requests.reload.get() else {
            return refusal(Refusal::new(
                RefusalReason::NoConfig,
                "this run has no configuration file to read again: start it with --config FILE",
            ));
        };
        match requests.ask(()) {
            Some(outcome) if self.observed.phase() < Phase::Draining => {
                State::Waits(Waiting::Reload(outcome))
            }
            _ => refusal(stopping()),
        }
    }

    fn upgrade(&self, sockets: SocketsPass) -> State {
        let Some(requests) = self.requests.upgrade.get() else {
            return refusal(Refusal::new(
                RefusalReason::Upgrade,
                "this run has no monitor to start a new process: start it with --config FILE, and without \
                --no-monitor",
            ));
        };
        match requests.ask(sockets) {
            Some(outcome) if self.observed.phase() < Phase::Draining => {
                State::Waits(Waiting::Upgrade(outcome))
            }
            _ => refusal(stopping()),
        }
    }
}

impl Connection {
    /// Its time begins anew, because an answer takes some.
    fn enter(&mut self, state: State) {
        let patience = if matches!(state, State::Waits(_)) { RELOAD } else { PATIENCE };
        self.deadline = Instant::now() + patience;
        self.state = state;
    }
}

fn stopping() -> Refusal {
    Refusal::new(RefusalReason::Stopping, "this run stops already")
}

fn refusal(refused: Refusal) -> State {
    line(Outcome::Refused(refused))
}

fn line(outcome: Outcome<&Report>) -> State {
    let answer = outcome.line().unwrap_or_else(|error| {
        // A connection that is closed without an answer is an error at the client.
        tracing::error!(%error, "an answer of the control socket");
        Vec::new()
    });
    State::Writes { answer, written: 0 }
}

/// The next connection, unless it has gone.
fn accept(listener: &UnixListener) -> io::Result<Option<Connection>> {
    /// Where descriptors or memory are short, they may not be later.
    const PAUSE: Duration = Duration::from_millis(100);
    let stream = match listener.accept() {
        Ok((stream, _)) => stream,
        Err(error) if is_to_be_repeated(&error) || error.kind() == io::ErrorKind::ConnectionAborted => {
            return Ok(None);
        }
        Err(error) => {
            tracing::debug!(%error, "the control socket");
            thread::sleep(PAUSE);
            return Ok(None);
        }
    };
    stream.set_nonblocking(true)?;
    let peer = getsockopt(&stream, PeerCredentials)?;
    Ok(Some(Connection {
        stream,
        user: peer.uid(),
        deadline: Instant::now() + PATIENCE,
        state: State::Reads(Vec::new()),
    }))
}

fn is_to_be_repeated(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader};

    use serde_json::Value;

    use super::*;

    const STATUS: &str = r#"{"schema":"mirror.control/1","request":"status"}"#;
    const DRAIN: &str = r#"{"schema":"mirror.control/1","request":"drain"}"#;

    fn server(drain: bool) -> Server {
        let second = Duration::from_secs(1);
        let requests = Arc::new(SignalRequests::default());
        if drain {
            requests.drain_first(|| ());
        }
        Server {
            name: "a".to_owned(),
            owner: 1000,
            group: false,
            drain: drain.then_some(DrainLimits { max: 3 * second, quiet: second }),
            observed: Arc::default(),
            requests,
        }
    }

    fn json(answer: &State) -> Value {
        let State::Writes { answer, .. } = answer else { panic!("no answer") };
        parsed(answer)
    }

    fn parsed(answer: &[u8]) -> Value {
        assert_eq!(answer.last(), Some(&b'\n'));
        serde_json::from_slice(answer).unwrap()
    }

    fn reason(answer: &State) -> String {
        json(answer)["refused"]["reason"].as_str().unwrap_or_default().to_owned()
    }

    #[test]
    fn root_and_the_owner_may_do_all_and_a_group_only_read() {
        let mut server = server(true);
        server.observed.enter(Phase::Stopping);
        for user in [0, 1000] {
            assert_eq!(json(&server.answer(user, STATUS.as_bytes()))["status"]["name"], "a");
        }
        assert_eq!(reason(&server.answer(7, STATUS.as_bytes())), "not_permitted");
        assert_eq!(reason(&server.answer(7, DRAIN.as_bytes())), "not_permitted");
        server.group = true;
        assert_eq!(json(&server.answer(7, STATUS.as_bytes()))["status"]["phase"], "stopping");
        assert_eq!(reason(&server.answer(7, DRAIN.as_bytes())), "not_permitted");
        assert!(!server.requests.drain.load(std::sync::atomic::Ordering::Relaxed));
    }

    #[test]
    fn a_drain_is_begun_once_and_answered_each_time() {
        let server = server(true);
        server.observed.enter(Phase::Ingesting);
        for _ in 0..2 {
            let answer = json(&server.answer(0, DRAIN.as_bytes()));
            assert_eq!(
                (&answer["draining"]["max_s"], &answer["draining"]["quiet_s"]),
                (&3.0.into(), &1.0.into())
            );
        }
        assert!(server.requests.drain.load(std::sync::atomic::Ordering::Relaxed));
        server.observed.enter(Phase::Stopping);
        assert_eq!(reason(&server.answer(0, DRAIN.as_bytes())), "stopping");
    }

    #[test]
    fn a_run_that_does_not_drain_says_so() {
        assert_eq!(reason(&server(false).answer(0, DRAIN.as_bytes())), "no_drain");
    }

    /// A server on a socket; returns its path's directory.
    fn serving() -> (tempfile::TempDir, impl Fn() -> UnixStream) {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("a.sock");
        let listener = UnixListener::bind(&path).unwrap();
        listener.set_nonblocking(true).unwrap();
        let mut server = server(true);
        server.owner = rustix::process::geteuid().as_raw();
        server.start(listener, || Ok(())).unwrap();
        (scratch, move || {
            let stream = UnixStream::connect(&path).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            stream
        })
    }

    fn asked(mut stream: UnixStream, request: &[u8]) -> Vec<u8> {
        stream.write_all(request).unwrap();
        let mut answer = Vec::new();
        BufReader::new(stream).read_until(b'\n', &mut answer).unwrap();
        answer
    }

    #[test]
    fn more_silent_clients_than_there_is_room_for_delay_others_by_a_bounded_time() {
        let (_scratch, connect) = serving();
        let silent: Vec<_> = (0..CONNECTIONS).map(|_| connect()).collect();
        let answer = asked(connect(), format!("{STATUS}\n").as_bytes());
        assert_eq!(parsed(&answer)["status"]["phase"], "starting");
        // They were disconnected.
        for mut stream in silent {
            assert_eq!(stream.read(&mut [0; 8]).unwrap(), 0);
        }
    }

    #[test]
    fn requests_in_pieces_are_answered_and_long_and_broken_ones_are_refused() {
        let (_scratch, connect) = serving();
        let mut stream = connect();
        for piece in [&STATUS[..7], &STATUS[7..], "\n"] {
            stream.write_all(piece.as_bytes()).unwrap();
            thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(parsed(&asked(stream, b""))["status"]["pid"], process::id());
        for request in [&[b'['; 5000][..], b"\n", b"\xff\0\n", &[b'x'; 3 * LONGEST_REQUEST]] {
            let mut stream = connect();
            // The rest of a long one may find the connection closed.
            let _ = stream.write_all(request);
            let mut answer = Vec::new();
            let read = BufReader::new(stream).read_until(b'\n', &mut answer);
            if read.is_ok() && !answer.is_empty() {
                assert_eq!(parsed(&answer)["refused"]["reason"], "bad_request");
            }
        }
        drop(connect());
        assert_eq!(parsed(&asked(connect(), format!("{STATUS}\nmore").as_bytes()))["status"]["name"], "a");
    }
}
