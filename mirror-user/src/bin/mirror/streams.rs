//! Streams for `-w`: standard output and other descriptors, named pipes, devices.

use std::{
    fs::{self, File, Metadata},
    io::{self, IsTerminal as _},
    os::{
        fd::{AsFd as _, OwnedFd, RawFd},
        unix::fs::{FileTypeExt as _, MetadataExt as _},
    },
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use anyhow::Context as _;
use mirror_user::{escape, hidden_file, sink::pcap::Target};
use rustix::{
    fs::{Mode, OFlags, fcntl_getfl, fcntl_setfl},
    io::Errno,
    process::{PidfdFlags, PidfdGetfdFlags, geteuid, getpid, pidfd_getfd, pidfd_open},
};

use crate::{exit::Usage, terminal};

/// Standard output's descriptor.
const STDOUT: i32 = 1;
/// How often a named pipe is checked for a reader.
const POLL: Duration = Duration::from_millis(20);
/// Mode bits that let others than the owner write.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// A stream given to `-w`.
pub(crate) enum Stream {
    Stdout,
    /// A descriptor that this process inherited.
    Descriptor(OwnedFd),
    /// A named pipe or a character device.
    Special,
}

/// The outputs that are streams, identified before this process opens files of its own.
pub(crate) struct Streams(Vec<(PathBuf, Stream)>);

/// Whether a capture of this path is a file in a directory.
pub(crate) fn is_file(path: &Path) -> bool {
    path.as_os_str() != "-" && descriptor(path).is_none() && !is_special(path)
}

/// Whether a path names standard output.
pub(crate) fn is_stdout(path: &Path) -> bool {
    path.as_os_str() == "-" || descriptor(path) == Some(STDOUT)
}

impl Streams {
    /// Identifies the streams among the paths of outputs.
    pub(crate) fn identify<'p>(paths: impl Iterator<Item = &'p Path>) -> anyhow::Result<Self> {
        let mut streams: Vec<(PathBuf, Stream)> = Vec::new();
        let mut pipes: Vec<(u64, u64, &Path)> = Vec::new();
        for path in paths.filter(|path| !is_file(path)) {
            let stream = match descriptor(path) {
                _ if is_stdout(path) => Stream::Stdout,
                Some(number) => {
                    let held = duplicate(number)
                        .with_context(|| format!("{}: cannot use descriptor {number}", escape::path(path)))?;
                    if is_same(&held)? { Stream::Stdout } else { Stream::Descriptor(held) }
                }
                None => Stream::Special,
            };
            // Two captures in one pipe are unreadable.
            let pipe = match &stream {
                Stream::Stdout => None,
                Stream::Descriptor(held) => Some(File::from(held.try_clone()?).metadata()?),
                Stream::Special => Some(fs::symlink_metadata(path)?),
            };
            if let Some(pipe) = pipe.filter(|pipe| pipe.file_type().is_fifo()) {
                let id = (pipe.dev(), pipe.ino());
                if let Some((.., other)) = pipes.iter().find(|(dev, ino, _)| (*dev, *ino) == id) {
                    let (one, other) = (escape::path(path), escape::path(other));
                    return Err(Usage(format!(
                        "{other} and {one} are the same pipe; a pipe takes one capture"
                    ))
                    .into());
                }
                pipes.push((id.0, id.1, path));
            }
            streams.push((path.to_owned(), stream));
        }
        Ok(Self(streams))
    }

    /// The stream of a path; `None` for a file.
    pub(crate) fn of(&self, path: &Path) -> Option<&Stream> {
        self.0.iter().find(|(known, _)| known == path).map(|(_, stream)| stream)
    }

    /// How many captures go to standard output.
    pub(crate) fn to_stdout(&self) -> usize {
        self.0.iter().filter(|(_, stream)| matches!(stream, Stream::Stdout)).count()
    }
}

impl Stream {
    /// Opens it for a capture. Waits for the reader of a named pipe until `stop` is set.
    pub(crate) fn open(&self, path: &Path, stop: &AtomicBool) -> anyhow::Result<Target> {
        let name = escape::path(path);
        let file = match self {
            Self::Stdout => return Ok(Target::stdout()),
            Self::Descriptor(held) => File::from(held.try_clone()?),
            Self::Special => open_special(path, stop)?,
        };
        if file.is_terminal() {
            return Err(Usage(format!(
                "-w {name} would write a capture to a terminal; name a file or a pipe"
            ))
            .into());
        }
        Ok(Target::writer(path.display().to_string(), file))
    }
}

/// The number of the descriptor that a path names.
fn descriptor(path: &Path) -> Option<i32> {
    for (link, number) in [("/dev/stdout", STDOUT), ("/dev/stderr", 2)] {
        if path == Path::new(link) {
            return Some(number);
        }
    }
    let number = path.strip_prefix("/dev/fd").or_else(|_| path.strip_prefix("/proc/self/fd")).ok()?;
    number.to_str()?.parse().ok().filter(|number| *number > 0)
}

