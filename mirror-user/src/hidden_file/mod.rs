//! Files that have a hidden name until they are complete: captures and reports.

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

/// Created under a hidden name in the directory of its final name, never through a symbolic link, readable by
/// its owner only.
///
/// The directory is held open, so later changes of its path, of the working directory or of permissions on
/// the path do not matter. Completing the file needs write permission to the directory at that time.
#[derive(Debug)]
pub struct HiddenFile {
    directory: Arc<Directory>,
    file: File,
    hidden: OsString,
    name: OsString,
    path: PathBuf,
    /// Which earlier file it may replace.
    over: Option<Judge>,
}

/// Decides by the first bytes of a file whether it may be replaced.
type Judge = fn(&[u8]) -> bool;

/// Which file may have the final name when this one is created.
enum Taken {
    Never,
    /// A file that passes this check; it is replaced.
    Over(Judge),
    /// A file that will be deleted before.
    ForNow,
}

/// Why a file could not be created.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HiddenFileError {
    /// The final name is taken, possibly by a symbolic link.
    #[error("{}: already exists; remove it or choose another name", crate::escape::path(path))]
    Exists {
        /// The final path.
        path: PathBuf,
    },
    /// The path has no file name.
    #[error("{}: not a file name; give the path of the file to write", crate::escape::path(path))]
    NoName {
        /// The path.
        path: PathBuf,
    },
    /// The directory could not be opened.
    #[error("{}: cannot open the directory to write in: {source}", crate::escape::path(path))]
    Directory {
        /// The directory.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The file could not be created.
    #[error("{}: cannot be created: {source}", crate::escape::path(path))]
    Create {
        /// The final path.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

/// The most hidden names to try. From the third on they contain the time in ns, so they are unique.
const ATTEMPTS: u32 = 100;
/// Number of first bytes for the check.
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

    /// The same for a file that may replace an earlier one: a regular file of the process's user whose first
    /// bytes pass `over`. The earlier file stays until [`complete`](Self::complete), which checks again.
    ///
    /// # Errors
    ///
    /// As [`create`](Self::create), if anything else has the name.
    pub fn create_over(path: &Path, over: fn(&[u8]) -> bool) -> Result<Self, HiddenFileError> {
        let directory = Self::open_directory(path)?;
        Self::create_judging(&directory, path, &Taken::Over(over), false)
    }

    /// The same while another process of the same run has one that is not complete, and never will be.
    ///
    /// # Errors
    ///
    /// As [`create_over`](Self::create_over).
    pub fn create_over_beside(path: &Path, over: fn(&[u8]) -> bool) -> Result<Self, HiddenFileError> {
        let directory = Self::open_directory(path)?;
        Self::create_judging(&directory, path, &Taken::Over(over), true)
    }

    /// Opens the directory of a path.
    pub(crate) fn open_directory(path: &Path) -> Result<Arc<Directory>, HiddenFileError> {
        let parent = directory_of(path);
        let directory = Directory::open(parent)
            .map_err(|source| HiddenFileError::Directory { path: parent.to_owned(), source })?;
        Ok(Arc::new(directory))
    }

    /// The same in an open directory; the path is not resolved again.
    pub(crate) fn create_in(directory: &Arc<Directory>, path: &Path) -> Result<Self, HiddenFileError> {
        Self::create_judging(directory, path, &Taken::Never, false)
    }

    /// The same if another file has the name that will be deleted before this one is completed.
    pub(crate) fn create_beside(directory: &Arc<Directory>, path: &Path) -> Result<Self, HiddenFileError> {
        Self::create_judging(directory, path, &Taken::ForNow, false)
    }

    fn create_judging(
        directory: &Arc<Directory>,
        path: &Path,
        taken: &Taken,
        expects_another: bool,
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
                    if attempt == 0 && !expects_another {
                        let leftover = path.with_file_name(&hidden);
                        tracing::warn!(
                            file = %crate::escape::path(&leftover),
                            "kept: an unfinished file of a run that was killed or is still running"
                        );
                    }
                }
                Err(error) => return Err(refused(error)),
            }
        }
        Err(refused(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "too many unfinished files in its directory; remove them",
        )))
    }

    /// The file, to write to; every write appends.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }

    /// The unit in which its file system prefers to be written (`st_blksize` of stat(2)), in bytes.
    pub(crate) fn unit(&self) -> Option<u64> {
        #[cfg(unix)]
        return self.file.metadata().ok().map(|file| std::os::unix::fs::MetadataExt::blksize(&file));
        #[cfg(not(unix))]
        return None;
    }

    /// The same file, opened again for writes past the page cache with offsets, lengths and memory aligned
    /// to `alignment`; `None` if its file system does not take them. They do not append.
    pub(crate) fn direct(&self, alignment: u64) -> io::Result<Option<File>> {
        self.directory.open_direct(&self.hidden, FileId::of(&self.file)?, alignment)
    }

    /// The final path, as the user named it.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The hidden path until it is complete.
    #[must_use]
    pub fn hidden_path(&self) -> PathBuf {
        self.path.with_file_name(&self.hidden)
    }

    /// Syncs the file to disk and renames it to its final name.
    ///
    /// # Errors
    ///
    /// The system's error; the file keeps its hidden name, which the message contains.
    pub fn complete(&self) -> io::Result<()> {
        self.file.sync_all()?;
        self.publish()?;
        self.directory.sync()
    }

    /// Renames the file to its final name without waiting for the disk.
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

    /// Removes the hidden file if nothing was written to it.
    ///
    /// # Errors
    ///
    /// The system's error.
    pub fn remove_if_empty(&self) -> io::Result<()> {
        if self.file.metadata()?.len() == 0 { self.remove() } else { Ok(()) }
    }

    /// Removes the hidden file.
    ///
    /// # Errors
    ///
    /// The system's error.
    pub fn remove(&self) -> io::Result<()> {
        self.directory.remove(&self.hidden)
    }
}

/// The directory of a path: the working directory for a bare name.
#[must_use]
pub fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

/// Whether the file with a name may be replaced.
fn may_replace(directory: &Directory, name: &OsStr, over: Option<Judge>) -> bool {
    // A file that cannot be read cannot be checked.
    over.is_some_and(|over| directory.beginning_of_own(name, BEGINNING).is_ok_and(|bytes| over(&bytes)))
}

/// `.NAME.partial`; if a killed run has left that, a name with the process id; if that exists too, because
/// runs in containers may have the same id, a name with the time.
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
    fn only_a_file_of_the_same_kind_is_replaced_and_by_a_new_inode() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("report");
        written_over(&path).unwrap();
        let first = fs::metadata(&path).unwrap().ino();
        fs::write(&path, "a longer one that was there before").unwrap();
        written_over(&path).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"a new one");
        assert_ne!(fs::metadata(&path).unwrap().ino(), first, "a reader of the first keeps it");
        // A capture may replace nothing.
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
    fn a_file_that_appeared_meanwhile_is_replaced_only_if_of_the_same_kind() {
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
    fn hidden_files_of_killed_runs_do_not_block_a_new_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("out");
        // As each run of a container, which has the same process id.
        for _ in 0..300 {
            HiddenFile::create(&path).unwrap();
        }
        HiddenFile::create(&path).unwrap().complete().unwrap();
    }
}
