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
    times: Times<'a>,
}

/// Where the receive times of a batch come from, all of them CLOCK_REALTIME in ns.
#[derive(Debug)]
pub(crate) enum Times<'c> {
    /// The worker read the clock once for the batch.
    Batch(u64),
    /// The XDP program wrote CLOCK_MONOTONIC in front of each frame.
    Stamped {
        /// What to add to have CLOCK_REALTIME, in ns.
        realtime_offset: i64,
        /// Counts the frames that have no stamp, because the driver made no room for it.
        missing: &'c mut u64,
        /// The clock to read for those.
        instead: fn() -> u64,
    },
}

impl<'a> Received<'a> {
    pub(super) fn new(socket: &'a mut Socket, count: usize) -> Self {
        Self { socket, count }
    }

    /// Whether the ring had nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The frames that are complete with this batch.
    pub(crate) fn frames<'b>(&'b mut self, times: Times<'b>) -> Frames<'b> {
        let descriptors = &self.socket.batch[..self.count];
        let frames = if self.socket.scatter_gather {
            descriptors.iter().filter(|descriptor| !descriptor.has_more_frames()).count()
        } else {
            self.count
        };
        let continued = self.socket.continued;
        Frames { umem: &self.socket.umem, descriptors: descriptors.iter(), frames, continued, times }
    }
}

impl Drop for Received<'_> {
    fn drop(&mut self) {
        let socket = &mut *self.socket;
        if let Some(last) = socket.batch[..self.count].last() {
            socket.continued = last.has_more_frames();
        }
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
        let time = match &mut self.times {
            Times::Batch(time) => *time,
            Times::Stamped { realtime_offset, missing, instead } => match take_stamp(bytes) {
                0 => {
                    **missing += 1;
                    instead()
                }
                stamp => stamp.wrapping_add_signed(*realtime_offset),
            },
        };
        // A descriptor's length is at most a chunk's.
        let wire_len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        Captured { bytes, wire_len, time }
    }
}

/// Takes what stands in the metadata area in front of a frame, and leaves 0 there, as in a fresh UMEM: so a frame for
/// which the driver makes no room has no stamp, and not that of the frame before it in the same chunk.
fn take_stamp(bytes: &[u8]) -> u64 {
    let place = ptr::with_exposed_provenance_mut::<u64>(bytes.as_ptr().addr() - STAMP_LEN);
    // SAFETY: a frame starts at least XDP_PACKET_HEADROOM into its chunk, so the bytes before it belong to the same
    // chunk of the same mapping, whose provenance was exposed when its address was handed to the kernel. They are ours
    // as long as the frame is, and no reference covers them. The address needs no alignment.
    let stamp = unsafe { place.read_unaligned() };
    // SAFETY: as above.
    unsafe { place.write_unaligned(0) };
    stamp
}
