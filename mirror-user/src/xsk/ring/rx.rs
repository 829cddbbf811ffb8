//! The RX ring: the kernel produces, the worker consumes.

use std::sync::atomic::Ordering;

use super::Memory;

#[derive(Debug)]
pub(in crate::xsk) struct RxRing {
    memory: Memory<libc::xdp_desc>,
    /// Our index, up to where descriptors were given back.
    consumed: u32,
    /// The kernel's, as last read.
    produced: u32,
}

impl RxRing {
    /// The mapped ring.
    pub(in crate::xsk) fn new(memory: Memory<libc::xdp_desc>) -> Self {
        let consumed = memory.consumer().load(Ordering::Relaxed);
        Self { memory, consumed, produced: consumed }
    }

    /// Goes on where another process, which had this ring mapped, has stopped.
    pub(in crate::xsk) fn resume(&mut self) {
        self.consumed = self.memory.consumer().load(Ordering::Acquire);
        self.produced = self.consumed;
    }

    /// The index up to which descriptors were given back.
    pub(in crate::xsk) fn position(&self) -> u32 {
        self.consumed
    }

    /// How many descriptors can be read, at most `most`. The kernel's index is read only when the last known
    /// value does not suffice: each read takes the cache line from the kernel's core.
    pub(in crate::xsk) fn available(&mut self, most: u32) -> u32 {
        if self.produced.wrapping_sub(self.consumed) < most {
            self.produced = self.memory.producer().load(Ordering::Acquire);
        }
        self.produced.wrapping_sub(self.consumed).min(most)
    }

    /// The `nth` of those that [`available`](Self::available) counted.
    pub(in crate::xsk) fn descriptor(&self, nth: u32) -> libc::xdp_desc {
        debug_assert!(nth < self.produced.wrapping_sub(self.consumed));
        let place = self.memory.entry(self.consumed.wrapping_add(nth));
        // SAFETY: within the entries, by the mask. The kernel wrote it before it published its index, which
        // was read with acquire, and writes there again only after `release`.
        unsafe { place.read() }
    }

    /// Returns the places of the first `count` descriptors.
    pub(in crate::xsk) fn release(&mut self, count: u32) {
        self.consumed = self.consumed.wrapping_add(count);
        self.memory.consumer().store(self.consumed, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::testing::{self, pair},
        *,
    };

    fn produce(kernel: &Memory<libc::xdp_desc>, addresses: &[u64]) {
        let descriptor = |&addr| libc::xdp_desc { addr, len: 60, options: 0 };
        testing::produce(kernel, addresses.iter().map(descriptor));
    }

    fn take(ring: &mut RxRing, most: u32) -> Vec<u64> {
        let count = ring.available(most);
        let addresses = (0..count).map(|nth| ring.descriptor(nth).addr).collect();
        ring.release(count);
        addresses
    }

    #[test]
    fn descriptors_come_in_order_and_no_more_than_asked_for() {
        let (ours, kernel) = pair(8, 0);
        let mut ring = RxRing::new(ours);
        assert!(take(&mut ring, 8).is_empty());
        produce(&kernel, &[1, 2, 3]);
        assert_eq!(take(&mut ring, 2), [1, 2]);
        assert_eq!(kernel.consumer().load(Ordering::Acquire), 2);
        assert_eq!(take(&mut ring, 2), [3]);
    }

    #[test]
    fn indices_wrap_around_after_u32_max() {
        let (ours, kernel) = pair(4, u32::MAX - 2);
        let mut ring = RxRing::new(ours);
        produce(&kernel, &[1, 2, 3, 4]);
        assert_eq!(kernel.producer().load(Ordering::Relaxed), 1);
        assert_eq!(take(&mut ring, 3), [1, 2, 3]);
        produce(&kernel, &[5, 6]);
        assert_eq!(take(&mut ring, 64), [4, 5, 6]);
        assert_eq!(kernel.consumer().load(Ordering::Acquire), 3);
    }

    #[test]
    fn a_second_mapping_goes_on_where_the_first_has_stopped() {
        let (first, kernel, second) = testing::three(4, u32::MAX - 1);
        let (mut first, mut second) = (RxRing::new(first), RxRing::new(second));
        produce(&kernel, &[1, 2, 3]);
        assert_eq!(take(&mut first, 2), [1, 2]);
        second.resume();
        assert_eq!(take(&mut second, 8), [3]);
        produce(&kernel, &[4]);
        assert_eq!(take(&mut second, 8), [4]);
    }

    #[test]
    fn a_full_ring_is_read_whole() {
        let (ours, kernel) = pair(4, u32::MAX);
        let mut ring = RxRing::new(ours);
        produce(&kernel, &[1, 2, 3, 4]);
        assert_eq!(take(&mut ring, u32::MAX), [1, 2, 3, 4]);
        assert!(take(&mut ring, u32::MAX).is_empty());
    }
}
