//! The TX ring: the sender produces, the kernel consumes.

use std::sync::atomic::Ordering;

use super::Memory;

#[derive(Debug)]
pub(in crate::xsk) struct TxRing {
    memory: Memory<libc::xdp_desc>,
    /// Our index.
    produced: u32,
}

impl TxRing {
    /// The mapped ring.
    pub(in crate::xsk) fn new(memory: Memory<libc::xdp_desc>) -> Self {
        let produced = memory.producer().load(Ordering::Relaxed);
        Self { memory, produced }
    }

    /// Writes the `nth` descriptor behind what was submitted. The caller keeps fewer than the ring has places
    /// between what the kernel has taken and this.
    pub(in crate::xsk) fn put(&mut self, nth: u32, descriptor: libc::xdp_desc) {
        let place = self.memory.entry(self.produced.wrapping_add(nth));
        // SAFETY: within the entries, by the mask. The kernel has taken what was there, and reads it again
        // only after `submit`.
        unsafe { place.write(descriptor) };
    }

    /// Hands the first `count` descriptors written over to the kernel.
    pub(in crate::xsk) fn submit(&mut self, count: u32) {
        self.produced = self.produced.wrapping_add(count);
        self.memory.producer().store(self.produced, Ordering::Release);
    }

    /// How many descriptors the kernel has not published as taken.
    pub(in crate::xsk) fn outstanding(&self) -> u32 {
        self.produced.wrapping_sub(self.memory.consumer().load(Ordering::Acquire))
    }

    /// Makes what is outstanding invalid, so that the kernel skips it: an address beyond the UMEM. In copy
    /// mode the kernel reads the ring within sendto(2) and poll(2) only, in which the caller is not.
    pub(in crate::xsk) fn void(&mut self) {
        let outstanding = self.outstanding();
        for behind in 1..=outstanding {
            let place = self.memory.entry(self.produced.wrapping_sub(behind));
            // SAFETY: within the entries, by the mask; by the above nobody reads it meanwhile.
            unsafe { place.write(libc::xdp_desc { addr: u64::MAX, len: 0, options: 0 }) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::testing::pair, *};

    fn descriptor(addr: u64) -> libc::xdp_desc {
        libc::xdp_desc { addr, len: 60, options: 0 }
    }

    fn address(kernel: &Memory<libc::xdp_desc>, index: u32) -> u64 {
        // SAFETY: within the entries, by the mask; the test is the only thread.
        unsafe { kernel.entry(index).read() }.addr
    }

    #[test]
    fn descriptors_not_taken_are_outstanding_across_u32_max() {
        let start = u32::MAX - 1;
        let (ours, kernel) = pair(4, start);
        let mut ring = TxRing::new(ours);
        for (nth, addr) in (0..).zip([1, 2, 3]) {
            ring.put(nth, descriptor(addr));
        }
        assert_eq!(ring.outstanding(), 0);
        ring.submit(3);
        assert_eq!((ring.outstanding(), kernel.producer().load(Ordering::Acquire)), (3, 1));
        assert_eq!([0, 1, 2].map(|nth: u32| address(&kernel, start.wrapping_add(nth))), [1, 2, 3]);
        kernel.consumer().store(0, Ordering::Release);
        assert_eq!(ring.outstanding(), 1);
    }

    #[test]
    fn only_what_is_outstanding_is_made_invalid() {
        let start = u32::MAX;
        let (ours, kernel) = pair(4, start);
        let mut ring = TxRing::new(ours);
        for (nth, addr) in (0..).zip([1, 2, 3]) {
            ring.put(nth, descriptor(addr));
        }
        ring.submit(3);
        kernel.consumer().store(start.wrapping_add(1), Ordering::Release);
        ring.void();
        let addresses = [0, 1, 2].map(|nth: u32| address(&kernel, start.wrapping_add(nth)));
        assert_eq!(addresses, [1, u64::MAX, u64::MAX]);
    }
}
