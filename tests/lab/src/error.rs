//! Errors of the lab.

use std::{error::Error, io, path::Path};

/// Result of everything in this crate.
pub type Result<T> = std::result::Result<T, LabError>;

/// A failure of the lab itself, never of what is tested in it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LabError {
    /// A command of the host exited with another status than 0.
    #[error("`{command}` ended with {status}: {stderr}")]
    Command {
        /// The whole command line.
        command: String,
        /// Exit code or signal.
        status: String,
        /// What it wrote to standard error, trimmed.
        stderr: String,
    },
    /// A system call failed.
    #[error("{what}: {source}")]
    Io {
        /// What was tried, with the name of the thing.
        what: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Loading, attaching or running a BPF program failed, or reading its maps.
    #[error("{what}: {source}")]
    Bpf {
        /// What was tried.
        what: String,
        /// The loader's answer.
        source: Box<dyn Error + Send + Sync>,
    },
    /// An unexpected state: bad settings, bad bytes in a file, an unexpected answer.
    #[error("{0}")]
    Unexpected(String),
}

impl LabError {
    pub(crate) fn io(what: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self::Io { what: what.into(), source: source.into() }
    }

    pub(crate) fn file(path: &Path, source: impl Into<io::Error>) -> Self {
        Self::io(path.display().to_string(), source)
    }

    pub(crate) fn bpf(what: impl Into<String>, source: impl Error + Send + Sync + 'static) -> Self {
        // aya's own messages stop at the outermost error; the errno is in the chain.
        let mut what = what.into();
        let mut inner = source.source();
        while let Some(error) = inner {
            what = format!("{what}: {error}");
            inner = error.source();
        }
        Self::Bpf { what, source: Box::new(source) }
    }
}
