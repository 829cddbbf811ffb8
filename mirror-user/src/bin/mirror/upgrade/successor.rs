//! The old process's side: starts the new process, and hands the run over to it.

use std::{
    io,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use crossbeam_channel::Receiver;
use mirror_user::{
    Report,
    engine::{HandOverError, Offer, Running, SocketsPass},
};
use rustix::net::sockopt::{Timeout, set_socket_timeout};

use super::{
    Upgraded,
    protocol::{SCHEMA, Standing, ToPredecessor, ToSuccessor},
};
use crate::{
    channel::{self, MOST_DESCRIPTORS, parse},
    control::Entry,
    http::Board,
    monitor::Monitor,
    observed::Observed,
    outputs::Outputs,
    requests::Request,
};

const ENDED: &str = "the new process has ended; its messages say why";
const UNEXPECTED: &str = "an unexpected message of the new process";
/// How long a new process may take to be ready: it opens outputs.
const READY: Duration = Duration::from_secs(30);
/// How long it may take for a message after that.
const MESSAGE: Duration = Duration::from_secs(10);

/// What is left to a new process besides the engine.
#[derive(Clone, Debug, Default)]
pub(crate) struct Left {
    pub(crate) control: Option<(String, Arc<Entry>)>,
    pub(crate) http: Option<Arc<OwnedFd>>,
}

/// A request for an upgrade.
type Asked = Request<Upgraded, SocketsPass>;

/// Hands a run over when that is asked for.
#[derive(Debug)]
pub(crate) struct Upgrader {
    requests: Receiver<Asked>,
    monitor: Arc<Monitor>,
    left: Left,
    /// The new process that is not ready yet.
    starting: Option<Starting>,
}

/// A new process that was started.
struct Starting {
    socket: OwnedFd,
    pid: u32,
    offer: Offer,
    deadline: Instant,
    asked: Vec<Asked>,
}

impl std::fmt::Debug for Starting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Starting").field("pid", &self.pid).finish_non_exhaustive()
    }
}

/// The process that takes the packets now.
pub(crate) struct Successor {
    socket: OwnedFd,
    pid: u32,
}

impl Upgrader {
    pub(crate) fn new(requests: Receiver<Asked>, monitor: Arc<Monitor>, left: Left) -> Self {
        Self { requests, monitor, left, starting: None }
    }

    /// Whether a new process is starting.
    pub(crate) fn is_busy(&self) -> bool {
        self.starting.is_some()
    }

    /// Starts a new process if that is asked for. `obstacle` is why the run cannot be handed over.
    pub(crate) fn start(
        &mut self,
        running: &Running,
        outputs: &Outputs,
        obstacle: impl FnOnce() -> Option<String>,
    ) {
        if self.starting.is_some() {
            return;
        }
        let asked: Vec<_> = self.requests.try_iter().collect();
        if asked.is_empty() {
            return;
        }
        let is_cold = asked.iter().any(|request| request.wanted == SocketsPass::OpenedAnew);
        let wanted = if is_cold { SocketsPass::OpenedAnew } else { SocketsPass::Over };
        let offered = match obstacle() {
            Some(reason) => Err(anyhow::anyhow!(reason)),
            None => self.offer(running, outputs, wanted),
        };
        match offered {
            Ok((socket, pid, offer)) => {
                tracing::info!(target: "mirror", "upgrade: process {pid} starts");
                let deadline = Instant::now() + READY;
                self.starting = Some(Starting { socket, pid, offer, deadline, asked });
            }
            Err(error) => refuse(asked, &format!("{error:#}")),
        }
    }

