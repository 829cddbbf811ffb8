//! The worker's end: fills blocks with frames and sends blocks to the thread.

use std::{
    mem,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, SendTimeoutError, Sender, TrySendError};

use super::{Block, BlockReturn, HandoffConfig, Loss, Message, Outcome, OutputState, Spare};
use crate::sink::{SinkError, SinkStats};

/// There was no empty block: the thread is too slow.
const NO_BLOCK: &str = "no_block";
/// The frame does not fit into a block.
const TOO_LARGE: &str = "too_large";
/// At the end of the run the output made no progress for the stop timeout.
const STUCK: &str = "stuck";
/// The thread has ended.
const NO_WRITER: &str = "no_writer";

/// How often a worker that waits for blocks checks that the thread is alive.
const CHECK: Duration = Duration::from_millis(50);
/// How often a worker that has ended looks for its last blocks.
const DRAIN_PAUSE: Duration = Duration::from_millis(1);

/// The blocks of a worker.
pub(super) fn blocks(config: &HandoffConfig, block_size: usize) -> Vec<Block> {
    (0..config.blocks).map(|_| Block::new(block_size, config.origins)).collect()
}

/// Sends one worker's frames to the thread, in blocks.
#[derive(Debug)]
pub(crate) struct BlockWriter {
    config: HandoffConfig,
    state: Arc<OutputState>,
    messages: Sender<Message>,
    block_return: Arc<BlockReturn>,
    returned: Receiver<Block>,
    /// Blocks received from it.
    taken_back: usize,
    /// Wait for an empty block instead of dropping, until this is true.
    wait_until: Option<Arc<AtomicBool>>,
    /// The block being filled.
    current: Option<Block>,
    /// Where the blocks go if the sink leaves a running engine, and whether they have.
    spare: Spare,
    left: bool,
    /// Empty blocks, the most recently used on top: its bytes may still be in the cache.
    free: Vec<Block>,
    /// There was no block in this batch; the next batch tries again.
    starved: bool,
    last_tick: Instant,
    /// The tick before the first frame of the current block.
    begun: Instant,
    /// Frames in blocks sent to the thread.
    handed_over: u64,
    no_block: u64,
    too_large: u64,
    no_writer: u64,
    /// At the end: the outcome of the frames sent, and how many have none.
    ended: Option<(Outcome, u64)>,
}

impl BlockWriter {
    pub(super) fn new(
        config: HandoffConfig,
        block_size: usize,
        wait_until: Option<Arc<AtomicBool>>,
        messages: Sender<Message>,
        state: Arc<OutputState>,
        spare: Spare,
    ) -> Self {
        let (sender, returned) = crossbeam_channel::bounded(config.blocks);
        let now = Instant::now();
        Self {
            state,
            messages,
            block_return: BlockReturn::new(sender, config.blocks),
            returned,
            taken_back: 0,
            wait_until,
            current: None,
            free: spare.take().unwrap_or_else(|| blocks(&config, block_size)),
            spare,
            left: false,
            starved: false,
            last_tick: now,
            begun: now,
            handed_over: 0,
            no_block: 0,
            too_large: 0,
            no_writer: 0,
            ended: None,
            config,
        }
    }

    /// Call before the frames of a batch.
    ///
    /// # Errors
    ///
    /// Why the output has failed.
    pub(crate) fn begin_batch(&mut self) -> Result<(), SinkError> {
        if let Some(failure) = self.state.failure() {
            return Err(failure);
        }
        if self.ended.is_some() || self.state.has_thread_ended() {
            let HandoffConfig { sink, .. } = self.config;
            return Err(SinkError::other(format!("{sink}: frame received after the writer thread ended")));
        }
        self.starved = false;
        Ok(())
    }

    /// Makes room for a record and returns its bytes; `None` if the frame is dropped, which is counted.
    #[inline]
    pub(crate) fn push(&mut self, len: usize) -> Option<&mut [u8]> {
        if !self.make_room(len) {
            return None;
        }
        self.current.as_mut()?.push(len)
    }

