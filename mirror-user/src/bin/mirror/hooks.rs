//! What each thread of a run does first: it drops capabilities and confines itself.

use std::{io, sync::Arc};

use crate::{
    privileges::RetainedCaps,
    sandbox::{Sandbox, ThreadKind},
};

/// How the threads of a run drop what they do not need: capabilities, and what the sandbox forbids.
#[derive(Clone)]
pub(crate) struct Threads {
    /// Kept by the threads that end a run: the main thread, the signal thread, and those that complete files.
    end_a_run: RetainedCaps,
    /// Kept by the file reader.
    read: RetainedCaps,
    sandbox: Arc<Sandbox>,
}

impl Threads {
    pub(crate) fn new(end_a_run: RetainedCaps, sandbox: &Arc<Sandbox>) -> Self {
        Self { end_a_run, read: RetainedCaps::nothing(), sandbox: Arc::clone(sandbox) }
    }

    /// Sets what the file reader keeps.
    pub(crate) fn reading(self, read: RetainedCaps) -> Self {
        Self { read, ..self }
    }

    /// Drops, for good, what the calling thread does not need. Must be called before its first frame.
    pub(crate) fn confine(&self, kind: ThreadKind) -> io::Result<()> {
        let nothing = RetainedCaps::nothing();
        let keep = match kind {
            ThreadKind::Main | ThreadKind::Writer => &self.end_a_run,
            ThreadKind::Reader => &self.read,
            // They parse untrusted packets, answer requests, or run commands.
            ThreadKind::Supervisor
            | ThreadKind::Control
            | ThreadKind::Worker
            | ThreadKind::Printer
            | ThreadKind::Forwarder
            | ThreadKind::Agent
            | ThreadKind::Http
            | ThreadKind::Command => &nothing,
        };
        keep.drop_others()?;
        self.sandbox.confine(kind)
    }

    /// Starts the thread that answers denied system calls. Must be called before any thread is confined.
    pub(crate) fn supervise(&self) -> anyhow::Result<()> {
        self.sandbox.supervise(self.hook(ThreadKind::Supervisor))
    }

    /// [`confine`](Self::confine) as a closure, for another thread to call.
    pub(crate) fn hook(&self, kind: ThreadKind) -> impl Fn() -> io::Result<()> + Clone + Send + Sync + use<> {
        let threads = self.clone();
        move || threads.confine(kind)
    }

    /// The same for a thread of a sink. One that cannot drop its privileges must not continue with them: it
    /// panics, and its sink fails.
    pub(crate) fn or_panic(&self, kind: ThreadKind) -> impl Fn() + Send + Sync + use<> {
        let hook = self.hook(kind);
        move || {
            if let Err(error) = hook() {
                panic!("cannot drop privileges: {error}");
            }
        }
    }
}
