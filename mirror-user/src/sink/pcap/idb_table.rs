//! Numbers of origins: in a block, and as interfaces (interface description blocks) of a pcapng file.
//!
//! A worker numbers the origins of each block anew, and the block carries their keys. Each file numbers its
//! interfaces itself. So no table outlives a file, and a flood of origins fills one table only.

use std::collections::HashMap;

use foldhash::fast::RandomState;

use super::format;
use crate::{
    frame::Frame,
    sink::{handoff::Block, origin::OriginKey},
};

/// The most origins in a block.
pub(super) const MOST_IN_BLOCK: usize = 1024;

/// A worker's numbers for the origins of its current block.
#[derive(Debug)]
pub(super) struct BlockNumbers {
    known: HashMap<OriginKey, u32, RandomState>,
    /// The origin of the last frame, and its number: frames of one origin come in runs.
    last: OriginKey,
    last_number: Option<u32>,
}

impl BlockNumbers {
    pub(super) fn new() -> Self {
        let known = HashMap::with_capacity_and_hasher(MOST_IN_BLOCK, RandomState::default());
        Self { known, last: OriginKey::default(), last_number: None }
    }

    /// Memory of one, in bytes.
    pub(super) fn memory() -> usize {
        // The map has a power of two of slots, keeps one in eight free, and has a state byte per slot.
        let places = (MOST_IN_BLOCK * 8 / 7 + 1).next_power_of_two();
        places * (size_of::<(OriginKey, u32)>() + 1)
    }

    /// The number of a frame's origin in a block; `None` if the block has no room for another.
    #[expect(clippy::inline_always, reason = "a comparison for nearly every frame")]
    #[inline(always)]
    pub(super) fn number(&mut self, block: &mut Block, frame: &Frame<'_>) -> Option<u32> {
        match (self.last.another(frame), self.last_number) {
            (None, Some(number)) if !block.is_empty() => Some(number),
            (another, _) => self.look_up(block, another.unwrap_or(self.last)),
        }
    }

    #[inline(never)]
    fn look_up(&mut self, block: &mut Block, key: OriginKey) -> Option<u32> {
        // Another block than last time.
        if block.is_empty() && self.last_number.take().is_some() {
            self.known.clear();
        }
        let number = match self.known.get(&key) {
            Some(&number) => number,
            None if block.origins() == MOST_IN_BLOCK => return None,
            None => {
                #[expect(clippy::cast_possible_truncation, reason = "bounded far below 2^32")]
                let number = block.origins() as u32;
                block.add_origin(key);
                self.known.insert(key, number);
                number
            }
        };
        (self.last, self.last_number) = (key, Some(number));
        Some(number)
    }
}

/// The interfaces of one file by number, bounded: origins beyond the bound share one.
#[derive(Debug)]
pub(super) struct IdbTable {
    numbers: HashMap<OriginKey, u32, RandomState>,
    /// By number; `None` is the interface of origins beyond the bound.
    origins: Vec<Option<OriginKey>>,
    rest: Option<u32>,
    max: usize,
    /// By the numbers of the current block.
    of_block: Vec<u32>,
}

/// Not looked up yet, in [`IdbTable::of_block`].
const UNKNOWN: u32 = u32::MAX;

impl IdbTable {
    /// A table with at most this many named interfaces.
    pub(super) fn new(max: usize) -> Self {
        Self { numbers: HashMap::default(), origins: Vec::new(), rest: None, max, of_block: Vec::new() }
    }

    /// Replaces the numbers of packets of a block with these origins by those of this table. Each packet is
    /// the offset of its end in `bytes`, and its number.
    pub(super) fn renumber(
        &mut self,
        bytes: &mut [u8],
        packets: impl Iterator<Item = (usize, u32)>,
        origins: &[OriginKey],
    ) {
        self.of_block.clear();
        self.of_block.resize(origins.len(), UNKNOWN);
        let mut start = 0;
        for (end, number) in packets {
            let mut here = self.of_block[number as usize];
            if here == UNKNOWN {
                here = self.number(origins[number as usize]);
                self.of_block[number as usize] = here;
            }
            if here != number {
                format::renumber(&mut bytes[start..], here);
            }
            start = end;
        }
    }

