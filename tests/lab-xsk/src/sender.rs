//! Sends given frames, byte for byte, on a queue through xsk-rs.

use std::{
    io::Write as _,
    num::NonZeroU32,
    thread,
    time::{Duration, Instant},
};

use mirror_lab::{InterfaceCounters, LabError, Result, VethEnd};
use xsk_rs::{CompQueue, FrameDesc, TxQueue, Umem};

use crate::{
    io_error,
    socket::{Descriptors, UNUSED_RING, bind, umem},
    socket_config,
};

/// Chunks, and descriptors of the TX and the completion ring.
const CHUNKS: u32 = 256;
/// Bytes of a chunk.
const CHUNK_SIZE: u32 = 4096;
/// Bytes reserved at the start of a chunk (`XDP_PACKET_HEADROOM`), which xsk-rs reserves for sending, too.
const XDP_HEADROOM: u32 = 256;
/// Bytes of a frame in one chunk.
const ROOM: usize = (CHUNK_SIZE - XDP_HEADROOM) as usize;
/// Descriptors of a frame at most: those of a socket buffer's fragments (`MAX_SKB_FRAGS`).
const MOST_DESCRIPTORS: usize = 17;
/// Set in all descriptors of a frame but its last.
const XDP_PKT_CONTD: u32 = 1;
/// Frames between two system calls: as many as one call sends (`TX_BATCH_SIZE`).
const BURST: usize = 32;
/// The default pace, frames a second, as the lab's injector has it.
const DEFAULT_PACE: u32 = 20_000;
/// How long the kernel may keep all chunks.
const PATIENCE: Duration = Duration::from_secs(10);

/// Sends raw frames on a queue of an interface in copy mode at a bounded pace, and proves that the interface
/// lost none.
///
/// Frames longer than 3,840 bytes need several descriptors.
#[derive(Debug)]
pub struct XskSender {
    tx: TxQueue,
    completion: CompQueue,
    umem: Umem,
    /// Chunks that are ours.
    free: Vec<FrameDesc>,
    end: VethEnd,
    /// Descriptors of a frame at most.
    most: usize,
    pause: Duration,
}

impl XskSender {
    /// A sender on this queue, at 20,000 frames a second.
    ///
    /// # Errors
    ///
    /// [`LabError::Unexpected`] with what libxdp refused.
    pub fn open(end: &VethEnd, queue: u32, descriptors: Descriptors) -> Result<Self> {
        // In the namespace from the start: libxdp makes the socket with the UMEM.
        let open = || {
            let (umem, free) = umem(CHUNKS, CHUNK_SIZE, 0, UNUSED_RING, CHUNKS)?;
            let (tx, _, (_, completion)) =
                bind(socket_config(UNUSED_RING, CHUNKS, descriptors)?, &umem, &end.interface, queue)?;
            Ok((umem, free, tx, completion))
        };
        let opened: Result<_> = end.namespace.enter(open)?;
        let (umem, free, tx, completion) = opened?;
        let pause = Duration::from_secs(1) / DEFAULT_PACE;
        let most = if descriptors == Descriptors::Several { MOST_DESCRIPTORS } else { 1 };
        Ok(Self { tx, completion, umem, free, end: end.clone(), most, pause })
    }

    /// Sends at most this many frames a second.
    #[must_use]
    pub fn pace(mut self, frames_per_second: NonZeroU32) -> Self {
        self.pause = Duration::from_secs(1) / frames_per_second.get();
        self
    }

