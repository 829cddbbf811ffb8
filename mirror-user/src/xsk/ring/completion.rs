//! The completion ring: the kernel produces, the sender consumes.

use std::sync::atomic::Ordering;

use super::Memory;

#[derive(Debug)]
pub(in crate::xsk) struct CompletionRing {
    memory: Memory<u64>,
    /// Our index.
    consumed: u32,
}

impl CompletionRing {
    /// The mapped ring.
    pub(in crate::xsk) fn new(memory: Memory<u64>) -> Self {
        let consumed = memory.consumer().load(Ordering::Relaxed);
        Self { memory, consumed }
    }

    /// Takes the address of one chunk that the kernel is done with.
    pub(in crate::xsk) fn take(&mut self) -> Option<u64> {
        if self.memory.producer().load(Ordering::Acquire) == self.consumed {
            return None;
        }
        // SAFETY: within the entries, by the mask. The kernel wrote it before it published its index, which
        // was read with acquire, and writes there again only after the store below.
        let address = unsafe { self.memory.entry(self.consumed).read() };
        self.consumed = self.consumed.wrapping_add(1);
        self.memory.consumer().store(self.consumed, Ordering::Release);
        Some(address)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::testing::pair, *};

    #[test]
    fn chunks_come_back_in_order_across_u32_max() {
        let (ours, kernel) = pair(4, u32::MAX);
        let mut ring = CompletionRing::new(ours);
        assert_eq!(ring.take(), None);
        for nth in 0..3_u32 {
            // SAFETY: within the entries, by the mask; the other side reads it after the store below.
            unsafe { kernel.entry(u32::MAX.wrapping_add(nth)).write(u64::from(nth) * 4096) };
        }
        kernel.producer().store(2, Ordering::Release);
        assert_eq!([(); 4].map(|()| ring.take()), [Some(0), Some(4096), Some(8192), None]);
        assert_eq!(kernel.consumer().load(Ordering::Acquire), 2);
    }
}
