//! The control socket in its directory: made with its final mode, and removed at the end.

use std::{
    fs::File,
    io,
    os::{fd::OwnedFd, unix::net::UnixListener},
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use mirror_user::host::run_state;
use rustix::{
    fs::{AtFlags, CWD, FileType, Gid, Mode, Stat, chmodat, chownat, renameat, statat, unlinkat},
    io::Errno,
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with},
};

/// Connections that wait to be accepted.
const BACKLOG: i32 = 16;

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub(super) enum SocketError {
    #[error("another run has it")]
    Live,
    #[error("it is no socket; remove it")]
    NoSocket,
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl From<Errno> for SocketError {
    fn from(error: Errno) -> Self {
        Self::Io(error.into())
    }
}

/// The name of a socket in its directory.
#[derive(Debug)]
pub(crate) struct Entry {
    directory: OwnedFd,
    name: PathBuf,
    /// Device and inode.
    identity: (u64, u64),
    /// The socket, for another process.
    socket: OwnedFd,
    /// Whether another process has it now.
    is_left: AtomicBool,
}

/// Makes a socket that its user alone can connect to, or that a group can, too. One of a dead run is
/// replaced.
pub(super) fn make(path: &Path, group: Option<Gid>) -> Result<(UnixListener, Entry), SocketError> {
    let name = PathBuf::from(path.file_name().unwrap_or_default());
    let parent = path.parent().unwrap_or(path);
    let directory = run_state::make(parent)?;
    // From the look at an old socket until the new one is in its place.
    let _lock: File = run_state::lock(&directory)?;
    match state(path)? {
        State::Live => return Err(SocketError::Live),
        State::NoSocket => return Err(SocketError::NoSocket),
        State::Missing | State::Stale => {}
    }
    // Bound under a name that nobody connects to, until owner and mode are right.
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(&name);
    match unlinkat(&directory, &hidden, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(error) => return Err(error.into()),
    }
    let socket = stream()?;
    bind(&socket, &SocketAddrUnix::new(parent.join(&hidden))?)?;
    let placed = || {
        give(&directory, hidden.as_ref(), group)?;
        listen(&socket, BACKLOG)?;
        let found = statat(&directory, &hidden, AtFlags::SYMLINK_NOFOLLOW)?;
        renameat(&directory, &hidden, &directory, &name)?;
        Ok::<_, Errno>(identity(&found))
    };
    let identity = placed().inspect_err(|_| {
        // The error that counts is the first.
        let _ = unlinkat(&directory, &hidden, AtFlags::empty());
    })?;
    let listener = socket.try_clone()?.into();
    Ok((listener, Entry { directory, name, identity, socket, is_left: AtomicBool::new(false) }))
}

/// Sets who may connect to a socket.
fn give(directory: &OwnedFd, name: &Path, group: Option<Gid>) -> Result<(), Errno> {
    const OWNER: Mode = Mode::RUSR.union(Mode::WUSR);
    if let Some(group) = group {
        chownat(directory, name, None, Some(group), AtFlags::SYMLINK_NOFOLLOW)?;
    }
    let mode = if group.is_some() { OWNER | Mode::RGRP | Mode::WGRP } else { OWNER };
    chmodat(directory, name, mode, AtFlags::empty())
}

/// The socket at this path that another process has made, and leaves.
pub(super) fn inherit(
    path: &Path,
    group: Option<Gid>,
    socket: OwnedFd,
) -> Result<(UnixListener, Entry), SocketError> {
    let name = PathBuf::from(path.file_name().unwrap_or_default());
    let directory = run_state::make(path.parent().unwrap_or(path))?;
    let _lock: File = run_state::lock(&directory)?;
    let found = statat(&directory, &name, AtFlags::SYMLINK_NOFOLLOW)?;
    give(&directory, &name, group)?;
    let listener = socket.try_clone()?.into();
    let identity = identity(&found);
    // Until it is taken, the other process has it.
    Ok((listener, Entry { directory, name, identity, socket, is_left: AtomicBool::new(true) }))
}

impl Entry {
    /// The socket, for another process.
    pub(crate) fn lend(&self) -> io::Result<OwnedFd> {
        self.socket.try_clone()
    }

    /// Leaves it to another process, which removes it.
    pub(crate) fn leave(&self) {
        self.is_left.store(true, Ordering::Relaxed);
    }

    /// Takes it from another process.
    pub(crate) fn take(&self) {
        self.is_left.store(false, Ordering::Relaxed);
    }

    /// Removes it, unless it was replaced or left.
    pub(crate) fn remove(&self) {
        if self.is_left.load(Ordering::Relaxed) {
            return;
        }
        let removed = statat(&self.directory, &self.name, AtFlags::SYMLINK_NOFOLLOW).and_then(|found| {
            if identity(&found) == self.identity {
                unlinkat(&self.directory, &self.name, AtFlags::empty())
            } else {
                Ok(())
            }
        });
        match removed {
            Ok(()) | Err(Errno::NOENT) => {}
            // After a change of user; the next run of this name replaces it.
            Err(error) => tracing::debug!("{}: {error}", self.name.display()),
        }
    }
}

/// Also where the start fails.
impl Drop for Entry {
    fn drop(&mut self) {
        self.remove();
    }
}

fn identity(found: &Stat) -> (u64, u64) {
    (found.st_dev, found.st_ino)
}

/// What there is at the path of a socket.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum State {
    Missing,
    /// Nobody listens.
    Stale,
    Live,
    NoSocket,
}