    /// The block that has [room](Self::make_room).
    #[inline]
    pub(crate) fn block(&mut self) -> Option<&mut Block> {
        self.current.as_mut()
    }

    /// Like [`make_room`](Self::make_room), in the next block.
    pub(crate) fn make_room_in_next(&mut self, len: usize) -> bool {
        if !self.hand_over() {
            self.starved = true;
            self.no_block += 1;
            return false;
        }
        self.make_room(len)
    }

    /// Makes room for a record in the current block. Returns false if the frame is dropped, which is counted.
    #[inline]
    pub(crate) fn make_room(&mut self, len: usize) -> bool {
        self.current.as_ref().is_some_and(|block| block.fits(len)) || self.change_block(len)
    }

    /// Takes another block if the current one is missing or full.
    #[cold]
    fn change_block(&mut self, len: usize) -> bool {
        loop {
            let Some(block) = &self.current else {
                if self.starved || !self.take_block() {
                    break;
                }
                continue;
            };
            if block.fits(len) {
                return true;
            }
            if block.is_empty() {
                self.too_large += 1;
                return false;
            }
            if !self.hand_over() {
                break;
            }
        }
        self.starved = true;
        self.no_block += 1;
        false
    }

    fn take_block(&mut self) -> bool {
        self.collect();
        let is_patient = |over: &Arc<AtomicBool>| !over.load(Ordering::Relaxed);
        while self.free.is_empty()
            && self.wait_until.as_ref().is_some_and(is_patient)
            && !self.state.has_thread_ended()
        {
            if let Ok(block) = self.returned.recv_timeout(CHECK) {
                self.taken_back += 1;
                self.free.push(block);
            }
        }
        self.current = self.free.pop();
        self.begun = self.last_tick;
        self.current.is_some()
    }

    /// Takes back what the thread has returned, but never more than it has counted: a channel lets its
    /// receiver spin until a sender has put its message there, and a real-time worker would spin on the CPU
    /// that the thread needs for that.
    fn collect(&mut self) {
        while self.taken_back < self.block_return.given_back()
            && let Ok(block) = self.returned.try_recv()
        {
            self.taken_back += 1;
            self.free.push(block);
        }
    }

