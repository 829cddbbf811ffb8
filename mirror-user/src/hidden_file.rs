//! A file that nobody sees under its name before it is complete: captures and reports.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io,
    path::{Path, PathBuf},
};

use directory::Directory;

/// Created under a hidden name beside its final one, never through a symbolic link, readable by its owner alone.
///
/// The directory is held open from the start: what happens to the path, the working directory or the rights to walk
/// there later does not matter. To complete the file takes leave to write in that directory at that time.
#[derive(Debug)]
pub struct HiddenFile {
    directory: Directory,
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
        let name =
            path.file_name().ok_or_else(|| HiddenFileError::NoName { path: path.to_owned() })?.to_owned();
        let parent = directory_of(path);
        let directory = Directory::open(parent)
            .map_err(|source| HiddenFileError::Directory { path: parent.to_owned(), source })?;
        let refused = |source| HiddenFileError::Create { path: path.to_owned(), source };
        if directory.holds(&name).map_err(refused)? {
            return Err(HiddenFileError::Exists { path: path.to_owned() });
        }
        for attempt in 0..ATTEMPTS {
            let hidden = hidden_name(&name, attempt);
            match directory.create_new(&hidden) {
                Ok(file) => {
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
        self.directory.rename_no_replace(&self.hidden, &self.name).map_err(|error| {
            let hidden = self.hidden_path();
            let hidden = hidden.display();
            let mend = match error.kind() {
                io::ErrorKind::AlreadyExists => "a file of that name appeared meanwhile".to_owned(),
                _ => error.to_string(),
            };
            io::Error::new(error.kind(), format!("{mend}; it is complete in {hidden}: rename it"))
        })?;
        self.directory.sync()
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

#[cfg(unix)]
mod directory {
    use std::{ffi::OsStr, fs::File, io, os::fd::OwnedFd, path::Path};

    use rustix::{
        fs::{AtFlags, Mode, OFlags, fsync, linkat, open, openat, statat, unlinkat},
        io::Errno,
    };

    /// A directory held open; names in it are single components.
    #[derive(Debug)]
    pub(super) struct Directory(OwnedFd);

    impl Directory {
        pub(super) fn open(path: &Path) -> io::Result<Self> {
            Ok(Self(open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?))
        }

        /// Whether the name is taken, be it by a symbolic link to nowhere.
        pub(super) fn holds(&self, name: &OsStr) -> io::Result<bool> {
            match statat(&self.0, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(_) => Ok(true),
                Err(Errno::NOENT) => Ok(false),
                Err(error) => Err(error.into()),
            }
        }

        /// Every write goes to the end of the file, also after it was cut.
        pub(super) fn create_new(&self, name: &OsStr) -> io::Result<File> {
            let flags = OFlags::WRONLY
                | OFlags::APPEND
                | OFlags::CREATE
                | OFlags::EXCL
                | OFlags::NOFOLLOW
                | OFlags::CLOEXEC;
            Ok(openat(&self.0, name, flags, Mode::RUSR | Mode::WUSR)?.into())
        }

        pub(super) fn rename_no_replace(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
            #[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
            match rustix::fs::renameat_with(&self.0, from, &self.0, to, rustix::fs::RenameFlags::NOREPLACE) {
                // Not every file system can: renameat2(2), EINVAL.
                Err(Errno::INVAL | Errno::NOSYS) => {}
                other => return Ok(other?),
            }
            linkat(&self.0, from, &self.0, to, AtFlags::empty())?;
            Ok(unlinkat(&self.0, from, AtFlags::empty())?)
        }

        pub(super) fn remove(&self, name: &OsStr) -> io::Result<()> {
            Ok(unlinkat(&self.0, name, AtFlags::empty())?)
        }

        /// Has names on disk. A file system that cannot sync a directory says EINVAL (fsync(2)).
        pub(super) fn sync(&self) -> io::Result<()> {
            match fsync(&self.0) {
                Err(Errno::INVAL) => Ok(()),
                other => Ok(other?),
            }
        }
    }
}

#[cfg(not(unix))]
mod directory {
    use std::{
        ffi::OsStr,
        fs::{self, File, OpenOptions},
        io,
        path::{Path, PathBuf},
    };

    /// A directory by its absolute path.
    #[derive(Debug)]
    pub(super) struct Directory(PathBuf);

    impl Directory {
        pub(super) fn open(path: &Path) -> io::Result<Self> {
            fs::canonicalize(path).map(Self)
        }

        pub(super) fn holds(&self, name: &OsStr) -> io::Result<bool> {
            match fs::symlink_metadata(self.0.join(name)) {
                Ok(_) => Ok(true),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
                Err(error) => Err(error),
            }
        }

        pub(super) fn create_new(&self, name: &OsStr) -> io::Result<File> {
            OpenOptions::new().append(true).create_new(true).open(self.0.join(name))
        }

        /// A hard link never replaces.
        pub(super) fn rename_no_replace(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
            fs::hard_link(self.0.join(from), self.0.join(to))?;
            self.remove(from)
        }

        pub(super) fn remove(&self, name: &OsStr) -> io::Result<()> {
            fs::remove_file(self.0.join(name))
        }

        #[expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "the same calls on every system")]
        pub(super) fn sync(&self) -> io::Result<()> {
            Ok(())
        }
    }
}
