//! Control of a capture while it runs: requests to rotate, completed files, hooks; and what another process
//! needs to go on with its files.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use crate::hidden_file::FileId;

/// Rotates the files of a capture on request, and reports the completed ones.
#[derive(Clone, Debug, Default)]
pub struct Rotator(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    requested: AtomicBool,
    completed: Mutex<Completed>,
    turns: Mutex<Turns>,
}

/// The files of a capture as they stand, changed only by its writer, and under this lock.
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// Another process has the next file: the current one is the last here.
    pub(super) is_over: bool,
    pub(super) state: CaptureState,
    /// When the next interval starts.
    pub(super) due: Option<Instant>,
    /// What another process has left, until the first file is opened.
    left: Option<CaptureState>,
}

/// A file, identified by more than its name.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct OwnFile {
    pub(super) path: PathBuf,
    pub(super) id: FileId,
}

/// Where the files of a capture stand: what another process needs to open the next one.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct CaptureState {
    /// Name with the time of the current file or else the last one, and its number; unless there was none.
    pub(super) named: Option<(OsString, u32)>,
    /// The current file, which has a hidden name until it is complete.
    pub(super) open: Option<OwnFile>,
    /// Completed files that may be deleted or replaced, the oldest first.
    pub(super) own: Vec<OwnFile>,
    /// Intervals started, and the time until the next.
    pub(super) periods: u32,
    pub(super) due: Option<Duration>,
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

impl CaptureState {
    /// All files, the current one last.
    pub(super) fn files(&self) -> Vec<OwnFile> {
        self.own.iter().chain(&self.open).cloned().collect()
    }
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

    /// Hands the capture over to another process: no further file is begun here.
    #[must_use]
    pub fn hand_over(&self) -> CaptureState {
        let mut turns = self.turns();
        turns.is_over = true;
        let due = turns.due.map(|due| due.saturating_duration_since(Instant::now()));
        let mut state = match &turns.left {
            Some(left) => CaptureState { open: None, own: left.files(), ..left.clone() },
            None => CaptureState { due, ..turns.state.clone() },
        };
        if state.open.is_none()
            && let Some((_, number)) = &mut state.named
        {
            // That of what is still on its way to the writer.
            *number += 1;
        }
        state
    }

    /// The other process does not go on: files are begun here again.
    pub fn take_back(&self) {
        self.turns().is_over = false;
    }

    /// Goes on where another process has stopped. To be called before the first packet.
    pub fn follow(&self, state: CaptureState) {
        self.turns().left = Some(state);
    }

    /// What another process has left, once.
    pub(super) fn take_left(&self) -> Option<CaptureState> {
        self.turns().left.take()
    }

    pub(super) fn turns(&self) -> MutexGuard<'_, Turns> {
        self.0.turns.lock().unwrap_or_else(PoisonError::into_inner)
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