    /// Sends the frames in sequence and returns their number, after the kernel has completed every chunk.
    ///
    /// # Errors
    ///
    /// [`LabError::Io`] if the kernel refuses a call; [`LabError::Unexpected`] if a frame does not fit
    /// its descriptors, where the kernel finds a descriptor invalid or keeps the chunks for 10 s, and where
    /// the interface counted a drop.
    pub fn send<'a>(&mut self, frames: impl IntoIterator<Item = &'a [u8]>) -> Result<u64> {
        let dropped = |end: &VethEnd| -> Result<u64> {
            Ok(InterfaceCounters::read(&end.namespace, &end.interface)?.tx_dropped)
        };
        let (before, start) = (dropped(&self.end)?, Instant::now());
        let (mut sent, mut waiting) = (0_u32, 0);
        for frame in frames {
            self.put(frame)?;
            sent += 1;
            waiting += 1;
            if waiting == BURST {
                self.wake()?;
                waiting = 0;
                let due = start + self.pause * sent;
                thread::sleep(due.saturating_duration_since(Instant::now()));
            }
        }
        self.wait_for(CHUNKS as usize)?;
        let statistics = self.tx.fd().xdp_statistics().map_err(|error| io_error("XDP_STATISTICS", error))?;
        let lost = dropped(&self.end)? - before;
        if lost > 0 || statistics.tx_invalid_descs() > 0 {
            return Err(LabError::Unexpected(format!(
                "{}: {lost} of {sent} frames dropped, {} descriptors invalid",
                self.end.interface,
                statistics.tx_invalid_descs()
            )));
        }
        Ok(u64::from(sent))
    }

    /// [`send`](Self::send) for owned frames.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn send_all(&mut self, frames: &[Vec<u8>]) -> Result<u64> {
        self.send(frames.iter().map(Vec::as_slice))
    }

    /// Puts a frame into the TX ring, in as many descriptors as needed.
    fn put(&mut self, frame: &[u8]) -> Result<()> {
        let pieces = frame.len().div_ceil(ROOM);
        if pieces == 0 || pieces > self.most {
            return Err(LabError::Unexpected(format!(
                "a frame of {} bytes does not fit {} chunks of {ROOM}",
                frame.len(),
                self.most
            )));
        }
        self.wait_for(pieces)?;
        let mut descriptors = self.free.split_off(self.free.len() - pieces);
        for (nth, (descriptor, piece)) in descriptors.iter_mut().zip(frame.chunks(ROOM)).enumerate() {
            descriptor.set_options(if nth + 1 < pieces { XDP_PKT_CONTD } else { 0 });
            // SAFETY: the chunk is this UMEM's and ours: it was free.
            let mut data = unsafe { self.umem.data_mut(descriptor) };
            let mut cursor = data.cursor();
            cursor.set_pos(0);
            cursor.write_all(piece).map_err(|error| io_error("a frame into its chunk", error))?;
        }
        // SAFETY: the chunks are this UMEM's and in no other ring: they were among the free ones.
        let taken = unsafe { self.tx.produce(&descriptors) };
        if taken != pieces {
            // The ring has a place for each chunk.
            return Err(LabError::Unexpected(format!("the TX ring took {taken} descriptors of {pieces}")));
        }
        Ok(())
    }

    /// Waits until this many chunks are free.
    fn wait_for(&mut self, chunks: usize) -> Result<()> {
        let mut last = Instant::now();
        while self.free.len() < chunks {
            if self.reclaim() > 0 {
                last = Instant::now();
            } else if last.elapsed() > PATIENCE {
                return Err(LabError::Unexpected(format!(
                    "{}: the kernel has kept {} chunks for {PATIENCE:?}",
                    self.end.interface,
                    CHUNKS as usize - self.free.len()
                )));
            } else {
                self.wake()?;
                thread::yield_now();
            }
        }
        Ok(())
    }

    /// Frees the chunks that the kernel has sent; returns their number.
    fn reclaim(&mut self) -> usize {
        let mut descriptors = [FrameDesc::default(); BURST];
        // SAFETY: the queue is this UMEM's, and its chunks become ours.
        let count = unsafe { self.completion.consume(&mut descriptors) };
        self.free.extend_from_slice(&descriptors[..count]);
        count
    }

    fn wake(&self) -> Result<()> {
        self.tx.wakeup().map_err(|error| io_error("sendto on an AF_XDP socket", error))
    }
}
