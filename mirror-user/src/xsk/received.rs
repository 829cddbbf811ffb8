//! A batch of frames received from the RX ring, which go back to the kernel when it is dropped.

use std::{ops::Range, ptr, slice};

use arrayvec::ArrayVec;

use mirror_ebpf::mirror::STAMP_LEN;

use super::{Socket, Stamps, ring::RxRing};
use crate::frame::{Captured, MAX_BATCH, Slices};

/// Descriptors in user space's hands. Dropping it, also while unwinding, gives every chunk back.
#[derive(Debug)]
pub(crate) struct Received<'a> {
    socket: &'a mut Socket,
    count: u32,
}

/// The frames of a [`Received`] batch, each in one descriptor.
#[derive(Debug)]
pub(crate) struct Frames<'a, T> {
    rx: &'a RxRing,
    umem: usize,
    left: Range<u32>,
    times: T,
}

/// The frames of a batch of which some are in several descriptors; `None` for one in more than a batch has. A
/// separate type, because its state would keep that of the other out of registers.
#[derive(Debug)]
pub(crate) struct FramesInSeveral<'a, T> {
    descriptors: Frames<'a, T>,
    frames: usize,
    continued: bool,
    /// Those in several descriptors, in sequence.
    several: slice::Iter<'a, Slices<'a>>,
}

/// Holds the slices of frames in several descriptors while their batch is borrowed.
pub(crate) type Pieces<'a> = ArrayVec<&'a [u8], MAX_BATCH>;
/// Holds which of [`Pieces`] belong to which frame.
pub(crate) type Several<'a> = ArrayVec<Slices<'a>, { MAX_BATCH / 2 }>;

/// Source of the receive times of a batch, CLOCK_REALTIME in ns. Each kind has a loop of its own, so that one
/// without stamps has no code for them.
pub(crate) trait Times {
    /// Prefetches the cache lines that it will read of the frame at this address, [`AHEAD`] frames before its
    /// turn.
    fn fetch(&self, start: usize);

    /// The time of the next frame.
    fn take(&mut self, bytes: &[u8]) -> u64;
}

/// The worker read the clock once for the batch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BatchTime(pub(crate) u64);

/// The XDP program wrote CLOCK_MONOTONIC in front of frames.
#[derive(Debug)]
pub(crate) struct StampedTimes<'c> {
    pub(crate) stamps: &'c mut Stamps,
    /// CLOCK_MONOTONIC in ns, read after the frames were in the ring.
    pub(crate) now: u64,
    /// The clock to read for frames without a stamp.
    pub(crate) instead: fn() -> u64,
}

impl Times for BatchTime {
    fn fetch(&self, _: usize) {}

    fn take(&mut self, _: &[u8]) -> u64 {
        self.0
    }
}

impl Times for StampedTimes<'_> {
    fn fetch(&self, start: usize) {
        if self.stamps.expects(u64::from(AHEAD), self.now) {
            prefetch(start - STAMP_LEN);
        }
        // Who wants times writes packets.
        prefetch(start + FIRST_READ + LINE);
    }

    fn take(&mut self, bytes: &[u8]) -> u64 {
        self.stamps.take(self.now, || in_front_of(bytes)).unwrap_or_else(self.instead)
    }
}

impl Socket {
    /// Takes up to `most` descriptors off the RX ring.
    pub(crate) fn receive(&mut self, most: usize) -> Received<'_> {
        let most = u32::try_from(most.min(MAX_BATCH)).unwrap_or(0);
        let mut count = self.rx.available(most);
        if self.scatter_gather && count > 0 {
            count = self.whole_frames(count);
        }
        Received::new(self, count)
    }

    /// How many of the first `count` descriptors make whole frames; a frame that continues behind them stays
    /// in the ring for the next batch. A single frame may have more descriptors than asked for.
    fn whole_frames(&mut self, count: u32) -> u32 {
        let ends = |rx: &RxRing, nth: &u32| !continues(&rx.descriptor(*nth));
        if let Some(last) = (0..count).rev().find(|nth| ends(&self.rx, nth)) {
            return last + 1;
        }
        let most = u32::try_from(MAX_BATCH).unwrap_or(u32::MAX);
        let count = self.rx.available(most);
        match (0..count).find(|nth| ends(&self.rx, nth)) {
            Some(last) => last + 1,
            // A frame of more than a batch has, which no driver makes (`MAX_SKB_FRAGS`): taken piece by
            // piece, and rejected with its last.
            None if count == most => count,
            None => 0,
        }
    }
}

