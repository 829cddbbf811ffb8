//! Memory of held fragments: chained blocks of one size, all allocated at the start.

/// The end of a chain.
pub(super) const NONE: u32 = u32::MAX;

/// Bytes of a block: a fragment that fills an MTU of 1500 takes three with its headers, and wastes little of
/// them.
pub(super) const BLOCK: usize = 512;

/// A pool of blocks. Pages are touched only when they are first used.
#[derive(Debug)]
pub(super) struct Blocks {
    bytes: Vec<u8>,
    /// The block after each, of its chain or of the free ones.
    next: Vec<u32>,
    free: u32,
    left: usize,
}

impl Blocks {
    pub(super) fn new(count: u32) -> Self {
        let next = (1..count).chain([NONE]).take(count as usize).collect();
        let free = if count == 0 { NONE } else { 0 };
        Self { bytes: vec![0; count as usize * BLOCK], next, free, left: count as usize }
    }

    /// Blocks that this many bytes take.
    pub(super) fn for_len(len: usize) -> usize {
        len.div_ceil(BLOCK).max(1)
    }

    /// Free blocks.
    pub(super) fn left(&self) -> usize {
        self.left
    }

    /// Copies two slices, one after the other, into a chain; `None` if too few blocks are free.
    pub(super) fn store(&mut self, parts: [&[u8]; 2]) -> Option<u32> {
        let count = Self::for_len(parts[0].len() + parts[1].len());
        if count > self.left {
            return None;
        }
        let first = self.free;
        let (mut at, mut room) = (first, BLOCK);
        for mut part in parts {
            while !part.is_empty() {
                if room == 0 {
                    (at, room) = (self.next[at as usize], BLOCK);
                }
                let (now, rest) = part.split_at(part.len().min(room));
                let start = at as usize * BLOCK + BLOCK - room;
                self.bytes[start..start + now.len()].copy_from_slice(now);
                room -= now.len();
                part = rest;
            }
        }
        self.left -= count;
        self.free = std::mem::replace(&mut self.next[at as usize], NONE);
        Some(first)
    }

    /// The bytes of a chain after the first `skip`, as slices.
    pub(super) fn read(&self, first: u32, skip: usize, len: usize) -> impl Iterator<Item = &[u8]> {
        let (mut at, mut skip, mut len) = (first, skip, len);
        std::iter::from_fn(move || {
            while len > 0 && at != NONE {
                let block = &self.bytes[at as usize * BLOCK..][..BLOCK];
                at = self.next[at as usize];
                if skip >= BLOCK {
                    skip -= BLOCK;
                    continue;
                }
                let end = BLOCK.min(skip + len);
                let part = &block[std::mem::take(&mut skip)..end];
                len -= part.len();
                return Some(part);
            }
            None
        })
    }

    /// Frees a chain.
    pub(super) fn release(&mut self, first: u32) {
        let mut at = first;
        while at != NONE {
            let next = std::mem::replace(&mut self.next[at as usize], self.free);
            self.free = at;
            self.left += 1;
            at = next;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_every_length_are_read_back_and_no_block_is_lost() {
        let bytes: Vec<u8> = (0..=255).cycle().take(4 * BLOCK).collect();
        let mut blocks = Blocks::new(5);
        for len in [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK, 4 * BLOCK] {
            for split in [0, len / 2, len] {
                let first = blocks.store([&bytes[..split], &bytes[split..len]]).unwrap();
                assert_eq!(blocks.left(), 5 - Blocks::for_len(len));
                for skip in [0, 1, BLOCK, len].into_iter().filter(|skip| *skip <= len) {
                    let read: Vec<_> = blocks.read(first, skip, len - skip).flatten().copied().collect();
                    assert_eq!(read, bytes[skip..len]);
                }
                blocks.release(first);
                assert_eq!(blocks.left(), 5);
            }
        }
        assert!(blocks.store([&[0; 5 * BLOCK], &[0]]).is_none());
    }
}
