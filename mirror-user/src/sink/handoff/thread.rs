//! The thread's life: started before the run, fed by all workers, completed or abandoned by the factory.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use crossbeam_channel::{Receiver, RecvTimeoutError, SendTimeoutError, Sender};

use super::{
    Block, BlockReturn, BlockWriter, HandoffConfig, Message, Outcome, OutputState, TICK, ThreadHook,
};
use crate::{
    account::{Report, SinkHalt},
    sink::SinkError,
};

/// Messages on their way to the thread at most. A worker that finds it full keeps its block and drops frames.
const QUEUE: usize = 4096;
/// How long the end of a run that did not start waits for the thread.
const ABANDON: Duration = Duration::from_secs(1);

/// What the thread does with blocks.
pub(crate) trait Consumer: Send + 'static {
    /// Called once, on the thread, before the first block.
    fn begin(&mut self) {}

    /// Takes the frames of a block, each of which is then outcome. Where the block_return has given up, nothing of
    /// it is written any more.
    fn take(&mut self, block: &mut Block, block_return: &BlockReturn) -> Outcome;

    /// Called at least every [`TICK`] while no block comes.
    fn idle(&mut self) {}

    /// There are no more blocks.
    fn complete(self, lost_in_kernel: u64) -> Result<(), SinkError>;

    /// There was no run, or it came to no end: nobody is left who could say that the output is complete.
    fn abandon(self) -> Result<(), SinkError>;
}

/// The thread as the factory has it.
#[derive(Debug)]
pub(crate) struct Handoff {
    config: HandoffConfig,
    state: Arc<OutputState>,
    messages: Sender<Message>,
    done: Receiver<Result<(), SinkError>>,
    closed: AtomicBool,
}

impl Handoff {
    /// Starts the thread; `hook` runs on it before anything else.
    ///
    /// # Errors
    ///
    /// What the system said to one more thread.
    pub(crate) fn start(
        config: HandoffConfig,
        state: Arc<OutputState>,
        hook: Option<ThreadHook>,
        consumer: impl Consumer,
    ) -> io::Result<Self> {
        let (messages, inbox) = crossbeam_channel::bounded(QUEUE);
        let (report, done) = crossbeam_channel::bounded(1);
        let gone = Gone(Arc::clone(&state));
        // Not joined: `done` says when it has ended, and a thread stuck in a pipe must not keep the process.
        thread::Builder::new().name(format!("mirror-{}", config.sink)).spawn(move || {
            // Before the hook, which may panic.
            let _gone = gone;
            if let Some(hook) = hook {
                hook();
            }
            // Nobody listens any more if the factory was dropped while the output was stuck.
            drop(report.send(run(consumer, &inbox)));
        })?;
        Ok(Self { config, state, messages, done, closed: AtomicBool::new(false) })
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
        BlockWriter::new(self.config.clone(), block_size, wait_until, self.messages.clone(), state)
    }

    /// Completes the output, when every worker has finished; see
    /// [`SinkFactory::close`](crate::sink::SinkFactory::close).
    ///
    /// # Errors
    ///
    /// What kept the output from being complete.
    pub(crate) fn close(&self, report: &Report) -> Result<(), SinkError> {
        let HandoffConfig { sink, output, unfinished, stop_timeout, completes_slowly, .. } = &self.config;
        if self.closed.swap(true, Ordering::Relaxed) {
            return Err(SinkError::other(format!("{sink}: closed twice")));
        }
        let stuck = || {
            self.state.failure().unwrap_or_else(|| {
                let seconds = stop_timeout.as_secs_f64();
                SinkError::other(format!(
                    "{output}: took nothing for {seconds} s, so it has no end; see whether its reader still \
                    reads"
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
        let is_dead = self.state.thread_is_gone() && !self.closed.load(Ordering::Relaxed);
        is_dead.then(|| SinkHalt::failed(panicked(&self.config.unfinished)))
    }
}

fn panicked(unfinished: &str) -> String {
    format!("the writer thread panicked; what it wrote is in {unfinished}")
}

/// Without a run, nothing is left behind.
impl Drop for Handoff {
    fn drop(&mut self) {
        if self.closed.load(Ordering::Relaxed) {
            return;
        }
        if self.messages.try_send(Message::Abandon).is_ok()
            && let Ok(Err(error)) = self.done.recv_timeout(ABANDON)
        {
            tracing::warn!(output = self.config.output, %error, "cannot take away what is unfinished");
        }
    }
}

/// Tells workers that nobody takes blocks any more, also after a panic.
struct Gone(Arc<OutputState>);

impl Drop for Gone {
    fn drop(&mut self) {
        self.0.thread_went();
    }
}

/// Takes messages until told to complete the output, and says how that went.
pub(crate) fn run(mut consumer: impl Consumer, messages: &Receiver<Message>) -> Result<(), SinkError> {
    consumer.begin();
    loop {
        match messages.recv_timeout(TICK) {
            Ok(Message::Block { mut block, block_return }) => {
                let outcome = consumer.take(&mut block, &block_return);
                debug_assert_eq!(outcome.total(), block.frames(), "every frame of a block is outcome");
                block_return.settle(block, outcome);
            }
            Ok(Message::Close { lost_in_kernel }) => return consumer.complete(lost_in_kernel),
            Ok(Message::Abandon) | Err(RecvTimeoutError::Disconnected) => return consumer.abandon(),
            Err(RecvTimeoutError::Timeout) => consumer.idle(),
        }
    }
}
