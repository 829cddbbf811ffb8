//! Sends given frames, byte for byte, out of an interface.

use std::{
    num::NonZeroU32,
    thread,
    time::{Duration, Instant},
};

use crate::{
    error::{LabError, Result},
    interface_counters::InterfaceCounters,
    namespace::Namespace,
    packet_socket::PacketSocket,
};

/// Sends raw frames on one interface at a bounded pace, and proves that the interface lost none.
#[derive(Debug)]
pub struct Injector {
    socket: PacketSocket,
    namespace: Namespace,
    interface: String,
    pause: Duration,
}

/// The default pace, frames a second: far below what a veth and an AF_XDP socket take.
const DEFAULT_PACE: u32 = 20_000;

/// The most frames sent at once by a sender that was late: two of them fit a veth's ring of 256.
const MOST_AT_ONCE: u32 = 64;

impl Injector {
    /// An injector on `interface` in `namespace`, at 20 000 frames a second.
    ///
    /// # Errors
    ///
    /// [`LabError::Io`] if there is no such interface.
    pub fn new(namespace: &Namespace, interface: &str) -> Result<Self> {
        let socket = PacketSocket::open(namespace, interface)?;
        let injector = Self {
            socket,
            namespace: namespace.clone(),
            interface: interface.to_owned(),
            pause: Duration::from_secs(1) / DEFAULT_PACE,
        };
        Ok(injector)
    }

    /// Hands frames to the driver by no queueing discipline, and waits where its ring is full: for cards,
    /// whose default discipline may drop what waited long. A veth has neither.
    ///
    /// # Errors
    ///
    /// [`LabError::Io`] if the kernel refuses that.
    pub fn direct(self) -> Result<Self> {
        Ok(Self { socket: self.socket.direct()?, ..self })
    }

    /// Sends at most this many frames a second. A sender that was kept from running catches up by 64
    /// frames; by all that it missed it would fill the ring at the other end.
    #[must_use]
    pub fn pace(mut self, frames_per_second: NonZeroU32) -> Self {
        self.pause = Duration::from_secs(1) / frames_per_second.get();
        self
    }

    /// Sends the frames in sequence, each at its time, and gives how many there were.
    ///
    /// # Errors
    ///
    /// [`LabError::Io`] if the kernel refuses one, [`LabError::Unexpected`] if the interface counted a
    /// drop: the receiving end was too slow for the pace.
    pub fn send<'a>(&self, frames: impl IntoIterator<Item = &'a [u8]>) -> Result<u64> {
        let before = InterfaceCounters::read(&self.namespace, &self.interface)?;
        let mut due = Instant::now();
        let mut sent = 0_u64;
        for frame in frames {
            let now = Instant::now();
            if due > now {
                thread::sleep(due - now);
            } else {
                due = due.max(now - self.pause * MOST_AT_ONCE);
            }
            self.socket.send(frame)?;
            due += self.pause;
            sent += 1;
        }
        let dropped =
            InterfaceCounters::read(&self.namespace, &self.interface)?.tx_dropped - before.tx_dropped;
        if dropped > 0 {
            return Err(LabError::Unexpected(format!(
                "{} dropped {dropped} of {sent} injected frames; inject at a lower pace",
                self.interface
            )));
        }
        Ok(sent)
    }

    /// [`send`](Self::send) for owned frames.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn send_all(&self, frames: &[Vec<u8>]) -> Result<u64> {
        self.send(frames.iter().map(Vec::as_slice))
    }
}
