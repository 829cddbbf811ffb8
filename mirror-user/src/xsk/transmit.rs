//! An AF_XDP socket that sends, in copy mode: the kernel makes a packet of each descriptor within sendto(2),
//! past queueing disciplines, and hands it to the driver.

use std::{
    io,
    os::fd::OwnedFd,
    thread,
    time::{Duration, Instant},
};

use rustix::net::{
    SendFlags, send,
    sockopt::xdp_statistics,
    xdp::{SocketAddrXdp, SocketAddrXdpFlags},
};

use super::{
    SocketError,
    bind::{UNUSED_RING, Unbound, bind},
    ring::{CompletionRing, FillRing, TxRing},
    umem::{Chunks, HugePages, Umem},
};

/// Frames that one sendto(2) takes at least (`TX_BATCH_SIZE` of the kernel's `net/xdp/xsk.c`): with no more
/// than these in the ring, EAGAIN means that the driver or the socket's memory is full, and nothing else.
pub(crate) const BURST: usize = 32;

/// Sockets that opening a [`Transmitter`] takes at most.
pub(crate) const SOCKETS: usize = 2;

/// Bytes of a chunk, and the most a descriptor has.
const CHUNK: u32 = 4096;
/// The most descriptors of a frame: what a socket buffer takes in pages (`MAX_SKB_FRAGS`).
const MOST_DESCRIPTORS: usize = 17;
/// Chunks, most of which are outstanding where a driver completes late.
const CHUNKS: u32 = 2048;
/// How long to wait for a full driver or socket.
const PATIENCE: Duration = Duration::from_millis(20);
/// Between two checks of it.
const PAUSE: Duration = Duration::from_micros(100);

/// The outcome of a burst.
#[derive(Debug, Default)]
pub(crate) struct Burst {
    /// Frames the driver took.
    pub(crate) sent: u64,
    /// Frames the driver dropped (`NET_XMIT_DROP`): its peer or queue refused them.
    pub(crate) dropped: u64,
    /// Frames the kernel did not take, and why.
    pub(crate) refused: u64,
    pub(crate) error: Option<io::Error>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Transmitter {
    tx: TxRing,
    completion: CompletionRing,
    /// Every UMEM has one; nothing is received.
    _fill: FillRing,
    socket: OwnedFd,
    umem: Umem,
    /// Addresses of free chunks.
    free: Vec<u64>,
    /// Of each chunk, whether it is outstanding, so that a completion counts once.
    out: Vec<bool>,
    /// Those of the descriptors that were put and not flushed.
    queued: Vec<u64>,
    /// Whether these are the descriptors of one frame, which is then sent alone.
    is_one_frame: bool,
    /// The longest frame, in bytes.
    max_frame: usize,
    /// No frame of the last burst was sent, because there was no room.
    is_full: bool,
}

impl Transmitter {
    /// Takes the memory and binds to a queue of an interface. Frames of more than 4096 bytes take several
    /// descriptors, minimum kernel version 6.6; before it they are refused, see
    /// [`max_frame`](Self::max_frame).
    ///
    /// `socket` gives a [new socket](super::new_socket), at most [`SOCKETS`] times.
    pub(crate) fn open(
        mut socket: impl FnMut() -> Result<OwnedFd, SocketError>,
        ifindex: u32,
        queue: u32,
        longest: usize,
    ) -> Result<Self, SocketError> {
        let in_one = CHUNK as usize;
        if longest > in_one {
            let (socket, most) = (socket()?, MOST_DESCRIPTORS * in_one);
            match Self::bound(socket, ifindex, queue, SocketAddrXdpFlags::XDP_USE_SG, most) {
                // The flag is not known to the kernel.
                Err(SocketError::Bind(cause)) if cause.raw_os_error() == Some(libc::EINVAL) => {}
                opened => return opened,
            }
        }
        Self::bound(socket()?, ifindex, queue, SocketAddrXdpFlags::empty(), in_one)
    }

