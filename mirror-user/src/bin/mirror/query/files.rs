//! Which files are read.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use mirror_user::escape;

use crate::exit::Usage;

/// Ends of the names that flow logs in a directory have.
const ENDS: [&str; 3] = [".log", ".log.gz", ".parquet"];
/// How deep directories are: AWS's layouts are below 12.
const DEEPEST: usize = 32;

/// The files of a command line, those of directories by name. Links within directories are not followed.
pub(super) fn find(given: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in given {
        let found = files.len();
        let name = || escape::path(path).to_string();
        if fs::metadata(path).with_context(name)?.is_dir() {
            add(path, 0, &mut files).with_context(name)?;
            if files.len() == found {
                let name = name();
                let ends = ENDS.join(", ");
                return Err(
                    Usage(format!("{name}: there is no flow log in it: no file ends in {ends}")).into()
                );
            }
        } else {
            files.push(path.clone());
        }
    }
    Ok(files)
}

fn add(directory: &Path, depth: usize, files: &mut Vec<PathBuf>) -> io::Result<()> {
    if depth > DEEPEST {
        return Err(io::Error::other(format!("directories are deeper than {DEEPEST}")));
    }
    let mut entries: Vec<_> = fs::read_dir(directory)?.collect::<Result<_, _>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let kind = entry.file_type()?;
        if kind.is_dir() {
            add(&entry.path(), depth + 1, files)?;
        } else if kind.is_file() && is_flow_log(&entry) {
            files.push(entry.path());
        }
    }
    Ok(())
}

/// Files that are still being written are hidden.
fn is_flow_log(entry: &fs::DirEntry) -> bool {
    let name = entry.file_name();
    let Some(name) = name.to_str() else { return false };
    !name.starts_with('.') && ENDS.iter().any(|end| name.ends_with(end))
}
