//! The thread: started before the run, fed by all workers, completed or abandoned by the factory.

use std::{
    io,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, RecvTimeoutError, SendTimeoutError, Sender};

use super::{
    Block, BlockReturn, BlockWriter, HandoffConfig, Message, OutputState, Spare, TICK, ThreadHook,
    block_writer::blocks,
};
use crate::{
    account::{Report, SinkHalt},
    sink::SinkError,
};

/// Capacity of the channel to the thread. If it is full, a worker keeps its block and drops frames.
const QUEUE: usize = 4096;
/// How long a factory that is dropped before the run waits for the thread.
const ABANDON: Duration = Duration::from_secs(1);

/// Processes blocks on the thread.
pub(crate) trait Consumer: Send + 'static {
    /// Called once, on the thread, before the first block.
    fn begin(&mut self) {}

    /// Writes the frames of a block, now or later, and [returns](BlockReturn::give_back) it with the outcome
    /// of each. Once the worker has discarded them, nothing of the block may be written.
    fn take(&mut self, block: Block, block_return: Arc<BlockReturn>);

    /// When to be [idle](Self::idle) at the latest, if that is before a [`TICK`].
    fn due(&self) -> Option<Instant> {
        None
    }

    /// Called while there is no block.
    fn idle(&mut self) {}

    /// Completes the output: there are no more blocks.
    fn complete(self, lost_in_kernel: u64) -> Result<(), SinkError>;

    /// Leaves the output incomplete: there was no run, or it was not stopped cleanly.
    fn abandon(self) -> Result<(), SinkError>;
}

/// The factory's handle of the thread.
#[derive(Debug)]
pub(crate) struct Handoff {
    config: HandoffConfig,
    state: Arc<OutputState>,
    messages: Sender<Message>,
    done: Receiver<Result<(), SinkError>>,
    spare: Spare,
    closed: AtomicBool,
    /// Of each worker that has not ended.
    returns: Mutex<Vec<Weak<BlockReturn>>>,
}

impl Handoff {
    /// Starts the thread; `hook` runs on it first.
    ///
    /// # Errors
    ///
    /// The system's error for one more thread.
    pub(crate) fn start(
        config: HandoffConfig,
        state: Arc<OutputState>,
        hook: Option<ThreadHook>,
        consumer: impl Consumer,
    ) -> io::Result<Self> {
        let (messages, inbox) = crossbeam_channel::bounded(QUEUE);
        let (report, done) = crossbeam_channel::bounded(1);
        let guard = EndGuard(Arc::clone(&state));
        // Not joined: `done` reports its end, and a thread blocked on a pipe must not block the process.
        thread::Builder::new().name(format!("mirror-{}", config.sink)).spawn(move || {
            // Before the hook, which may panic.
            let _guard = guard;
            if let Some(hook) = hook {
                hook();
            }
            // There is no receiver if the factory was dropped while the output was stuck.
            drop(report.send(run(consumer, &inbox)));
        })?;
        Ok(Self {
            config,
            state,
            messages,
            done,
            spare: Spare::default(),
            closed: AtomicBool::new(false),
            returns: Mutex::default(),
        })
    }

    pub(crate) fn config(&self) -> &HandoffConfig {
        &self.config
    }

    #[cfg(test)]
    pub(crate) fn state(&self) -> &OutputState {
        &self.state
    }

    /// A worker's end, for records of at most this many bytes.
    pub(crate) fn block_writer(
        &self,
        longest_record: usize,
        wait_until: Option<Arc<AtomicBool>>,
    ) -> BlockWriter {
        let (block_size, state) = (self.config.size_for(longest_record), Arc::clone(&self.state));
        let (messages, spare) = (self.messages.clone(), self.spare.clone());
        let writer = BlockWriter::new(self.config.clone(), block_size, wait_until, messages, state, spare);
        // Whole values are put in under this lock, so one poisoned by a panic is as good as any.
        let mut returns = self.returns.lock().unwrap_or_else(PoisonError::into_inner);
        returns.retain(|known| known.strong_count() > 0);
        returns.push(Arc::downgrade(writer.block_return()));
        drop(returns);
        writer
    }