impl<'a> Received<'a> {
    fn new(socket: &'a mut Socket, count: u32) -> Self {
        Self { socket, count }
    }

    /// Descriptors in it.
    pub(crate) fn len(&self) -> u32 {
        self.count
    }

    /// Whether the ring was empty.
    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The frames, each in one descriptor.
    pub(crate) fn frames<T: Times>(&self, times: T) -> Frames<'_, T> {
        Frames { rx: &self.socket.rx, umem: self.socket.umem.base(), left: 0..self.count, times }
    }

    /// The frames, of which some may be in several descriptors.
    pub(crate) fn frames_in_several<'r, 's: 'r, 'b: 's, T: Times>(
        &'b self,
        times: T,
        pieces: &'s mut Pieces<'b>,
        several: &'r mut Several<'s>,
    ) -> FramesInSeveral<'r, T> {
        let Socket { rx, umem, continued, .. } = &*self.socket;
        let mut counts = ArrayVec::<usize, { MAX_BATCH / 2 }>::new();
        let (mut frames, mut skipped, mut begun) = (0, *continued, false);
        for nth in 0..self.count {
            let descriptor = rx.descriptor(nth);
            let has_more = continues(&descriptor);
            frames += usize::from(!has_more);
            if skipped {
                skipped = has_more;
                continue;
            }
            if !begun && has_more {
                counts.push(0);
            }
            if begun || has_more {
                pieces.push(self.bytes(&descriptor));
                counts.last_mut().into_iter().for_each(|count| *count += 1);
            }
            begun = has_more;
        }
        let mut left = pieces.as_slice();
        for count in counts {
            let (own, others) = left.split_at(count);
            several.push(Slices::new(own));
            left = others;
        }
        FramesInSeveral {
            descriptors: Frames { rx, umem: umem.base(), left: 0..self.count, times },
            frames,
            continued: *continued,
            several: several.iter(),
        }
    }

    /// How many frames end in it.
    pub(crate) fn frame_count(&self) -> u64 {
        let rx = &self.socket.rx;
        (0..self.count).filter(|nth| !continues(&rx.descriptor(*nth))).count() as u64
    }

    /// Whether any descriptor in it is not a whole frame.
    pub(crate) fn is_in_several(&self) -> bool {
        let Socket { rx, continued, scatter_gather, .. } = &*self.socket;
        *scatter_gather && (*continued || (0..self.count).any(|nth| continues(&rx.descriptor(nth))))
    }

    fn bytes(&self, descriptor: &libc::xdp_desc) -> &[u8] {
        lent(self.socket.umem.base(), descriptor, self)
    }
}

/// Whether the frame continues in the next descriptor.
fn continues(descriptor: &libc::xdp_desc) -> bool {
    descriptor.options & libc::XDP_PKT_CONTD != 0
}

impl Drop for Received<'_> {
    fn drop(&mut self) {
        let Socket { rx, fill, continued, scatter_gather, .. } = &mut *self.socket;
        if self.count == 0 {
            return;
        }
        *continued = *scatter_gather && continues(&rx.descriptor(self.count - 1));
        // Every borrow of the frames' bytes has ended, because it was a borrow of this batch. In aligned
        // chunks the kernel takes any address within one for the whole.
        for nth in 0..self.count {
            fill.put(nth, rx.descriptor(nth).addr);
        }
        // In this sequence, `Socket::recover` finds what a process had given back that was killed in between.
        fill.submit(self.count);
        rx.release(self.count);
        if fill.needs_wakeup() {
            // Only zero-copy drivers ask. A failed wake-up is tried again with the next batch.
            let _ = self.socket.wait(std::time::Duration::ZERO);
        }
    }
}

