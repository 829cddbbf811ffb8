//! From nothing to a bound socket: socket, UMEM, ring sizes, mappings, and, when the fill ring is full, bind.
//!
//! In this order on every kernel: before 6.4 `xsk_mmap` refuses every ring of a bound socket with EBUSY
//! ("xsk: allow remap of fill and/or completion rings"). And with a fill ring that is full before bind no
//! frame finds it empty.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    io::Errno,
    net::{
        AddressFamily, SocketFlags, SocketType, socket_with,
        sockopt::{
            set_xdp_rx_ring_size, set_xdp_tx_ring_size, set_xdp_umem_completion_ring_size,
            set_xdp_umem_fill_ring_size, xdp_mmap_offsets,
        },
        xdp::{SocketAddrXdp, XdpMmapOffsets},
    },
};

use super::{
    SocketError,
    ring::{CompletionRing, FillRing, Memory, RxRing, TxRing},
    umem::Umem,
};

/// Descriptors of a ring that the kernel requires and that is never used: every UMEM has a fill ring and a
/// completion ring, whether it receives or sends.
pub(super) const UNUSED_RING: u32 = 64;
/// How long a bind is retried after EBUSY: the kernel frees the queue of a closed socket a moment later.
const BIND_PATIENCE: Duration = Duration::from_secs(2);
/// Between two tries. In a cold upgrade packets pass to the host meanwhile.
const BIND_PAUSE: Duration = Duration::from_millis(2);

/// A socket without anything, in the network namespace of the calling thread. Needs CAP_NET_RAW, and only
/// this does.
pub(crate) fn new_socket() -> Result<OwnedFd, SocketError> {
    socket_with(AddressFamily::XDP, SocketType::RAW, SocketFlags::CLOEXEC, None)
        .map_err(|source| SocketError::Socket(source.into()))
}

/// A socket with a UMEM and its rings, which [`bind`](Self::bind) binds to a queue.
#[derive(Debug)]
pub(super) struct Unbound {
    socket: OwnedFd,
    offsets: XdpMmapOffsets,
    pub(super) fill: FillRing,
    pub(super) completion: CompletionRing,
}

impl Unbound {
    /// Gives a socket this UMEM, and fill and completion rings of these sizes.
    pub(super) fn new(socket: OwnedFd, umem: &Umem, fill: u32, completion: u32) -> Result<Self, SocketError> {
        umem.register(&socket)?;
        let sized = |result: Result<(), Errno>| result.map_err(|source| failed(source.into()));
        sized(set_xdp_umem_fill_ring_size(&socket, fill))?;
        sized(set_xdp_umem_completion_ring_size(&socket, completion))?;
        Self::map(socket, fill, completion)
    }

    fn map(socket: OwnedFd, fill: u32, completion: u32) -> Result<Self, SocketError> {
        let offsets = xdp_mmap_offsets(&socket).map_err(|source| failed(source.into()))?;
        let fill = Memory::map(&socket, fill, &offsets.fr, libc::XDP_UMEM_PGOFF_FILL_RING).map_err(failed)?;
        let completion = Memory::map(&socket, completion, &offsets.cr, libc::XDP_UMEM_PGOFF_COMPLETION_RING)
            .map_err(failed)?;
        Ok(Self { socket, offsets, fill: FillRing::new(fill), completion: CompletionRing::new(completion) })
    }

    /// Adds the RX ring.
    pub(super) fn rx_ring(&self, descriptors: u32) -> Result<RxRing, SocketError> {
        set_xdp_rx_ring_size(&self.socket, descriptors).map_err(|source| failed(source.into()))?;
        self.map_rx(descriptors)
    }

    fn map_rx(&self, descriptors: u32) -> Result<RxRing, SocketError> {
        let offset = u64::try_from(libc::XDP_PGOFF_RX_RING).unwrap_or_default();
        Memory::map(&self.socket, descriptors, &self.offsets.rx, offset).map(RxRing::new).map_err(failed)
    }

    /// Adds the TX ring.
    pub(super) fn tx_ring(&self, descriptors: u32) -> Result<TxRing, SocketError> {
        set_xdp_tx_ring_size(&self.socket, descriptors).map_err(|source| failed(source.into()))?;
        let offset = u64::try_from(libc::XDP_PGOFF_TX_RING).unwrap_or_default();
        Memory::map(&self.socket, descriptors, &self.offsets.tx, offset).map(TxRing::new).map_err(failed)
    }

    /// The socket and its rings, to be [bound](bind).
    pub(super) fn into_parts(self) -> (OwnedFd, FillRing, CompletionRing) {
        let Self { socket, fill, completion, .. } = self;
        (socket, fill, completion)
    }
}

/// Binds a socket to a queue. Retries for a while when the queue is busy.
pub(super) fn bind(socket: impl AsFd, address: &SocketAddrXdp) -> Result<(), SocketError> {
    let deadline = Instant::now() + BIND_PATIENCE;
    loop {
        match rustix::net::bind(socket.as_fd(), address) {
            Ok(()) => return Ok(()),
            Err(Errno::BUSY) if Instant::now() < deadline => thread::sleep(BIND_PAUSE),
            Err(source) => return Err(SocketError::Bind(source.into())),
        }
    }
}

/// Maps the rings of a socket that another process has bound and passed. Minimum kernel version: 6.4.
pub(super) fn map_bound(
    socket: OwnedFd,
    rx: u32,
    fill: u32,
) -> Result<(OwnedFd, RxRing, FillRing, CompletionRing), SocketError> {
    let mapped = Unbound::map(socket, fill, UNUSED_RING)?;
    let rx = mapped.map_rx(rx)?;
    let Unbound { socket, fill, completion, .. } = mapped;
    Ok((socket, rx, fill, completion))
}

fn failed(source: io::Error) -> SocketError {
    SocketError::Rings(source)
}
