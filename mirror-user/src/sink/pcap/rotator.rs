//! Control of a capture while it runs: requests to rotate, completed files, hooks.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

/// Rotates the files of a capture on request, and reports the completed ones.
#[derive(Clone, Debug, Default)]
pub struct Rotator(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    requested: AtomicBool,
    completed: Mutex<Completed>,
}

/// The files that a capture has completed.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Completed {
    /// How many, including those deleted since.
    pub files: u64,
    /// The last one.
    pub last: Option<PathBuf>,
}

impl Rotator {
    /// Completes the current file and starts the next one, within 100 ms.
    pub fn rotate(&self) {
        self.0.requested.store(true, Ordering::Relaxed);
    }

    /// The files completed so far.
    #[must_use]
    pub fn completed(&self) -> Completed {
        self.0.completed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn take_request(&self) -> bool {
        self.0.requested.swap(false, Ordering::Relaxed)
    }

    pub(super) fn add(&self, path: &Path) {
        let mut completed = self.0.completed.lock().unwrap_or_else(PoisonError::into_inner);
        completed.files += 1;
        completed.last = Some(path.to_owned());
    }
}

/// Hooks, called on the writer thread.
#[derive(Default)]
pub(super) struct Hooks {
    pub(super) on_file: Option<FileHook>,
    pub(super) keep_while: Option<KeepHook>,
    pub(super) on_last: Option<Box<dyn FnOnce() + Send>>,
}

type FileHook = Box<dyn FnMut(&Path) + Send>;
type KeepHook = Box<dyn Fn(&Path) -> bool + Send>;
