//! An AF_XDP socket with its UMEM, bound to one queue of one interface.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
    time::Duration,
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};
use rustix::net::{
    RecvFlags, recv,
    sockopt::xdp_statistics,
    xdp::{SocketAddrXdp, SocketAddrXdpFlags},
};
use serde::{Deserialize, Serialize};

use super::{
    SocketError,
    bind::{UNUSED_RING, Unbound, bind, map_bound, new_socket},
    ring::{CompletionRing, FillRing, RxRing},
    umem::{Chunks, HugePages, Umem},
};
use crate::frame::MAX_BATCH;

/// Bytes in front of each frame that XDP programs may use (`XDP_PACKET_HEADROOM`).
const XDP_HEADROOM: u32 = 256;
/// Bytes asked for beside them. Chunks start at a cache line, so a frame starts 8 bytes before the end of
/// one: what decapsulation reads of a mirrored frame, from the ethertype at 12 to the inner length that ends
/// at 70, then lies in a single line of 64 bytes, the one that must come over from the kernel's core in any
/// case.
pub(crate) const FRAME_HEADROOM: u32 = 56;
/// Bytes of a chunk that a frame cannot use.
pub(crate) const HEADROOM: u32 = XDP_HEADROOM + FRAME_HEADROOM;

/// How the kernel hands frames to the ring.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Bind {
    /// It copies each frame into the UMEM once (`XDP_COPY`).
    Copy,
    /// The NIC writes into the UMEM (`XDP_ZEROCOPY`).
    ZeroCopy,
}

impl Bind {
    /// The name in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Copy => "copy",
            Self::ZeroCopy => "zerocopy",
        }
    }
}

/// Sizes and flags of a socket.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Config {
    /// Descriptors of the RX ring, a power of two. The fill ring has twice as many.
    pub(crate) rx_ring: u32,
    /// Chunks of the UMEM.
    pub(crate) chunks: u32,
    /// Bytes of a chunk: 2048 or 4096.
    pub(crate) chunk_size: u32,
    pub(crate) bind: Bind,
    /// Take frames in several descriptors (`XDP_USE_SG`). Minimum kernel version: 6.6.
    pub(crate) scatter_gather: bool,
    pub(crate) huge_pages: HugePages,
}

/// The kernel's own account of a socket (`XDP_STATISTICS`).
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Statistics {
    pub(crate) rx_dropped: u64,
    pub(crate) rx_ring_full: u64,
    pub(crate) rx_invalid_descs: u64,
    pub(crate) fill_ring_empty: u64,
}

/// Descriptors by which another process can have the same socket and frames.
#[derive(Debug)]
pub(crate) struct SocketParts {
    pub(crate) socket: OwnedFd,
    /// The file of the UMEM.
    pub(crate) umem: OwnedFd,
}

/// A socket that is not bound yet, and where it will be.
#[derive(Debug)]
pub(crate) struct ToBind {
    socket: OwnedFd,
    address: SocketAddrXdp,
}

impl ToBind {
    /// Binds it. Retries for a while when the queue is busy.
    pub(crate) fn bind(&self) -> Result<(), SocketError> {
        bind(&self.socket, &self.address)
    }
}

/// A bound socket; its chunks are in the fill ring.
#[derive(Debug)]
pub(crate) struct Socket {
    pub(super) rx: RxRing,
    pub(super) fill: FillRing,
    /// Every UMEM has one; nothing is transmitted.
    _completion: CompletionRing,
    socket: OwnedFd,
    pub(super) umem: Umem,
    /// Whether the next descriptor continues a frame that is longer than a batch.
    pub(super) continued: bool,
    pub(super) scatter_gather: bool,
}

impl Socket {
    /// Takes the memory and binds. Call it on the thread that will use the socket: memory is taken from its
    /// node.
    ///
    /// Nothing is received before the socket is in an XSKMAP.
    pub(crate) fn open(ifindex: u32, queue: u32, config: &Config) -> Result<Self, SocketError> {
        let (socket, address) = Self::unbound(ifindex, queue, config)?;
        bind(&socket, &address)?;
        Ok(socket)
    }

    /// The same, but for the bind, which needs no privilege and may be another thread's.
    pub(crate) fn open_to_bind(
        ifindex: u32,
        queue: u32,
        config: &Config,
    ) -> Result<(Self, ToBind), SocketError> {
        let (socket, address) = Self::unbound(ifindex, queue, config)?;
        let descriptor = socket.socket.try_clone().map_err(SocketError::Socket)?;
        Ok((socket, ToBind { socket: descriptor, address }))
    }

    fn unbound(ifindex: u32, queue: u32, config: &Config) -> Result<(Self, SocketAddrXdp), SocketError> {
        let Config { rx_ring, chunks, chunk_size, bind, scatter_gather, huge_pages } = *config;
        let chunks = Chunks { count: chunks, size: chunk_size, headroom: FRAME_HEADROOM };
        let umem = Umem::allocate(chunks, huge_pages)?;
        let mut unbound = Unbound::new(new_socket()?, &umem, rx_ring * 2, UNUSED_RING)?;
        let rx = unbound.rx_ring(rx_ring)?;
        for (nth, address) in (0..).zip(chunks.addresses()) {
            unbound.fill.put(nth, address);
        }
        unbound.fill.submit(chunks.count);
        let mut flags = SocketAddrXdpFlags::XDP_USE_NEED_WAKEUP;
        flags |= match bind {
            Bind::Copy => SocketAddrXdpFlags::XDP_COPY,
            Bind::ZeroCopy => SocketAddrXdpFlags::XDP_ZEROCOPY,
        };
        if scatter_gather {
            flags |= SocketAddrXdpFlags::XDP_USE_SG;
        }
        let (socket, fill, completion) = unbound.into_parts();
        let socket = Self { scatter_gather, ..Self::over(socket, umem, (rx, fill, completion)) };
        Ok((socket, SocketAddrXdp::new(flags, ifindex, queue)))
    }

