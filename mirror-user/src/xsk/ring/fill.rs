//! The fill ring: the worker produces, the kernel consumes.

use std::sync::atomic::Ordering;

use super::Memory;

#[derive(Debug)]
pub(in crate::xsk) struct FillRing {
    memory: Memory<u64>,
    /// Our index.
    produced: u32,
}

impl FillRing {
    /// The mapped ring.
    pub(in crate::xsk) fn new(memory: Memory<u64>) -> Self {
        let produced = memory.producer().load(Ordering::Relaxed);
        Self { memory, produced }
    }

    /// Goes on where another process, which had this ring mapped, has stopped.
    pub(in crate::xsk) fn resume(&mut self) {
        self.produced = self.memory.producer().load(Ordering::Acquire);
    }

    /// Writes the `nth` entry behind what was submitted.
    ///
    /// It does not read the kernel's index, which would take the cache line from the kernel's core: the ring
    /// has a place for every chunk of the UMEM, and each chunk that is put here was taken out before. So the
    /// kernel has read the entry that is overwritten, even if it has not published that yet.
    pub(in crate::xsk) fn put(&mut self, nth: u32, address: u64) {
        let place = self.memory.entry(self.produced.wrapping_add(nth));
        // SAFETY: within the entries, by the mask. By the above the kernel is done with what was there, and
        // reads it again only after `submit`.
        unsafe { place.write(address) };
    }

    /// Hands the first `count` entries written over to the kernel.
    pub(in crate::xsk) fn submit(&mut self, count: u32) {
        self.produced = self.produced.wrapping_add(count);
        self.memory.producer().store(self.produced, Ordering::Release);
    }

    /// The entry that was submitted this many entries before the next one: 1 is the last. One that the kernel
    /// has read stands there still.
    pub(in crate::xsk) fn submitted(&self, back: u32) -> u64 {
        let place = self.memory.entry(self.produced.wrapping_sub(back));
        // SAFETY: within the entries, by the mask. The kernel only reads entries; who wrote this one, this
        // mapping or that of the process before, did so before it published the index.
        unsafe { place.read() }
    }

    /// Whether the driver sleeps until it is woken for new entries (`XDP_USE_NEED_WAKEUP`).
    pub(in crate::xsk) fn needs_wakeup(&self) -> bool {
        self.memory.flags().load(Ordering::Relaxed) & libc::XDP_RING_NEED_WAKEUP != 0
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::testing::{self, pair},
        *,
    };

    fn consume(kernel: &Memory<u64>) -> Vec<u64> {
        let (mut index, end) =
            (kernel.consumer().load(Ordering::Relaxed), kernel.producer().load(Ordering::Acquire));
        let mut addresses = Vec::new();
        while index != end {
            // SAFETY: within the entries, by the mask; the other side wrote it before it published its index.
            addresses.push(unsafe { kernel.entry(index).read() });
            index = index.wrapping_add(1);
        }
        kernel.consumer().store(index, Ordering::Release);
        addresses
    }

    #[test]
    fn entries_are_the_kernels_once_submitted_and_not_before() {
        let (ours, kernel) = pair(4, 0);
        let mut ring = FillRing::new(ours);
        ring.put(0, 0x800);
        ring.put(1, 0x1000);
        assert!(consume(&kernel).is_empty());
        ring.submit(2);
        assert_eq!(consume(&kernel), [0x800, 0x1000]);
    }

    #[test]
    fn indices_wrap_around_after_u32_max() {
        let (ours, kernel) = pair(4, u32::MAX - 1);
        let mut ring = FillRing::new(ours);
        for round in 0..3 {
            let addresses = [round, round + 10, round + 20, round + 30];
            for (nth, address) in (0..).zip(addresses) {
                ring.put(nth, address);
            }
            ring.submit(4);
            assert_eq!(consume(&kernel), addresses);
        }
        assert_eq!(kernel.producer().load(Ordering::Relaxed), 10);
    }

    #[test]
    fn a_second_mapping_goes_on_where_the_first_has_stopped() {
        let (first, kernel, second) = testing::three(4, 7);
        let (mut first, mut second) = (FillRing::new(first), FillRing::new(second));
        first.put(0, 1);
        first.submit(1);
        second.resume();
        second.put(0, 2);
        second.submit(1);
        assert_eq!(consume(&kernel), [1, 2]);
    }

    #[test]
    fn the_kernels_flag_asks_for_a_wakeup() {
        let (ours, kernel) = pair(4, 0);
        let ring = FillRing::new(ours);
        assert!(!ring.needs_wakeup());
        kernel.flags().store(libc::XDP_RING_NEED_WAKEUP, Ordering::Relaxed);
        assert!(ring.needs_wakeup());
    }
}
