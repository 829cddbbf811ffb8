//! Blocks that a file is to get together: some file systems take whole units much faster than parts of them.

use std::{collections::VecDeque, io::IoSlice, sync::Arc, time::Instant};

use super::part::PacketEnd;
use crate::sink::handoff::{Block, BlockReturn};

/// A block and what of it is in a file.
pub(super) struct HeldBlock {
    pub(super) block: Block,
    pub(super) block_return: Arc<BlockReturn>,
    pub(super) packets: Vec<PacketEnd>,
    /// Packets that are written whole, from the first on.
    pub(super) written: usize,
    /// Bytes that are written, perhaps with a part of the next packet.
    from: usize,
}

impl HeldBlock {
    pub(super) fn new(block: Block, block_return: Arc<BlockReturn>, packets: Vec<PacketEnd>) -> Self {
        Self { block, block_return, packets, written: 0, from: 0 }
    }

    /// Bytes up to the end of the last packet that is written whole.
    fn whole(&self) -> usize {
        self.packets[..self.written].last().map_or(0, |packet| packet.end)
    }
}

/// What became of bytes that were written.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Written {
    /// Packets that are now whole in the file.
    pub(super) packets: u64,
    /// Their bytes.
    pub(super) bytes: u64,
}

/// The blocks of one file that are not written yet, in order.
pub(super) struct HeldBlocks {
    /// Bytes in a unit; units begin at multiples of it in the file.
    unit: u64,
    blocks: VecDeque<HeldBlock>,
    /// Bytes not written.
    bytes: u64,
    /// Bytes in the file of a packet that is not whole.
    torn: u64,
    since: Instant,
    finished: Vec<HeldBlock>,
}

/// More blocks than this are not held, however short they are.
const MOST: usize = 32;

impl HeldBlocks {
    pub(super) fn new(unit: u64) -> Self {
        Self { unit, blocks: VecDeque::new(), bytes: 0, torn: 0, since: Instant::now(), finished: Vec::new() }
    }

    pub(super) fn push(&mut self, block: HeldBlock) {
        if self.is_empty() {
            self.since = Instant::now();
        }
        self.bytes += block.block.bytes().len() as u64;
        self.blocks.push_back(block);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Bytes in the file of a packet that is not whole.
    pub(super) fn torn(&self) -> u64 {
        self.torn
    }

    /// When the oldest came, or something was last written.
    pub(super) fn since(&self) -> Instant {
        self.since
    }

    pub(super) fn is_many(&self) -> bool {
        self.blocks.len() >= MOST
    }

    /// Bytes to write now to a file whose whole packets end at `end`: whole units, or all.
    pub(super) fn due(&self, end: u64, all: bool) -> u64 {
        let (begin, end) = (end + self.torn, end + self.torn + self.bytes);
        if all { self.bytes } else { (end - end % self.unit).saturating_sub(begin) }
    }

    /// The next `len` bytes after `skip` others.
    pub(super) fn slices(&self, skip: u64, len: u64) -> Vec<IoSlice<'_>> {
        let mut skip = usize::try_from(skip).unwrap_or(usize::MAX);
        let mut left = usize::try_from(len).unwrap_or(usize::MAX);
        let parts = self.blocks.iter().filter_map(|held| {
            let bytes = &held.block.bytes()[held.from..];
            let skipped = skip.min(bytes.len());
            skip -= skipped;
            (skipped < bytes.len()).then_some(&bytes[skipped..])
        });
        let cut = parts.map_while(|bytes| {
            let bytes = &bytes[..bytes.len().min(left)];
            left -= bytes.len();
            (!bytes.is_empty()).then(|| IoSlice::new(bytes))
        });
        cut.collect()
    }

    /// Whether a worker has counted the frames of a block as failed.
    pub(super) fn has_discarded(&self) -> bool {
        self.blocks.iter().any(|held| held.block_return.is_discarded())
    }

    /// The next `len` bytes are in the file. `each` gets each packet that is now whole.
    pub(super) fn advance(&mut self, len: u64, mut each: impl FnMut(&[u8])) -> Written {
        let mut left = len;
        let mut written = Written::default();
        while left > 0
            && let Some(held) = self.blocks.front_mut()
        {
            let bytes = held.block.bytes();
            let more = left.min((bytes.len() - held.from) as u64);
            #[expect(clippy::cast_possible_truncation, reason = "at most the bytes of a block")]
            let here = held.from + more as usize;
            (held.from, left) = (here, left - more);
            let before = held.whole();
            let mut start = before;
            while let Some(packet) = held.packets.get(held.written).filter(|packet| packet.end <= held.from) {
                each(&bytes[start..packet.end]);
                start = packet.end;
                held.written += 1;
                written.packets += 1;
            }
            written.bytes += (start - before) as u64;
            self.torn = (held.from - start) as u64;
            if held.from == bytes.len() {
                self.finished.extend(self.blocks.pop_front());
            }
        }
        self.bytes -= len - left;
        self.since = Instant::now();
        written
    }

    /// The file was cut at the end of its last whole packet.
    pub(super) fn cut(&mut self) {
        if let Some(held) = self.blocks.front_mut() {
            held.from = held.whole();
        }
        self.bytes += std::mem::take(&mut self.torn);
    }

    /// Nothing of the rest will be written.
    pub(super) fn give_up(&mut self) {
        self.finished.extend(self.blocks.drain(..));
        (self.bytes, self.torn) = (0, 0);
    }

    /// Blocks of which nothing more will be written.
    pub(super) fn take_finished(&mut self, into: &mut Vec<HeldBlock>) {
        into.append(&mut self.finished);
    }
}
