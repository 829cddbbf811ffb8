//! A file that nobody sees under its name before it is complete: captures and reports.

mod directory;

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

pub(crate) use directory::{Directory, FileId};

/// Created under a hidden name beside its final one, never through a symbolic link, readable by its owner alone.
///
/// The directory is held open from the start: what happens to the path, the working directory or the rights to walk
/// there later does not matter. To complete the file takes leave to write in that directory at that time.
#[derive(Debug)]
pub struct HiddenFile {
    directory: Arc<Directory>,
    file: File,
    hidden: OsString,
    name: OsString,
    path: PathBuf,
}

/// Why a file could not be created.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HiddenFileError {
    /// The final name is taken, be it by a symbolic link.
    #[error("{}: already exists; remove it or choose another name", path.display())]
    Exists {
        /// The final path.
        path: PathBuf,
    },
    /// The path ends in no file name.
    #[error("{}: names no file; give the path of the file to write", path.display())]
    NoName {
        /// The path.
        path: PathBuf,
    },
    /// The directory could not be opened.
    #[error("{}: cannot open the directory to write in: {source}", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file could not be created.
    #[error("{}: cannot be created: {source}", path.display())]
    Create {
        /// The final path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Hidden names to try before giving up.
const ATTEMPTS: u32 = 100;

impl HiddenFile {
    /// Creates the file under its hidden name.
    ///
    /// # Errors
    ///
    /// [`HiddenFileError`]: the name is taken, or the directory or the file cannot be opened.
    pub fn create(path: &Path) -> Result<Self, HiddenFileError> {
        let directory = Self::open_directory(path)?;
        Self::create_in(&directory, path)
    }

    /// Opens the directory that a path puts its file in.
    pub(crate) fn open_directory(path: &Path) -> Result<Arc<Directory>, HiddenFileError> {
        let parent = directory_of(path);
        let directory = Directory::open(parent)
            .map_err(|source| HiddenFileError::Directory { path: parent.to_owned(), source })?;
        Ok(Arc::new(directory))
    }

    /// The same in a directory that is open already, whatever the path leads to by now.
    pub(crate) fn create_in(directory: &Arc<Directory>, path: &Path) -> Result<Self, HiddenFileError> {
        let name =
            path.file_name().ok_or_else(|| HiddenFileError::NoName { path: path.to_owned() })?.to_owned();
        let refused = |source| HiddenFileError::Create { path: path.to_owned(), source };
        if directory.holds(&name).map_err(refused)?.is_some() {
            return Err(HiddenFileError::Exists { path: path.to_owned() });
        }
        for attempt in 0..ATTEMPTS {
            let hidden = hidden_name(&name, attempt);
            match directory.create_new(&hidden) {
                Ok(file) => {
                    let directory = Arc::clone(directory);
                    return Ok(Self { directory, file, hidden, name, path: path.to_owned() });
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    let leftover = path.with_file_name(&hidden);
                    tracing::warn!(
                        file = %leftover.display(),
                        "left alone: from a run that did not end in order, or one that still runs"
                    );
                }
                Err(error) => return Err(refused(error)),
            }
        }
        Err(refused(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "too many unfinished files beside it; remove them",
        )))
    }

    /// The file, to be written to; every write goes to its end.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }

    /// The final path, as the user named it.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where it is until it is complete.
    #[must_use]
    pub fn hidden_path(&self) -> PathBuf {
        self.path.with_file_name(&self.hidden)
    }

    /// Has the file on disk under its final name.
    ///
    /// # Errors
    ///
    /// What the system said; the file is left under its hidden name, which the message gives.
    pub fn complete(&self) -> io::Result<()> {
        self.file.sync_all()?;
        self.publish()?;
        self.directory.sync()
    }

    /// Gives the file its final name, without waiting for the disk.
    ///
    /// # Errors
    ///
    /// As [`complete`](Self::complete).
    pub fn publish(&self) -> io::Result<()> {
        self.directory.rename_no_replace(&self.hidden, &self.name).map_err(|error| {
            let hidden = self.hidden_path();
            let hidden = hidden.display();
            let mend = match error.kind() {
                io::ErrorKind::AlreadyExists => "a file of that name appeared meanwhile".to_owned(),
                _ => error.to_string(),
            };
            io::Error::new(error.kind(), format!("{mend}; it is complete in {hidden}: rename it"))
        })
    }

    /// Takes the hidden file away if nothing was written to it.
    ///
    /// # Errors
    ///
    /// What the system said.
    pub fn remove_if_empty(&self) -> io::Result<()> {
        if self.file.metadata()?.len() == 0 { self.remove() } else { Ok(()) }
    }

    /// Takes the hidden file away.
    ///
    /// # Errors
    ///
    /// What the system said.
    pub fn remove(&self) -> io::Result<()> {
        self.directory.remove(&self.hidden)
    }
}

/// The directory that a path puts its file in: the working directory for a bare name.
#[must_use]
pub fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

/// `.NAME.partial`; where that is taken, one with the process id.
fn hidden_name(name: &OsStr, attempt: u32) -> OsString {
    let mut hidden = OsString::from(".");
    hidden.push(name);
    match attempt {
        0 => {}
        1 => hidden.push(format!(".{}", std::process::id())),
        _ => hidden.push(format!(".{}.{attempt}", std::process::id())),
    }
    hidden.push(".partial");
    hidden
}
