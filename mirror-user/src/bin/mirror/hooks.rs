//! What each thread of a run does first: it gives up capabilities, and confines itself.

use std::{io, sync::Arc};

use crate::{
    privileges::RetainedCaps,
    sandbox::{Kind, Sandbox},
};

/// How the threads of a run give up what they do not need: capabilities, and what the sandbox takes.
#[derive(Clone)]
pub(crate) struct Threads {
    /// Of those that end a run: the main thread, the one that hears signals, and those that complete files.
    end_a_run: RetainedCaps,
    /// Of the one that reads files.
    read: RetainedCaps,
    sandbox: Arc<Sandbox>,
}

impl Threads {
    pub(crate) fn new(end_a_run: RetainedCaps, sandbox: &Arc<Sandbox>) -> Self {
        Self { end_a_run, read: RetainedCaps::nothing(), sandbox: Arc::clone(sandbox) }
    }

    /// What the thread that reads files keeps.
    pub(crate) fn reading(self, read: RetainedCaps) -> Self {
        Self { read, ..self }
    }

    /// Has the calling thread give up, for good, what one of its kind does not need. To be called before its
    /// first frame.
    pub(crate) fn confine(&self, kind: Kind) -> io::Result<()> {
        let nothing = RetainedCaps::nothing();
        let keep = match kind {
            Kind::Main | Kind::Writer => &self.end_a_run,
            Kind::Reader => &self.read,
            // They parse what strangers send, or run what others wrote.
            Kind::Supervisor | Kind::Worker | Kind::Printer | Kind::Forwarder | Kind::Command => &nothing,
        };
        keep.drop_others()?;
        self.sandbox.confine(kind)
    }

    /// Starts what answers for system calls that are refused. To be called before any thread is confined.
    pub(crate) fn supervise(&self) -> anyhow::Result<()> {
        self.sandbox.supervise(self.hook(Kind::Supervisor))
    }

    /// The same for a thread to call.
    pub(crate) fn hook(&self, kind: Kind) -> impl Fn() -> io::Result<()> + Clone + Send + Sync + use<> {
        let threads = self.clone();
        move || threads.confine(kind)
    }

    /// The same for a thread of a sink's. One that cannot give up its rights must not go on with them: its
    /// sink fails, and says so.
    pub(crate) fn or_panic(&self, kind: Kind) -> impl Fn() + Send + Sync + use<> {
        let hook = self.hook(kind);
        move || {
            if let Err(error) = hook() {
                panic!("cannot drop privileges: {error}");
            }
        }
    }
}
