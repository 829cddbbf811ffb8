//! The engine's own threads besides the workers: they watch, and tell.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use crossbeam_channel::Sender;

use super::{EngineError, Event, ThreadHook};
use crate::host::links::{LinkEvent, LinkWatch};

/// How long a watcher sleeps at most before it looks whether the run is over.
const WATCH: Duration = Duration::from_millis(100);

/// A thread that ends when this is dropped.
#[derive(Debug)]
pub(super) struct Watcher {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watcher {
    /// Starts a thread that calls `watch` until that says no, or this is dropped.
    pub(super) fn start(
        name: &str,
        hook: Option<ThreadHook>,
        mut watch: impl FnMut() -> bool + Send + 'static,
    ) -> Result<Self, EngineError> {
        let over = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&over);
        let (ready, is_ready) = crossbeam_channel::bounded(1);
        let failed = |source| EngineError::Thread { what: format!("thread {name}"), source };
        let thread = thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                let prepared = hook.map_or(Ok(()), |hook| hook());
                let stop = prepared.is_err();
                // The starter waits for this.
                let _ = ready.send(prepared);
                while !stop && !flag.load(Ordering::Relaxed) && watch() {}
            })
            .map_err(failed)?;
        let watcher = Self { over, thread: Some(thread) };
        match is_ready.recv() {
            Ok(prepared) => prepared.map_err(failed)?,
            Err(gone) => return Err(failed(std::io::Error::other(gone))),
        }
        Ok(watcher)
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A watcher that panicked has said so already.
            let _ = thread.join();
        }
    }
}

/// Tells what becomes of the links with these names and indices. The watch was opened before anything was attached, so
/// that nothing is missed in between.
pub(super) fn watch_links(
    mut watch: LinkWatch,
    links: Vec<(String, u32)>,
    events: Sender<Event>,
    hook: Option<ThreadHook>,
) -> Result<Watcher, EngineError> {
    let name_of =
        move |index: u32| links.iter().find(|(_, known)| *known == index).map(|(name, _)| name.clone());
    Watcher::start("mirror-links", hook, move || {
        let event = match watch.next(WATCH) {
            Ok(None) => return true,
            Ok(Some(LinkEvent::Up { index })) => {
                name_of(index).map(|interface| Event::InterfaceUp { interface })
            }
            Ok(Some(LinkEvent::NoCarrier { index })) => {
                name_of(index).map(|interface| Event::InterfaceNoCarrier { interface })
            }
            Ok(Some(LinkEvent::Down { index })) => {
                name_of(index).map(|interface| Event::InterfaceDown { interface })
            }
            Ok(Some(LinkEvent::Deleted { index })) => {
                name_of(index).map(|interface| Event::InterfaceDeleted { interface })
            }
            Err(error) => {
                tracing::error!(%error, "links are no longer watched: a deleted interface will go unnoticed");
                return false;
            }
        };
        // Nobody listens any more when the engine has gone.
        event.is_none_or(|event| events.send(event).is_ok())
    })
}

/// Turns the XDP program's rare messages into log records.
pub(super) fn watch_log(
    mut logger: aya_log::EbpfLogger<&'static dyn log::Log>,
    hook: Option<ThreadHook>,
) -> Result<Watcher, EngineError> {
    Watcher::start("mirror-log", hook, move || {
        logger.flush();
        thread::sleep(WATCH);
        true
    })
}
