//! Carriers: the TAP devices that copies of packets are put into.

use std::{fmt, io, time::Instant};

use super::{
    AgentError, FrameCounters, SessionOut,
    segment::VnetHeader,
    send::{Path, Sender},
};
use crate::{
    host::{
        burst::Burst,
        interface::{CounterReader, Interface},
        tap::{QUEUE, Tap, TapOptions, TapReading},
    },
    log_limit::LogLimit,
};

/// The longest frame: 64 KiB of GSO or of the largest MTU, with Ethernet header and VLAN tags.
const LONGEST: usize = VnetHeader::LEN + (1 << 16) + 64;
/// Bytes that are read before they are sent: some super-frames, or many small frames.
const BUFFER: usize = 4 * LONGEST;

/// A TAP device of a session: what is redirected to it is sent to the session's target. It has no addresses,
/// ARP and IPv6, so that nothing else is in it, and the kernel removes it with the process.
pub struct Carrier {
    name: String,
    index: u32,
    session: SessionOut,
    interface: CounterReader,
    reader: Reader,
}

impl fmt::Debug for Carrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, index, session, interface: _, reader: _ } = self;
        f.debug_struct("Carrier")
            .field("name", name)
            .field("index", index)
            .field("session", session)
            .finish_non_exhaustive()
    }
}

impl Carrier {
    /// Frames that suit most: what comes in 1 ms at 4 million a second.
    pub const QUEUE: u32 = QUEUE;

    /// Makes the device in the calling thread's network namespace, by which the target is reached, too. At
    /// most `queue` frames, of up to 64 KiB, wait in it to be read; what comes then is counted as
    /// [`carrier_dropped`](super::CarrierCounters::carrier_dropped). Needs CAP_NET_ADMIN and CAP_NET_RAW.
    /// Minimum kernel version: 4.18; from 6.2 on datagrams of UDP GSO come whole, too.
    ///
    /// # Errors
    ///
    /// [`AgentError::Host`]: the name is taken, a privilege is missing, or the target has no route.
    /// [`AgentError::Socket`].
    pub fn open(name: &str, session: SessionOut, queue: u32) -> Result<Self, AgentError> {
        let sender = Sender::open(session)?;
        let tap = Tap::open(name, TapOptions::to_read(TapReading { queue, ..TapReading::new() }))?;
        let interface = Interface::named(name)?;
        let (counters, log) = (FrameCounters::default(), LogLimit::default());
        Ok(Self {
            name: name.to_owned(),
            index: interface.index,
            session,
            interface: interface.counters()?,
            reader: Reader { name: name.to_owned(), tap, sender, counters, log },
        })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The index of the interface, for `bpf_clone_redirect`.
    #[must_use]
    pub fn ifindex(&self) -> u32 {
        self.index
    }

    /// Its session.
    #[must_use]
    pub fn session(&self) -> SessionOut {
        self.session
    }

    /// The kernel's counters, and what the agent's thread has of it.
    pub(super) fn into_parts(self) -> (CounterReader, Reader) {
        (self.interface, self.reader)
    }
}

/// Reads a carrier, and sends what it reads.
pub(super) struct Reader {
    name: String,
    tap: Tap,
    sender: Sender,
    counters: FrameCounters,
    log: LogLimit,
}

impl Reader {
    pub(super) fn counters(&self) -> FrameCounters {
        self.counters
    }

    pub(super) fn replace(&mut self, session: SessionOut, path: Option<Path>) {
        self.sender.replace(session, path);
    }

    pub(super) fn look(&mut self, now: Instant) {
        self.sender.look(now);
    }

    /// Reads as much as the buffer takes, and sends it; whether there may be more.
    pub(super) fn pass(&mut self, buffer: &mut Buffer, seed: u64, burst: &mut Burst) -> bool {
        let is_full = buffer.fill(|room| self.receive(room));
        self.sender.send(buffer.frames(), seed, burst, &mut self.counters);
        is_full
    }

    /// Reads a frame; `None` if there is none.
    fn receive(&mut self, room: &mut [u8]) -> Option<usize> {
        loop {
            match self.tap.receive(room) {
                Ok(len) => return Some(len),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) => self.counters.unreadable += 1,
                Err(error) => {
                    if self.log.passes(Instant::now()) {
                        tracing::warn!("{}: cannot be read: {error}", self.name);
                    }
                    return None;
                }
            }
        }
    }
}

/// Frames that were read, one behind the other.
pub(super) struct Buffer {
    bytes: Vec<u8>,
    lengths: Vec<usize>,
}

impl Buffer {
    pub(super) fn new() -> Self {
        Self { bytes: vec![0; BUFFER], lengths: Vec::new() }
    }

    /// Reads frames in place of those there are, as long as the longest would fit; whether that was the end.
    fn fill(&mut self, mut receive: impl FnMut(&mut [u8]) -> Option<usize>) -> bool {
        self.lengths.clear();
        let mut end = 0;
        while let Some(room) = self.bytes[end..].get_mut(..LONGEST) {
            let Some(len) = receive(room) else { return false };
            end += len;
            self.lengths.push(len);
        }
        true
    }

    fn frames(&mut self) -> impl Iterator<Item = &mut [u8]> {
        let mut rest = self.bytes.as_mut_slice();
        self.lengths.iter().map(move |len| {
            let (frame, behind) = std::mem::take(&mut rest).split_at_mut(*len);
            rest = behind;
            frame
        })
    }
}
