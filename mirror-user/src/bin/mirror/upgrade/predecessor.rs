//! The new process's side: what it takes over, and from whom.

use std::{
    io, mem,
    net::TcpListener,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    path::PathBuf,
    process,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use super::protocol::{SCHEMA, Standing, ToPredecessor, ToSuccessor};
use crate::{
    channel::{self, parse, read_text},
    control::LeftSocket,
};
use anyhow::Context as _;
use mirror_user::{
    Report,
    engine::{EngineError, Inheritance, Prepared, Release, Running, SocketsPass},
};

/// How often a new process that is ready looks whether it is to stop.
const LOOK: u16 = 100;
/// How long its workers may take to begin.
const BEGIN: Duration = Duration::from_secs(2);

/// The process that has had the run so far.
#[derive(Debug)]
pub(crate) struct Predecessor {
    /// Until its final account, or its end.
    socket: Option<OwnedFd>,
    /// Whether this process has said that its workers follow: there is no way back.
    has_gone: bool,
    inheritance: Option<Inheritance>,
    sockets: SocketsPass,
    control: Option<LeftSocket>,
    http: Option<TcpListener>,
    captures: Vec<PathBuf>,
    release: Option<Release>,
}

/// The account of the processes so far.
#[derive(Debug)]
pub(crate) struct Account {
    pub(crate) report: Report,
    pub(crate) cpu: Duration,
}

impl Predecessor {
    pub(super) fn new(socket: OwnedFd) -> Self {
        Self {
            socket: Some(socket),
            has_gone: false,
            inheritance: None,
            sockets: SocketsPass::Over,
            control: None,
            http: None,
            captures: Vec::new(),
            release: None,
        }
    }

    /// Receives what is offered. Standard output becomes the other process's.
    pub(super) fn receive(&mut self) -> anyhow::Result<()> {
        let (message, descriptors) = self.next()?;
        let ToSuccessor::Offer { schema, control, http, captures, descriptors: more } = message else {
            anyhow::bail!("the other process offers nothing")
        };
        anyhow::ensure!(schema == SCHEMA, "the other process has {schema}, and this release has {SCHEMA}");
        let mut descriptors = descriptors.into_iter();
        let mut next = || descriptors.next().context("a descriptor is missing");
        let description = read_text(next()?)?;
        rustix::stdio::dup2_stdout(next()?).context("standard output")?;
        self.control = control.map(|name| next().map(|socket| LeftSocket { name, socket })).transpose()?;
        self.http = http.then(|| next().map(TcpListener::from)).transpose()?;
        self.captures = captures;
        let mut of_engine = Vec::new();
        while of_engine.len() < more {
            let (ToSuccessor::Descriptors, some) = self.next()? else {
                anyhow::bail!("descriptors are missing")
            };
            anyhow::ensure!(!some.is_empty(), "descriptors are missing");
            of_engine.extend(some);
        }
        let inheritance = Inheritance::new(&description, of_engine)?;
        self.sockets = inheritance.sockets();
        self.inheritance = Some(inheritance);
        Ok(())
    }

    fn next(&self) -> anyhow::Result<(ToSuccessor, Vec<OwnedFd>)> {
        let received = channel::receive(self.socket()?).context("the other process")?;
        let (bytes, descriptors) = received.context("the other process has ended")?;
        Ok((parse(&bytes).context("a message of the other process")?, descriptors))
    }

    /// What the engine takes over, once.
    pub(crate) fn inheritance(&mut self) -> Option<Inheritance> {
        self.inheritance.take()
    }

    pub(crate) fn control(&mut self) -> Option<LeftSocket> {
        self.control.take()
    }

    pub(crate) fn http(&mut self) -> Option<TcpListener> {
        self.http.take()
    }

    /// Its captures in files.
    pub(crate) fn captures(&mut self) -> Vec<PathBuf> {
        mem::take(&mut self.captures)
    }

    /// Whether the other process takes the packets.
    pub(super) fn goes_on(&self) -> bool {
        !self.has_gone
    }

    /// Says why this process ends.
    pub(super) fn fail(&self, message: &str) {
        self.say(&ToPredecessor::Failed { message: message.to_owned() });
    }

    /// Says that this process is ready, and waits until it is to go on.
    ///
    /// # Errors
    ///
    /// It is not to: the other process has changed its mind or ended, or this one is to stop.
    pub(crate) fn go(
        &mut self,
        prepared: &Prepared,
        stop: &AtomicBool,
    ) -> anyhow::Result<(Account, Standing)> {
        let release = prepared.release().context("signals of workers")?;
        let ready = ToPredecessor::Ready { version: env!("CARGO_PKG_VERSION").to_owned() };
        channel::send(self.socket()?, &ready, &[]).context("the other process")?;
        while !channel::has_message(self.socket()?, LOOK)? {
            anyhow::ensure!(!stop.load(Ordering::Relaxed), "the new process was asked to stop");
        }
        let (ToSuccessor::Go { cpu_us }, mut descriptors) = self.next()? else {
            anyhow::bail!("an unexpected message of the other process")
        };
        let standing = read_text(descriptors.pop().context("a descriptor is missing")?)?;
        let standing = serde_json::from_str(&standing).context("the state of the other process")?;
        self.release = Some(release);
        Ok((account(cpu_us, descriptors)?, standing))
    }

    /// Has the workers follow those of the other process.
    ///
    /// # Errors
    ///
    /// The engine's. The other process goes on then, unless new sockets were to be bound in place of its own.
    pub(crate) fn begin(&mut self, prepared: Prepared) -> Result<Running, EngineError> {
        match self.sockets {
            SocketsPass::Over | SocketsPass::Kept => {
                let running = prepared.go()?;
                self.follow();
                Ok(running)
            }
            SocketsPass::OpenedAnew => {
                self.follow();
                prepared.go()
            }
        }
    }

    /// Says that the workers can follow those of the other process.
    fn follow(&mut self) {
        self.has_gone = true;
        self.say(&ToPredecessor::Follows);
    }

    /// Says that the workers take packets, once they do.
    pub(crate) fn taken(&self, running: &Running, workers: usize) {
        let nanoseconds = |pause: Duration| u64::try_from(pause.as_nanos()).unwrap_or(u64::MAX);
        if let Some(passed) = running.passed_for() {
            tracing::info!(
                target: "mirror",
                "process {} has taken over: packets passed to the host for {passed:.0?}",
                process::id()
            );
            self.say(&ToPredecessor::Taken { pauses_ns: Vec::new(), cold_ns: Some(nanoseconds(passed)) });
            return;
        }
        let begun = Instant::now();
        while running.pauses().len() < workers && begun.elapsed() < BEGIN {
            std::thread::sleep(Duration::from_millis(1));
        }
        let pauses_ns: Vec<_> = running.pauses().into_iter().map(nanoseconds).collect();
        let longest = Duration::from_nanos(pauses_ns.iter().copied().max().unwrap_or_default());
        tracing::info!(
            target: "mirror",
            "process {} has taken over: packets waited in the rings for at most {longest:.0?}",
            process::id()
        );
        self.say(&ToPredecessor::Taken { pauses_ns, cold_ns: None });
    }

    fn say(&self, message: &ToPredecessor) {
        // If it has ended, that is found out with its account.
        if let Err(error) = self.socket().and_then(|socket| channel::send(socket, message, &[])) {
            tracing::debug!(%error, "the process before this one does not receive {message:?}");
        }
    }

    /// The final account of the other process, when it is there.
    pub(crate) fn account(&mut self) -> Option<Account> {
        let socket = self.socket.as_ref()?;
        if !channel::has_message(socket.as_fd(), 0).unwrap_or(true) {
            return None;
        }
        let received = self.next().and_then(|(message, descriptors)| match message {
            ToSuccessor::Account { cpu_us } => account(cpu_us, descriptors),
            _ => anyhow::bail!("an unexpected message"),
        });
        self.socket = None;
        let release = self.release.take();
        match received {
            Ok(account) => Some(account),
            Err(error) => {
                tracing::error!(
                    "the process before this one ended without its final account: what it counted last is \
                    missing: {error:#}"
                );
                // It takes nothing any more, whether its workers have said so or not.
                release.into_iter().for_each(Release::release);
                None
            }
        }
    }

    /// Whether the other process has not ended yet.
    pub(crate) fn is_awaited(&self) -> bool {
        self.socket.is_some()
    }

    fn socket(&self) -> io::Result<BorrowedFd<'_>> {
        self.socket.as_ref().map(OwnedFd::as_fd).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

fn account(cpu_us: u64, descriptors: Vec<OwnedFd>) -> anyhow::Result<Account> {
    let text = descriptors.into_iter().next().context("a descriptor is missing")?;
    let report = serde_json::from_str(&read_text(text)?).context("the account of the other process")?;
    Ok(Account { report, cpu: Duration::from_micros(cpu_us) })
}
