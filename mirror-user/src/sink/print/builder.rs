//! Setting up a printer: in which style, where to, with how much memory.

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
use crate::sink::{
    handoff::{Handoff, HandoffOptions, OutputState},
    pipe::Pipe,
};

/// How long an output may take nothing at the end of a run.
const STOP: Duration = Duration::from_secs(5);

/// Why a printer could not be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PrintError {
    /// Standard output could not be taken.
    #[error("standard output: cannot be written to: {source}")]
    Stdout {
        /// What the system said.
        source: io::Error,
    },
    /// The printing thread could not be started.
    #[error("cannot start the printing thread: {source}")]
    Thread {
        /// What the system said.
        source: io::Error,
    },
}

/// Sets up a [`Print`].
#[must_use]
pub struct PrintBuilder {
    style: Style,
    /// Standard output, if there is none.
    writer: Option<Pipe>,
    handoff: HandoffOptions,
}

impl fmt::Debug for PrintBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PrintBuilder").field("style", &self.style).finish_non_exhaustive()
    }
}

impl PrintBuilder {
    pub(super) fn new(style: Style) -> Self {
        Self { style, writer: None, handoff: HandoffOptions::default() }
    }

    /// Prints to anything that takes bytes; `name` is its name in messages. It is flushed after each block.
    pub fn writer(mut self, name: impl Into<String>, out: impl Write + Send + 'static) -> Self {
        self.writer = Some(Pipe::new(name, out));
        self
    }

    /// How many blocks each worker has, at least 2. See [`Print::memory_per_worker`].
    pub fn blocks(mut self, blocks: usize) -> Self {
        self.handoff.set_blocks(blocks);
        self
    }

    /// Bytes in a block; more where two of the largest frames need more.
    pub fn block_size(mut self, bytes: usize) -> Self {
        self.handoff.set_block_size(bytes);
        self
    }

    /// How long the end of a run waits for an output that takes nothing; 5 s by default. Frames not printed
    /// by then count as failed, reason `stuck`.
    pub fn stop_timeout(mut self, timeout: Duration) -> Self {
        self.handoff.set_stop_timeout(timeout);
        self
    }

    /// Something to do on the printing thread before anything else, such as giving up capabilities, which
    /// belong to threads. The output is open by then, and the time zone known.
    pub fn on_thread_start(mut self, hook: impl FnOnce() + Send + 'static) -> Self {
        self.handoff.on_thread_start = Some(Box::new(hook));
        self
    }

    /// Opens the output and starts the printing thread.
    ///
    /// # Errors
    ///
    /// [`PrintError`]: standard output cannot be taken, no thread can be started.
    pub fn build(self) -> Result<Print, PrintError> {
        let pipe = match self.writer {
            Some(pipe) => pipe,
            None => Pipe::stdout().map_err(|source| PrintError::Stdout { source })?,
        };
        let config = self.handoff.config(NAME, pipe.name().to_owned(), STOP, LOSSES_HERE);
        let (state, left_out_last) = (Arc::new(OutputState::default()), Arc::new(AtomicU64::new(0)));
        let lines = Lines::new(self.style);
        let printer = Printer::new(pipe, lines, Arc::clone(&state), Arc::clone(&left_out_last));
        let handoff = Handoff::start(config, state, self.handoff.on_thread_start, printer)
            .map_err(|source| PrintError::Thread { source })?;
        let needs_time = self.style.time != Time::None;
        Ok(Print { needs_time, handoff, left_out_last })
    }
}
