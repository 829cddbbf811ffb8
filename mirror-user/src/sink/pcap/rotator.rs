//! What goes in and out of a capture while it runs: being asked to rotate, and telling of files.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

/// Has the files of a capture rotated from outside, and tells what there is of them.
#[derive(Clone, Debug, Default)]
pub struct Rotator(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    asked: AtomicBool,
    completed: Mutex<Completed>,
}

/// The files that a capture has completed.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Completed {
    /// How many, those included that were deleted since.
    pub files: u64,
    /// The last one.
    pub last: Option<PathBuf>,
}

impl Rotator {
    /// Completes the file that is written to and begins the next one, within 100 ms.
    pub fn rotate(&self) {
        self.0.asked.store(true, Ordering::Relaxed);
    }

    /// What has been completed so far.
    #[must_use]
    pub fn completed(&self) -> Completed {
        self.0.completed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn was_asked(&self) -> bool {
        self.0.asked.swap(false, Ordering::Relaxed)
    }

    pub(super) fn add(&self, path: &Path) {
        let mut completed = self.0.completed.lock().unwrap_or_else(PoisonError::into_inner);
        completed.files += 1;
        completed.last = Some(path.to_owned());
    }
}

/// What is called about files, on the writer thread.
#[derive(Default)]
pub(super) struct Hooks {
    pub(super) on_file: Option<FileHook>,
    pub(super) keep_while: Option<KeepHook>,
    pub(super) on_last: Option<Box<dyn FnOnce() + Send>>,
}

type FileHook = Box<dyn FnMut(&Path) + Send>;
type KeepHook = Box<dyn Fn(&Path) -> bool + Send>;
