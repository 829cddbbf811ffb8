//! `/run/mirror`: records of what killed runs have to have restored, and sockets of runs.
//!
//! A run writes a record before it makes a change that only it can undo, and removes it once that is undone.
//! The run holds a lock on it (an open file description lock, `fcntl(2)`, which the kernel releases with the
//! process), so a record without a lock belongs to a dead run. Unlike a process id a lock is not reused, and
//! unlike with flock(2) it can be queried without being taken, as doctor does.
//!
//! `/run` is empty after a boot, so a record outlives the process and not the boot. Directories are root's,
//! mode 0755, and records 0600: who can write one can make the next start write it to the host's settings.

use std::{
    fs::File,
    io::{self, Read as _, Write as _},
    os::fd::{AsFd as _, OwnedFd},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, fcntl},
};
use rustix::fs::{
    AtFlags, Dir, Mode, OFlags, fchmod, fchown, fstat, mkdirat, open, openat, renameat, statat, unlinkat,
};

/// The directory of run state.
pub const DIRECTORY: &str = "/run/mirror";
/// Its directory for the originals of host settings.
const SETTINGS: &str = "state";
/// Serialises writers of records.
const LOCK: &str = ".lock";
/// How long another start may take to write its own.
const PATIENCE: Duration = Duration::from_secs(5);
/// The most bytes of a record that are read.
const MOST: u64 = 64 << 10;

/// A directory of records.
#[derive(Debug)]
pub(crate) struct Store {
    path: PathBuf,
    directory: OwnedFd,
}

/// Permission to write records, one process at a time.
pub(crate) struct Writing<'a> {
    store: &'a Store,
    _lock: File,
}

/// A record of this run. Dropping it releases the lock; the file stays unless it is [removed](Self::remove).
#[derive(Debug)]
pub(crate) struct Record {
    directory: OwnedFd,
    name: String,
    file: File,
}

/// A record that was found.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) name: String,
    /// Its text; or why it cannot be read.
    pub(crate) content: io::Result<String>,
    /// Whether the run that wrote it is alive.
    pub(crate) held: bool,
}

impl Store {
    /// The originals of host settings; `None` if there never were any.
    pub(crate) fn find() -> io::Result<Option<Self>> {
        Self::find_beneath(Path::new(DIRECTORY))
    }

    /// The same, made where it is not there.
    pub(crate) fn make() -> io::Result<Self> {
        Self::make_beneath(Path::new(DIRECTORY))
    }

    fn find_beneath(base: &Path) -> io::Result<Option<Self>> {
        let opened = open_directory(base).and_then(|base| open_in(&base, SETTINGS));
        match opened {
            Ok(directory) => Ok(Some(Self { path: base.join(SETTINGS), directory })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn make_beneath(base: &Path) -> io::Result<Self> {
        let directory = make_in(&make(base)?, SETTINGS)?;
        Ok(Self { path: base.join(SETTINGS), directory })
    }

    /// Where its records are.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Waits until no other process writes here.
    pub(crate) fn write(&self) -> io::Result<Writing<'_>> {
        Ok(Writing { store: self, _lock: lock(&self.directory)? })
    }

    /// Every record there is.
    pub(crate) fn records(&self) -> io::Result<Vec<Found>> {
        let mut found = Vec::new();
        for entry in Dir::read_from(&self.directory)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().to_str() else { continue };
            // `.` and `..`, the lock, and what is being written.
            if !name.starts_with('.') {
                found.extend(self.record(name)?);
            }
        }
        found.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }

    /// One record, if it is there.
    fn record(&self, name: &str) -> io::Result<Option<Found>> {
        // Does not block on a FIFO.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match openat(&self.directory, name, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(rustix::io::Errno::NOENT) => return Ok(None),
            Err(error) => {
                let found = Found { name: name.to_owned(), content: Err(error.into()), held: false };
                return Ok(Some(found));
            }
        };
        let held = is_locked(&file)?;
        let content = trusted(&file).and_then(|()| {
            let mut text = String::new();
            (&file).take(MOST).read_to_string(&mut text)?;
            Ok(text)
        });
        Ok(Some(Found { name: name.to_owned(), content, held }))
    }
}

