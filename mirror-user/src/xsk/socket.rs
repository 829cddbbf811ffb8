//! An AF_XDP socket with its UMEM, bound to one queue of one interface.

use std::{
    io,
    num::NonZeroU32,
    os::fd::{AsRawFd, RawFd},
    thread,
    time::{Duration, Instant},
};

use xsk_rs::{
    CompQueue, FillQueue, FrameDesc, RxQueue, Socket as XskSocket, TxQueue, Umem,
    config::{BindFlags, FrameSize, LibxdpFlags, QueueSize, SocketConfig, UmemConfig},
};

use super::{
    received::Received,
    ring::{self, FillRing, RxRing},
};
use crate::batch::MAX_BATCH;

/// Bytes in front of each frame that XDP programs may use (`XDP_PACKET_HEADROOM`).
const XDP_HEADROOM: u32 = 256;
/// Bytes asked for beside them. Chunks start at a cache line, so a frame starts 8 bytes before the end of one: what
/// decapsulation reads of a mirrored frame, from the ethertype at 12 to the inner length that ends at 70, then lies in
/// a single line of 64 bytes, the one that must come over from the kernel's core in any case.
pub(crate) const FRAME_HEADROOM: u32 = 56;
/// What a chunk has less for a frame.
pub(crate) const HEADROOM: u32 = XDP_HEADROOM + FRAME_HEADROOM;
/// How long a bind is tried again after EBUSY: the kernel frees a closed socket's queue a moment later.
const BIND_PATIENCE: Duration = Duration::from_secs(2);

/// How the kernel hands frames to the ring.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Bind {
    Copy,
    ZeroCopy,
}

/// Whether the UMEM lies in huge pages.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum HugePages {
    /// If there are any to be had.
    #[default]
    Try,
    Never,
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
    /// Take frames in several descriptors (`XDP_USE_SG`, kernel 6.6 and later).
    pub(crate) scatter_gather: bool,
    pub(crate) huge_pages: HugePages,
}

/// Why a socket could not be set up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum XskError {
    #[error("UMEM of {bytes} bytes: {}", crate::xdp::chain(&**.source))]
    Umem { bytes: u64, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("bind: {0}")]
    Bind(#[source] io::Error),
    #[error("{0}")]
    Config(String),
}

/// The kernel's own account of a socket (`XDP_STATISTICS`).
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Statistics {
    pub(crate) rx_dropped: u64,
    pub(crate) rx_ring_full: u64,
    pub(crate) rx_invalid_descs: u64,
    pub(crate) fill_ring_empty: u64,
}

/// A bound socket; its chunks are in the fill ring.
#[derive(Debug)]
pub(crate) struct Socket {
    pub(super) rx: RxRing,
    pub(super) fill: FillRing,
    /// Address of the UMEM's first byte.
    pub(super) umem: usize,
    /// What libxdp made, kept for its drop: the queue is free again when all four rings are gone.
    handles: Handles,
    /// Whether the descriptor at the start of the next batch continues a frame.
    pub(super) continued: bool,
    pub(super) scatter_gather: bool,
    pub(super) huge_pages: bool,
}

#[derive(Debug)]
struct Handles {
    rx: RxQueue,
    _tx: TxQueue,
    _fill: FillQueue,
    _completion: CompQueue,
    _umem: Umem,
}

impl Socket {
    /// Makes the UMEM and binds. Call it on the thread that will use the socket: memory is taken where it is touched.
    ///
    /// libxdp binds before it hands out the fill ring, so the ring is filled right after bind; no frame can want a
    /// chunk earlier, because the socket is not in the XSKMAP yet.
    pub(crate) fn open(interface: &str, queue: u32, config: &Config) -> Result<Self, XskError> {
        let wrong = |what: &str, error: &dyn std::error::Error| XskError::Config(format!("{what}: {error}"));
        let ring = |size| QueueSize::new(size).map_err(|error| wrong("ring size", &error));
        let umem_config = UmemConfig::builder()
            .frame_headroom(FRAME_HEADROOM)
            .frame_size(FrameSize::new(config.chunk_size).map_err(|error| wrong("chunk size", &error))?)
            .fill_queue_size(ring(config.rx_ring * 2)?)
            // Never used: nothing is transmitted.
            .comp_queue_size(ring(UNUSED_RING)?)
            .build()
            .map_err(|error| wrong("UMEM", &error))?;
        let (umem, chunks, huge_pages) = allocate(umem_config, config)?;

        let mut flags = BindFlags::XDP_USE_NEED_WAKEUP;
        flags |= match config.bind {
            Bind::Copy => BindFlags::XDP_COPY,
            Bind::ZeroCopy => BindFlags::XDP_ZEROCOPY,
        };
        if config.scatter_gather {
            flags |= BindFlags::XDP_USE_SG;
        }
        let socket_config = SocketConfig::builder()
            .rx_queue_size(ring(config.rx_ring)?)
            .tx_queue_size(ring(UNUSED_RING)?)
            .libxdp_flags(LibxdpFlags::XSK_LIBXDP_FLAGS_INHIBIT_PROG_LOAD)
            .bind_flags(flags)
            .build();
        let (tx, rx, rings) = bind(socket_config, &umem, interface, queue)?;
        let (fill, completion) = rings
            .ok_or_else(|| XskError::Config("libxdp gave no fill ring for a UMEM of its own".to_owned()))?;
        let (rx_ring, mut fill_ring) = ring::map(rx.fd(), config.rx_ring, config.rx_ring * 2)
            .map_err(|error| XskError::Config(format!("mapping the rings: {error}")))?;
        let base = base(&umem, &chunks);
        for (nth, chunk) in (0..).zip(&chunks) {
            fill_ring.put(nth, chunk.addr() as u64);
        }
        fill_ring.submit(config.chunks);
        let handles = Handles { rx, _tx: tx, _fill: fill, _completion: completion, _umem: umem };
        let Config { scatter_gather, .. } = *config;
        Ok(Self {
            rx: rx_ring,
            fill: fill_ring,
            umem: base,
            handles,
            continued: false,
            scatter_gather,
            huge_pages,
        })
    }

