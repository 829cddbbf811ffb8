//! The source files of this repository, as they are in the work tree.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::{fs, io};

use anyhow::{Context as _, Result};

use crate::host;

/// One source file.
#[derive(Debug)]
pub(crate) struct Source {
    /// From the root of the repository.
    pub(crate) path: PathBuf,
    pub(crate) text: String,
}

/// All files with this extension, sorted by path; without build output and hidden directories.
///
/// # Errors
/// If a folder or file cannot be read.
pub(crate) fn sources(extension: &str) -> Result<Vec<Source>> {
    let root = host::workspace();
    let mut paths = Vec::new();
    collect(&root, extension, &mut paths).context("cannot list the source files")?;
    paths.sort();
    paths
        .into_iter()
        .map(|path| {
            let text =
                fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            Ok(Source { path: path.strip_prefix(&root).unwrap_or(&path).to_owned(), text })
        })
        .collect()
}

fn collect(folder: &Path, extension: &str, found: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let kind = entry.file_type()?;
        if kind.is_dir() {
            if name != "target" && !name.as_encoded_bytes().starts_with(b".") {
                collect(&entry.path(), extension, found)?;
            }
        } else if kind.is_file() && entry.path().extension() == Some(OsStr::new(extension)) {
            found.push(entry.path());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_those_of_the_repository_and_nothing_that_was_built() {
        let rust = sources("rs").unwrap();
        assert!(rust.iter().any(|source| source.path == Path::new("xtask/src/tree.rs")));
        assert!(rust.iter().all(|source| !source.path.components().any(|one| one.as_os_str() == "target")));
    }
}