    fn bound(
        socket: OwnedFd,
        ifindex: u32,
        queue: u32,
        flags: SocketAddrXdpFlags,
        max_frame: usize,
    ) -> Result<Self, SocketError> {
        let chunks = Chunks { count: CHUNKS, size: CHUNK, headroom: 0 };
        let umem = Umem::allocate(chunks, HugePages::Never)?;
        let unbound = Unbound::new(socket, &umem, UNUSED_RING, CHUNKS)?;
        let tx = unbound.tx_ring(TX_RING)?;
        let (socket, fill, completion) = unbound.into_parts();
        bind(&socket, &SocketAddrXdp::new(SocketAddrXdpFlags::XDP_COPY | flags, ifindex, queue))?;
        Ok(Self {
            tx,
            completion,
            _fill: fill,
            socket,
            umem,
            free: chunks.addresses().collect(),
            out: vec![false; CHUNKS as usize],
            queued: Vec::with_capacity(BURST),
            is_one_frame: false,
            max_frame,
            is_full: false,
        })
    }

    /// The longest frame it sends, in bytes.
    pub(crate) fn max_frame(&self) -> usize {
        self.max_frame
    }

    /// Copies a frame, given in parts, into the UMEM. Returns whether there was room. There is none behind
    /// [`BURST`] frames that were not flushed, behind or in front of a frame of several descriptors, for more
    /// than [`max_frame`](Self::max_frame) bytes, while the driver has all chunks, and while the kernel has
    /// not skipped the invalid descriptors.
    pub(crate) fn put(&mut self, parts: &[&[u8]]) -> bool {
        let len: usize = parts.iter().map(|part| part.len()).sum();
        let descriptors = len.div_ceil(CHUNK as usize).max(1);
        let is_one_frame = descriptors > 1;
        let waits_alone = !self.queued.is_empty() && (self.is_one_frame || is_one_frame);
        if self.queued.len() == BURST || len > self.max_frame || waits_alone {
            return false;
        }
        if self.queued.is_empty()
            && self.tx.outstanding() as usize > TX_RING as usize - BURST
            && !self.pass_over()
        {
            return false;
        }
        if !self.reserve(descriptors) {
            return false;
        }
        self.is_one_frame = is_one_frame;
        let mut parts = parts.iter().copied();
        let mut part = parts.next().unwrap_or_default();
        let mut left = len;
        for _ in 0..descriptors {
            // There are as many, by `reserve`.
            let Some(chunk) = self.free.pop() else { return false };
            let here = left.min(CHUNK as usize);
            let mut filled = 0;
            while filled < here {
                let (now, later) = part.split_at(part.len().min(here - filled));
                let at = usize::try_from(chunk).unwrap_or(usize::MAX).wrapping_add(filled);
                let to = self.umem.start().as_ptr().wrapping_add(at);
                // SAFETY: the chunk is nobody else's, being out of the free ones and in no ring; `filled` and
                // what is copied are together at most its size, so the copy stays within it. The part is
                // memory of the caller's, which the UMEM is not.
                unsafe { to.copy_from_nonoverlapping(now.as_ptr(), now.len()) };
                filled += now.len();
                part = if later.is_empty() { parts.next().unwrap_or_default() } else { later };
            }
            left -= here;
            let nth = u32::try_from(self.queued.len()).unwrap_or(0);
            let len = u32::try_from(here).unwrap_or(0);
            let options = if left > 0 { libc::XDP_PKT_CONTD } else { 0 };
            self.tx.put(nth, libc::xdp_desc { addr: chunk, len, options });
            self.queued.push(chunk);
            self.out[place(chunk)] = true;
        }
        true
    }

    /// Whether so many chunks are free, after a wait if necessary.
    fn reserve(&mut self, chunks: usize) -> bool {
        if self.free.len() < chunks {
            self.reclaim();
        }
        if self.free.len() < chunks {
            Self::wait();
            self.reclaim();
        }
        self.free.len() >= chunks
    }

    /// Takes completed chunks back.
    fn reclaim(&mut self) {
        while let Some(chunk) = self.completion.take() {
            self.take_back(chunk);
        }
    }

    fn take_back(&mut self, chunk: u64) {
        if self.out.get_mut(place(chunk)).is_some_and(std::mem::take) {
            self.free.push(chunk);
        }
    }

