//! `--http`: health, metrics, the live report and a page, over HTTP.
//!
//! One thread answers GET and HEAD from memory. It holds no capability, opens nothing, and never makes a
//! worker wait: what it shows, the main thread leaves for it. Its socket listens before anything of the run
//! is opened, so that a port in use is an error in time, and a load balancer sees the start as unhealthy.

mod access;
mod answers;
mod board;
mod connection;
pub(crate) mod health;
mod metrics;
mod page;
mod process;
mod request;
mod server;
mod status;

use std::{
    io,
    net::{SocketAddr, TcpListener},
    os::fd::OwnedFd,
    sync::{Arc, mpsc},
    thread,
};

use anyhow::Context as _;
use ipnet::IpNet;
use mirror_user::settings::Settings;

use self::{
    answers::Answers,
    server::{CONNECTIONS, Server},
};
pub(crate) use self::{board::Board, metrics::OriginId};
use crate::observed::Observed;

/// File descriptors that it takes at most: its socket, its clients, and one that is turned away.
pub(crate) const FILES: u64 = CONNECTIONS as u64 + 2;

/// Where it listens, and what makes a run unhealthy.
#[derive(Clone, Debug)]
pub(crate) struct HttpConfig {
    address: SocketAddr,
    allowed: Vec<IpNet>,
    /// In percent.
    pub(crate) most_loss: Option<f64>,
}

impl HttpConfig {
    /// `None` without an address.
    pub(crate) fn of(settings: &Settings) -> Option<Self> {
        Some(Self {
            address: settings.http.as_deref()?.0,
            allowed: settings.http_allow.as_deref().map(|list| list.0.clone()).unwrap_or_default(),
            most_loss: settings.health_loss.as_deref().map(|percent| percent.0),
        })
    }

    /// A flag that has no meaning without an address, which is not given.
    pub(crate) fn flag_alone(settings: &Settings) -> Option<&'static str> {
        let flags = [
            ("--http-allow", settings.http_allow.is_some()),
            ("--health-loss", settings.health_loss.is_some()),
        ];
        let given = flags.iter().find(|(_, given)| *given && settings.http.is_none());
        given.map(|(flag, _)| *flag)
    }

    /// Listens, without answering yet; on a socket of another process, if it is of this address.
    pub(crate) fn listen(&self, left: Option<TcpListener>) -> anyhow::Result<Listening> {
        let Self { address, allowed, .. } = self;
        let is_same = |left: &TcpListener| {
            left.local_addr()
                .is_ok_and(|there| there.ip() == address.ip() && [0, there.port()].contains(&address.port()))
        };
        if let Some(listener) = left.filter(is_same) {
            return Ok(Listening { listener, allowed: allowed.clone() });
        }
        let listen = || {
            let listener = TcpListener::bind(address)?;
            listener.set_nonblocking(true)?;
            io::Result::Ok(listener)
        };
        let listener = listen().map_err(|error| {
            let remedy = match error.kind() {
                io::ErrorKind::AddrInUse => "; another program listens there: choose another port",
                io::ErrorKind::AddrNotAvailable => "; no interface of this host has the address",
                io::ErrorKind::PermissionDenied => "; ports below 1024 need CAP_NET_BIND_SERVICE",
                _ => "",
            };
            anyhow::anyhow!("--http {address}: {error}{remedy}")
        })?;
        Ok(Listening { listener, allowed: allowed.clone() })
    }
}

/// A socket that listens.
#[derive(Debug)]
pub(crate) struct Listening {
    listener: TcpListener,
    allowed: Vec<IpNet>,
}

impl Listening {
    /// Where, with the port that was chosen for port 0.
    pub(crate) fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// The socket, for another process.
    pub(crate) fn lend(&self) -> io::Result<OwnedFd> {
        self.listener.try_clone().map(OwnedFd::from)
    }

    /// Starts the thread, which first calls `prepare`. It ends with the process.
    pub(crate) fn serve(
        self,
        observed: &Arc<Observed>,
        prepare: impl FnOnce() -> io::Result<()> + Send + 'static,
    ) -> anyhow::Result<Arc<Board>> {
        const FAILED: &str = "cannot start the HTTP thread";
        let board = Board::new(observed);
        let answers = Answers::new(Arc::clone(&board));
        let Self { listener, allowed } = self;
        let server = Server { listener, answers, allowed, connections: Vec::with_capacity(CONNECTIONS) };
        let (ready, is_ready) = mpsc::channel();
        thread::Builder::new()
            .name("mirror-http".to_owned())
            .spawn(move || {
                let prepared = prepare();
                let failed = prepared.is_err();
                if ready.send(prepared).is_ok() && !failed {
                    server.run();
                }
            })
            .context(FAILED)?;
        is_ready.recv().context(FAILED)?.context(FAILED)?;
        Ok(board)
    }
}

#[cfg(test)]
mod tests;
