//! A Unix socket with a path; its mode and group decide who can connect.

use std::{
    ffi::{OsStr, OsString},
    io,
    os::{
        fd::{AsFd as _, AsRawFd as _},
        unix::net::UnixListener,
    },
    path::{Path, PathBuf},
    sync::Arc,
};

use nix::{errno::Errno, unistd::Group};
use rustix::{
    fs::{AtFlags, FileType, Gid, Mode, Stat, chmodat, chownat, statat},
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with},
};

use crate::{
    hidden_file::{Directory, FileId, HiddenFile},
    sink::forward::error::OpenError,
};

/// Connections that wait to be accepted.
const BACKLOG: i32 = 128;

/// The name of a socket in the file system; removed when this is dropped.
#[derive(Debug)]
pub(super) struct SocketName {
    directory: Arc<Directory>,
    name: OsString,
    id: FileId,
}

impl Drop for SocketName {
    fn drop(&mut self) {
        // If this thread has no permission any more, the name does not block other runs.
        if self.directory.holds(&self.name).is_ok_and(|there| there == Some(self.id))
            && let Err(error) = self.directory.remove(&self.name)
        {
            tracing::debug!(name = ?self.name, %error, "cannot remove the socket's name");
        }
    }
}

/// Listens at `path`. Nobody can connect before owner, group and mode are set.
///
/// # Errors
///
/// The name is taken by anything other than the socket of a program that has ended.
pub(super) fn listen_at(
    path: &Path,
    mode: u32,
    group: Option<&str>,
) -> Result<(UnixListener, SocketName), OpenError> {
    let failed = |what| move |source: io::Error| OpenError::Socket { what, source, remedy: "" };
    let group = group.map(group_id).transpose()?;
    let directory = HiddenFile::open_directory(path).map_err(|error| OpenError::Socket {
        what: "socket",
        source: io::Error::other(error),
        remedy: "",
    })?;
    let name = path.file_name().unwrap_or_default();
    remove_stale(&directory, name)?;
    let mut hidden = OsString::from(".");
    hidden.push(name);
    hidden.push(format!(".{}", std::process::id()));
    // Left by a killed run with the same process id.
    let _ = directory.remove(&hidden);
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let made = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).and_then(|socket| {
        bind(&socket, &address(&directory, &hidden)?)?;
        Ok(socket)
    });
    let socket = made.map_err(|error| failed("socket")(error.into()))?;
    let named = || -> Result<SocketName, OpenError> {
        let mode = Mode::from_raw_mode(mode);
        if let Some(group) = group {
            chownat(directory.as_fd(), &hidden, None, Some(group), AtFlags::SYMLINK_NOFOLLOW).map_err(
                |error| OpenError::Socket {
                    what: "group of the socket",
                    source: error.into(),
                    remedy: "; only root, or a member of the group, may set it",
                },
            )?;
        }
        chmodat(directory.as_fd(), &hidden, mode, AtFlags::empty())
            .map_err(|error| failed("mode of the socket")(error.into()))?;
        listen(&socket, BACKLOG).map_err(|error| failed("listening")(error.into()))?;
        directory.rename_no_replace(&hidden, name).map_err(failed("name of the socket"))?;
        let id = directory.holds(name).map_err(failed("name of the socket"))?;
        let id = id.ok_or_else(|| failed("name of the socket")(io::ErrorKind::NotFound.into()))?;
        Ok(SocketName { directory: Arc::clone(&directory), name: name.to_owned(), id })
    };
    let named = named().inspect_err(|_| {
        // The first error says enough.
        let _ = directory.remove(&hidden);
    })?;
    Ok((UnixListener::from(socket), named))
}

/// A path within the limit of an address (108 bytes), however long the directory's is.
fn address(directory: &Directory, name: &OsStr) -> rustix::io::Result<SocketAddrUnix> {
    let mut path = PathBuf::from(format!("/proc/self/fd/{}", directory.as_fd().as_raw_fd()));
    path.push(name);
    SocketAddrUnix::new(path)
}

