//! Where a reload may create files.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use mirror_user::{escape, hidden_file::directory_of};

/// The directories in which, and beneath which, outputs may be created: as the run has started.
#[derive(Debug)]
pub(crate) struct WritablePlaces(Vec<PathBuf>);

impl WritablePlaces {
    /// Of these directories, as far as they exist.
    pub(crate) fn of<'p>(directories: impl Iterator<Item = &'p Path>) -> Self {
        // What is missing when the run starts cannot be written to later: the sandbox has no rule for it.
        Self(directories.filter_map(|directory| directory.canonicalize().ok()).collect())
    }

    /// Refuses a file elsewhere.
    pub(super) fn refuse_beyond(&self, path: &Path) -> anyhow::Result<()> {
        let directory = directory_of(path);
        let found = directory.canonicalize().with_context(|| escape::path(directory).to_string())?;
        if self.0.iter().any(|allowed| found.starts_with(allowed)) {
            return Ok(());
        }
        anyhow::bail!(
            "{}: this run may not write to {}: restart it, with `--writable` for directories of later outputs",
            escape::path(path),
            escape::path(directory)
        )
    }
}
