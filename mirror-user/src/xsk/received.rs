//! A batch of frames taken off the RX ring, which go back to the kernel when it is dropped.

use std::{ptr, slice};

use mirror_ebpf::mirror::STAMP_LEN;
use xsk_rs::{FrameDesc, Umem};

use super::Socket;
use crate::batch::Captured;

/// Descriptors in user space's hands. Dropping it, also while unwinding, gives every chunk back.
#[derive(Debug)]
pub(crate) struct Received<'a> {
    socket: &'a mut Socket,
    count: usize,
}

/// The frames of a [`Received`] batch, `None` for one in several descriptors.
#[derive(Debug)]
pub(crate) struct Frames<'a> {
    umem: &'a Umem,
    descriptors: slice::Iter<'a, FrameDesc>,
    frames: usize,
    continued: bool,
    stamps: Stamps<'a>,
}

/// How a frame's receive time is found.
#[derive(Debug)]
pub(crate) struct Stamps<'c> {
    /// Whether the XDP program writes one in front of each frame.
    pub(crate) in_metadata: bool,
    /// What to add to CLOCK_MONOTONIC to have CLOCK_REALTIME, in ns.
    pub(crate) realtime_offset: i64,
    /// The batch's own time, CLOCK_REALTIME in ns, for frames without a stamp.
    pub(crate) fallback: u64,
    /// Counts the frames that should have had a stamp and had none.
    pub(crate) missing: &'c mut u64,
}

impl<'a> Received<'a> {
    pub(super) fn new(socket: &'a mut Socket, count: usize) -> Self {
        Self { socket, count }
    }

    /// Whether the ring had nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The frames that are complete with this batch. Call it once a batch.
    pub(crate) fn frames<'b>(&'b mut self, stamps: Stamps<'b>) -> Frames<'b> {
        let descriptors = &self.socket.batch[..self.count];
        let continued = self.socket.continued;
        let frames = if self.socket.scatter_gather {
            self.socket.continued = descriptors.last().map_or(continued, FrameDesc::has_more_frames);
            descriptors.iter().filter(|descriptor| !descriptor.has_more_frames()).count()
        } else {
            self.count
        };
        Frames { umem: &self.socket.umem, descriptors: descriptors.iter(), frames, continued, stamps }
    }
}

impl Drop for Received<'_> {
    fn drop(&mut self) {
        let socket = &mut *self.socket;
        // SAFETY: these descriptors came off the RX ring with this batch, and every borrow of their bytes has ended,
        // because it was a borrow of this batch. Those that find no room are kept, the others never touched again.
        let given = unsafe { socket.fill.produce(&socket.batch[..self.count]) };
        socket.waiting.extend_from_slice(&socket.batch[given..self.count]);
        if socket.fill.needs_wakeup() {
            // Only zero-copy drivers ask. A failed wake-up is tried again with the next batch.
            let _ = socket.wait(std::time::Duration::ZERO);
        }
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = Option<Captured<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut whole = !std::mem::take(&mut self.continued);
        loop {
            let descriptor = self.descriptors.next()?;
            if descriptor.has_more_frames() {
                whole = false;
                continue;
            }
            self.frames -= 1;
            return Some(whole.then(|| self.capture(descriptor)));
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.frames, Some(self.frames))
    }
}

impl ExactSizeIterator for Frames<'_> {}

impl<'a> Frames<'a> {
    fn capture(&mut self, descriptor: &FrameDesc) -> Captured<'a> {
        // SAFETY: the descriptor is of this UMEM and out of the rings until the batch is dropped, which the lifetime
        // `'a` forbids while the bytes are borrowed; nobody writes to them meanwhile.
        let bytes = unsafe { self.umem.data(descriptor) }.contents();
        let time = match self.stamps.in_metadata.then(|| stamp(bytes)) {
            None => self.stamps.fallback,
            Some(0) => {
                *self.stamps.missing += 1;
                self.stamps.fallback
            }
            Some(stamp) => stamp.wrapping_add_signed(self.stamps.realtime_offset),
        };
        // A descriptor's length is at most a chunk's.
        let wire_len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        Captured { bytes, wire_len, time }
    }
}

/// What stands in the metadata area in front of a frame; 0 where the driver has none, as in a fresh UMEM.
fn stamp(bytes: &[u8]) -> u64 {
    let place = ptr::with_exposed_provenance::<u64>(bytes.as_ptr().addr() - STAMP_LEN);
    // SAFETY: a frame starts at least XDP_PACKET_HEADROOM into its chunk, so the bytes before it belong to the same
    // chunk of the same mapping, whose provenance was exposed when it was handed to the kernel. They are ours as long
    // as the frame is. The address needs no alignment.
    unsafe { place.read_unaligned() }
}
