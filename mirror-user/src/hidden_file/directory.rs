//! A directory held open: names in it are single components, so changes of its path do not matter.

pub(crate) use system::{Directory, FileId};

#[cfg(unix)]
mod system {
    use std::{
        ffi::OsStr,
        fs::File,
        io::{self, Read as _},
        os::{
            fd::{AsFd, BorrowedFd, OwnedFd},
            unix::fs::MetadataExt as _,
        },
        path::Path,
    };

    use rustix::{
        fs::{AtFlags, Mode, OFlags, fstatvfs, fsync, linkat, open, openat, renameat, statat, unlinkat},
        io::Errno,
        process::geteuid,
    };
    use serde::{Deserialize, Serialize};

    /// A directory held open.
    #[derive(Debug)]
    pub(crate) struct Directory(OwnedFd);

    /// Identifies a file among those that exist at the same time: device and inode number.
    #[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
    pub(crate) struct FileId(u64, u64);

    impl AsFd for Directory {
        fn as_fd(&self) -> BorrowedFd<'_> {
            self.0.as_fd()
        }
    }

    impl FileId {
        pub(crate) fn of(file: &File) -> io::Result<Self> {
            let file = file.metadata()?;
            Ok(Self(file.dev(), file.ino()))
        }
    }

    impl Directory {
        pub(crate) fn open(path: &Path) -> io::Result<Self> {
            Ok(Self(open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?))
        }

        /// The file with a name, which may be a dangling symbolic link.
        pub(crate) fn holds(&self, name: &OsStr) -> io::Result<Option<FileId>> {
            match statat(&self.0, name, AtFlags::SYMLINK_NOFOLLOW) {
                #[allow(
                    clippy::allow_attributes,
                    clippy::unnecessary_cast,
                    clippy::cast_sign_loss,
                    reason = "the width depends on the system"
                )]
                Ok(file) => Ok(Some(FileId(file.st_dev as u64, file.st_ino as u64))),
                Err(Errno::NOENT) => Ok(None),
                Err(error) => Err(error.into()),
            }
        }

        /// Every write appends, also after truncation.
        pub(crate) fn create_new(&self, name: &OsStr) -> io::Result<File> {
            let flags = OFlags::WRONLY
                | OFlags::APPEND
                | OFlags::CREATE
                | OFlags::EXCL
                | OFlags::NOFOLLOW
                | OFlags::CLOEXEC;
            Ok(openat(&self.0, name, flags, Mode::RUSR | Mode::WUSR)?.into())
        }

        /// Opens a file to write past the page cache, in units of `alignment` bytes; `None` if its file
        /// system does not do that, or only in larger units. Writes do not append.
        #[cfg(target_os = "linux")]
        pub(crate) fn open_direct(
            &self,
            name: &OsStr,
            id: FileId,
            alignment: u64,
        ) -> io::Result<Option<File>> {
            let flags = OFlags::WRONLY | OFlags::DIRECT | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let file = match openat(&self.0, name, flags, Mode::empty()) {
                Ok(file) => File::from(file),
                Err(Errno::INVAL) => return Ok(None),
                Err(error) => return Err(error.into()),
            };
            let takes = FileId::of(&file)? == id && takes_direct(&file, alignment)?;
            Ok(takes.then_some(file))
        }

        #[cfg(not(target_os = "linux"))]
        #[expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "the same calls on every system")]
        pub(crate) fn open_direct(&self, _: &OsStr, _: FileId, _: u64) -> io::Result<Option<File>> {
            Ok(None)
        }

        pub(crate) fn rename_no_replace(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
            #[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
            match rustix::fs::renameat_with(&self.0, from, &self.0, to, rustix::fs::RenameFlags::NOREPLACE) {
                // Not every file system supports it: renameat2(2), EINVAL.
                Err(Errno::INVAL | Errno::NOSYS) => {}
                other => return Ok(other?),
            }
            linkat(&self.0, from, &self.0, to, AtFlags::empty())?;
            Ok(unlinkat(&self.0, from, AtFlags::empty())?)
        }

        /// Replaces any file with the name.
        pub(crate) fn rename(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
            Ok(renameat(&self.0, from, &self.0, to)?)
        }

        /// The first bytes of a file, if it is a regular file of the process's user.
        pub(crate) fn beginning_of_own(&self, name: &OsStr, most: usize) -> io::Result<Vec<u8>> {
            // Anything other than a file must not block.
            let flags =
                OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
            let file = File::from(openat(&self.0, name, flags, Mode::empty())?);
            let metadata = file.metadata()?;
            if !metadata.is_file() || metadata.uid() != geteuid().as_raw() {
                return Err(io::ErrorKind::InvalidInput.into());
            }
            let mut bytes = Vec::new();
            file.take(most as u64).read_to_end(&mut bytes)?;
            Ok(bytes)
        }

        pub(crate) fn remove(&self, name: &OsStr) -> io::Result<()> {
            Ok(unlinkat(&self.0, name, AtFlags::empty())?)
        }

        /// Removes a name unless it is gone or another file has it. Returns the file if it keeps its space
        /// until it is closed, and the file system may wait for a disk then.
        pub(crate) fn remove_of(&self, name: &OsStr, id: FileId) -> io::Result<Option<File>> {
            if self.holds(name)? != Some(id) {
                return Ok(None);
            }
            let file = self.open_on_disk(name);
            self.remove(name)?;
            Ok(file)
        }

        /// The file with a name, neither to read nor to write; `None` if it is in memory or cannot be opened.
        #[cfg(target_os = "linux")]
        fn open_on_disk(&self, name: &OsStr) -> Option<File> {
            /// `f_type` of tmpfs (statfs(2)).
            const TMPFS: u64 = 0x0102_1994;
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let file = File::from(openat(&self.0, name, flags, Mode::empty()).ok()?);
            file_system(&file).is_ok_and(|kind| kind != TMPFS).then_some(file)
        }

        #[cfg(not(target_os = "linux"))]
        #[expect(clippy::unused_self, reason = "the same calls on every system")]
        fn open_on_disk(&self, _: &OsStr) -> Option<File> {
            None
        }

        /// Syncs the names to disk. A file system that cannot sync directories returns EINVAL (fsync(2)).
        pub(crate) fn sync(&self) -> io::Result<()> {
            match fsync(&self.0) {
                Err(Errno::INVAL) => Ok(()),
                other => Ok(other?),
            }
        }

        /// Free bytes of its file system for this user.
        pub(crate) fn available(&self) -> io::Result<u64> {
            let space = fstatvfs(&self.0)?;
            Ok(space.f_bavail.saturating_mul(space.f_frsize))
        }
    }

    /// Whether a file system takes direct writes that are aligned so, and gains from them: tmpfs takes them
    /// (6.6) and copies. Before 6.1 the kernel does not say (`STATX_DIOALIGN`); these file systems did.
    #[cfg(target_os = "linux")]
    fn takes_direct(file: &File, alignment: u64) -> io::Result<bool> {
        use rustix::fs::{StatxFlags, statx};

        /// `f_type` of ext4, XFS and Btrfs (statfs(2)).
        const KNOWN: [u64; 3] = [0xef53, 0x5846_5342, 0x9123_683e];
        let known = statx(file, c"", AtFlags::EMPTY_PATH, StatxFlags::DIOALIGN)?;
        if known.stx_mask & StatxFlags::DIOALIGN.bits() != 0 {
            let fits = |unit: u32| unit > 0 && alignment.is_multiple_of(u64::from(unit));
            return Ok(fits(known.stx_dio_offset_align) && fits(known.stx_dio_mem_align));
        }
        Ok(KNOWN.contains(&file_system(file)?))
    }

    /// The kind of a file's file system: `f_type` of statfs(2).
    #[cfg(target_os = "linux")]
    #[allow(
        clippy::allow_attributes,
        clippy::unnecessary_cast,
        clippy::cast_sign_loss,
        reason = "the width depends on the machine"
    )]
    fn file_system(file: &File) -> io::Result<u64> {
        Ok(rustix::fs::fstatfs(file)?.f_type as u64)
    }
}