/// What there is at a path.
pub(super) fn state(path: &Path) -> io::Result<State> {
    match statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => return Ok(State::Missing),
        Err(error) => return Err(error.into()),
        // Connecting to another file is refused, too.
        Ok(found) if FileType::from_raw_mode(found.st_mode) != FileType::Socket => {
            return Ok(State::NoSocket);
        }
        Ok(_) => {}
    }
    // A run that is stopped, and whose backlog is full, is alive: EAGAIN.
    match connect(&stream()?, &SocketAddrUnix::new(path)?) {
        Ok(()) | Err(Errno::AGAIN | Errno::ACCESS | Errno::PERM) => Ok(State::Live),
        Err(Errno::CONNREFUSED) => Ok(State::Stale),
        Err(Errno::NOENT) => Ok(State::Missing),
        Err(error) => Err(error.into()),
    }
}

/// A socket that does not block.
fn stream() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?)
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::{
            fs::{MetadataExt as _, PermissionsExt as _},
            net::UnixStream,
        },
    };

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
    }

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name != ".lock").collect()
    }

    #[test]
    fn a_socket_is_for_its_user_alone_and_is_removed() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("mirror/a.sock");
        let (listener, entry) = make(&path, None).unwrap();
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o755));
        assert_eq!(names(path.parent().unwrap()), ["a.sock"]);
        assert_eq!(state(&path).unwrap(), State::Live);
        UnixStream::connect(&path).unwrap();
        drop((listener, entry));
        assert_eq!(state(&path).unwrap(), State::Missing);
    }

    #[test]
    fn a_group_may_connect_if_it_is_given() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("mirror/a.sock");
        let group = rustix::process::getegid();
        let (_listener, _entry) = make(&path, Some(group)).unwrap();
        assert_eq!((mode(&path), fs::metadata(&path).unwrap().gid()), (0o660, group.as_raw()));
    }

    #[test]
    fn the_socket_of_a_dead_run_is_replaced_and_that_of_a_live_one_is_not() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("mirror/a.sock");
        let (listener, first) = make(&path, None).unwrap();
        assert!(matches!(make(&path, None), Err(SocketError::Live)));
        // Nobody listens, as after the end of a process that is killed.
        rustix::net::shutdown(&listener, rustix::net::Shutdown::Both).unwrap();
        assert_eq!(state(&path).unwrap(), State::Stale);
        let (_listener, _second) = make(&path, None).unwrap();
        first.remove();
        assert_eq!(state(&path).unwrap(), State::Live, "it is the second run's");
    }

    #[test]
    fn a_socket_passes_to_another_process_which_alone_removes_it() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("mirror/a.sock");
        let (listener, first) = make(&path, None).unwrap();
        let (_other, second) = inherit(&path, None, first.lend().unwrap()).unwrap();
        // One that does not take it in the end leaves it where it is.
        drop(inherit(&path, None, first.lend().unwrap()).unwrap());
        assert_eq!(state(&path).unwrap(), State::Live);
        second.take();
        first.leave();
        drop((listener, first));
        assert_eq!(state(&path).unwrap(), State::Live);
        drop(second);
        assert_eq!(state(&path).unwrap(), State::Missing);
    }

    #[test]
    fn a_run_whose_backlog_is_full_is_alive() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("mirror/a.sock");
        let (_listener, _entry) = make(&path, None).unwrap();
        let mut waiting = Vec::new();
        for _ in 0..2 * BACKLOG {
            let socket = stream().unwrap();
            if connect(&socket, &SocketAddrUnix::new(&path).unwrap()) == Err(Errno::AGAIN) {
                assert_eq!(state(&path).unwrap(), State::Live);
                return;
            }
            waiting.push(socket);
        }
        panic!("the backlog has no end");
    }

    #[test]
    fn a_file_in_its_place_is_not_replaced() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("mirror/a.sock");
        drop(run_state::make(path.parent().unwrap()).unwrap());
        fs::write(&path, "mine").unwrap();
        assert!(matches!(make(&path, None), Err(SocketError::NoSocket)));
        assert_eq!(fs::read(&path).unwrap(), b"mine");
    }
}