    /// Sends the current block to the thread. Returns whether there can be room for more frames.
    fn hand_over(&mut self) -> bool {
        let Some(block) = self.current.take_if(|block| !block.is_empty()) else { return true };
        let frames = block.frames();
        match self.messages.try_send(Message::Block { block, block_return: Arc::clone(&self.block_return) }) {
            Ok(()) => {
                self.handed_over += frames;
                self.block_return.note_sent(self.last_tick);
                true
            }
            Err(TrySendError::Full(message)) => {
                // Many workers and a slow thread.
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

    /// Counts the frames of a block that no thread receives.
    fn take_back(&mut self, message: Message) {
        if let Message::Block { mut block, .. } = message {
            self.no_writer += block.frames();
            block.clear();
            self.free.push(block);
        }
    }

    /// Sends the last block and waits for all blocks, as long as some return within the stop timeout.
    fn drain(&mut self) {
        if self.left {
            return;
        }
        if let Some(block) = self.current.take_if(|block| block.is_empty()) {
            self.free.push(block);
        }
        if let Some(block) = self.current.take() {
            let frames = block.frames();
            let message = Message::Block { block, block_return: Arc::clone(&self.block_return) };
            match self.messages.send_timeout(message, self.config.stop_timeout) {
                Ok(()) => {
                    self.handed_over += frames;
                    self.block_return.note_sent(Instant::now());
                }
                Err(SendTimeoutError::Disconnected(message)) => self.take_back(message),
                Err(SendTimeoutError::Timeout(_)) => {
                    // Counted as stuck, with the blocks before it.
                    self.handed_over += frames;
                    return;
                }
            }
        }
        let mut progress = Instant::now();
        while self.free.len() < self.config.blocks {
            // Read before the channel: a thread that has ended returns no further block.
            let ended = self.state.has_thread_ended();
            let before = self.free.len();
            self.collect();
            if self.free.len() > before {
                progress = Instant::now();
            } else if ended || progress.elapsed() >= self.config.stop_timeout {
                return;
            } else {
                thread::sleep(DRAIN_PAUSE);
            }
        }
    }

    /// See [`Sink::leave`](crate::sink::Sink::leave).
    pub(crate) fn leave(&mut self) -> bool {
        // Read before the channel, as when draining.
        let ended = self.state.has_thread_ended();
        self.hand_over();
        self.collect();
        if let Some(block) = self.current.take_if(|block| block.is_empty()) {
            self.free.push(block);
        }
        let is_complete = self.free.len() == self.config.blocks;
        if is_complete {
            self.spare.put(mem::take(&mut self.free));
            self.left = true;
        }
        self.left || ended
    }

    /// What the thread returns to this worker, for others to look at.
    pub(super) fn block_return(&self) -> &Arc<BlockReturn> {
        &self.block_return
    }

    /// See [`Sink::is_behind`](crate::sink::Sink::is_behind): the thread has at least half of the blocks.
    pub(crate) fn is_behind(&self) -> bool {
        let returned = self.block_return.given_back().saturating_sub(self.taken_back);
        self.free.len() + returned <= self.config.blocks / 2
    }

    pub(crate) fn tick(&mut self, now: Instant) {
        let is_due = now.saturating_duration_since(self.begun) >= self.config.age;
        self.last_tick = now;
        if is_due {
            self.hand_over();
        }
    }

    pub(crate) fn flush(&mut self) {
        self.hand_over();
    }

    pub(crate) fn stats(&self) -> SinkStats {
        let filling = self.current.as_ref().map_or(0, Block::frames);
        let (outcome, stuck) = self.ended.unwrap_or_else(|| (self.block_return.outcome(), 0));
        let mut stats = SinkStats {
            written: outcome.written,
            // An outcome for more frames than were sent would show in the sum.
            pending: filling + self.handed_over.saturating_sub(outcome.total() + stuck),
            ..SinkStats::default()
        };
        let own = [
            (Loss::Dropped(NO_BLOCK), self.no_block),
            (Loss::Dropped(TOO_LARGE), self.too_large),
            (Loss::Failed(STUCK), stuck),
            (Loss::Failed(NO_WRITER), self.no_writer),
        ];
        let by_thread = self.config.losses.iter().copied().zip(outcome.lost);
        for (loss, frames) in own.into_iter().chain(by_thread).filter(|(_, frames)| *frames > 0) {
            match loss {
                Loss::Dropped(reason) => stats.dropped.add(reason, frames),
                Loss::Failed(reason) => stats.failed.add(reason, frames),
            }
        }
        stats
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.ended.is_some()
    }

    /// Waits for the outcome of every frame, within the stop timeout.
    ///
    /// # Errors
    ///
    /// Why frames were not written.
    pub(crate) fn finish(&mut self) -> Result<(), SinkError> {
        if self.has_ended() {
            return Ok(());
        }
        self.drain();
        self.block_return.discard_rest();
        let outcome = self.block_return.outcome();
        let stuck = self.handed_over.saturating_sub(outcome.total());
        self.ended = Some((outcome, stuck));
        if let Some(failure) = self.state.failure() {
            return Err(failure);
        }
        let HandoffConfig { sink, output, stop_timeout, .. } = &self.config;
        if stuck > 0 {
            let seconds = stop_timeout.as_secs_f64();
            return Err(SinkError::other(format!(
                "{output}: no progress for {seconds} s; {stuck} frames discarded; check the reader"
            )));
        }
        if self.no_writer > 0 {
            let lost = self.no_writer;
            return Err(SinkError::other(format!("{sink}: the writer thread has ended; {lost} frames lost")));
        }
        Ok(())
    }
}

/// If the worker panics, its last block still goes to the thread, without waiting.
impl Drop for BlockWriter {
    fn drop(&mut self) {
        if !self.has_ended() {
            self.hand_over();
        }
    }
}
