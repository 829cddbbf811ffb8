//! The worker's end: frames into blocks, blocks to the thread.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, SendTimeoutError, Sender, TrySendError};

use super::{Block, BlockReturn, HandoffConfig, Loss, Message, Outcome, OutputState};
use crate::sink::{SinkError, SinkStats};

/// No empty block was at hand: the thread does not keep up.
const NO_BLOCK: &str = "no_block";
/// The frame does not fit a block.
const TOO_LARGE: &str = "too_large";
/// The output had taken nothing for the length of the stop timeout when the run ended.
const STUCK: &str = "stuck";
/// The thread is gone.
const NO_WRITER: &str = "no_writer";

/// How often a worker that waits for blocks looks whether anybody is still there to send them.
const LOOK: Duration = Duration::from_millis(50);

/// One worker's way to the thread.
#[derive(Debug)]
pub(crate) struct BlockWriter {
    config: HandoffConfig,
    state: Arc<OutputState>,
    messages: Sender<Message>,
    block_return: Arc<BlockReturn>,
    returned: Receiver<Block>,
    /// Wait for an empty block instead of dropping, until this is set.
    wait_until: Option<Arc<AtomicBool>>,
    /// The block being filled.
    current: Option<Block>,
    /// Empty blocks, the one used last on top: its bytes may still be in the cache.
    free: Vec<Block>,
    /// There was no block in this batch; nobody looks again before the next.
    starved: bool,
    last_tick: Instant,
    /// The tick before the first frame of the current block.
    begun: Instant,
    /// Frames in blocks that went to the thread.
    handed_over: u64,
    no_block: u64,
    too_large: u64,
    no_writer: u64,
    /// What became of the frames handed over, as of the end, and how many the thread never outcome.
    ended: Option<(Outcome, u64)>,
}

impl BlockWriter {
    pub(super) fn new(
        config: HandoffConfig,
        block_size: usize,
        wait_until: Option<Arc<AtomicBool>>,
        messages: Sender<Message>,
        state: Arc<OutputState>,
    ) -> Self {
        let (sender, returned) = crossbeam_channel::bounded(config.blocks);
        let now = Instant::now();
        Self {
            state,
            messages,
            block_return: BlockReturn::new(sender),
            returned,
            wait_until,
            current: None,
            free: (0..config.blocks).map(|_| Block::new(block_size, config.origins)).collect(),
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

    /// To be called before the frames of a batch.
    ///
    /// # Errors
    ///
    /// What has ended the output.
    pub(crate) fn begin_batch(&mut self) -> Result<(), SinkError> {
        if let Some(failure) = self.state.failure() {
            return Err(failure);
        }
        if self.ended.is_some() || self.state.thread_is_gone() {
            let HandoffConfig { sink, .. } = self.config;
            return Err(SinkError::other(format!("{sink}: a frame after the writer thread had ended")));
        }
        self.starved = false;
        Ok(())
    }

    /// Makes room for the record of a frame and gives the bytes to fill in; `None` if the frame is dropped,
    /// and counted.
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

    /// As [`make_room`](Self::make_room), in another block than the current one.
    pub(crate) fn make_room_in_next(&mut self, len: usize) -> bool {
        if !self.hand_over() {
            self.starved = true;
            self.no_block += 1;
            return false;
        }
        self.make_room(len)
    }

    /// Sees to it that the current block has room for the record of a frame. Whether it does: else the frame
    /// is dropped, and counted.
    #[inline]
    pub(crate) fn make_room(&mut self, len: usize) -> bool {
        self.current.as_ref().is_some_and(|block| block.fits(len)) || self.change_block(len)
    }

    /// The current block has no room, or there is none: takes another.
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
        self.free.extend(self.returned.try_iter());
        let patient = || self.wait_until.as_ref().is_some_and(|over| !over.load(Ordering::Relaxed));
        while self.free.is_empty() && patient() && !self.state.thread_is_gone() {
            self.free.extend(self.returned.recv_timeout(LOOK));
        }
        self.current = self.free.pop();
        self.begun = self.last_tick;
        self.current.is_some()
    }

    /// Sends the current block to the thread. Whether there is room for further frames afterwards.
    fn hand_over(&mut self) -> bool {
        let Some(block) = self.current.take_if(|block| !block.is_empty()) else { return true };
        let frames = block.frames();
        match self.messages.try_send(Message::Block { block, block_return: Arc::clone(&self.block_return) }) {
            Ok(()) => {
                self.handed_over += frames;
                true
            }
            Err(TrySendError::Full(message)) => {
                // Many workers, and a thread far behind.
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

    /// Nobody is there to take it.
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
            let message = Message::Block { block, block_return: Arc::clone(&self.block_return) };
            match self.messages.send_timeout(message, self.config.stop_timeout) {
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
        while self.free.len() < self.config.blocks {
            // Read before the channel: a thread that ended has sent all that it will.
            let gone = self.state.thread_is_gone();
            match self.returned.recv_timeout(if gone { Duration::ZERO } else { LOOK }) {
                Ok(block) => {
                    self.free.push(block);
                    progress = Instant::now();
                }
                Err(_) if gone || progress.elapsed() >= self.config.stop_timeout => return,
                Err(_) => {}
            }
        }
    }

    pub(crate) fn tick(&mut self, now: Instant) {
        let full = now.saturating_duration_since(self.begun) >= self.config.age;
        self.last_tick = now;
        if full {
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
            // Were more outcome than handed over, the sum would show it.
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

    /// Waits for the thread to settle every frame, bounded by the stop timeout.
    ///
    /// # Errors
    ///
    /// What kept frames from being written.
    pub(crate) fn finish(&mut self) -> Result<(), SinkError> {
        if self.has_ended() {
            return Ok(());
        }
        self.drain();
        self.block_return.give_up();
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
                "{output}: took nothing for {seconds} s: {stuck} frames given up; see whether its reader \
                still reads"
            )));
        }
        if self.no_writer > 0 {
            let lost = self.no_writer;
            return Err(SinkError::other(format!("{sink}: the writer thread is gone: {lost} frames lost")));
        }
        Ok(())
    }
}

/// A worker that dies leaves to the thread what it had, and does not wait.
impl Drop for BlockWriter {
    fn drop(&mut self) {
        if !self.has_ended() {
            self.hand_over();
        }
    }
}