/// Removes the socket of a program that has ended; anything else with the name is an error.
fn remove_stale(directory: &Directory, name: &OsStr) -> Result<(), OpenError> {
    let refused = |source, remedy| Err(OpenError::Socket { what: "socket", source, remedy });
    let look = || statat(directory.as_fd(), name, AtFlags::SYMLINK_NOFOLLOW);
    let there = match look() {
        Ok(there) => there,
        Err(rustix::io::Errno::NOENT) => return Ok(()),
        Err(error) => return refused(error.into(), ""),
    };
    if FileType::from_raw_mode(there.st_mode) != FileType::Socket {
        return refused(
            io::ErrorKind::AlreadyExists.into(),
            "; it is not a socket: remove it or choose another name",
        );
    }
    match is_served(directory, name) {
        Ok(false) => {}
        Ok(true) => {
            return refused(
                io::ErrorKind::AddrInUse.into(),
                "; another program listens there: stop it or choose another name",
            );
        }
        Err(error) => {
            return refused(error, "; whether a program listens there cannot be announced: remove it");
        }
    }
    let euid = rustix::process::geteuid();
    if !euid.is_root() && there.st_uid != euid.as_raw() {
        return refused(
            io::ErrorKind::PermissionDenied.into(),
            "; left by a run of another user: remove it or choose another name",
        );
    }
    let identity = |stat: &Stat| (stat.st_dev, stat.st_ino);
    match look() {
        Ok(now) if identity(&now) == identity(&there) => {}
        _ => return Ok(()),
    }
    tracing::debug!(?name, "replacing the socket of a run that has ended");
    directory.remove(name).or_else(|source| {
        refused(
            source,
            "; left by a run that has ended, and cannot be removed: remove it or choose another name",
        )
    })
}

/// Whether a program listens on this socket, which does not notice the check: connecting with another socket
/// type fails with EPROTOTYPE, or with ECONNREFUSED if no socket is bound (`unix_find_bsd`).
fn is_served(directory: &Directory, name: &OsStr) -> io::Result<bool> {
    let probe = socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    match connect(&probe, &address(directory, name)?) {
        Ok(()) | Err(rustix::io::Errno::PROTOTYPE) => Ok(true),
        Err(rustix::io::Errno::CONNREFUSED) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn group_id(name: &str) -> Result<Gid, OpenError> {
    let refused = |source, remedy| OpenError::Socket { what: "group of the socket", source, remedy };
    if let Ok(number) = name.parse::<u32>() {
        return Ok(Gid::from_raw(number));
    }
    match Group::from_name(name) {
        Ok(Some(group)) => Ok(Gid::from_raw(group.gid.as_raw())),
        Ok(None) => Err(refused(io::ErrorKind::NotFound.into(), "; no such group: see `getent group`")),
        Err(error @ Errno::UnknownErrno) => {
            Err(refused(error.into(), "; cannot read the groups of this host"))
        }
        Err(error) => Err(refused(error.into(), "")),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::{
            fs::{MetadataExt as _, PermissionsExt as _, symlink},
            net::{UnixDatagram, UnixStream},
        },
    };

    use super::*;

    fn refused(path: &Path, words: &str) {
        let before = fs::symlink_metadata(path).unwrap().ino();
        let error = listen_at(path, 0o600, None).map(|_| ()).expect_err("the name is taken").to_string();
        assert!(error.contains(words), "{error}");
        assert_eq!(fs::symlink_metadata(path).unwrap().ino(), before, "it was replaced");
        let names: Vec<_> =
            fs::read_dir(path.parent().unwrap()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, [path.file_name().unwrap()], "something was left");
        fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_socket_has_its_mode_and_group_and_is_removed_with_the_run() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("mirror.sock");
        for (mode, group) in [(0o600, None), (0o660, Some("65534")), (0o666, None), (0o620, Some("root"))] {
            let (_listener, name) = listen_at(&path, mode, group).unwrap();
            let found = fs::symlink_metadata(&path).unwrap();
            let gid = if group == Some("65534") { 65_534 } else { found.gid() };
            assert_eq!((found.permissions().mode() & 0o7777, found.gid()), (mode, gid));
            UnixStream::connect(&path).unwrap();
            drop(name);
            assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
        }
        assert!(listen_at(&path, 0o660, Some("no-such-group")).is_err());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn the_socket_of_a_dead_run_is_replaced_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("mirror.sock");
        let (listener, name) = listen_at(&path, 0o600, None).unwrap();
        // As a kill does.
        std::mem::forget(name);
        drop(listener);
        let _second = listen_at(&path, 0o600, None).unwrap();
        UnixStream::connect(&path).unwrap();
        drop(_second);
        let live = UnixListener::bind(&path).unwrap();
        live.set_nonblocking(true).unwrap();
        refused(&path, "another program listens there");
        assert_eq!(live.accept().map(|_| ()).unwrap_err().kind(), io::ErrorKind::WouldBlock, "it noticed");
        let _datagrams = UnixDatagram::bind(&path).unwrap();
        refused(&path, "another program listens there");
        fs::write(&path, "precious").unwrap();
        refused(&path, "not a socket");
        symlink("elsewhere", &path).unwrap();
        refused(&path, "not a socket");
    }

    #[test]
    fn another_file_with_the_name_is_kept_at_the_end() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("mirror.sock");
        let (_listener, name) = listen_at(&path, 0o600, None).unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(&path, "precious").unwrap();
        drop(name);
        assert_eq!(fs::read(&path).unwrap(), b"precious");
    }
}
