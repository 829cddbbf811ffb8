//! A capture as a stream (PCAP-over-IP), to one reader or several: over TCP, or over a Unix socket.
//!
//! Each reader has a buffer and gets whole packets only. If all readers are too far behind, the thread waits
//! briefly; then frames are dropped for the readers that are behind. For capture files it waits for each
//! reader until that makes progress or is disconnected.
//!
//! When there is the maximum of readers, the one furthest behind is disconnected for the next: so a slow
//! reader cannot keep others out.
//!
//! A frame counts as written once it is in the buffer of a reader, as with a socket's buffer. When a reader
//! disconnects, the bytes it had not read, at most 4 MiB, are logged.

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
    super::{error::OpenError, state::State},
    NotSent, Transmit,
};
use crate::{
    flow::{CommunityId, Packet},
    log_limit::LogLimit,
    sink::{
        handoff::{Outcome, record},
        origin::OriginNames,
        pcap::{Format, Stream},
    },
};
use reader::{Connection, Reader, peer};
use socket::{SocketName, listen_at};

/// The most readers.
const MAX_READERS: usize = 16;
/// How long to wait when all readers are behind.
const WAIT: Duration = Duration::from_millis(200);
/// Interval between attempts to write to a full socket.
const PAUSE: Duration = Duration::from_millis(2);
/// Timeout of a connection attempt, and interval between attempts.
const CONNECT: Duration = Duration::from_millis(500);
const AGAIN: Duration = Duration::from_secs(1);

/// Options of a stream.
#[derive(Clone, Debug)]
pub(in super::super) struct StreamOptions {
    pub(in super::super) format: Format,
    pub(in super::super) community_id: bool,
    /// Whether to wait for slow readers, as for capture files.
    pub(in super::super) patient: bool,
    pub(in super::super) names: OriginNames,
}

/// See the module.
pub(in super::super) struct PcapOverIp {
    endpoint: Endpoint,
    stream: Stream,
    options: StreamOptions,
    readers: Vec<Reader>,
    state: Arc<State>,
    log: LogLimits,
}

/// Limits of log lines about readers, by kind: readers can connect as often as they like.
#[derive(Default)]
struct LogLimits {
    connected: LogLimit,
    gone: LogLimit,
    disconnected: LogLimit,
    failed: LogLimit,
}

impl LogLimits {
    /// Logs how many lines were suppressed, by `ask`ing each limit.
    fn log_left_out(&mut self, mut ask: impl FnMut(&mut LogLimit) -> Option<u64>) {
        let Self { connected, gone, disconnected, failed } = self;
        let lines: u64 = [connected, gone, disconnected, failed].into_iter().filter_map(&mut ask).sum();
        if lines > 0 {
            tracing::warn!("{lines} more lines about readers were not logged");
        }
    }
}

enum Endpoint {
    Listen(TcpListener),
    Socket {
        listener: UnixListener,
        _name: SocketName,
    },
    Connect {
        to: SocketAddr,
        tried: Option<Instant>,
        /// Why the last attempt failed.
        refused: Option<io::Error>,
    },
}

impl Endpoint {
    /// Accepts the next reader, or connects to it.
    fn connection(&mut self) -> io::Result<(Connection, String)> {
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

    /// Whether it connects out and is connected.
    fn is_connected(&self, readers: usize) -> bool {
        matches!(self, Self::Connect { .. }) && readers > 0
    }
}

/// Listens for readers over TCP.
pub(in super::super) fn listen(at: SocketAddr) -> Result<TcpListener, OpenError> {
    let failed = |source: io::Error| {
        let remedy = match source.kind() {
            io::ErrorKind::AddrInUse => "; another program listens there: choose another port",
            io::ErrorKind::AddrNotAvailable => "; the host has no such address: see `ip address`",
            _ => "",
        };
        OpenError::Socket { what: "listening", source, remedy }
    };
    let listener = TcpListener::bind(at).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    Ok(listener)
}

impl PcapOverIp {
    pub(in super::super) fn listen(
        at: SocketAddr,
        options: StreamOptions,
        state: Arc<State>,
    ) -> Result<Self, OpenError> {
        Ok(Self::of_listener(listen(at)?, options, state))
    }

    /// Of a socket that [listens](listen).
    pub(in super::super) fn of_listener(
        listener: TcpListener,
        options: StreamOptions,
        state: Arc<State>,
    ) -> Self {
        Self::new(Endpoint::Listen(listener), options, state)
    }