    /// Takes the memory of so many workers' [ends](Self::block_writer).
    pub(crate) fn prepare(&self, workers: usize, longest_record: usize) {
        let block_size = self.config.size_for(longest_record);
        (0..workers).for_each(|_| self.spare.put(blocks(&self.config, block_size)));
    }

    /// See [`SinkFactory::lag`](crate::sink::SinkFactory::lag).
    pub(crate) fn lag(&self) -> Option<Duration> {
        let returns = self.returns.lock().unwrap_or_else(PoisonError::into_inner);
        returns.iter().filter_map(Weak::upgrade).filter_map(|blocks| blocks.lag()).max()
    }

    /// Completes the output, when every worker has finished; see
    /// [`SinkFactory::close`](crate::sink::SinkFactory::close).
    ///
    /// # Errors
    ///
    /// Why the output could not be completed.
    pub(crate) fn close(&self, report: &Report) -> Result<(), SinkError> {
        let HandoffConfig { sink, output, unfinished, stop_timeout, completes_slowly, .. } = &self.config;
        if self.closed.swap(true, Ordering::Relaxed) {
            return Err(SinkError::other(format!("{sink}: closed twice")));
        }
        let stuck = || {
            self.state.failure().unwrap_or_else(|| {
                let seconds = stop_timeout.as_secs_f64();
                SinkError::other(format!(
                    "{output}: no progress for {seconds} s, so its end is missing; check the reader"
                ))
            })
        };
        let close = Message::Close { lost_in_kernel: report.dropped_by_kernel() };
        if let Err(SendTimeoutError::Timeout(_)) = self.messages.send_timeout(close, *stop_timeout) {
            return Err(stuck());
        }
        let done = if *completes_slowly {
            self.done.recv().map_err(|_| RecvTimeoutError::Disconnected)
        } else {
            self.done.recv_timeout(*stop_timeout)
        };
        match done {
            Ok(result) => result,
            Err(RecvTimeoutError::Timeout) => Err(stuck()),
            Err(RecvTimeoutError::Disconnected) => Err(SinkError::other(panicked(unfinished))),
        }
    }

    /// See [`SinkFactory::halted`](crate::sink::SinkFactory::halted).
    pub(crate) fn halted(&self) -> Option<SinkHalt> {
        if let Some(failure) = self.state.failure() {
            return Some(SinkHalt::ended(failure));
        }
        if let Some(reason) = self.state.waits_for() {
            return Some(SinkHalt::waiting(reason));
        }
        let is_dead = self.state.has_thread_ended() && !self.closed.load(Ordering::Relaxed);
        is_dead.then(|| SinkHalt::failed(panicked(&self.config.unfinished)))
    }
}

fn panicked(unfinished: &str) -> String {
    format!("the writer thread panicked; its output so far is in {unfinished}")
}

/// Removes the output if there was no run.
impl Drop for Handoff {
    fn drop(&mut self) {
        if self.closed.load(Ordering::Relaxed) {
            return;
        }
        if self.messages.try_send(Message::Abandon).is_ok()
            && let Ok(Err(error)) = self.done.recv_timeout(ABANDON)
        {
            tracing::warn!(output = self.config.output, %error, "cannot remove the unfinished output");
        }
    }
}

/// Marks the thread as ended when dropped, also after a panic.
struct EndGuard(Arc<OutputState>);

impl Drop for EndGuard {
    fn drop(&mut self) {
        self.0.set_thread_ended();
    }
}

/// Processes messages until the output is to be completed or abandoned, and returns the result of that.
pub(crate) fn run(mut consumer: impl Consumer, messages: &Receiver<Message>) -> Result<(), SinkError> {
    consumer.begin();
    loop {
        let wait = consumer.due().map_or(TICK, |due| due.saturating_duration_since(Instant::now()).min(TICK));
        match messages.recv_timeout(wait) {
            Ok(Message::Block { block, block_return }) => consumer.take(block, block_return),
            Ok(Message::Close { lost_in_kernel }) => return consumer.complete(lost_in_kernel),
            Ok(Message::Abandon) | Err(RecvTimeoutError::Disconnected) => return consumer.abandon(),
            Err(RecvTimeoutError::Timeout) => consumer.idle(),
        }
    }
}
