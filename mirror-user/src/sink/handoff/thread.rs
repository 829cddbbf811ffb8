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

use super::{Block, Fate, Lane, Message, Owner, Settled, TICK, Terms};
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

    /// Takes the frames of a block, each of which is then settled. Where the owner has given up, nothing of
    /// it is written any more.
    fn take(&mut self, block: &mut Block, owner: &Owner) -> Settled;

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
    terms: Terms,
    fate: Arc<Fate>,
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
        terms: Terms,
        fate: Arc<Fate>,
        hook: Option<Box<dyn FnOnce() + Send>>,
        consumer: impl Consumer,
    ) -> io::Result<Self> {
        let (messages, inbox) = crossbeam_channel::bounded(QUEUE);
        let (report, done) = crossbeam_channel::bounded(1);
        let gone = Gone(Arc::clone(&fate));
        // Not joined: `done` says when it has ended, and a thread stuck in a pipe must not keep the process.
        thread::Builder::new().name(format!("mirror-{}", terms.sink)).spawn(move || {
            // Before the hook, which may panic.
            let _gone = gone;
            if let Some(hook) = hook {
                hook();
            }
            // Nobody listens any more if the factory was dropped while the output was stuck.
            drop(report.send(run(consumer, &inbox)));
        })?;
        Ok(Self { terms, fate, messages, done, closed: AtomicBool::new(false) })
    }

    pub(crate) fn terms(&self) -> &Terms {
        &self.terms
    }

    #[cfg(test)]
    pub(crate) fn fate(&self) -> &Fate {
        &self.fate
    }

    /// A worker's lane, with blocks of this many bytes.
    pub(crate) fn lane(&self, block_size: usize, wait_until: Option<Arc<AtomicBool>>) -> Lane {
        let fate = Arc::clone(&self.fate);
        Lane::new(self.terms.clone(), block_size, wait_until, self.messages.clone(), fate)
    }

    /// Completes the output, when every worker has finished; see
    /// [`SinkFactory::close`](crate::sink::SinkFactory::close).
    ///
    /// # Errors
    ///
    /// What kept the output from being complete.
    pub(crate) fn close(&self, report: &Report) -> Result<(), SinkError> {
        let Terms { sink, output, unfinished, stop_timeout, completes_slowly, .. } = &self.terms;
        if self.closed.swap(true, Ordering::Relaxed) {
            return Err(SinkError::other(format!("{sink}: closed twice")));
        }
        let stuck = || {
            self.fate.failure().unwrap_or_else(|| {
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
        if let Some(failure) = self.fate.failure() {
            return Some(SinkHalt::ended(failure));
        }
        if let Some(reason) = self.fate.waits_for() {
            return Some(SinkHalt::waiting(reason));
        }
        let is_dead = self.fate.thread_is_gone() && !self.closed.load(Ordering::Relaxed);
        is_dead.then(|| SinkHalt::failed(panicked(&self.terms.unfinished)))
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
            tracing::warn!(output = self.terms.output, %error, "cannot take away what is unfinished");
        }
    }
}

/// Tells workers that nobody takes blocks any more, also after a panic.
struct Gone(Arc<Fate>);

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
            Ok(Message::Block { mut block, owner }) => {
                let settled = consumer.take(&mut block, &owner);
                debug_assert_eq!(settled.total(), block.frames(), "every frame of a block is settled");
                owner.settle(block, settled);
            }
            Ok(Message::Close { lost_in_kernel }) => return consumer.complete(lost_in_kernel),
            Ok(Message::Abandon) | Err(RecvTimeoutError::Disconnected) => return consumer.abandon(),
            Err(RecvTimeoutError::Timeout) => consumer.idle(),
        }
    }
}
