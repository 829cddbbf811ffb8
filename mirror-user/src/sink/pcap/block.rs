//! Blocks: packets in their final form, on their way from a worker to the writer thread and back.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use crossbeam_channel::Sender;

use super::format::{Format, PacketHead};
use crate::batch::Segments;

/// Bytes for whole packets, allocated once.
#[derive(Debug)]
pub(super) struct Block {
    bytes: Box<[u8]>,
    len: usize,
    frames: u64,
    /// Interfaces that must be described before the block: the highest number in it plus one.
    interfaces: usize,
}

impl Block {
    pub(super) fn new(size: usize) -> Self {
        // Anything but zeros: the pages are written to, so that no page fault is left for the first frames.
        Self { bytes: vec![0xff; size].into_boxed_slice(), len: 0, frames: 0, interfaces: 0 }
    }

    /// The packets in it.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    pub(super) fn frames(&self) -> u64 {
        self.frames
    }

    pub(super) fn interfaces(&self) -> usize {
        self.interfaces
    }

    pub(super) fn is_empty(&self) -> bool {
        self.frames == 0
    }

    /// Adds a packet if it fits.
    pub(super) fn push(&mut self, format: Format, head: PacketHead, data: Segments<'_>) -> bool {
        let end = self.len + format.packet_len(head.captured as usize);
        let Some(out) = self.bytes.get_mut(self.len..end) else { return false };
        format.put_packet(out, head, data);
        self.len = end;
        self.frames += 1;
        self.interfaces = self.interfaces.max(head.interface as usize + 1);
        true
    }

    pub(super) fn clear(&mut self) {
        self.len = 0;
        self.frames = 0;
        self.interfaces = 0;
    }
}

/// What a worker and the writer thread share: the way home for blocks, and what became of the frames in them.
#[derive(Debug)]
pub(super) struct Owner {
    returned: Sender<Block>,
    written: AtomicU64,
    failed: AtomicU64,
    gave_up: AtomicBool,
}

impl Owner {
    pub(super) fn new(returned: Sender<Block>) -> Arc<Self> {
        Arc::new(Self {
            returned,
            written: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            gave_up: AtomicBool::new(false),
        })
    }

    /// Sends a block home with the news of its frames. Only the writer thread calls it.
    pub(super) fn settle(&self, mut block: Block, written: u64, failed: u64) {
        self.written.store(self.written.load(Ordering::Relaxed) + written, Ordering::Relaxed);
        self.failed.store(self.failed.load(Ordering::Relaxed) + failed, Ordering::Relaxed);
        block.clear();
        // There is room for every block its worker has; a worker that is gone has no more use for it.
        drop(self.returned.try_send(block));
    }

    /// Frames the writer says are written, and those it says are lost.
    pub(super) fn settled(&self) -> (u64, u64) {
        (self.written.load(Ordering::Relaxed), self.failed.load(Ordering::Relaxed))
    }

    /// The worker has counted as lost what is not settled yet: nothing more of it may be written.
    pub(super) fn give_up(&self) {
        self.gave_up.store(true, Ordering::Relaxed);
    }

    pub(super) fn has_given_up(&self) -> bool {
        self.gave_up.load(Ordering::Relaxed)
    }
}