impl Writing<'_> {
    /// Writes a record, in the place of a dead run's of the same name, and locks it. It appears complete or
    /// not at all.
    pub(crate) fn hold(&self, name: &str, content: &str) -> io::Result<Record> {
        let directory = self.store.directory.try_clone()?;
        // Only the holder of the lock gets here, so a file that exists was left by a killed process.
        let hidden = format!(".{name}.new");
        match unlinkat(&directory, &hidden, AtFlags::empty()) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = File::from(openat(&directory, &hidden, flags, Mode::RUSR | Mode::WUSR)?);
        give_to_root(&file);
        let written = file.write_all(content.as_bytes()).and_then(|()| {
            try_lock(&file)?;
            Ok(renameat(&directory, &hidden, &directory, name)?)
        });
        if let Err(error) = written {
            // The error that counts is the first.
            let _ = unlinkat(&directory, &hidden, AtFlags::empty());
            return Err(error);
        }
        Ok(Record { directory, name: name.to_owned(), file })
    }

    /// Every record there is.
    pub(crate) fn records(&self) -> io::Result<Vec<Found>> {
        self.store.records()
    }

    /// Where records are.
    pub(crate) fn path(&self) -> &Path {
        &self.store.path
    }

    /// Removes a record of a dead run.
    pub(crate) fn remove(&self, name: &str) -> io::Result<()> {
        Ok(unlinkat(&self.store.directory, name, AtFlags::empty())?)
    }
}

impl Record {
    /// Removes it: all is undone.
    pub(crate) fn remove(self) -> io::Result<()> {
        let (own, there) =
            (fstat(&self.file)?, statat(&self.directory, &self.name, AtFlags::SYMLINK_NOFOLLOW)?);
        if (own.st_dev, own.st_ino) == (there.st_dev, there.st_ino) {
            unlinkat(&self.directory, &self.name, AtFlags::empty())?;
        }
        Ok(())
    }
}

/// Opens [`DIRECTORY`], or another in its place, and makes it where it is not there.
///
/// # Errors
///
/// The kernel's error; or others than root and this user may write to it.
pub fn make(path: &Path) -> io::Result<OwnedFd> {
    let (parent, name) = (path.parent().unwrap_or(path), path.file_name().unwrap_or_default());
    make_in(&open_directory(parent)?, name)
}

/// Waits until no other process writes to a directory of run state, and keeps others from it until the file
/// is closed.
///
/// # Errors
///
/// The kernel's error; or another process does not end.
pub fn lock(directory: &OwnedFd) -> io::Result<File> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let lock = File::from(openat(directory, LOCK, flags, Mode::RUSR | Mode::WUSR)?);
    give_to_root(&lock);
    let start = Instant::now();
    while !try_lock(&lock)? {
        if start.elapsed() >= PATIENCE {
            let seconds = PATIENCE.as_secs();
            let message =
                format!("another process has held {LOCK} for {seconds} s; see whether it is stopped");
            return Err(io::Error::new(io::ErrorKind::TimedOut, message));
        }
        thread::sleep(Duration::from_millis(10));
    }
    Ok(lock)
}

const AS_DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

fn open_directory(path: &Path) -> io::Result<OwnedFd> {
    Ok(open(path, AS_DIRECTORY, Mode::empty())?)
}

fn open_in(parent: &OwnedFd, name: impl rustix::path::Arg) -> io::Result<OwnedFd> {
    let directory = openat(parent, name, AS_DIRECTORY | OFlags::NOFOLLOW, Mode::empty())?;
    let file = File::from(directory);
    trusted(&file)?;
    Ok(file.into())
}

fn make_in(parent: &OwnedFd, name: impl rustix::path::Arg + Copy) -> io::Result<OwnedFd> {
    const EVERYBODY_READS: Mode =
        Mode::RWXU.union(Mode::RGRP).union(Mode::XGRP).union(Mode::ROTH).union(Mode::XOTH);
    match mkdirat(parent, name, EVERYBODY_READS) {
        Ok(()) => {
            let directory = openat(parent, name, AS_DIRECTORY | OFlags::NOFOLLOW, Mode::empty())?;
            // Whatever the umask.
            fchmod(&directory, EVERYBODY_READS)?;
            give_to_root(&directory);
        }
        Err(rustix::io::Errno::EXIST) => {}
        Err(error) => return Err(error.into()),
    }
    open_in(parent, name)
}

/// After a change of user, files made here would belong to that user, who could then make the next start
/// write settings.
fn give_to_root(file: impl std::os::fd::AsFd) {
    use rustix::fs::{Gid, Uid};
    if !rustix::process::geteuid().is_root()
        && let Err(error) = fchown(&file, Some(Uid::ROOT), Some(Gid::ROOT))
    {
        tracing::debug!(%error, "run state cannot be given to root");
    }
}

/// Whether only root and this user may have written a file.
///
/// # Errors
///
/// Others may have; or the kernel's error.
pub fn trusted(file: &File) -> io::Result<()> {
    const OTHERS_WRITE: u32 = 0o022;
    let found = fstat(file)?;
    let own = rustix::process::geteuid().as_raw();
    if found.st_uid != 0 && found.st_uid != own {
        let message = format!("it belongs to user {}, not to root; remove it", found.st_uid);
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, message));
    }
    if found.st_mode & OTHERS_WRITE != 0 {
        let message = "others may write to it; remove it";
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, message));
    }
    Ok(())
}

