//! A lower bound of the number of distinct keys.

/// A lower bound of the number of distinct keys, in fixed memory: one bit per hash value, as in linear
/// counting (Whang, Vander-Zanden and Taylor, 1990), without its estimate. Equal keys set the same bit, so
/// there are never more bits set than keys.
#[derive(Clone, Debug)]
pub(super) struct DistinctBits(Box<[u64]>);

impl DistinctBits {
    const BITS: usize = 1 << 16;
    /// Memory of one, in bytes.
    pub(super) const MEMORY: usize = Self::BITS / 8;

    pub(super) fn new() -> Self {
        Self(vec![0; Self::BITS / 64].into_boxed_slice())
    }

    pub(super) fn insert(&mut self, hash: u64) {
        // The table uses the low bits for the slot and the top seven for the tag; these are between.
        #[expect(clippy::cast_possible_truncation, reason = "16 bits are wanted")]
        let bit = usize::from((hash >> 32) as u16);
        self.0[bit / 64] |= 1 << (bit % 64);
    }

    /// Copies another without an allocation.
    pub(super) fn copy(&mut self, other: &Self) {
        self.0.copy_from_slice(&other.0);
    }

    pub(super) fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.0.iter_mut().zip(&other.0) {
            *mine |= theirs;
        }
    }

    pub(super) fn count(&self) -> u64 {
        self.0.iter().map(|word| u64::from(word.count_ones())).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_keys_count_once_and_the_count_is_never_too_high() {
        let mut bits = DistinctBits::new();
        for key in 1..=1000_u64 {
            // Three times each, spread over the bits in use.
            (0..3).for_each(|_| bits.insert(key.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
            assert!(bits.count() <= key);
        }
        assert!(bits.count() > 900, "{}", bits.count());
    }

    #[test]
    fn merging_counts_shared_keys_once() {
        let (mut left, mut right) = (DistinctBits::new(), DistinctBits::new());
        (0..10_u64).for_each(|key| left.insert(key << 32));
        (5..20_u64).for_each(|key| right.insert(key << 32));
        left.merge(&right);
        assert_eq!(left.count(), 20);
    }
}
