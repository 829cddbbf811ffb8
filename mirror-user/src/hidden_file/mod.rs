//! A file that nobody sees under its name before it is complete: captures and reports.

mod directory;

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

pub(crate) use directory::{Directory, FileId};

/// Created under a hidden name beside its final one, never through a symbolic link, readable by its owner
/// alone.
///
/// The directory is held open from the start: what happens to the path, the working directory or the rights
/// to walk there later does not matter. To complete the file takes leave to write in that directory at that
/// time.
#[derive(Debug)]
pub struct HiddenFile {
    directory: Arc<Directory>,
    file: File,
    hidden: OsString,
    name: OsString,
    path: PathBuf,
    /// What may have its name before it, by its first bytes.
    over: Option<Judge>,
}

/// Judges a file by its first bytes.
type Judge = fn(&[u8]) -> bool;

/// Whether a file may have the final name when this one is created.
enum Taken {
    Never,
    /// One that is judged so, and is replaced.
    Over(Judge),
    /// One that is gone by then.
    ForNow,
}

/// Why a file could not be created.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HiddenFileError {
    /// The final name is taken, be it by a symbolic link.
    #[error("{}: already exists; remove it or choose another name", crate::escape::path(path))]
    Exists {
        /// The final path.
        path: PathBuf,
    },
    /// The path ends in no file name.
    #[error("{}: names no file; give the path of the file to write", crate::escape::path(path))]
    NoName {
        /// The path.
        path: PathBuf,
    },
    /// The directory could not be opened.
    #[error("{}: cannot open the directory to write in: {source}", crate::escape::path(path))]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file could not be created.
    #[error("{}: cannot be created: {source}", crate::escape::path(path))]
    Create {
        /// The final path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Hidden names to try before giving up: from the third on they have the time in ns in them, so none is there
/// a second time.
const ATTEMPTS: u32 = 100;
/// The first bytes of a file by which it is judged.
const BEGINNING: usize = 256;

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

    /// The same for a file that may take the place of an earlier one: of a regular file, of the user that
    /// this process runs as, whose first bytes are `over`. It is there until [`complete`](Self::complete),
    /// which judges what it replaces again.
    ///
    /// # Errors
    ///
    /// As [`create`](Self::create), for whatever else has the name.
    pub fn create_over(path: &Path, over: fn(&[u8]) -> bool) -> Result<Self, HiddenFileError> {
        let directory = Self::open_directory(path)?;
        Self::create_judging(&directory, path, &Taken::Over(over))
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
        Self::create_judging(directory, path, &Taken::Never)
    }

    /// The same where another file has the name that will be gone by the time at which this one gets it.
    pub(crate) fn create_beside(directory: &Arc<Directory>, path: &Path) -> Result<Self, HiddenFileError> {
        Self::create_judging(directory, path, &Taken::ForNow)
    }

    fn create_judging(
        directory: &Arc<Directory>,
        path: &Path,
        taken: &Taken,
    ) -> Result<Self, HiddenFileError> {
        let name =
            path.file_name().ok_or_else(|| HiddenFileError::NoName { path: path.to_owned() })?.to_owned();
        let refused = |source| HiddenFileError::Create { path: path.to_owned(), source };
        let is_taken = directory.holds(&name).map_err(refused)?.is_some();
        let over = match taken {
            Taken::Over(over) => Some(*over),
            Taken::Never | Taken::ForNow => None,
        };
        if is_taken && !matches!(taken, Taken::ForNow) && !may_replace(directory, &name, over) {
            return Err(HiddenFileError::Exists { path: path.to_owned() });
        }
        for attempt in 0..ATTEMPTS {
            let hidden = hidden_name(&name, attempt);
            match directory.create_new(&hidden) {
                Ok(file) => {
                    let directory = Arc::clone(directory);
                    return Ok(Self { directory, file, hidden, name, path: path.to_owned(), over });
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    if attempt == 0 {
                        let leftover = path.with_file_name(&hidden);
                        tracing::warn!(
                            file = %crate::escape::path(&leftover),
                            "left alone: from a run that was killed, or one that still runs"
                        );
                    }
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
        let renamed = if may_replace(&self.directory, &self.name, self.over) {
            self.directory.rename(&self.hidden, &self.name)
        } else {
            self.directory.rename_no_replace(&self.hidden, &self.name)
        };
        renamed.map_err(|error| {
            let hidden = self.hidden_path();
            let hidden = crate::escape::path(&hidden);
            let remedy = match error.kind() {
                io::ErrorKind::AlreadyExists => "a file of that name appeared meanwhile".to_owned(),
                _ => error.to_string(),
            };
            io::Error::new(error.kind(), format!("{remedy}; it is complete in {hidden}: rename it"))
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

/// Whether what has a name is there to be replaced.
fn may_replace(directory: &Directory, name: &OsStr, over: Option<Judge>) -> bool {
    // What cannot be read cannot be judged.
    over.is_some_and(|over| directory.beginning_of_own(name, BEGINNING).is_ok_and(|bytes| over(&bytes)))
}

/// `.NAME.partial`; where a run that was killed has left that, one with the process id; and where that is
/// left too, as the id may be the same for each run in a container, one with the time.
fn hidden_name(name: &OsStr, attempt: u32) -> OsString {
    let mut hidden = OsString::from(".");
    hidden.push(name);
    if attempt > 0 {
        hidden.push(format!(".{}", std::process::id()));
    }
    if attempt > 1 {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        hidden.push(format!(".{}", now.as_nanos()));
    }
    hidden.push(".partial");
    hidden
}

#[cfg(all(test, unix))]
mod tests {
    use std::{
        fs,
        io::Write as _,
        os::unix::fs::{MetadataExt as _, symlink},
    };

    use super::*;

    fn begins_with_a(bytes: &[u8]) -> bool {
        bytes.starts_with(b"a")
    }

    fn written_over(path: &Path) -> Result<(), String> {
        let hidden = HiddenFile::create_over(path, begins_with_a).map_err(|error| error.to_string())?;
        hidden.file().write_all(b"a new one").map_err(|error| error.to_string())?;
        hidden.complete().map_err(|error| error.to_string())
    }

    #[test]
    fn only_a_file_of_its_kind_is_replaced_and_by_another_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("report");
        written_over(&path).unwrap();
        let first = fs::metadata(&path).unwrap().ino();
        fs::write(&path, "a longer one that was there before").unwrap();
        written_over(&path).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"a new one");
        assert_ne!(fs::metadata(&path).unwrap().ino(), first, "a reader of the first keeps it");
        // A capture, which says nothing of what it may replace.
        assert!(matches!(HiddenFile::create(&path), Err(HiddenFileError::Exists { .. })));

        fs::write(&path, "b").unwrap();
        let refused =
            |path: &Path| assert!(written_over(path).unwrap_err().contains("already exists"), "{path:?}");
        refused(&path);
        let of_its_kind = directory.path().join("target");
        fs::write(&of_its_kind, "a").unwrap();
        let link = directory.path().join("link");
        symlink(&of_its_kind, &link).unwrap();
        refused(&link);
        let fifo = directory.path().join("fifo");
        let made = std::process::Command::new("mkfifo").arg(&fifo).status().unwrap();
        assert!(made.success());
        refused(&fifo);
        refused(directory.path());
        assert_eq!(
            (fs::read(&path).unwrap(), fs::read(&of_its_kind).unwrap()),
            (b"b".to_vec(), b"a".to_vec())
        );
        let left = fs::read_dir(directory.path()).unwrap().count();
        assert_eq!(left, 4, "nothing hidden is left of what was refused");
    }

    #[test]
    fn what_came_meanwhile_is_replaced_only_if_it_is_of_its_kind() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("report");
        for (meanwhile, replaced) in [("a", true), ("b", false)] {
            let hidden = HiddenFile::create_over(&path, begins_with_a).unwrap();
            fs::write(&path, meanwhile).unwrap();
            assert_eq!(hidden.complete().is_ok(), replaced);
            assert_eq!(fs::read(&path).unwrap().is_empty(), replaced);
            fs::remove_file(&path).unwrap();
        }
    }

    #[test]
    fn hidden_files_of_any_number_of_dead_runs_block_nobody() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("out");
        // As each run of a container, which has the same process id.
        for _ in 0..300 {
            HiddenFile::create(&path).unwrap();
        }
        HiddenFile::create(&path).unwrap().complete().unwrap();
    }
}
