//! What the outputs of a reload may do, as far as the sandbox knows it when the run starts.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use mirror_user::{escape, hidden_file::directory_of};

use crate::outputs::PlannedOutput;

/// Where outputs may be created, and to which ports they may connect.
#[derive(Debug)]
pub(crate) struct Permitted {
    /// With everything beneath.
    directories: Vec<PathBuf>,
    ports: Vec<u16>,
}

impl Permitted {
    /// Of these directories, as far as they exist, and TCP ports.
    pub(crate) fn of<'p>(
        directories: impl Iterator<Item = &'p Path>,
        ports: impl Iterator<Item = u16>,
    ) -> Self {
        // What is missing when the run starts cannot be written to later: the sandbox has no rule for it.
        let directories = directories.filter_map(|directory| directory.canonicalize().ok());
        Self { directories: directories.collect(), ports: ports.collect() }
    }

    /// Refuses an output elsewhere.
    pub(super) fn refuse_beyond(&self, output: &PlannedOutput<'_>) -> anyhow::Result<()> {
        output.capture().into_iter().chain(output.sockets()).try_for_each(|path| self.refuse_file(path))?;
        match output.connects().find(|port| !self.ports.contains(port)) {
            Some(port) => anyhow::bail!(
                "this run may not connect to TCP port {port}, which no target had when it was started: \
                restart the run"
            ),
            None => Ok(()),
        }
    }

    fn refuse_file(&self, path: &Path) -> anyhow::Result<()> {
        let directory = directory_of(path);
        let found = directory.canonicalize().with_context(|| escape::path(directory).to_string())?;
        if self.directories.iter().any(|permitted| found.starts_with(permitted)) {
            return Ok(());
        }
        anyhow::bail!(
            "{}: this run may not write to {}: restart it, with `--writable` for directories of later \
            outputs",
            escape::path(path),
            escape::path(directory)
        )
    }
}
