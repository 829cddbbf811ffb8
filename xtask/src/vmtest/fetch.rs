//! Kernels from Debian's packages, unpacked and cached by release and version, not installed.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use super::kernel::Kernel;
use crate::apt::Apt;

/// An unpacked kernel.
#[derive(Debug)]
pub(super) struct Unpacked {
    /// `6.1.0-40-amd64 6.1.153-1`: release and version of the package.
    pub(super) title: String,
    pub(super) image: PathBuf,
    /// The folder of its modules.
    pub(super) modules: PathBuf,
}

/// The cached kernel, or, if there is none or with `update`, the newest that Debian has.
///
/// # Errors
/// If it is not to be had, or what was unpacked is no kernel.
pub(super) fn kernel(folder: &Path, kernel: Kernel, update: bool) -> Result<Unpacked> {
    let kept = folder.join("kernels").join(kernel.name());
    if !update && let Some(there) = newest_in(&kept) {
        return found(&there);
    }
    let mut refused = Vec::new();
    for suite in kernel.suites() {
        match from_suite(folder, kernel, suite, &kept) {
            Ok(there) => return found(&there),
            Err(error) => refused.push(format!("{suite}: {error:#}")),
        }
    }
    bail!("no kernel {kernel}: {}", refused.join("; "));
}

fn from_suite(folder: &Path, kernel: Kernel, suite: &str, kept: &Path) -> Result<PathBuf> {
    let machine = kernel.machine().debian();
    let apt = Apt::new(&folder.join("apt").join(format!("{suite}-{machine}")), &[suite], &[machine])?;
    apt.update()?;
    let names = apt.names("linux-image-")?;
    let release = kernel.newest_of(&names).context("there is no such package")?;
    let version = apt.version(&format!("linux-image-{release}"))?.context("apt has no version of it")?;
    let there = kept.join(format!("{release} {version}"));
    if there.is_dir() {
        return Ok(there);
    }
    // Up to 6.12 the image package has everything; later it depends on others.
    let mut packages = Vec::new();
    for part in ["image", "binary", "modules"] {
        let package = format!("linux-{part}-{release}");
        if apt.version(&package)?.is_some() {
            packages.push(package);
        }
    }
    let unpacking = kept.join("unpacking");
    if unpacking.exists() {
        fs::remove_dir_all(&unpacking).with_context(|| format!("cannot empty {}", unpacking.display()))?;
    }
    fs::create_dir_all(&unpacking).with_context(|| format!("cannot create {}", unpacking.display()))?;
    apt.unpack(&packages, &unpacking)?;
    // All or nothing.
    fs::rename(&unpacking, &there).with_context(|| format!("cannot create {}", there.display()))?;
    Ok(there)
}

/// The most recently unpacked one.
fn newest_in(kept: &Path) -> Option<PathBuf> {
    let complete = fs::read_dir(kept).ok()?.flatten().filter(|entry| entry.file_name() != "unpacking");
    complete
        .max_by_key(|entry| entry.metadata().and_then(|data| data.modified()).ok())
        .map(|entry| entry.path())
}

fn found(there: &Path) -> Result<Unpacked> {
    let only = |folder: PathBuf| {
        let entry = fs::read_dir(&folder).ok()?.flatten().next()?;
        Some(entry.path())
    };
    let modules = ["lib/modules", "usr/lib/modules"]
        .into_iter()
        .find_map(|folder| only(there.join(folder)))
        .with_context(|| format!("no modules in {}", there.display()))?;
    let boot = fs::read_dir(there.join("boot")).into_iter().flatten().flatten().map(|entry| entry.path());
    let image = boot
        .chain([modules.join("vmlinuz")])
        .find(|path| {
            path.is_file()
                && path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("vmlinuz"))
        })
        .with_context(|| format!("no image in {}", there.display()))?;
    let title = there.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok(Unpacked { title, image, modules })
}
