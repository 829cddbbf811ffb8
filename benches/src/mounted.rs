//! A file system mounted for this process and those it starts.

use std::{
    ffi::CString,
    fs::File,
    os::fd::AsRawFd as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use rustix::{
    io::{FdFlags, fcntl_setfd},
    mount::{MountFlags, UnmountFlags, mount, unmount},
};
use tempfile::TempDir;

/// It ends with the last file that is open in it, also if this process is killed.
#[derive(Debug)]
pub(crate) struct Mounted {
    path: PathBuf,
    _root: File,
    _directory: TempDir,
}

impl Mounted {
    /// A new file system of this kind, with its own options.
    pub(crate) fn new(kind: &str, options: &str) -> Result<Self> {
        let directory = TempDir::new()?;
        let data = CString::new(options)?;
        mount("mirror-bench", directory.path(), kind, MountFlags::empty(), Some(data.as_c_str()))
            .with_context(|| format!("cannot mount a {kind} with {data:?}"))?;
        let opened = File::open(directory.path());
        unmount(directory.path(), UnmountFlags::DETACH)
            .with_context(|| format!("cannot detach the {kind}"))?;
        let root = opened?;
        // Children inherit it: in `/proc` of another process, those without privileges may not look.
        fcntl_setfd(&root, FdFlags::empty())?;
        let path = PathBuf::from(format!("/proc/self/fd/{}", root.as_raw_fd()));
        Ok(Self { path, _root: root, _directory: directory })
    }

    /// A file system in memory of this many bytes, with these options of tmpfs(5).
    pub(crate) fn tmpfs(bytes: u64, options: &str) -> Result<Self> {
        Self::new("tmpfs", &format!("size={bytes},mode=0700{options}"))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}
