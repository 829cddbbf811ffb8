//! One reader of a stream, and the bytes it has not read yet.

use std::{
    io::{self, Write as _},
    net::{Shutdown, TcpStream},
    os::unix::net::UnixStream,
    time::{Duration, Instant},
};

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};

use crate::sink::pcap::Announced;

/// The most bytes that a reader may be behind.
const MAX_BEHIND: usize = 4 << 20;
/// How long a reader may make no progress before it is disconnected.
const STUCK: Duration = Duration::from_secs(10);

/// A connection to a reader.
pub(super) enum Connection {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Connection {
    pub(super) fn set_nonblocking(&self) -> io::Result<()> {
        match self {
            Self::Tcp(socket) => socket.set_nonblocking(true),
            Self::Unix(socket) => socket.set_nonblocking(true),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(socket) => socket.write(bytes),
            Self::Unix(socket) => socket.write(bytes),
        }
    }

    fn shutdown(&self) -> io::Result<()> {
        match self {
            Self::Tcp(socket) => socket.shutdown(Shutdown::Write),
            Self::Unix(socket) => socket.shutdown(Shutdown::Write),
        }
    }
}

/// The process at the other end of a Unix socket.
pub(super) fn peer(socket: &UnixStream) -> String {
    match getsockopt(socket, PeerCredentials) {
        Ok(peer) => format!("process {} of user {}", peer.pid(), peer.uid()),
        Err(error) => format!("unknown: {error}"),
    }
}

pub(super) struct Reader {
    /// Its address or process.
    pub(super) name: String,
    connection: Connection,
    /// Bytes it has not read yet.
    pub(super) behind: Vec<u8>,
    /// The interfaces of its stream.
    pub(super) announced: Announced,
    /// When it last read something, or was not behind.
    progress: Instant,
    /// Frames that were not sent to it.
    pub(super) missed: u64,
}

impl Reader {
    pub(super) fn new(name: String, connection: Connection, header: Vec<u8>, announced: Announced) -> Self {
        Self { name, connection, behind: header, announced, progress: Instant::now(), missed: 0 }
    }

    pub(super) fn has_room(&self, bytes: usize) -> bool {
        self.behind.len() + bytes <= MAX_BEHIND
    }

    /// Sends pending bytes, as far as the socket has room.
    pub(super) fn push(&mut self) -> io::Result<()> {
        let mut taken = 0;
        while taken < self.behind.len() {
            match self.connection.write(&self.behind[taken..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(bytes) => taken += bytes,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        if taken > 0 || self.behind.is_empty() {
            self.progress = Instant::now();
            self.behind.drain(..taken);
        } else if self.progress.elapsed() >= STUCK {
            let seconds = STUCK.as_secs();
            return Err(io::Error::new(io::ErrorKind::TimedOut, format!("no progress for {seconds} s")));
        }
        Ok(())
    }

    /// Shuts down the connection, so that the reader gets the end of the stream and no reset.
    pub(super) fn end(self) {
        if let Err(error) = self.connection.shutdown() {
            tracing::debug!(reader = self.name, %error, "disconnected before the end");
        }
    }
}