    fn offer(
        &self,
        running: &Running,
        outputs: &Outputs,
        sockets: SocketsPass,
    ) -> anyhow::Result<(OwnedFd, u32, Offer)> {
        let offer = match running.offer(sockets) {
            Err(reason @ HandOverError::Kernel { .. }) => {
                tracing::warn!(
                    "{reason}: the new process opens its own, and packets pass to the host meanwhile"
                );
                running.offer(SocketsPass::OpenedAnew)?
            }
            offered => offered?,
        };
        let (socket, pid) = self.monitor.launch()?;
        let sent = set_socket_timeout(&socket, Timeout::Recv, Some(MESSAGE))
            .and_then(|()| set_socket_timeout(&socket, Timeout::Send, Some(MESSAGE)))
            .map_err(anyhow::Error::from)
            .and_then(|()| self.send_offer(&socket, &offer, outputs.paths()));
        if let Err(error) = sent {
            self.abandon();
            let is_over = error.downcast_ref::<io::Error>().is_some_and(|error| {
                matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
            });
            return Err(if is_over { anyhow::anyhow!(ENDED) } else { error.context("the new process") });
        }
        Ok((socket, pid, offer))
    }

    fn send_offer(&self, socket: &OwnedFd, offer: &Offer, captures: Vec<PathBuf>) -> anyhow::Result<()> {
        let Left { control, http } = &self.left;
        let description = channel::text(&offer.description()?)?;
        let stdout = io::stdout();
        let control_socket = control.as_ref().map(|(_, entry)| entry.lend()).transpose()?;
        let mut descriptors: Vec<BorrowedFd<'_>> = vec![description.as_fd(), stdout.as_fd()];
        descriptors.extend(control_socket.as_ref().map(OwnedFd::as_fd));
        descriptors.extend(http.as_ref().map(|socket| socket.as_fd()));
        let message = ToSuccessor::Offer {
            schema: SCHEMA.to_owned(),
            control: control.as_ref().map(|(name, _)| name.clone()),
            http: http.is_some(),
            captures,
            descriptors: offer.descriptors().len(),
        };
        channel::send(socket.as_fd(), &message, &descriptors)?;
        let of_engine: Vec<_> = offer.descriptors().collect();
        for some in of_engine.chunks(MOST_DESCRIPTORS) {
            channel::send(socket.as_fd(), &ToSuccessor::Descriptors, some)?;
        }
        Ok(())
    }

    /// Hands the run over if the new process is ready. `None` if there is no new process that is.
    pub(crate) fn hand_over(
        &mut self,
        running: &Running,
        outputs: &Outputs,
        observed: &Observed,
        board: Option<&Board>,
    ) -> Option<Successor> {
        let version = match self.starting.as_ref()?.state() {
            Ok(None) => return None,
            Ok(Some(version)) => Ok(version),
            Err(error) => Err(error),
        };
        let Starting { socket, pid, offer, asked, .. } = self.starting.take()?;
        let successor = Successor { socket, pid };
        // From the last answer of this process to the first of the other no counter goes back.
        observed.withhold(true);
        let cpu = board.map(Board::cpu).unwrap_or_default();
        let followed = version.and_then(|version| {
            let listed = board.map(Board::listed).unwrap_or_default();
            successor.go(&running.report(), cpu, &Standing { captures: outputs.hand_over(), listed })?;
            successor.follows()?;
            Ok(version)
        });
        let version = match followed {
            Ok(version) => version,
            Err(error) => {
                self.abandon();
                running.take_back();
                outputs.take_back();
                observed.withhold(false);
                refuse(asked, &format!("{error:#}"));
                return None;
            }
        };
        let sockets = offer.sockets();
        running.hand_over(offer);
        let outcome = successor.taken().map(|(pauses_ns, cold_ns)| Upgraded {
            pid,
            version,
            version_before: env!("CARGO_PKG_VERSION").to_owned(),
            pauses_ns,
            cold_ns,
            cold_packets: running.passed_since_withdrawn(),
        });
        let (outcome, successor) = match (outcome, sockets) {
            (Ok(upgraded), _) => {
                tracing::info!(target: "mirror", "{upgraded}");
                (Ok(upgraded), Some(successor))
            }
            (Err(error), SocketsPass::Over | SocketsPass::Kept) => {
                let error = format!("process {pid} has the run, but: {error:#}");
                tracing::error!("{error}");
                (Err(error), Some(successor))
            }
            // Neither has sockets.
            (Err(error), SocketsPass::OpenedAnew) => {
                self.abandon();
                observed.withhold(false);
                let error = format!("the upgrade has failed: the new process: {error:#}");
                running.end(error.clone());
                (Err(format!("the run has ended: {error}")), None)
            }
        };
        asked.into_iter().for_each(|request| request.answer(&outcome));
        successor
    }