    /// Takes up to `most` descriptors off the RX ring.
    pub(crate) fn receive(&mut self, most: usize) -> Received<'_> {
        let most = u32::try_from(most.min(MAX_BATCH)).unwrap_or(0);
        let count = self.rx.available(most);
        Received::new(self, count)
    }

    /// Waits until the RX ring has something, or the time is over. An interface that is down counts as nothing.
    pub(crate) fn wait(&mut self, timeout: Duration) -> io::Result<()> {
        let milliseconds = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
        self.handles.rx.poll(milliseconds).map(|_| ())
    }

    /// Has the socket poll its NIC queue from this thread (`Documentation/networking/napi.rst`, busy polling).
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
        // SAFETY: no buffer is given. What the call returns says nothing: frames show in the RX ring, and an interface
        // that is down is the link watch's to tell.
        unsafe {
            libc::recvfrom(
                self.as_raw_fd(),
                std::ptr::null_mut(),
                0,
                libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
                std::ptr::null_mut(),
            )
        };
    }

    /// Reads the kernel's account of the socket.
    pub(crate) fn statistics(&self) -> io::Result<Statistics> {
        let statistics = self.handles.rx.fd().xdp_statistics()?;
        Ok(Statistics {
            rx_dropped: statistics.rx_dropped(),
            rx_ring_full: statistics.rx_ring_full(),
            rx_invalid_descs: statistics.rx_invalid_descs(),
            fill_ring_empty: statistics.rx_fill_ring_empty_descs(),
        })
    }

    /// Whether the UMEM lies in huge pages.
    pub(crate) fn in_huge_pages(&self) -> bool {
        self.huge_pages
    }
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        self.handles.rx.fd().as_raw_fd()
    }
}

/// The least libxdp takes for a ring that is never used.
pub(super) const UNUSED_RING: u32 = 64;

/// What libxdp makes of a socket: its two rings, and those of a UMEM of its own.
pub(super) type Bound = (TxQueue, RxQueue, Option<(FillQueue, CompQueue)>);

/// Binds, and waits a while for a queue that is about to be free.
pub(super) fn bind(
    config: SocketConfig,
    umem: &Umem,
    interface: &str,
    queue: u32,
) -> Result<Bound, XskError> {
    let name = interface.parse().map_err(|error| XskError::Config(format!("interface name: {error}")))?;
    let deadline = Instant::now() + BIND_PATIENCE;
    loop {
        // SAFETY: libxdp reads the name and the configuration only during the call; the UMEM outlives the socket,
        // which holds a handle of it.
        match unsafe { XskSocket::new(config, umem, &name, queue) } {
            Ok(bound) => {
                close_on_exec(bound.1.fd()).map_err(XskError::Bind)?;
                return Ok(bound);
            }
            Err(error) => {
                let cause =
                    std::error::Error::source(&error).and_then(|cause| cause.downcast_ref::<io::Error>());
                let cause = cause.map_or_else(
                    || io::Error::other(error.to_string()),
                    |cause| {
                        cause
                            .raw_os_error()
                            .map_or_else(|| io::Error::other(cause.to_string()), io::Error::from_raw_os_error)
                    },
                );
                if cause.raw_os_error() != Some(libc::EBUSY) || Instant::now() >= deadline {
                    return Err(XskError::Bind(cause));
                }
                thread::sleep(Duration::from_millis(20));
            }
        }
    }
}

/// libxdp does not see to it: a program that the process runs must not hold the ring.
fn close_on_exec(socket: &impl AsRawFd) -> io::Result<()> {
    // SAFETY: the descriptor is the socket's, which lives longer than this call.
    match unsafe { libc::fcntl(socket.as_raw_fd(), libc::F_SETFD, libc::FD_CLOEXEC) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Where the UMEM lies.
pub(super) fn base(umem: &Umem, chunks: &[FrameDesc]) -> usize {
    chunks.first().map_or(0, |chunk| {
        // SAFETY: the chunk is in no ring yet, and nothing is read of it.
        let data = unsafe { umem.data(chunk) };
        data.contents().as_ptr().expose_provenance() - chunk.addr()
    })
}

fn allocate(umem: UmemConfig, config: &Config) -> Result<(Umem, Vec<FrameDesc>, bool), XskError> {
    const HUGE_PAGE: u32 = 2 << 20;
    let nonzero =
        |chunks| NonZeroU32::new(chunks).ok_or_else(|| XskError::Config("a UMEM of no chunks".to_owned()));
    if config.huge_pages == HugePages::Try {
        // Whole pages only; the chunks that are too many stay unused.
        let whole = config.chunks.next_multiple_of(HUGE_PAGE / config.chunk_size);
        match Umem::new(umem, nonzero(whole)?, true) {
            Ok((umem, mut chunks)) => {
                chunks.truncate(config.chunks as usize);
                return Ok((umem, chunks, true));
            }
            Err(error) => {
                tracing::debug!(error = crate::xdp::chain(&error), whole, "no huge pages for the UMEM");
            }
        }
    }
    let bytes = u64::from(config.chunks) * u64::from(config.chunk_size);
    let (umem, chunks) = Umem::new(umem, nonzero(config.chunks)?, false)
        .map_err(|error| XskError::Umem { bytes, source: Box::new(error) })?;
    Ok((umem, chunks, false))
}
