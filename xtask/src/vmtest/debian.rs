//! A Debian 12 with systemd 252, which is also that of Amazon Linux 2023, as an image of a file system.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::apt::Apt;
use crate::process;

/// Packages beyond the essential ones: systemd, what tests start, what `mirror` is linked to, and what its
/// package needs.
const PACKAGES: &str = "systemd,systemd-sysv,iproute2,ethtool,libpcap0.8,passwd,procps,adduser";
const SUITE: &str = "bookworm";
/// Of the image, whose file has only what is used: a capture leaves a gigabyte free.
const SIZE: &str = "3G";
/// What no test reads.
const LEFT_OUT: [&str; 3] = ["/usr/share/doc/*", "/usr/share/locale/*", "/usr/share/man/*"];

/// The cached image, or, if there is none or with `update`, a new one.
///
/// # Errors
/// If a package is not to be had, or the image cannot be made.
pub(super) fn disk(folder: &Path, update: bool) -> Result<PathBuf> {
    let folder = folder.join("debian");
    let (image, recipe) = (folder.join("disk.ext4"), folder.join("recipe"));
    let wanted = format!("{SUITE} {SIZE} {PACKAGES}\n");
    if !update && image.is_file() && fs::read_to_string(&recipe).is_ok_and(|made| made == wanted) {
        return Ok(image);
    }
    let apt = Apt::new(&folder.join("apt"), &[SUITE], &["amd64"])?;
    let root = folder.join("root");
    for left in [&root, &recipe] {
        // Of an interrupted run.
        let _not_there = if left.is_dir() { fs::remove_dir_all(left) } else { fs::remove_file(left) };
    }
    eprintln!("making a file system of Debian 12 in {}", folder.display());
    let mut bootstrap = Command::new("mmdebstrap");
    bootstrap.args(["--quiet", "--mode=root", "--variant=essential"]).arg(format!("--include={PACKAGES}"));
    bootstrap.args(LEFT_OUT.map(|path| format!("--dpkgopt=path-exclude={path}")));
    process::output(bootstrap.arg(SUITE).arg(&root).arg(apt.sources_list()))?;
    let mut make = Command::new("mke2fs");
    make.args(["-q", "-F", "-t", "ext4", "-d"]).arg(&root).arg(&image).arg(SIZE);
    process::output(&mut make)?;
    fs::remove_dir_all(&root).with_context(|| format!("cannot remove {}", root.display()))?;
    fs::write(&recipe, wanted).with_context(|| format!("cannot write {}", recipe.display()))?;
    Ok(image)
}