    fn abandon(&self) {
        if let Err(error) = self.monitor.kill() {
            tracing::error!("{error:#}");
        }
    }
}

/// A new process that is not ready ends with the run.
impl Drop for Upgrader {
    fn drop(&mut self) {
        if self.starting.take().is_some() {
            self.abandon();
        }
    }
}

fn refuse(asked: Vec<Asked>, reason: &str) {
    tracing::error!("not upgraded, the run goes on as it is: {reason}");
    let outcome = Err(reason.to_owned());
    asked.into_iter().for_each(|request| request.answer(&outcome));
}

fn microseconds(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

fn text_of(report: &Report) -> anyhow::Result<OwnedFd> {
    Ok(channel::text(&serde_json::to_string(report)?)?)
}

impl Starting {
    /// The version of the new process, once it is ready.
    fn state(&self) -> anyhow::Result<Option<String>> {
        if !channel::has_message(self.socket.as_fd(), 0)? {
            anyhow::ensure!(
                Instant::now() < self.deadline,
                "process {} was not ready within {} s",
                self.pid,
                READY.as_secs()
            );
            return Ok(None);
        }
        match receive(&self.socket)? {
            ToPredecessor::Ready { version } => Ok(Some(version)),
            ToPredecessor::Failed { message } => anyhow::bail!("the new process: {message}"),
            _ => anyhow::bail!(UNEXPECTED),
        }
    }
}

impl Successor {
    /// The process.
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Has the new process go on.
    fn go(&self, report: &Report, cpu: Duration, standing: &Standing) -> anyhow::Result<()> {
        let (account, standing) = (text_of(report)?, channel::text(&serde_json::to_string(standing)?)?);
        let go = ToSuccessor::Go { cpu_us: microseconds(cpu) };
        channel::send(self.socket.as_fd(), &go, &[account.as_fd(), standing.as_fd()])
            .context("the new process")
    }

    /// Waits until the workers of the new process can follow those of this one: then nobody takes packets for
    /// no longer than it takes to wake them.
    fn follows(&self) -> anyhow::Result<()> {
        match receive(&self.socket)? {
            ToPredecessor::Follows => Ok(()),
            ToPredecessor::Failed { message } => anyhow::bail!(message),
            _ => anyhow::bail!(UNEXPECTED),
        }
    }

    /// Waits until the new process takes packets. Returns, in ns, for how long nobody did, of each queue
    /// whose socket it has, and for how long packets passed to the host, if it has new sockets.
    fn taken(&self) -> anyhow::Result<(Vec<u64>, Option<u64>)> {
        match receive(&self.socket)? {
            ToPredecessor::Taken { pauses_ns, cold_ns } => Ok((pauses_ns, cold_ns)),
            ToPredecessor::Failed { message } => anyhow::bail!(message),
            _ => anyhow::bail!(UNEXPECTED),
        }
    }

    /// Gives the final account of this process, and those before it.
    pub(crate) fn finish(&self, report: &Report, cpu: Duration) -> anyhow::Result<()> {
        let account = ToSuccessor::Account { cpu_us: microseconds(cpu) };
        let text = text_of(report)?;
        channel::send(self.socket.as_fd(), &account, &[text.as_fd()])
            .context("the new process does not get the final account")
    }
}

fn receive(socket: &OwnedFd) -> anyhow::Result<ToPredecessor> {
    let received = channel::receive(socket.as_fd()).context("the new process does not answer")?;
    let (bytes, _) = received.context(ENDED)?;
    parse(&bytes).context("a message of the new process")
}
