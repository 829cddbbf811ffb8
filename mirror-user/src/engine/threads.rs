//! The engine's threads besides the workers, which report events.

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
use crate::host::{
    HostError,
    links::{LinkEvent, LinkWatch},
};

/// How long a watcher sleeps at most before it checks whether the run is over.
const WATCH: Duration = Duration::from_millis(100);

/// The name of a thread that a queue or an interface has for itself, at most 15 bytes (`TASK_COMM_LEN`):
/// `q0-ens6`. Where an interface's name is too long for that, its index takes its place, behind a colon,
/// which no name has: `q0:12`.
pub(super) fn name(of: &str, interface: &str, index: u32) -> String {
    /// `TASK_COMM_LEN`, without the zero at its end.
    const MOST: usize = 15;
    let name = format!("{of}-{interface}");
    if name.len() <= MOST { name } else { format!("{of}:{index}") }
}

/// A thread that ends when this is dropped.
#[derive(Debug)]
pub(super) struct Watcher {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watcher {
    /// Starts a thread that calls `watch` until that returns false, or this is dropped.
    pub(super) fn start(
        name: &str,
        hook: Option<ThreadHook>,
        mut watch: impl FnMut() -> bool + Send + 'static,
    ) -> Result<Self, EngineError> {
        let over = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&over);
        let (ready, is_ready) = crossbeam_channel::bounded(1);
        let failed = |source| EngineError::Thread { name: name.to_owned(), source };
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
            // The panic hook has printed why one panicked.
            let _ = thread.join();
        }
    }
}

/// Reports events of the links with these names and indices. The watch was opened before anything was
/// attached, so that no event is missed.
pub(super) fn watch_links(
    mut watch: LinkWatch,
    links: Vec<(String, u32)>,
    events: Sender<Event>,
    hook: Option<ThreadHook>,
) -> Result<Watcher, EngineError> {
    let mut names = Names { read: links, returned: Vec::new() };
    Watcher::start("mirror-links", hook, move || {
        let event = match watch.next(WATCH).and_then(|event| names.event(event, &mut watch)) {
            Ok(event) => event,
            Err(error) => {
                tracing::error!(%error, "links are no longer watched: the deletion of an interface is not \
                    noticed");
                return false;
            }
        };
        // An engine that was dropped has no receiver.
        event.is_none_or(|event| events.send(event).is_ok())
    })
}

/// The interfaces of a run, by name and index.
struct Names {
    /// Those that are read.
    read: Vec<(String, u32)>,
    /// Those that have the name of one that was lost.
    returned: Vec<(String, u32)>,
}

impl Names {
    /// The event of the run that this is, if any.
    fn event(&mut self, event: Option<LinkEvent>, watch: &mut LinkWatch) -> Result<Option<Event>, HostError> {
        let read = |index: u32| {
            let found = self.read.iter().find(|(_, known)| *known == index);
            found.map(|(name, _)| name.clone())
        };
        Ok(match event {
            None => None,
            Some(LinkEvent::Up { index }) => read(index).map(|interface| Event::InterfaceUp { interface }),
            Some(LinkEvent::NoCarrier { index }) => {
                read(index).map(|interface| Event::InterfaceNoCarrier { interface })
            }
            Some(LinkEvent::Down { index }) => {
                read(index).map(|interface| Event::InterfaceDown { interface })
            }
            Some(LinkEvent::Deleted { index }) => {
                let was_read = take(&mut self.read, index);
                if let Some(name) = was_read.clone().or_else(|| take(&mut self.returned, index)) {
                    watch.expect(&name)?;
                }
                was_read.map(|interface| Event::InterfaceDeleted { interface, goes_on: false })
            }
            Some(LinkEvent::Named { index, name }) => {
                self.returned.push((name.clone(), index));
                Some(Event::InterfaceReturned { interface: name })
            }
        })
    }
}

/// Takes the name of the link with this index out of a list.
fn take(list: &mut Vec<(String, u32)>, index: u32) -> Option<String> {
    let position = list.iter().position(|(_, known)| *known == index)?;
    Some(list.swap_remove(position).0)
}

/// Turns the XDP program's rare messages into log records.
pub(super) fn watch_log(
    name: &str,
    mut logger: aya_log::EbpfLogger<&'static dyn log::Log>,
    hook: Option<ThreadHook>,
) -> Result<Watcher, EngineError> {
    Watcher::start(name, hook, move || {
        logger.flush();
        thread::sleep(WATCH);
        true
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_of_different_interfaces_have_different_names_that_fit() {
        assert_eq!(name("q0", "ens6", 3), "q0-ens6");
        assert_eq!(name("q12", "enp0s31f6ab", 4), "q12-enp0s31f6ab");
        // Cut to 15 bytes, these would be the same.
        assert_eq!(name("q0", "enp0s31f6np0d1", 5), "q0:5");
        assert_eq!(name("q0", "enp0s31f6np0d2", 6), "q0:6");
        assert!(name("q4294967295", "enp0s31f6np0d2", 123).len() <= 15);
    }
}