    /// The number here of a number of the block last renumbered.
    pub(super) fn of_block(&self, number: u32) -> u32 {
        self.of_block[number as usize]
    }

    /// Whether an origin has an interface, perhaps with others.
    pub(super) fn has(&self, key: OriginKey) -> bool {
        self.numbers.contains_key(&key) || self.rest.is_some() && self.numbers.len() >= self.max
    }

    /// The number of an origin's interface.
    pub(super) fn number(&mut self, key: OriginKey) -> u32 {
        if let Some(&number) = self.numbers.get(&key) {
            return number;
        }
        if self.numbers.len() >= self.max {
            return self.rest();
        }
        let number = self.add(Some(key));
        self.numbers.insert(key, number);
        number
    }

    /// The number of the interface of origins beyond the bound.
    pub(super) fn rest(&mut self) -> u32 {
        if let Some(rest) = self.rest {
            return rest;
        }
        let rest = self.add(None);
        self.rest = Some(rest);
        rest
    }

    fn add(&mut self, origin: Option<OriginKey>) -> u32 {
        #[expect(clippy::cast_possible_truncation, reason = "the builder keeps the bound far below 2^32")]
        let number = self.origins.len() as u32;
        self.origins.push(origin);
        number
    }

    /// The origin of each number from this one on; `None` is origins beyond the bound.
    pub(super) fn from(&self, number: usize) -> &[Option<OriginKey>] {
        self.origins.get(number..).unwrap_or_default()
    }

    /// Number of interfaces.
    pub(super) fn len(&self) -> usize {
        self.origins.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::testing::Outer;

    fn key(vni: u32) -> OriginKey {
        OriginKey::new([10, 0, 0, 1].into(), vni)
    }

    fn outer(vni: u32) -> Outer {
        Outer::new([10, 0, 0, 1], vni, &[1; 60])
    }

    #[test]
    fn each_block_numbers_its_origins_from_0() {
        let mut numbers = BlockNumbers::new();
        let mut blocks = [Block::new(4096, MOST_IN_BLOCK), Block::new(4096, MOST_IN_BLOCK)];
        let mut number = |block: &mut Block, vni| {
            let number = numbers.number(block, &outer(vni).frame());
            block.push(1).unwrap();
            number
        };
        assert_eq!([5, 5, 6, 5].map(|vni| number(&mut blocks[0], vni)), [0, 0, 1, 0].map(Some));
        assert_eq!([6, 5, 6].map(|vni| number(&mut blocks[1], vni)), [0, 1, 0].map(Some));
        assert_eq!(blocks[0].parts().1, [key(5), key(6)]);
        assert_eq!(blocks[1].parts().1, [key(6), key(5)]);
    }

    #[test]
    fn a_block_bounds_its_origins_and_their_lookup_allocates_nothing() {
        let mut numbers = BlockNumbers::new();
        let mut block = Block::new(1 << 20, MOST_IN_BLOCK);
        let frames: Vec<_> = (0..100_000).map(outer).collect();
        let allocated = allocation_counter::measure(|| {
            for (frame, nth) in frames.iter().zip(0..) {
                let number = numbers.number(&mut block, &frame.frame());
                assert_eq!(number.is_some(), nth < MOST_IN_BLOCK);
                block.push(1).unwrap();
            }
            assert_eq!(numbers.number(&mut block, &frames[7].frame()), Some(7));
        });
        assert_eq!(allocated.count_total, 0, "{allocated:?}");
    }

    #[test]
    fn beyond_the_bound_origins_share_one_interface_and_known_ones_keep_theirs() {
        let mut file = IdbTable::new(2);
        assert_eq!([1, 2, 3, 4, 1, 2].map(|vni| file.number(key(vni))), [0, 1, 2, 2, 0, 1]);
        assert_eq!(file.from(1), [Some(key(2)), None]);
        assert_eq!(file.len(), 3);
    }
}