    /// What another process needs to [go on](Self::adopt) with this socket.
    pub(crate) fn parts(&self) -> io::Result<SocketParts> {
        Ok(SocketParts { socket: self.socket.try_clone()?, umem: self.umem.file().try_clone()? })
    }

    /// A socket that another process has bound with the same sizes. That process must have stopped reading
    /// when this one [resumes](Self::resume). Minimum kernel version: 6.4.
    pub(crate) fn adopt(parts: SocketParts, config: &Config) -> Result<Self, SocketError> {
        let Config { rx_ring, chunks, chunk_size, scatter_gather, .. } = *config;
        let chunks = Chunks { count: chunks, size: chunk_size, headroom: FRAME_HEADROOM };
        let umem = Umem::adopt(parts.umem, chunks)?;
        let (socket, rx, fill, completion) = map_bound(parts.socket, rx_ring, rx_ring * 2)?;
        Ok(Self { scatter_gather, ..Self::over(socket, umem, (rx, fill, completion)) })
    }

    /// Goes on where the other process has stopped: it has given every chunk back that it had received.
    pub(crate) fn resume(&mut self) {
        self.rx.resume();
        self.fill.resume();
    }

    /// Goes on where a process has ended that may have been killed at any moment. A batch that it had not
    /// given back is in the RX ring still, and is received again. One that it had given back, and not
    /// released, is released here: its chunks are the kernel's.
    pub(crate) fn recover(&mut self) {
        self.resume();
        let most = self.rx.available(u32::try_from(MAX_BATCH).unwrap_or(u32::MAX));
        // The kernel takes chunks in the sequence in which they were given back, and all others, more than a
        // batch, before these: none of the last ones has been filled again already.
        let is_given_back = |count: &u32| {
            (0..*count).all(|nth| self.rx.descriptor(nth).addr == self.fill.submitted(count - nth))
        };
        let given_back = (1..=most).rev().find(is_given_back).unwrap_or(0);
        self.rx.release(given_back);
    }

    /// How many descriptors were taken off the RX ring so far, by all processes that had the socket; it wraps
    /// around.
    pub(crate) fn position(&self) -> u32 {
        self.rx.position()
    }

    /// Whether the next descriptor continues a frame of which the beginning was received.
    pub(crate) fn is_within_a_frame(&self) -> bool {
        self.continued
    }

    /// A socket from its parts.
    pub(super) fn over(socket: OwnedFd, umem: Umem, rings: (RxRing, FillRing, CompletionRing)) -> Self {
        let (rx, fill, completion) = rings;
        Self { rx, fill, _completion: completion, socket, umem, continued: false, scatter_gather: false }
    }

    /// Waits until the RX ring has something, or the time is over. An interface that is down counts as
    /// nothing.
    pub(crate) fn wait(&mut self, timeout: Duration) -> io::Result<()> {
        let timeout = PollTimeout::try_from(timeout).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Makes the socket poll its NIC queue from this thread (`Documentation/networking/napi.rst`, busy
    /// polling). Minimum kernel version: 5.11.
    ///
    /// `budget` is the most frames one poll takes.
    pub(crate) fn prefer_busy_poll(&self, budget: i32) -> io::Result<()> {
        /// How long one call may poll, in µs.
        const BUSY_POLL_MICROSECONDS: i32 = 20;
        for (option, value) in [
            (libc::SO_PREFER_BUSY_POLL, 1),
            (libc::SO_BUSY_POLL, BUSY_POLL_MICROSECONDS),
            (libc::SO_BUSY_POLL_BUDGET, budget),
        ] {
            let len = libc::socklen_t::try_from(size_of_val(&value)).unwrap_or(0);
            // SAFETY: the option is an int, and the kernel reads it during the call only.
            let refused = unsafe {
                libc::setsockopt(self.as_raw_fd(), libc::SOL_SOCKET, option, (&raw const value).cast(), len)
            };
            if refused != 0 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(())
    }

    /// Runs the NIC queue's poll on this thread, if busy polling was asked for.
    pub(crate) fn drive(&self) {
        // What the call returns means nothing: frames show in the RX ring, and an interface that is down is
        // the link watch's to report.
        let _ = recv(&self.socket, &mut [0_u8; 0][..], RecvFlags::DONTWAIT);
    }

    /// Reads the kernel's counters of the socket. Minimum kernel version for all of them: 5.9.
    pub(crate) fn statistics(&self) -> io::Result<Statistics> {
        let statistics = xdp_statistics(&self.socket)?;
        let since_5_9 = |term: Option<u64>| term.ok_or_else(|| io::Error::from(io::ErrorKind::Unsupported));
        Ok(Statistics {
            rx_dropped: statistics.rx_dropped,
            rx_ring_full: since_5_9(statistics.rx_ring_full)?,
            rx_invalid_descs: statistics.rx_invalid_descs,
            fill_ring_empty: since_5_9(statistics.rx_fill_ring_empty_descs)?,
        })
    }

    /// Whether the UMEM lies in huge pages.
    pub(crate) fn in_huge_pages(&self) -> bool {
        self.umem.in_huge_pages()
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}
