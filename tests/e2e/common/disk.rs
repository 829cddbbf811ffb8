//! A small file system.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use mirror_lab::run;

/// A file system with almost no space, unmounted at the end.
pub(crate) struct SmallDisk(PathBuf);

impl SmallDisk {
    pub(crate) fn mount(at: &Path, bytes: u64) -> Self {
        Self::mount_with(at, bytes, "")
    }

    /// With further mount options, each with a leading comma.
    pub(crate) fn mount_with(at: &Path, bytes: u64, options: &str) -> Self {
        let options = format!("size={bytes},mode=0777{options}");
        run(Command::new("mount").args(["-t", "tmpfs", "-o", &options, "none"]).arg(at)).expect("mounted");
        Self(at.to_owned())
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        if let Err(error) = run(Command::new("umount").arg(&self.0)) {
            eprintln!("{error}");
        }
    }
}