/// Symbolic links are not followed: whoever may create one there must not redirect a capture.
fn is_special(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|metadata| is_special_file(&metadata))
}

fn is_special_file(metadata: &Metadata) -> bool {
    metadata.file_type().is_fifo() || metadata.file_type().is_char_device()
}

/// A copy of a descriptor of this process, by its number. Minimum kernel version: 5.6.
pub(crate) fn copy_of(number: RawFd) -> rustix::io::Result<OwnedFd> {
    pidfd_open(getpid(), PidfdFlags::empty())
        .and_then(|this| pidfd_getfd(this, number, PidfdGetfdFlags::empty()))
}

/// A copy of a descriptor of this process, which stays usable after a change of user.
fn duplicate(number: RawFd) -> io::Result<OwnedFd> {
    match copy_of(number) {
        // Before kernel 5.6, or denied by a seccomp filter.
        Err(Errno::NOSYS | Errno::PERM) => {
            Ok(File::options().append(true).open(format!("/proc/self/fd/{number}"))?.into())
        }
        other => Ok(other?),
    }
}

/// Whether a descriptor is standard output under another number. Devices that many may write to do not count.
fn is_same(held: &OwnedFd) -> io::Result<bool> {
    let stdout = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    let held = File::from(held.try_clone()?);
    let (one, other) = (stdout.metadata()?, held.metadata()?);
    let may_be_shared = one.file_type().is_char_device() && !stdout.is_terminal();
    Ok(!may_be_shared && (one.dev(), one.ino()) == (other.dev(), other.ino()))
}

/// Opens a named pipe or a device.
fn open_special(path: &Path, stop: &AtomicBool) -> anyhow::Result<File> {
    let name = escape::path(path);
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::NOCTTY | OFlags::CLOEXEC;
    let mut waits = false;
    let file = loop {
        match rustix::fs::open(path, flags, Mode::empty()) {
            Ok(file) => break File::from(file),
            // A pipe without a reader: fifo(7).
            Err(Errno::NXIO)
                if fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_fifo()) => {}
            Err(error) => {
                return Err(io::Error::from(error)).with_context(|| format!("{name}: cannot be written to"));
            }
        }
        if !waits {
            waits = true;
            terminal::say!("waiting for a reader of {name}");
        }
        anyhow::ensure!(
            !stop.load(Ordering::Relaxed),
            "{name}: no reader before the run was stopped; nothing was captured"
        );
        thread::sleep(POLL);
    };
    // The path may have changed since it was checked.
    let metadata = file.metadata()?;
    anyhow::ensure!(is_special_file(&metadata), "{name}: already exists; remove it or choose another name");
    if metadata.file_type().is_fifo() {
        check_owner(path, &metadata)?;
    }
    // The writer's thread may block.
    fcntl_setfl(&file, fcntl_getfl(&file)? - OFlags::NONBLOCK)?;
    Ok(file)
}

/// Root does not write to a pipe that another user made in a directory that others may write to, as with the
/// kernel's `fs.protected_fifos`.
fn check_owner(path: &Path, pipe: &Metadata) -> anyhow::Result<()> {
    let directory = fs::metadata(hidden_file::directory_of(path))?;
    if directory.mode() & WRITABLE_BY_OTHERS == 0 {
        return Ok(());
    }
    let invoker = std::env::var("SUDO_UID").ok().and_then(|uid| uid.parse().ok());
    let trusted = [Some(geteuid().as_raw()), Some(directory.uid()), invoker];
    anyhow::ensure!(
        trusted.contains(&Some(pipe.uid())),
        "{}: this pipe belongs to user {}, in a directory where others may write; create your own pipe",
        escape::path(path),
        pipe.uid()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_are_recognised_by_path() {
        let numbers = ["/dev/stdout", "/dev//stderr", "/dev/fd/63", "/proc/self/fd/1", "/dev/fd/1"];
        assert_eq!(numbers.map(|path| descriptor(Path::new(path))), [1, 2, 63, 1, 1].map(Some));
        for path in
            ["-", "stdout", "/dev/fd", "/dev/fd/0", "/dev/fd/-1", "/dev/fd/x", "/dev/fd/1/x", "/dev/null"]
        {
            assert_eq!(descriptor(Path::new(path)), None, "{path}");
        }
        assert!(is_stdout(Path::new("-")) && is_stdout(Path::new("/dev/./stdout")));
        assert!(
            !is_file(Path::new("/dev/null"))
                && is_file(Path::new("/dev/nowhere"))
                && is_file(Path::new("/dev"))
        );
    }

    #[test]
    fn a_symbolic_link_is_never_a_stream() {
        let directory = tempfile::tempdir().unwrap();
        let link = directory.path().join("link");
        std::os::unix::fs::symlink("/dev/null", &link).unwrap();
        assert!(is_file(&link));
    }
}
