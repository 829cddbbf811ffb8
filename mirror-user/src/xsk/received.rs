//! A batch of frames taken off the RX ring, which go back to the kernel when it is dropped.

use std::{ops::Range, ptr, slice};

use mirror_ebpf::mirror::STAMP_LEN;

use super::{Socket, ring::RxRing};
use crate::batch::Captured;

/// Descriptors in user space's hands. Dropping it, also while unwinding, gives every chunk back.
#[derive(Debug)]
pub(crate) struct Received<'a> {
    socket: &'a mut Socket,
    count: u32,
}

/// The frames of a [`Received`] batch, `None` for one in several descriptors.
#[derive(Debug)]
pub(crate) struct Frames<'a> {
    rx: &'a RxRing,
    umem: usize,
    left: Range<u32>,
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
    pub(super) fn new(socket: &'a mut Socket, count: u32) -> Self {
        Self { socket, count }
    }

    /// Whether the ring had nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The frames that are complete with this batch.
    pub(crate) fn frames<'b>(&'b mut self, times: Times<'b>) -> Frames<'b> {
        let Socket { rx, umem, scatter_gather, continued, .. } = &*self.socket;
        let left = 0..self.count;
        let frames = if *scatter_gather {
            left.clone().filter(|nth| !continues(&rx.descriptor(*nth))).count()
        } else {
            left.len()
        };
        Frames { rx, umem: *umem, left, frames, continued: *continued, times }
    }
}

/// Whether the frame goes on in the next descriptor.
fn continues(descriptor: &libc::xdp_desc) -> bool {
    descriptor.options & libc::XDP_PKT_CONTD != 0
}

impl Drop for Received<'_> {
    fn drop(&mut self) {
        let Socket { rx, fill, continued, .. } = &mut *self.socket;
        if self.count == 0 {
            return;
        }
        *continued = continues(&rx.descriptor(self.count - 1));
        // Every borrow of the frames' bytes has ended, because it was a borrow of this batch. In aligned chunks the
        // kernel takes any address within one for the whole.
        for nth in 0..self.count {
            fill.put(nth, rx.descriptor(nth).addr);
        }
        rx.release(self.count);
        fill.submit(self.count);
        if fill.needs_wakeup() {
            // Only zero-copy drivers ask. A failed wake-up is tried again with the next batch.
            let _ = self.socket.wait(std::time::Duration::ZERO);
        }
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = Option<Captured<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut whole = !std::mem::take(&mut self.continued);
        loop {
            let descriptor = self.rx.descriptor(self.left.next()?);
            if continues(&descriptor) {
                whole = false;
                continue;
            }
            self.frames -= 1;
            return Some(whole.then(|| self.capture(&descriptor)));
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.frames, Some(self.frames))
    }
}

impl ExactSizeIterator for Frames<'_> {}

impl<'a> Frames<'a> {
    fn capture(&mut self, descriptor: &libc::xdp_desc) -> Captured<'a> {
        #[expect(clippy::cast_possible_truncation, reason = "an offset into mapped memory")]
        let start = ptr::with_exposed_provenance(self.umem + descriptor.addr as usize);
        // SAFETY: the kernel puts only frames within the UMEM into the ring; its mapping lives as long as the socket,
        // and its provenance was exposed when its address was handed to the kernel. The frame is out of the rings
        // until the batch is dropped, which the lifetime `'a` forbids while the bytes are borrowed; nobody writes to
        // them meanwhile.
        let bytes = unsafe { slice::from_raw_parts(start, descriptor.len as usize) };
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
        Captured { bytes, wire_len: descriptor.len, time }
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
