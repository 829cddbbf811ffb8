//! One reader of a stream, and what it has not taken yet.

use std::{
    io::{self, Write as _},
    net::{Shutdown, TcpStream},
    os::unix::net::UnixStream,
    time::{Duration, Instant},
};

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};

use crate::sink::pcap::Announced;

/// Bytes that a reader may be behind.
const BEHIND: usize = 4 << 20;
/// How long a reader may take nothing before it is given up.
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

/// Who is at the other end of a Unix socket.
pub(super) fn peer(socket: &UnixStream) -> String {
    match getsockopt(socket, PeerCredentials) {
        Ok(peer) => format!("process {} of user {}", peer.pid(), peer.uid()),
        Err(error) => format!("unknown: {error}"),
    }
}

pub(super) struct Reader {
    /// An address, or a process.
    pub(super) name: String,
    connection: Connection,
    /// What it has not taken yet.
    pub(super) behind: Vec<u8>,
    /// What it knows of the stream.
    pub(super) announced: Announced,
    /// When it last took something, or was behind with nothing.
    took: Instant,
    /// Frames that it did not get.
    pub(super) missed: u64,
}

impl Reader {
    pub(super) fn new(name: String, connection: Connection, header: Vec<u8>, announced: Announced) -> Self {
        Self { name, connection, behind: header, announced, took: Instant::now(), missed: 0 }
    }

    pub(super) fn has_room(&self, bytes: usize) -> bool {
        self.behind.len() + bytes <= BEHIND
    }

    /// Sends what it has not taken yet, as far as it takes it.
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
            self.took = Instant::now();
            self.behind.drain(..taken);
        } else if self.took.elapsed() >= STUCK {
            let seconds = STUCK.as_secs();
            return Err(io::Error::new(io::ErrorKind::TimedOut, format!("it took nothing for {seconds} s")));
        }
        Ok(())
    }

    /// So that it reads the end of the stream and no reset.
    pub(super) fn end(self) {
        if let Err(error) = self.connection.shutdown() {
            tracing::debug!(reader = self.name, %error, "gone before the end");
        }
    }
}