impl<'a, T: Times> Iterator for Frames<'a, T> {
    type Item = Option<Captured<'a>>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let descriptor = self.next_descriptor()?;
        Some(Some(self.capture(&descriptor)))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.left.size_hint()
    }
}

impl<T: Times> ExactSizeIterator for Frames<'_, T> {}

impl<'a, T: Times> Iterator for FramesInSeveral<'a, T> {
    type Item = Option<Captured<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.frames == 0 {
            return None;
        }
        self.frames -= 1;
        let mut descriptor = self.descriptors.next_descriptor()?;
        if std::mem::take(&mut self.continued) {
            while continues(&descriptor) {
                descriptor = self.descriptors.next_descriptor()?;
            }
            return Some(None);
        }
        if !continues(&descriptor) {
            return Some(Some(self.descriptors.capture(&descriptor)));
        }
        let slices = self.several.next()?;
        let others = u32::try_from(slices.count() - 1).unwrap_or(u32::MAX);
        let Frames { rx, umem, left, times } = &mut self.descriptors;
        left.start = left.start.saturating_add(others);
        let time = times.take(lent(*umem, &descriptor, *rx));
        let wire_len = u32::try_from(slices.len()).unwrap_or(u32::MAX);
        Some(Some(Captured::in_several(slices, wire_len, time)))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.frames, Some(self.frames))
    }
}

impl<T: Times> ExactSizeIterator for FramesInSeveral<'_, T> {}

impl<'a, T: Times> Frames<'a, T> {
    /// The next descriptor of the batch; prefetches the headers of one further on.
    #[inline]
    fn next_descriptor(&mut self) -> Option<libc::xdp_desc> {
        let nth = self.left.next()?;
        let ahead = nth + AHEAD;
        if ahead < self.left.end {
            self.fetch(&self.rx.descriptor(ahead));
        }
        Some(self.rx.descriptor(nth))
    }

    /// Prefetches the cache lines of a frame that will be read.
    fn fetch(&self, descriptor: &libc::xdp_desc) {
        let start = address(self.umem, descriptor);
        prefetch(start + FIRST_READ);
        self.times.fetch(start);
    }

    fn capture(&mut self, descriptor: &libc::xdp_desc) -> Captured<'a> {
        let bytes = lent(self.umem, descriptor, self.rx);
        let time = self.times.take(bytes);
        Captured::new(bytes, descriptor.len, time)
    }
}

/// The bytes of a descriptor of a batch, for as long as `holder`, which the batch or its ring is, is
/// borrowed.
fn lent<'a, T>(umem: usize, descriptor: &libc::xdp_desc, _holder: &'a T) -> &'a [u8] {
    let start = ptr::with_exposed_provenance(address(umem, descriptor));
    // SAFETY: the kernel puts only frames within the UMEM into the ring; its mapping lives as long as the
    // socket, and its provenance was exposed when it was mapped. The frame is out of the rings until the
    // batch is dropped, which the lifetime `'a` forbids while the bytes are borrowed; nobody writes to them
    // meanwhile.
    unsafe { slice::from_raw_parts(start, descriptor.len as usize) }
}

/// Where a frame starts.
#[expect(clippy::cast_possible_truncation, reason = "an offset into mapped memory")]
fn address(umem: usize, descriptor: &libc::xdp_desc) -> usize {
    umem + descriptor.addr as usize
}

/// What is in the metadata area in front of a frame.
fn in_front_of(bytes: &[u8]) -> u64 {
    let place = ptr::with_exposed_provenance::<u64>(bytes.as_ptr().addr() - STAMP_LEN);
    // SAFETY: a frame starts at least XDP_PACKET_HEADROOM into its chunk, so the bytes before it belong to
    // the same chunk of the same mapping, whose provenance was exposed when it was mapped. They are ours as
    // long as the frame is. The address needs no alignment.
    unsafe { place.read_unaligned() }
}

