//! The receiving side of a queue.

use std::{num::NonZeroU32, os::fd::BorrowedFd};

use mirror_lab::{LabError, Result};
use xsk_rs::{
    CompQueue, FillQueue, FrameDesc, RxQueue, Socket, Umem,
    config::{FrameSize, Interface, UmemConfig},
};

use crate::{bind_when_free, io_error, queue_size, refused, socket_config};

/// Descriptors of a batch, as in the engine.
const BATCH: usize = 64;
/// Descriptors of a ring that libxdp requires and that is never used.
pub(crate) const UNUSED_RING: u32 = 64;

/// How many descriptors a frame may have.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Descriptors {
    /// One: frames that do not fit a chunk are lost.
    One,
    /// As many as needed (`XDP_USE_SG`, kernel 6.6 and later).
    Several,
}

/// Sizes of a socket's memory, and which frames it accepts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Config {
    /// Descriptors of the RX ring, a power of two. The fill ring has twice as many.
    pub rx_ring: u32,
    /// Chunks of the UMEM, at most as many as the fill ring has descriptors.
    pub chunks: u32,
    /// Bytes of a chunk, 2048 or 4096.
    pub chunk_size: u32,
    /// Bytes in front of a frame beside those that XDP keeps for itself.
    pub headroom: u32,
    /// Descriptors of a frame.
    pub descriptors: Descriptors,
}

impl Config {
    /// 16,384 chunks of 4096 bytes: they hold several thousand frames before the first is read.
    #[must_use]
    pub fn roomy(descriptors: Descriptors) -> Self {
        Self { rx_ring: 16_384, chunks: 16_384, chunk_size: 4096, headroom: 0, descriptors }
    }
}

/// Losses of a socket (`XDP_STATISTICS`), in descriptors.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Losses {
    /// No chunk was free, or they did not fit one.
    pub rx_dropped: u64,
    /// The RX ring was full.
    pub rx_ring_full: u64,
}

/// A socket on one queue, in copy mode.
#[derive(Debug)]
pub struct XskSocket {
    rx: RxQueue,
    fill: FillQueue,
    _completion: CompQueue,
    umem: Umem,
    batch: [FrameDesc; BATCH],
}

impl XskSocket {
    /// Binds in the calling thread's network namespace. All chunks are in the fill ring when it returns.
    ///
    /// # Errors
    ///
    /// [`LabError::Unexpected`] with what libxdp refused.
    pub fn open(interface: &str, queue: u32, config: Config) -> Result<Self> {
        let Config { rx_ring, chunks, chunk_size, headroom, descriptors } = config;
        let (umem, chunks) = umem(chunks, chunk_size, headroom, rx_ring.saturating_mul(2), UNUSED_RING)?;
        let config = socket_config(rx_ring, UNUSED_RING, descriptors)?;
        let (_, rx, rings) = bind(config, &umem, interface, queue)?;
        let (mut fill, completion) = rings;
        let count = chunks.len();
        // SAFETY: the chunks are those of this UMEM, and none is anywhere else yet.
        let filled = unsafe { fill.produce(&chunks) };
        if filled != count {
            return Err(LabError::Unexpected(format!(
                "{count} chunks for a fill ring of twice {rx_ring} descriptors"
            )));
        }
        Ok(Self { rx, fill, _completion: completion, umem, batch: [FrameDesc::default(); BATCH] })
    }

    /// Receives up to 64 descriptors from the RX ring and returns their chunks to the fill ring, after `look`
    /// was called with the bytes of each and whether the frame continues in the next one. Returns their
    /// number.
    pub fn turn_over(&mut self, mut look: impl FnMut(&[u8], bool)) -> usize {
        // SAFETY: the queue is this UMEM's, and its frames become ours.
        let count = unsafe { self.rx.consume(&mut self.batch) };
        let taken = &self.batch[..count];
        for chunk in taken {
            // SAFETY: the descriptor comes from this UMEM's queue; the kernel writes to the chunk again only
            // after the fill ring has it.
            let data = unsafe { self.umem.data(chunk) };
            look(data.contents(), chunk.has_more_frames());
        }
        // SAFETY: the chunks were just taken, and the bytes lent of them are not used any more.
        let filled = unsafe { self.fill.produce(taken) };
        // The ring holds all chunks there are.
        debug_assert_eq!(filled, count);
        count
    }

    /// Sleeps until the RX ring has a descriptor, at most this many milliseconds; returns whether it has.
    ///
    /// # Errors
    ///
    /// [`LabError::Io`] if the kernel refuses.
    pub fn poll(&mut self, milliseconds: i32) -> Result<bool> {
        self.rx.poll(milliseconds).map_err(|error| io_error("poll on an AF_XDP socket", error))
    }

    /// What the kernel lost so far.
    ///
    /// # Errors
    ///
    /// [`LabError::Io`] if the kernel has no account.
    pub fn losses(&self) -> Result<Losses> {
        let statistics = self.rx.fd().xdp_statistics().map_err(|error| io_error("XDP_STATISTICS", error))?;
        Ok(Losses { rx_dropped: statistics.rx_dropped(), rx_ring_full: statistics.rx_ring_full() })
    }

    /// The socket, for the XSKMAP.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        use std::os::fd::AsRawFd as _;
        // SAFETY: the socket is open as long as its queues are, which are borrowed with `self`.
        unsafe { BorrowedFd::borrow_raw(self.rx.fd().as_raw_fd()) }
    }
}

/// Memory and the descriptors of its chunks.
pub(crate) fn umem(
    chunks: u32,
    chunk_size: u32,
    headroom: u32,
    fill_ring: u32,
    completion_ring: u32,
) -> Result<(Umem, Vec<FrameDesc>)> {
    let config = UmemConfig::builder()
        .frame_size(FrameSize::new(chunk_size).map_err(|error| refused("a chunk", error))?)
        .frame_headroom(headroom)
        .fill_queue_size(queue_size(fill_ring)?)
        .comp_queue_size(queue_size(completion_ring)?)
        .build()
        .map_err(|error| refused("UMEM", error))?;
    let chunks =
        NonZeroU32::new(chunks).ok_or_else(|| LabError::Unexpected("a UMEM without a chunk".into()))?;
    Umem::new(config, chunks, false).map_err(|error| refused("UMEM", error))
}

type Queues = (xsk_rs::TxQueue, RxQueue, (FillQueue, CompQueue));

/// Binds to a queue of an interface in the calling thread's network namespace, as soon as it is free.
pub(crate) fn bind(
    config: xsk_rs::config::SocketConfig,
    umem: &Umem,
    interface: &str,
    queue: u32,
) -> Result<Queues> {
    let what = format!("{interface}: an AF_XDP socket on queue {queue}");
    let name: Interface = interface.parse().map_err(|error| refused(&what, error))?;
    let (tx, rx, rings) = bind_when_free(&what, || {
        // SAFETY: the UMEM is shared with no other socket.
        unsafe { Socket::new(config, umem, &name, queue) }
    })?;
    let rings = rings.ok_or_else(|| LabError::Unexpected(format!("{what}: its UMEM was bound before")))?;
    Ok((tx, rx, rings))
}
