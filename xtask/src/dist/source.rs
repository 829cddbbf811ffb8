//! What packages are made of: this source, or a copy of it that says that it is a later version, so that an
//! upgrade has two.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::{host, process};

const VERSION: &str = env!("CARGO_PKG_VERSION");
/// A workspace and its version.
pub(super) struct Source {
    pub(super) root: PathBuf,
    pub(super) version: &'static str,
    /// Where programs and packages of it go.
    pub(super) out: PathBuf,
}

impl Source {
    /// After this version, and before whatever is released next.
    pub(super) const NEXT: &str = concat!(env!("CARGO_PKG_VERSION"), "+next");

    /// This one.
    pub(super) fn this() -> Self {
        Self { root: host::workspace(), version: VERSION, out: folder() }
    }

    /// A copy as it would be released next. Files keep their times, by which cargo knows what has changed.
    ///
    /// # Errors
    /// If something cannot be copied.
    pub(super) fn next() -> Result<Self> {
        let (from, out) = (host::workspace(), folder().join("next"));
        let root = out.join("source");
        if root.exists() {
            fs::remove_dir_all(&root).with_context(|| format!("cannot empty {}", root.display()))?;
        }
        fs::create_dir_all(&root).with_context(|| format!("cannot create {}", root.display()))?;
        let entries = fs::read_dir(&from).with_context(|| format!("cannot read {}", from.display()))?;
        let mut copy = Command::new("cp");
        copy.args(["--archive", "--target-directory"]).arg(&root);
        for entry in entries {
            let entry = entry.with_context(|| format!("cannot read {}", from.display()))?;
            if is_source(&entry.file_name()) {
                copy.arg(entry.path());
            }
        }
        process::output(&mut copy)?;
        edit(&root.join("Cargo.toml"), with_version)?;
        edit(&root.join("Cargo.lock"), locked_with_version)?;
        Ok(Self { root, version: Self::NEXT, out })
    }
}

fn folder() -> PathBuf {
    host::target_dir().join("dist")
}

/// Neither what was built, nor what git and editors keep.
fn is_source(name: &OsStr) -> bool {
    name != "target" && !name.as_encoded_bytes().starts_with(b".")
}

fn edit(file: &Path, edited: impl Fn(&str, &str) -> Result<String>) -> Result<()> {
    let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let text = edited(&text, Source::NEXT).with_context(|| file.display().to_string())?;
    fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}

/// The manifest of the workspace with another version; what its members need of each other stays as it is.
fn with_version(manifest: &str, version: &str) -> Result<String> {
    let (before, after) = ("[workspace.package]\nversion = ", format!("\"{VERSION}\"\n"));
    let line = format!("{before}{after}");
    ensure!(manifest.contains(&line), "no version {VERSION} of the workspace");
    Ok(manifest.replacen(&line, &format!("{before}\"{version}\"\n"), 1))
}

/// Packages without a source are those of the workspace.
fn locked_with_version(lock: &str, version: &str) -> Result<String> {
    let package = |package: &str| {
        if package.contains("\nsource = ") {
            package.to_owned()
        } else {
            package.replacen(
                &format!("\nversion = \"{VERSION}\"\n"),
                &format!("\nversion = \"{version}\"\n"),
                1,
            )
        }
    };
    Ok(lock.split("[[package]]").map(package).collect::<Vec<_>>().join("[[package]]"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str) -> String {
        fs::read_to_string(host::workspace().join(name)).unwrap()
    }

    #[test]
    fn the_next_version_is_that_of_every_package_of_the_workspace_and_of_no_other() {
        let manifest = with_version(&read("Cargo.toml"), "9.9.9").unwrap();
        assert_eq!(manifest.matches("9.9.9").count(), 1);
        let lock = read("Cargo.lock");
        let next = locked_with_version(&lock, "9.9.9").unwrap();
        for name in ["mirror-user", "mirror-ebpf", "mirror-lab", "xtask"] {
            assert!(next.contains(&format!("name = \"{name}\"\nversion = \"9.9.9\"\n")), "{name}");
        }
        let ours =
            lock.split("[[package]]").skip(1).filter(|package| !package.contains("\nsource = ")).count();
        assert_eq!(next.matches("9.9.9").count(), ours);
        assert!(with_version("[workspace.package]\nversion = \"0.0.0\"\n", "9.9.9").is_err());
    }
}
