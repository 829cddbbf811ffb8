//! Setting up a printer: style, output, memory.

use std::{
    fmt,
    io::{self, Write},
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use super::{
    NAME, Print,
    lines::Lines,
    printer::{LOSSES_HERE, Printer},
    style::{Style, Time},
};
use crate::mirroring::SessionTable;
use crate::sink::{
    handoff::{Handoff, HandoffOptions, OutputState},
    pipe::Pipe,
};

/// Default stop timeout.
const STOP: Duration = Duration::from_secs(5);

/// Why a printer could not be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PrintError {
    /// Standard output could not be opened.
    #[error("standard output: cannot be written to: {source}")]
    Stdout {
        /// The system's error.
        source: io::Error,
    },
    /// The printing thread could not be started.
    #[error("cannot start the printing thread: {source}")]
    Thread {
        /// The system's error.
        source: io::Error,
    },
}

/// Sets up a [`Print`].
#[must_use]
pub struct PrintBuilder {
    style: Style,
    /// Standard output if `None`.
    writer: Option<Pipe>,
    sessions: Option<Arc<SessionTable>>,
    handoff: HandoffOptions,
}

impl fmt::Debug for PrintBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PrintBuilder").field("style", &self.style).finish_non_exhaustive()
    }
}

impl PrintBuilder {
    pub(super) fn new(style: Style) -> Self {
        Self { style, writer: None, sessions: None, handoff: HandoffOptions::default() }
    }

    /// Prints to a writer; `name` is its name in messages. It is flushed after each block.
    pub fn writer(mut self, name: impl Into<String>, out: impl Write + Send + 'static) -> Self {
        self.writer = Some(Pipe::new(name, out));
        self
    }

    /// Names origins by these sessions.
    pub fn sessions(mut self, sessions: Arc<SessionTable>) -> Self {
        self.sessions = Some(sessions);
        self
    }

    /// Number of blocks of each worker, at least 2. See [`Print::memory_per_worker`].
    pub fn blocks(mut self, blocks: usize) -> Self {
        self.handoff.set_blocks(blocks);
        self
    }

    /// Bytes in a block; more if two of the largest frames need more.
    pub fn block_size(mut self, bytes: usize) -> Self {
        self.handoff.set_block_size(bytes);
        self
    }

    /// How long the end of a run waits for an output that makes no progress; 5 s by default. Frames not
    /// printed by then count as failed, reason `stuck`.
    pub fn stop_timeout(mut self, timeout: Duration) -> Self {
        self.handoff.set_stop_timeout(timeout);
        self
    }

    /// A hook that runs first on the printing thread, for example to drop capabilities, which are per thread.
    /// The output is open by then, and the time zone is known.
    pub fn on_thread_start(mut self, hook: impl FnOnce() + Send + 'static) -> Self {
        self.handoff.on_thread_start = Some(Box::new(hook));
        self
    }

    /// Opens the output and starts the printing thread.
    ///
    /// # Errors
    ///
    /// [`PrintError`]: standard output cannot be opened, or the thread cannot be started.
    pub fn build(self) -> Result<Print, PrintError> {
        let pipe = match self.writer {
            Some(pipe) => pipe,
            None => Pipe::stdout().map_err(|source| PrintError::Stdout { source })?,
        };
        let config = self.handoff.config(NAME, pipe.name().to_owned(), STOP, LOSSES_HERE);
        let (state, dropped_last) = (Arc::new(OutputState::default()), Arc::new(AtomicU64::new(0)));
        let lines = self.sessions.into_iter().fold(Lines::new(self.style), Lines::sessions);
        let printer = Printer::new(pipe, lines, Arc::clone(&state), Arc::clone(&dropped_last));
        let handoff = Handoff::start(config, state, self.handoff.on_thread_start, printer)
            .map_err(|source| PrintError::Thread { source })?;
        let needs_time = self.style.time != Time::None;
        Ok(Print { needs_time, handoff, dropped_last })
    }
}
