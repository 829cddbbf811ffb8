//! A capture as a stream (PCAP-over-IP), to one reader or several: over TCP, or over a Unix socket.
//!
//! Each reader has a buffer, and gets whole packets only. While no reader takes anything, the thread waits a
//! moment, so that the blocks behind it fill; then what is not taken is dropped, for the readers that are
//! behind alone. Over capture files it waits for each reader instead, until that takes something or is given
//! up.
//!
//! When every place is taken, the reader that is furthest behind makes room for the next: whoever may connect
//! can take places, and none can keep others out by being slow.
//!
//! A frame counts as written once it is in the buffer of a reader, as one does that is in a socket's: what a
//! reader that goes had not taken yet, 4 MiB at most, is told in the log.

mod reader;
mod socket;

use std::{
    io,
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::net::UnixListener,
    path::Path,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use super::{
    super::{builder::OpenError, member::State},
    Refusal, Transmit,
};
use crate::{
    flow::{CommunityId, Packet},
    log_limit::LogLimit,
    sink::{
        handoff::{Outcome, record},
        pcap::{Format, Stream},
    },
};
use reader::{Connection, Reader, peer};
use socket::{SocketName, listen_at};

/// Readers that are served at most.
const MAX_READERS: usize = 16;
/// How long readers that are all behind are waited for.
const WAIT: Duration = Duration::from_millis(200);
/// How long to leave a full socket alone.
const PAUSE: Duration = Duration::from_millis(2);
/// How long a connection may take to come about, and how long after one that did not, the next is tried.
const CONNECT: Duration = Duration::from_millis(500);
const AGAIN: Duration = Duration::from_secs(1);

/// What a stream is made of.
#[derive(Clone, Debug)]
pub(in super::super) struct StreamOptions {
    pub(in super::super) format: Format,
    pub(in super::super) community_id: bool,
    /// Whether readers are waited for until they are given up, as over capture files.
    pub(in super::super) patient: bool,
}

/// See the module.
pub(in super::super) struct PcapOverIp {
    way: Way,
    stream: Stream,
    options: StreamOptions,
    readers: Vec<Reader>,
    state: Arc<State>,
    log: Lines,
}

/// Lines about readers, who come and go as they like: of each kind some.
#[derive(Default)]
struct Lines {
    came: LogLimit,
    gone: LogLimit,
    disconnected: LogLimit,
    failed: LogLimit,
}

impl Lines {
    /// Logs how many were not, of each kind as it is asked.
    fn log_left_out(&mut self, mut ask: impl FnMut(&mut LogLimit) -> Option<u64>) {
        let Self { came, gone, disconnected, failed } = self;
        let lines: u64 = [came, gone, disconnected, failed].into_iter().filter_map(&mut ask).sum();
        if lines > 0 {
            tracing::warn!("{lines} more lines about readers that came and went were not logged");
        }
    }
}

enum Way {
    Listen(TcpListener),
    Socket {
        listener: UnixListener,
        _name: SocketName,
    },
    Connect {
        to: SocketAddr,
        tried: Option<Instant>,
        /// Why the last try came to nothing.
        refused: Option<io::Error>,
    },
}

impl Way {
    /// The next reader, if one has come.
    fn meet(&mut self) -> io::Result<(Connection, String)> {
        match self {
            Self::Listen(listener) => {
                listener.accept().map(|(socket, from)| (Connection::Tcp(socket), from.to_string()))
            }
            Self::Socket { listener, .. } => listener.accept().map(|(socket, _)| {
                let name = peer(&socket);
                (Connection::Unix(socket), name)
            }),
            Self::Connect { to, tried, .. } => {
                if tried.is_some_and(|tried| tried.elapsed() < AGAIN) {
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                *tried = Some(Instant::now());
                TcpStream::connect_timeout(to, CONNECT)
                    .map(|socket| (Connection::Tcp(socket), to.to_string()))
            }
        }
    }

    /// Whether it has the one reader it goes to.
    fn is_met(&self, readers: usize) -> bool {
        matches!(self, Self::Connect { .. }) && readers > 0
    }
}

impl PcapOverIp {
    pub(in super::super) fn listen(
        at: SocketAddr,
        options: StreamOptions,
        state: Arc<State>,
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
        Ok(Self::new(Way::Listen(listener), options, state))
    }

    pub(in super::super) fn listen_at(
        path: &Path,
        mode: u32,
        group: Option<&str>,
        options: StreamOptions,
        state: Arc<State>,
    ) -> Result<Self, OpenError> {
        let (listener, name) = listen_at(path, mode, group)?;
        Ok(Self::new(Way::Socket { listener, _name: name }, options, state))
    }

    pub(in super::super) fn connect(to: SocketAddr, options: StreamOptions, state: Arc<State>) -> Self {
        Self::new(Way::Connect { to, tried: None, refused: None }, options, state)
    }

    fn new(way: Way, options: StreamOptions, state: Arc<State>) -> Self {
        let stream = Stream::new(options.format);
        Self { way, stream, options, readers: Vec::new(), state, log: Lines::default() }
    }

    /// Takes in readers that have come, or goes to the one that listens. The reason where nobody is there.
    fn meet(&mut self) -> Result<(), String> {
        // Those that come while it is at it wait for the next time: a crowd keeps it from nothing else.
        for _ in 0..MAX_READERS {
            if self.way.is_met(self.readers.len()) {
                break;
            }
            let met = self.way.meet().and_then(|(connection, name)| {
                connection.set_nonblocking()?;
                Ok((connection, name))
            });
            match met {
                Ok((connection, name)) => self.take_in(connection, name),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => {
                    if let Way::Connect { refused, .. } = &mut self.way {
                        *refused = Some(error);
                    } else if self.log.failed.passes(Instant::now()) {
                        tracing::warn!(%error, "a reader could not be taken in");
                    }
                    break;
                }
            }
        }
        if self.readers.is_empty() { Err(self.nobody()) } else { Ok(()) }
    }

    /// Why nobody reads.
    fn nobody(&self) -> String {
        match &self.way {
            Way::Connect { to, refused: Some(error), .. } => {
                format!("nobody reads at {to} ({error}); start its reader first")
            }
            _ if self.state.is_ready() => "nobody reads".to_owned(),
            _ => "nobody reads: no reader has come".to_owned(),
        }
    }

    fn take_in(&mut self, connection: Connection, name: String) {
        let now = Instant::now();
        if self.readers.len() >= MAX_READERS {
            let behind = self.readers.iter().enumerate();
            // Of several the one that came last: readers that keep up are not driven out by those that come
            // and go.
            if let Some((furthest, _)) = behind.max_by_key(|(nth, reader)| (reader.behind.len(), *nth)) {
                let Reader { name, missed, behind, .. } = self.readers.remove(furthest);
                self.state.disconnected();
                if self.log.disconnected.passes(now) {
                    tracing::warn!(
                        reader = name,
                        missed,
                        "disconnected: {MAX_READERS} readers are served, another has come, and it is \
                        furthest behind, by {} bytes",
                        behind.len()
                    );
                }
            }
        }
        if self.log.came.passes(now) {
            tracing::info!(reader = name, "a reader has come");
        }
        self.state.came();
        let (header, announced) = self.stream.begin();
        self.readers.push(Reader::new(name, connection, header, announced));
    }

    /// Sends what readers have not taken yet; those that have gone are let go.
    fn push(&mut self) {
        let Self { readers, log, .. } = self;
        readers.retain_mut(|reader| match reader.push() {
            Ok(()) => true,
            Err(error) => {
                if log.gone.passes(Instant::now()) {
                    let Reader { name, missed, behind, .. } = reader;
                    let bytes = behind.len();
                    tracing::warn!(reader = name, missed, "gone: {error}; {bytes} bytes were not taken");
                }
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

    /// Waits while readers are too far behind for so many more bytes: all of them, and not long; where it is
    /// patient, any of them, until those that take nothing are given up.
    fn wait_for_room(&mut self, bytes: usize) {
        let start = Instant::now();
        let patient = self.options.patient;
        loop {
            let mut full = self.readers.iter().map(|reader| !reader.has_room(bytes));
            let wait = if patient {
                full.any(|full| full)
            } else {
                !self.readers.is_empty() && full.all(|full| full)
            };
            if !wait || (!patient && start.elapsed() >= WAIT) {
                return;
            }
            thread::sleep(PAUSE);
            self.push();
        }
    }
}

impl Transmit for PcapOverIp {
    fn send(&mut self, records: &[u8], outcome: &mut Outcome) {
        self.stream.clear();
        let mut frames = 0;
        for frame in record::frames(records) {
            let inner = frame.inner();
            let packet = self.options.community_id.then(|| Packet::of(inner.first())).flatten();
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
                self.stream.add_to(&mut reader.behind, &mut reader.announced);
                took = true;
            } else {
                reader.missed += frames;
            }
        }
        self.push();
        match took {
            true => outcome.written += frames,
            false if self.readers.is_empty() => outcome.refuse(Refusal::Down, frames),
            false => outcome.refuse(Refusal::NoBuffer, frames),
        }
    }

    fn look(&mut self) -> Result<(), String> {
        let now = Instant::now();
        self.log.log_left_out(|limit| limit.left_out(now));
        self.push();
        let met = self.meet();
        self.push();
        met
    }

    fn finish(&mut self, patience: Duration) -> io::Result<()> {
        for reader in &mut self.readers {
            self.stream.end(&mut reader.behind, &reader.announced);
        }
        let drained = self.drain(patience);
        self.readers.drain(..).for_each(Reader::end);
        self.log.log_left_out(LogLimit::rest);
        drained
    }
}