    /// Sleeps to give driver and socket time. Not in poll(2), which in copy mode sends too, without reporting
    /// drops (`xsk_poll`).
    fn wait() {
        thread::sleep(PAUSE);
    }

    /// Sends the frames that were put, and returns the outcome.
    pub(crate) fn flush(&mut self) -> Burst {
        let mut burst = Burst::default();
        let descriptors = self.queued.len() as u64;
        if descriptors == 0 {
            return burst;
        }
        let count = if self.is_one_frame { 1 } else { descriptors };
        self.tx.submit(u32::try_from(descriptors).unwrap_or(0));
        // One that took nothing last time is not waited for again, until it takes something.
        let patience = if self.is_full { Duration::ZERO } else { PATIENCE };
        let start = Instant::now();
        let mut untouched = true;
        loop {
            let error = match self.kick() {
                Ok(()) if self.tx.outstanding() == 0 => break,
                // The driver has fewer queues by now, or its kernel stopped short.
                Ok(()) => io::Error::from_raw_os_error(libc::EAGAIN),
                Err(error) => error,
            };
            let is_full = match error.raw_os_error() {
                // One frame was taken and dropped; the call ended there.
                Some(libc::EBUSY) if burst.dropped < count => {
                    untouched = false;
                    burst.dropped += 1;
                    continue;
                }
                Some(libc::EINTR) => continue,
                errno => matches!(errno, Some(libc::EAGAIN | libc::ENOBUFS)),
            };
            untouched &= !is_full;
            if !is_full || start.elapsed() >= patience {
                burst.refused = self.give_up(descriptors, untouched).min(count);
                burst.error = Some(error);
                break;
            }
            self.reclaim();
            Self::wait();
        }
        self.queued.clear();
        self.reclaim();
        burst.refused = burst.refused.min(count - burst.dropped);
        burst.sent = count - burst.dropped - burst.refused;
        self.is_full = burst.sent == 0 && burst.error.is_some();
        burst
    }

    /// Takes back those of `count` descriptors that the kernel has not taken, and returns their number;
    /// `untouched` is whether it refused before it read the ring.
    ///
    /// The kernel publishes how far it read only at the end. So the rest is made invalid, the kernel is made
    /// to skip it, and its count of invalid descriptors is the answer.
    fn give_up(&mut self, count: u64, untouched: bool) -> u64 {
        let before = self.invalid_descriptors();
        self.tx.void();
        let passed = self.pass_over();
        let refused = match (before, self.invalid_descriptors()) {
            (Ok(before), Ok(after)) if passed => after.saturating_sub(before).min(count),
            // It went down while it had some of them: which is not known, so their chunks stay out until they
            // are completed, and those that were not taken for good.
            _ if !untouched => return count,
            _ => count,
        };
        // First what did get out, so that it is not taken back twice. The last ones are those that were not
        // taken: they are in no ring any more, or invalid there.
        self.reclaim();
        let kept = self.queued.len().saturating_sub(usize::try_from(refused).unwrap_or(usize::MAX));
        while self.queued.len() > kept {
            if let Some(chunk) = self.queued.pop() {
                self.take_back(chunk);
            }
        }
        refused
    }

    /// Makes the kernel skip the invalid descriptors, and returns whether none is left: since 6.6 it skips
    /// one in a call (`xskq_cons_read_desc`), before all.
    fn pass_over(&self) -> bool {
        (0..2 * TX_RING).any(|_| self.tx.outstanding() == 0 || self.kick().is_err())
            && self.tx.outstanding() == 0
    }

    /// Makes the kernel send what is in the ring.
    fn kick(&self) -> io::Result<()> {
        send(&self.socket, &[], SendFlags::DONTWAIT)?;
        Ok(())
    }

    fn invalid_descriptors(&self) -> io::Result<u64> {
        Ok(xdp_statistics(&self.socket)?.tx_invalid_descs)
    }
}

/// The number of a chunk, by any address in it.
fn place(address: u64) -> usize {
    usize::try_from(address / u64::from(CHUNK)).unwrap_or(usize::MAX)
}

/// Descriptors of the TX ring: two bursts, for those that were made invalid while the interface was down.
const TX_RING: u32 = 2 * 32;
