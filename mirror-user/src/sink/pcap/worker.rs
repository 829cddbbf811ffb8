//! The sink of one worker: frames into blocks, blocks to the writer thread.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, SendTimeoutError, Sender, TrySendError};

use super::{
    NAME,
    block::{Block, Owner},
    format::{Format, PacketHead},
    interfaces::{InterfaceCache, Interfaces},
    writer::{Message, Shared, Tallies},
};
use crate::{
    batch::{Batch, Frame},
    sink::{Sink, SinkError, SinkStats, origin::OriginKey},
};

/// No empty block was at hand: the writer thread does not keep up.
const NO_BLOCK: &str = "no_block";
/// The frame does not fit a block.
const TOO_LARGE: &str = "too_large";
/// The writer thread could not write it.
const IO: &str = "io";
/// The output had taken nothing for the length of the stop timeout when the run ended.
const STUCK: &str = "stuck";
/// The writer thread is gone.
const NO_WRITER: &str = "no_writer";

/// How often a worker that waits for its last blocks looks whether anybody is still there to send them.
const LOOK: Duration = Duration::from_millis(50);

/// What a worker's sink is made with.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) format: Format,
    pub(super) outer: bool,
    pub(super) snaplen: u32,
    /// Age at which a tick hands over a block that is not full.
    pub(super) age: Duration,
    pub(super) stop_timeout: Duration,
    /// Wait for an empty block instead of dropping: the source can.
    pub(super) patient: bool,
}

pub(super) struct PcapSink {
    settings: Settings,
    shared: Arc<Shared>,
    messages: Sender<Message>,
    owner: Arc<Owner>,
    returned: Receiver<Block>,
    interfaces: InterfaceCache,
    /// The block being filled.
    current: Option<Block>,
    /// Empty blocks, the one used last on top: its bytes may still be in the cache.
    free: Vec<Block>,
    /// How many blocks there are.
    blocks: usize,
    tallies: Tallies,
    last_tick: Instant,
    /// The tick before the first frame of the current block.
    begun: Instant,
    /// Frames in blocks that went to the writer thread.
    handed_over: u64,
    no_block: u64,
    too_large: u64,
    no_writer: u64,
    /// What became of the frames handed over, as of the end.
    ended: Option<Ended>,
}

#[derive(Clone, Copy, Debug)]
struct Ended {
    written: u64,
    failed: u64,
    stuck: u64,
}

impl PcapSink {
    pub(super) fn new(
        settings: Settings,
        interfaces: Interfaces,
        (blocks, block_size): (usize, usize),
        messages: Sender<Message>,
        shared: Arc<Shared>,
    ) -> Self {
        let (sender, returned) = crossbeam_channel::bounded(blocks);
        let tallies = Tallies::new(interfaces.numbers());
        let now = Instant::now();
        Self {
            settings,
            shared,
            messages,
            owner: Owner::new(sender),
            returned,
            interfaces: InterfaceCache::new(interfaces),
            current: None,
            free: (0..blocks).map(|_| Block::new(block_size)).collect(),
            blocks,
            tallies,
            last_tick: now,
            begun: now,
            handed_over: 0,
            no_block: 0,
            too_large: 0,
            no_writer: 0,
            ended: None,
        }
    }

    /// Puts a frame into a block; `starved` remembers for the length of a batch that there is none.
    fn put(&mut self, frame: &Frame<'_>, starved: &mut bool) {
        let (data, original) = if self.settings.outer {
            (frame.outer(), frame.outer_wire_len())
        } else {
            (frame.inner(), frame.wire_len())
        };
        let interface = match self.settings.format {
            Format::Pcapng => self.interfaces.number(OriginKey::of(frame)),
            Format::Pcap => 0,
        };
        self.tallies.received[interface as usize] += 1;
        let here = u32::try_from(data.len()).unwrap_or(u32::MAX);
        let captured = here.min(self.settings.snaplen);
        let head = PacketHead { interface, time: frame.time(), captured, original: original.max(here) };
        loop {
            let Some(block) = &mut self.current else {
                if *starved || !self.take_block() {
                    *starved = true;
                    self.no_block += 1;
                    break;
                }
                continue;
            };
            if block.push(self.settings.format, head, data) {
                return;
            }
            if block.is_empty() {
                self.too_large += 1;
                break;
            }
            if !self.hand_over() {
                *starved = true;
                self.no_block += 1;
                break;
            }
        }
        self.tallies.lost[interface as usize] += 1;
    }

    fn take_block(&mut self) -> bool {
        self.free.extend(self.returned.try_iter());
        while self.settings.patient && self.free.is_empty() && !self.shared.writer_is_gone() {
            self.free.extend(self.returned.recv_timeout(LOOK));
        }
        self.current = self.free.pop();
        self.begun = self.last_tick;
        self.current.is_some()
    }

