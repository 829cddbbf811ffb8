//! Flags as values of settings, and back.

use std::path::{Path, PathBuf};

use mirror_user::settings::{Many, Times, Written};

/// `None` for a flag that was not given.
pub(crate) fn given(flag: bool) -> Option<bool> {
    flag.then_some(true)
}

/// The same for a flag that may be repeated.
pub(crate) fn repeated(count: u8) -> Option<Written<Times>> {
    (count > 0).then(|| Times(count).into())
}

/// How often a flag was given.
pub(crate) fn repetitions(count: &Option<Written<Times>>) -> u8 {
    count.as_deref().copied().unwrap_or_default().0
}

pub(crate) fn path(path: Option<&PathBuf>) -> Option<Written<PathBuf>> {
    path.map(|path| Written::from(path.as_path()))
}

pub(crate) fn paths(paths: &[PathBuf]) -> Option<Many<PathBuf>> {
    Many::of(paths.iter().map(|path| Written::from(Path::new(path))).collect())
}