#[cfg(not(unix))]
mod system {
    use std::{
        ffi::OsStr,
        fs::{self, File, Metadata, OpenOptions},
        io,
        path::{Path, PathBuf},
        time::SystemTime,
    };

    use serde::{Deserialize, Serialize};

    /// A directory by its absolute path.
    #[derive(Debug)]
    pub(crate) struct Directory(PathBuf);

    /// Distinguishes a file from others with the same name, by creation time.
    #[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
    pub(crate) struct FileId(Option<SystemTime>);

    impl FileId {
        pub(crate) fn of(file: &File) -> io::Result<Self> {
            Ok(Self::from(&file.metadata()?))
        }
    }

    impl From<&Metadata> for FileId {
        fn from(file: &Metadata) -> Self {
            Self(file.created().ok())
        }
    }

    impl Directory {
        pub(crate) fn open(path: &Path) -> io::Result<Self> {
            fs::canonicalize(path).map(Self)
        }

        pub(crate) fn holds(&self, name: &OsStr) -> io::Result<Option<FileId>> {
            match fs::symlink_metadata(self.0.join(name)) {
                Ok(file) => Ok(Some(FileId::from(&file))),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(error),
            }
        }

        pub(crate) fn create_new(&self, name: &OsStr) -> io::Result<File> {
            OpenOptions::new().append(true).create_new(true).open(self.0.join(name))
        }

        #[expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "the same calls on every system")]
        pub(crate) fn open_direct(&self, _: &OsStr, _: FileId, _: u64) -> io::Result<Option<File>> {
            Ok(None)
        }

        /// A hard link never replaces a file.
        pub(crate) fn rename_no_replace(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
            fs::hard_link(self.0.join(from), self.0.join(to))?;
            self.remove(from)
        }

        /// Replaces any file with the name.
        pub(crate) fn rename(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
            fs::rename(self.0.join(from), self.0.join(to))
        }

        /// Not implemented here, so no file is replaced.
        #[expect(clippy::unused_self, reason = "the same calls on every system")]
        pub(crate) fn beginning_of_own(&self, _: &OsStr, _: usize) -> io::Result<Vec<u8>> {
            Err(io::ErrorKind::Unsupported.into())
        }

        pub(crate) fn remove(&self, name: &OsStr) -> io::Result<()> {
            fs::remove_file(self.0.join(name))
        }

        /// Removes a name unless it is gone or another file has it.
        pub(crate) fn remove_of(&self, name: &OsStr, id: FileId) -> io::Result<Option<File>> {
            if self.holds(name)? == Some(id) {
                self.remove(name)?;
            }
            Ok(None)
        }

        #[expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "the same calls on every system")]
        pub(crate) fn sync(&self) -> io::Result<()> {
            Ok(())
        }

        #[expect(clippy::unused_self, reason = "the same calls on every system")]
        pub(crate) fn available(&self) -> io::Result<u64> {
            Err(io::ErrorKind::Unsupported.into())
        }
    }
}