    /// Sends the current block to the writer thread. Whether there is room for further frames afterwards.
    fn hand_over(&mut self) -> bool {
        let Some(block) = self.current.take_if(|block| !block.is_empty()) else { return true };
        let frames = block.frames();
        match self.messages.try_send(Message::Block { block, owner: Arc::clone(&self.owner) }) {
            Ok(()) => {
                self.handed_over += frames;
                true
            }
            Err(TrySendError::Full(message)) => {
                // Many workers, and a writer far behind.
                if let Message::Block { block, .. } = message {
                    self.current = Some(block);
                }
                false
            }
            Err(TrySendError::Disconnected(message)) => {
                self.take_back(message);
                true
            }
        }
    }

    /// Nobody is there to write it.
    fn take_back(&mut self, message: Message) {
        if let Message::Block { mut block, .. } = message {
            self.no_writer += block.frames();
            block.clear();
            self.free.push(block);
        }
    }

    /// Hands over the last block and waits for all to come home, as long as some do.
    fn drain(&mut self) {
        if let Some(block) = self.current.take() {
            let frames = block.frames();
            let message = Message::Block { block, owner: Arc::clone(&self.owner) };
            match self.messages.send_timeout(message, self.settings.stop_timeout) {
                Ok(()) => self.handed_over += frames,
                Err(SendTimeoutError::Disconnected(message)) => self.take_back(message),
                Err(SendTimeoutError::Timeout(_)) => {
                    // Counted with what went before it.
                    self.handed_over += frames;
                    return;
                }
            }
        }
        let mut progress = Instant::now();
        while self.free.len() < self.blocks {
            // Read before the channel: a writer that ended has sent all that it will.
            let gone = self.shared.writer_is_gone();
            match self.returned.recv_timeout(if gone { Duration::ZERO } else { LOOK }) {
                Ok(block) => {
                    self.free.push(block);
                    progress = Instant::now();
                }
                Err(_) if gone || progress.elapsed() >= self.settings.stop_timeout => return,
                Err(_) => {}
            }
        }
    }

    fn end(&mut self) -> Ended {
        self.drain();
        self.owner.give_up();
        let (written, failed) = self.owner.settled();
        let stuck = self.handed_over.saturating_sub(written + failed);
        self.shared.deposit(&self.tallies);
        let ended = Ended { written, failed, stuck };
        self.ended = Some(ended);
        ended
    }
}

impl Sink for PcapSink {
    fn name(&self) -> &str {
        NAME
    }

    fn batch(&mut self, batch: &Batch<'_>) -> Result<(), SinkError> {
        if let Some(failure) = self.shared.failure() {
            return Err(failure);
        }
        if self.ended.is_some() || self.shared.writer_is_gone() {
            return Err(SinkError::other("pcap: a frame after the writer thread had ended"));
        }
        let mut starved = false;
        for frame in batch {
            self.put(frame, &mut starved);
        }
        Ok(())
    }

    fn tick(&mut self, now: Instant) {
        let full = now.saturating_duration_since(self.begun) >= self.settings.age;
        self.last_tick = now;
        if full {
            self.hand_over();
        }
    }

    fn flush(&mut self) {
        self.hand_over();
    }

    fn stats(&self) -> SinkStats {
        let filling = self.current.as_ref().map_or(0, Block::frames);
        let Ended { written, failed, stuck } = self.ended.unwrap_or_else(|| {
            let (written, failed) = self.owner.settled();
            Ended { written, failed, stuck: 0 }
        });
        let mut stats = SinkStats {
            written,
            // Were more settled than handed over, the sum would show it.
            pending: filling + self.handed_over.saturating_sub(written + failed + stuck),
            ..SinkStats::default()
        };
        for (reason, frames) in [(NO_BLOCK, self.no_block), (TOO_LARGE, self.too_large)] {
            if frames > 0 {
                stats.dropped.add(reason, frames);
            }
        }
        for (reason, frames) in [(IO, failed), (STUCK, stuck), (NO_WRITER, self.no_writer)] {
            if frames > 0 {
                stats.failed.add(reason, frames);
            }
        }
        stats
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        if self.ended.is_some() {
            return Ok(());
        }
        let Ended { stuck, .. } = self.end();
        if let Some(failure) = self.shared.failure() {
            return Err(failure);
        }
        if stuck > 0 {
            let seconds = self.settings.stop_timeout.as_secs_f64();
            return Err(SinkError::other(format!(
                "the output of the capture took nothing for {seconds} s: {stuck} frames given up; \
                 see whether its reader still reads"
            )));
        }
        if self.no_writer > 0 {
            return Err(SinkError::other(format!(
                "the writer thread is gone: {} frames lost",
                self.no_writer
            )));
        }
        Ok(())
    }
}

/// A worker that dies leaves to the writer thread what it had, and does not wait.
impl Drop for PcapSink {
    fn drop(&mut self) {
        if self.ended.is_none() {
            self.hand_over();
            self.shared.deposit(&self.tallies);
        }
    }
}