    pub(in super::super) fn listen_at(
        path: &Path,
        mode: u32,
        group: Option<&str>,
        options: StreamOptions,
        state: Arc<State>,
    ) -> Result<Self, OpenError> {
        let (listener, name) = listen_at(path, mode, group)?;
        Ok(Self::new(Endpoint::Socket { listener, _name: name }, options, state))
    }

    pub(in super::super) fn connect(to: SocketAddr, options: StreamOptions, state: Arc<State>) -> Self {
        Self::new(Endpoint::Connect { to, tried: None, refused: None }, options, state)
    }

    fn new(endpoint: Endpoint, options: StreamOptions, state: Arc<State>) -> Self {
        let stream = Stream::new(options.format, options.names.clone());
        Self { endpoint, stream, options, readers: Vec::new(), state, log: LogLimits::default() }
    }

    /// Accepts readers, or connects to the one that listens. The error says why there is no reader.
    fn connect_readers(&mut self) -> Result<(), String> {
        // Bounded, so that many connections do not delay the rest. Others wait for the next call.
        for _ in 0..MAX_READERS {
            if self.endpoint.is_connected(self.readers.len()) {
                break;
            }
            let met = self.endpoint.connection().and_then(|(connection, name)| {
                connection.set_nonblocking()?;
                Ok((connection, name))
            });
            match met {
                Ok((connection, name)) => self.add_reader(connection, name),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => {
                    if let Endpoint::Connect { refused, .. } = &mut self.endpoint {
                        *refused = Some(error);
                    } else if self.log.failed.passes(Instant::now()) {
                        tracing::warn!(%error, "cannot accept a reader");
                    }
                    break;
                }
            }
        }
        if self.readers.is_empty() { Err(self.no_reader()) } else { Ok(()) }
    }

    /// Why there is no reader.
    fn no_reader(&self) -> String {
        match &self.endpoint {
            Endpoint::Connect { to, refused: Some(error), .. } => {
                format!("no reader at {to} ({error}); start it first")
            }
            _ if self.state.is_ready() => "no reader".to_owned(),
            _ => "no reader has connected".to_owned(),
        }
    }

    fn add_reader(&mut self, connection: Connection, name: String) {
        let now = Instant::now();
        if self.readers.len() >= MAX_READERS {
            let behind = self.readers.iter().enumerate();
            // Of several the latest, so that new readers do not drive out those that keep up.
            if let Some((furthest, _)) = behind.max_by_key(|(nth, reader)| (reader.behind.len(), *nth)) {
                let Reader { name, missed, behind, .. } = self.readers.remove(furthest);
                self.state.disconnected();
                if self.log.disconnected.passes(now) {
                    tracing::warn!(
                        reader = name,
                        missed,
                        "disconnected: {MAX_READERS} readers are connected, another has connected, and this \
                        one is furthest behind, by {} bytes",
                        behind.len()
                    );
                }
            }
        }
        if self.log.connected.passes(now) {
            tracing::info!(reader = name, "reader connected");
        }
        self.state.connected();
        let (header, announced) = self.stream.begin();
        self.readers.push(Reader::new(name, connection, header, announced));
    }

    /// Sends pending bytes; removes readers that have disconnected.
    fn push(&mut self) {
        let Self { readers, log, .. } = self;
        readers.retain_mut(|reader| match reader.push() {
            Ok(()) => true,
            Err(error) => {
                if log.gone.passes(Instant::now()) {
                    let Reader { name, missed, behind, .. } = reader;
                    let bytes = behind.len();
                    tracing::warn!(
                        reader = name,
                        missed,
                        "reader disconnected: {error}; {bytes} bytes were not read"
                    );
                }
                false
            }
        });
    }

    /// Waits until readers have read everything or disconnected.
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
                let message = format!("{left} bytes were not read within {seconds} s; check the reader");
                return Err(io::Error::new(io::ErrorKind::TimedOut, message));
            }
            thread::sleep(PAUSE);
        }
    }

    /// Waits briefly while all readers are too far behind for this many more bytes. If patient, waits while
    /// any is, until it is disconnected.
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
            false if self.readers.is_empty() => outcome.not_sent(NotSent::Down, frames),
            false => outcome.not_sent(NotSent::NoBuffer, frames),
        }
    }

    fn check(&mut self) -> Result<(), String> {
        let now = Instant::now();
        self.log.log_left_out(|limit| limit.left_out(now));
        self.push();
        let connected = self.connect_readers();
        self.push();
        connected
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