/// How many frames before its turn a frame's headers are prefetched: some 100 ns of work, the time that a
/// cache line takes from the kernel's core.
const AHEAD: u32 = 8;
/// Bytes of a cache line.
const LINE: usize = 64;
/// Offset of the first byte that decapsulation reads, the ethertype.
const FIRST_READ: usize = 12;

/// Prefetches a cache line.
#[inline]
fn prefetch(address: usize) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a hint: nothing is read, and no address is wrong for it.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(ptr::without_provenance(address)) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;

    use super::{
        super::{
            bind::UNUSED_RING,
            ring::{CompletionRing, FillRing, Memory, testing},
            umem::{Chunks, HugePages, Umem},
        },
        *,
    };

    const CHUNK: u32 = 2048;
    const CHUNKS: u32 = 1024;

    /// A socket without a kernel, and the other sides of its RX and fill ring.
    struct Bench {
        socket: Socket,
        rx: Memory<libc::xdp_desc>,
        fill: Memory<u64>,
        /// Chunks taken so far.
        taken: u32,
    }

    impl Bench {
        fn new() -> Self {
            let umem =
                Umem::allocate(Chunks { count: CHUNKS, size: CHUNK, headroom: 0 }, HugePages::Never).unwrap();
            let ((ours, rx), (fill, kernel), (completion, _)) = (
                testing::pair(CHUNKS, u32::MAX - 5),
                testing::pair(CHUNKS, 0),
                testing::pair(UNUSED_RING, 0),
            );
            let stand_in: OwnedFd = std::fs::File::open("/dev/null").unwrap().into();
            let mut socket = Socket::over(
                stand_in,
                umem,
                (RxRing::new(ours), FillRing::new(fill), CompletionRing::new(completion)),
            );
            socket.scatter_gather = true;
            Self { socket, rx, fill: kernel, taken: 0 }
        }

        /// A frame in so many descriptors of these bytes each, all of them the frame's number.
        fn frame(&mut self, number: u8, descriptors: &[u32]) {
            let last = descriptors.len() - 1;
            for (nth, &len) in descriptors.iter().enumerate() {
                let addr = self.taken * CHUNK + 256;
                self.taken += 1;
                let start = self.socket.umem.start().as_ptr().wrapping_add(addr as usize);
                let addr = addr.into();
                // SAFETY: within the UMEM, and no batch is lent out.
                unsafe { start.write_bytes(number, len as usize) };
                let options = if nth < last { libc::XDP_PKT_CONTD } else { 0 };
                testing::produce(&self.rx, [libc::xdp_desc { addr, len, options }]);
            }
        }

        /// The next batch of at most `most` descriptors: each frame's number and the lengths of its slices.
        fn batch(&mut self, most: usize) -> Vec<Option<(u8, Vec<usize>)>> {
            let received = self.socket.receive(most);
            let mut pieces = Pieces::new();
            let mut several = Several::new();
            let frames = received.frames_in_several(BatchTime(7), &mut pieces, &mut several);
            assert_eq!(frames.len() as u64, received.frame_count());
            let look = |captured: Captured<'_>| {
                let number = captured.bytes().first()[0];
                assert!(captured.bytes().iter().flatten().all(|byte| *byte == number));
                assert_eq!((captured.wire_len() as usize, captured.time()), (captured.len(), 7));
                (number, captured.bytes().iter().map(<[u8]>::len).collect())
            };
            frames.map(|captured| captured.map(look)).collect()
        }
    }

    #[test]
    fn a_frame_has_the_slices_of_its_descriptors_and_no_others() {
        let mut bench = Bench::new();
        for (number, descriptors) in [(1, &[60][..]), (2, &[1700, 1700, 9]), (3, &[14]), (4, &[1700, 1])] {
            bench.frame(number, descriptors);
        }
        assert_eq!(
            bench.batch(64),
            [
                Some((1, vec![60])),
                Some((2, vec![1700, 1700, 9])),
                Some((3, vec![14])),
                Some((4, vec![1700, 1]))
            ]
        );
        assert_eq!(testing::submitted(&bench.fill), 7, "each chunk goes back");
    }

    #[test]
    fn wherever_a_process_was_killed_each_frame_that_it_had_not_given_back_is_received_again() {
        let numbers = |bench: &mut Bench| -> Vec<u8> {
            bench.batch(MAX_BATCH).into_iter().map(|frame| frame.unwrap().0).collect()
        };
        // Nothing, part of a batch, all that there is, more than a batch.
        for (before, given_back, frames) in
            [(0, 0, 5), (2, 0, 5), (0, 3, 5), (2, 3, 5), (0, 5, 5), (9, 64, 90)]
        {
            let mut bench = Bench::new();
            (0..frames).for_each(|number| bench.frame(number, &[60]));
            if before > 0 {
                bench.batch(before.into());
            }
            // Killed between the two steps of giving a batch back.
            assert!(bench.socket.rx.available(u32::from(given_back)) >= u32::from(given_back));
            for nth in 0..u32::from(given_back) {
                let address = bench.socket.rx.descriptor(nth).addr;
                bench.socket.fill.put(nth, address);
            }
            bench.socket.fill.submit(given_back.into());
            bench.socket.recover();
            let left: Vec<_> = (before + given_back..frames).take(MAX_BATCH).collect();
            assert_eq!(numbers(&mut bench), left, "{before} {given_back}");
            let gone = u32::from(before + given_back) + u32::try_from(left.len()).unwrap();
            assert_eq!(testing::submitted(&bench.fill), gone, "each chunk goes back once");
            assert_eq!(bench.socket.position(), (u32::MAX - 5).wrapping_add(gone));
        }
    }

    #[test]
    fn a_frame_that_continues_behind_the_batch_is_left_for_the_next() {
        let mut bench = Bench::new();
        bench.frame(1, &[60]);
        bench.frame(2, &[1700, 1700, 9]);
        bench.frame(3, &[60]);
        assert_eq!(bench.batch(3), [Some((1, vec![60]))]);
        assert_eq!(bench.batch(3), [Some((2, vec![1700, 1700, 9]))]);
        assert_eq!(bench.batch(3), [Some((3, vec![60]))]);
        assert_eq!(bench.batch(3), []);
    }

    #[test]
    fn a_batch_smaller_than_a_frame_takes_it_all_the_same() {
        let mut bench = Bench::new();
        bench.frame(1, &[1700; 38]);
        bench.frame(2, &[60]);
        assert_eq!(bench.batch(1), [Some((1, vec![1700; 38]))]);
        assert_eq!(bench.batch(1), [Some((2, vec![60]))]);
    }

    #[test]
    fn the_start_of_a_frame_is_left_in_the_ring_until_its_end_is_there() {
        let mut bench = Bench::new();
        let begin = libc::xdp_desc { addr: 256, len: 1700, options: libc::XDP_PKT_CONTD };
        testing::produce(&bench.rx, [begin]);
        assert_eq!(bench.batch(64), []);
        let end = libc::xdp_desc { addr: 256 + u64::from(CHUNK), len: 5, options: 0 };
        testing::produce(&bench.rx, [end]);
        assert_eq!(bench.batch(64), [Some((0, vec![1700, 5]))]);
    }

    #[test]
    fn a_frame_of_more_descriptors_than_a_batch_is_one_that_cannot_be_read() {
        let mut bench = Bench::new();
        bench.frame(1, &[10; 2 * MAX_BATCH + 3]);
        bench.frame(2, &[60]);
        assert_eq!(bench.batch(64), []);
        assert_eq!(bench.batch(64), []);
        assert_eq!(bench.batch(64), [None, Some((2, vec![60]))]);
        assert_eq!(bench.batch(64), []);
        assert_eq!(testing::submitted(&bench.fill) as usize, 2 * MAX_BATCH + 4);
    }
}
