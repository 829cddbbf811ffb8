//! A capture as a TCP stream (PCAP-over-IP), to one reader or several.
//!
//! Each reader has a buffer, and gets whole packets only. While no reader takes anything, the thread waits a moment, so
//! that the blocks behind it fill; then what is not taken is dropped, for the readers that are behind alone.
//!
//! A frame counts as written once it is in the buffer of a reader, as one does that is in a socket's: what a reader that goes
//! had not taken yet, 4 MiB at most, is told in the log.

use std::{
    io::{self, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

use super::{super::builder::OpenError, Output, Refusal};
use crate::{
    flow::{CommunityId, Packet},
    sink::{
        handoff::{Settled, record},
        pcap::{Format, Stream, Told},
    },
};

/// Readers that are served at most; further ones are sent away.
const MAX_READERS: usize = 16;
/// Bytes that a reader may be behind.
const BEHIND: usize = 4 << 20;
/// How long readers that are all behind are waited for.
const WAIT: Duration = Duration::from_millis(200);
/// How long a reader may take nothing before it is given up.
const STUCK: Duration = Duration::from_secs(10);
/// How long to leave a full socket alone.
const PAUSE: Duration = Duration::from_millis(2);
/// How long a connection may take to come about, and how long after one that did not, the next is tried.
const CONNECT: Duration = Duration::from_millis(500);
const AGAIN: Duration = Duration::from_secs(1);

/// See the module.
pub(in super::super) struct PcapOverIp {
    way: Way,
    stream: Stream,
    community_id: bool,
    readers: Vec<Reader>,
}

enum Way {
    Listen(TcpListener),
    Connect { to: SocketAddr, tried: Option<Instant> },
}

struct Reader {
    name: SocketAddr,
    socket: TcpStream,
    /// What it has not taken yet.
    behind: Vec<u8>,
    /// What it knows of the stream.
    told: Told,
    /// When it last took something, or was behind with nothing.
    took: Instant,
    missed: u64,
}

impl PcapOverIp {
    pub(in super::super) fn listen(
        at: SocketAddr,
        format: Format,
        community_id: bool,
    ) -> Result<Self, OpenError> {
        let failed = |source: io::Error| {
            let mend = match source.kind() {
                io::ErrorKind::AddrInUse => "; another program listens there: choose another port",
                io::ErrorKind::AddrNotAvailable => "; the host has no such address: see `ip address`",
                _ => "",
            };
            OpenError::Socket { what: "listening", source, mend }
        };
        let listener = TcpListener::bind(at).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        Ok(Self::new(Way::Listen(listener), format, community_id))
    }

    pub(in super::super) fn connect(to: SocketAddr, format: Format, community_id: bool) -> Self {
        Self::new(Way::Connect { to, tried: None }, format, community_id)
    }

    fn new(way: Way, format: Format, community_id: bool) -> Self {
        let stream = Stream::new(format);
        Self { way, stream, community_id, readers: Vec::new() }
    }

    /// Takes in readers that have come, or goes to the one that listens.
    fn meet(&mut self) {
        loop {
            let (socket, name) = match &mut self.way {
                Way::Listen(listener) => match listener.accept() {
                    Ok(reader) => reader,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                    Err(error) => {
                        tracing::debug!(%error, "a reader could not be taken in");
                        return;
                    }
                },
                Way::Connect { to, tried } => {
                    if !self.readers.is_empty() || tried.is_some_and(|tried| tried.elapsed() < AGAIN) {
                        return;
                    }
                    *tried = Some(Instant::now());
                    match TcpStream::connect_timeout(to, CONNECT) {
                        Ok(socket) => (socket, *to),
                        Err(error) => {
                            tracing::debug!(%error, %to, "no reader there");
                            return;
                        }
                    }
                }
            };
            if self.readers.len() >= MAX_READERS {
                tracing::warn!(reader = %name, "sent away: {MAX_READERS} readers are served already");
                continue;
            }
            if let Err(error) = socket.set_nonblocking(true) {
                tracing::warn!(reader = %name, %error, "sent away");
                continue;
            }
            tracing::info!(reader = %name, "a reader has come");
            let (behind, told) = self.stream.begin();
            let reader = Reader { name, socket, behind, told, took: Instant::now(), missed: 0 };
            self.readers.push(reader);
        }
    }

    /// Sends what readers have not taken yet; those that have gone are let go.
    fn push(&mut self) {
        self.readers.retain_mut(|reader| match reader.push() {
            Ok(()) => true,
            Err(error) => {
                let Reader { name, missed, behind, .. } = reader;
                let bytes = behind.len();
                tracing::warn!(reader = %name, missed, "gone: {error}; {bytes} bytes were not taken");
                false
            }
        });
    }

    /// Waits until readers have taken all, or have gone.
    pub(in super::super) fn drain(&mut self, patience: Duration) -> io::Result<()> {
        let start = Instant::now();
        loop {
            self.push();
            let left: usize = self.readers.iter().map(|reader| reader.behind.len()).sum();
            if left == 0 {
                return Ok(());
            }
            if start.elapsed() >= patience {
                let seconds = patience.as_secs();
                let message = format!(
                    "{left} bytes were not taken within {seconds} s; see whether its reader still reads"
                );
                return Err(io::Error::new(io::ErrorKind::TimedOut, message));
            }
            thread::sleep(PAUSE);
        }
    }

    /// Waits while every reader is too far behind for so many more bytes, but not long.
    fn wait_for_room(&mut self, bytes: usize) {
        let start = Instant::now();
        while !self.readers.is_empty()
            && self.readers.iter().all(|reader| !reader.has_room(bytes))
            && start.elapsed() < WAIT
        {
            thread::sleep(PAUSE);
            self.push();
        }
    }
}

impl Reader {
    fn has_room(&self, bytes: usize) -> bool {
        self.behind.len() + bytes <= BEHIND
    }

    fn push(&mut self) -> io::Result<()> {
        let mut taken = 0;
        while taken < self.behind.len() {
            match self.socket.write(&self.behind[taken..]) {
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
}

impl Output for PcapOverIp {
    fn send(&mut self, records: &[u8], settled: &mut Settled) {
        self.stream.clear();
        let mut frames = 0;
        for frame in record::frames(records) {
            let inner = frame.inner();
            let packet = self.community_id.then(|| Packet::of(inner.first())).flatten();
            let id = packet.map(|packet| packet.flow.community_id(0));
            let comment = id.as_ref().map(CommunityId::as_str);
            self.stream.put(&frame, comment);
            frames += 1;
        }
        self.push();
        self.wait_for_room(self.stream.len());
        let mut took = false;
        for reader in &mut self.readers {
            if reader.has_room(self.stream.len()) {
                self.stream.add_to(&mut reader.behind, &mut reader.told);
                took = true;
            } else {
                reader.missed += frames;
            }
        }
        self.push();
        match took {
            true => settled.written += frames,
            false if self.readers.is_empty() => settled.refuse(Refusal::Down, frames),
            false => settled.refuse(Refusal::NoBuffer, frames),
        }
    }

    fn look(&mut self) -> Result<(), String> {
        self.meet();
        self.push();
        if self.readers.is_empty() { Err("nobody reads".to_owned()) } else { Ok(()) }
    }

    fn finish(&mut self, patience: Duration) -> io::Result<()> {
        for reader in &mut self.readers {
            self.stream.end(&mut reader.behind, &reader.told);
        }
        let drained = self.drain(patience);
        for reader in self.readers.drain(..) {
            // So that it reads the end of the stream and no reset.
            if let Err(error) = reader.socket.shutdown(Shutdown::Write) {
                tracing::debug!(reader = %reader.name, %error, "gone before the end");
            }
        }
        drained
    }
}