/// The whole of a file, to be locked for writing.
fn whole(kind: i32) -> libc::flock {
    #[expect(clippy::cast_possible_truncation, reason = "constants of the kernel's that fit")]
    let (l_type, l_whence) = (kind as libc::c_short, libc::SEEK_SET as libc::c_short);
    libc::flock { l_type, l_whence, l_start: 0, l_len: 0, l_pid: 0 }
}

fn try_lock(file: &File) -> io::Result<bool> {
    match fcntl(file.as_fd(), FcntlArg::F_OFD_SETLK(&whole(libc::F_WRLCK))) {
        Ok(_) => Ok(true),
        Err(Errno::EAGAIN | Errno::EACCES) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Whether a process has it locked.
fn is_locked(file: &File) -> io::Result<bool> {
    let mut lock = whole(libc::F_WRLCK);
    fcntl(file.as_fd(), FcntlArg::F_OFD_GETLK(&mut lock))?;
    Ok(i32::from(lock.l_type) != libc::F_UNLCK)
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::{PermissionsExt as _, symlink},
    };

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
    }

    fn names(store: &Store) -> Vec<(String, bool)> {
        store.records().unwrap().into_iter().map(|found| (found.name, found.held)).collect()
    }

    #[test]
    fn a_record_is_held_while_its_run_lives_and_stays_when_that_is_killed() {
        let scratch = tempfile::tempdir().unwrap();
        let base = scratch.path().join("mirror");
        assert!(Store::find_beneath(&base).unwrap().is_none());
        let store = Store::make_beneath(&base).unwrap();
        let record = store.write().unwrap().hold("a", "one").unwrap();
        assert_eq!((mode(&base), mode(store.path()), mode(&store.path().join("a"))), (0o755, 0o755, 0o600));
        let seen_by_another = Store::find_beneath(&base).unwrap().unwrap();
        assert_eq!(names(&seen_by_another), [("a".to_owned(), true)]);
        // As the kernel does for a process that is killed.
        drop(record);
        assert_eq!(names(&seen_by_another), [("a".to_owned(), false)]);
        let next = store.write().unwrap().hold("a", "two").unwrap();
        let found = store.records().unwrap();
        assert_eq!((found[0].content.as_ref().unwrap().as_str(), found[0].held), ("two", true));
        next.remove().unwrap();
        assert_eq!(names(&store), []);
    }

    #[test]
    fn a_record_that_another_run_has_replaced_is_not_removed() {
        let scratch = tempfile::tempdir().unwrap();
        let store = Store::make_beneath(&scratch.path().join("mirror")).unwrap();
        let first = store.write().unwrap().hold("a", "one").unwrap();
        let second = store.write().unwrap().hold("a", "two").unwrap();
        first.remove().unwrap();
        assert_eq!(names(&store), [("a".to_owned(), true)]);
        second.remove().unwrap();
    }

    #[test]
    fn an_incomplete_record_of_a_killed_run_is_ignored() {
        let scratch = tempfile::tempdir().unwrap();
        let store = Store::make_beneath(&scratch.path().join("mirror")).unwrap();
        fs::write(store.path().join(".a.new"), "hal").unwrap();
        assert_eq!(names(&store), []);
        store.write().unwrap().hold("a", "whole").unwrap();
        assert_eq!(store.records().unwrap()[0].content.as_ref().unwrap(), "whole");
    }

    #[test]
    fn records_that_others_could_have_written_are_ignored() {
        let scratch = tempfile::tempdir().unwrap();
        let base = scratch.path().join("mirror");
        let store = Store::make_beneath(&base).unwrap();
        store.write().unwrap().hold("a", "mine").unwrap();
        fs::set_permissions(store.path().join("a"), fs::Permissions::from_mode(0o666)).unwrap();
        assert!(store.records().unwrap()[0].content.is_err());
        symlink("/etc/hostname", store.path().join("link")).unwrap();
        assert!(store.records().unwrap().iter().all(|found| found.content.is_err()));
        fs::set_permissions(store.path(), fs::Permissions::from_mode(0o777)).unwrap();
        assert!(Store::find_beneath(&base).is_err() && Store::make_beneath(&base).is_err());
        fs::remove_dir_all(&base).unwrap();
        symlink(scratch.path(), &base).unwrap();
        assert!(Store::make_beneath(&base).is_err());
    }

    #[test]
    fn a_fifo_among_records_does_not_block() {
        let scratch = tempfile::tempdir().unwrap();
        let store = Store::make_beneath(&scratch.path().join("mirror")).unwrap();
        nix::unistd::mkfifo(&store.path().join("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_eq!(names(&store).len(), 1);
    }
}
