//! This host: distribution, privileges, programs, and the location of this workspace.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

/// A package manager, as far as it determines package names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Distro {
    /// Debian 12, whose `rustc-web` packages build the eBPF programs.
    Debian12,
    /// Any other Debian or Ubuntu.
    Apt,
    /// Amazon Linux 2023, Fedora and their kin.
    Dnf,
    /// No supported package manager.
    Unknown,
}

impl Distro {
    /// Reads `/etc/os-release`.
    pub(crate) fn of_this_host() -> Self {
        Self::from_os_release(&fs::read_to_string("/etc/os-release").unwrap_or_default())
    }

    /// From the text of os-release(5).
    fn from_os_release(text: &str) -> Self {
        let field = |name: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
                .map_or("", |value| value.trim_matches(['"', '\'']))
        };
        let ids = [field("ID")].into_iter().chain(field("ID_LIKE").split_whitespace());
        let id_is = |wanted: &[&str]| ids.clone().any(|id| wanted.contains(&id));
        if field("ID") == "debian" && field("VERSION_ID") == "12" {
            Self::Debian12
        } else if id_is(&["debian", "ubuntu"]) {
            Self::Apt
        } else if id_is(&["amzn", "fedora", "rhel"]) {
            Self::Dnf
        } else {
            Self::Unknown
        }
    }
}

/// Whether this process is root.
pub(crate) fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// The root of this workspace.
pub(crate) fn workspace() -> PathBuf {
    let manifest =
        env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    manifest.parent().map_or_else(|| manifest.clone(), Path::to_path_buf)
}

/// Cargo's target directory.
pub(crate) fn target_dir() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), |dir| workspace().join(dir))
}

/// `$CARGO_HOME`, or its default.
///
/// # Errors
/// If neither `CARGO_HOME` nor `HOME` is set.
pub(crate) fn cargo_home() -> Result<PathBuf> {
    if let Some(home) = env::var_os("CARGO_HOME") {
        return Ok(home.into());
    }
    let home = env::var_os("HOME").context("neither CARGO_HOME nor HOME is set: set one of them")?;
    Ok(Path::new(&home).join(".cargo"))
}

/// The directories that are searched for programs: `PATH`, that of `cargo install`, and those that only root
/// has in its `PATH`.
pub(crate) fn search_path() -> Vec<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let cargo_bin = cargo_home().ok().map(|home| home.join("bin"));
    env::split_paths(&path).chain(cargo_bin).chain(["/usr/sbin".into(), "/sbin".into()]).collect()
}

/// The first `name` on [`search_path`].
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    search_path().into_iter().map(|dir| dir.join(name)).find(|path| path.is_file())
}

/// The cargo that runs us, in this workspace.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(workspace());
    command
}

/// Whether this is a CI run, which must not skip anything.
pub(crate) fn is_ci() -> bool {
    env::var("CI").is_ok_and(|value| value == "true" || value == "1")
}

/// `cargo xtask ARGS` as a command for root, which finds the same Rust.
pub(crate) fn as_root(args: &str) -> String {
    format!("sudo -E env \"PATH=$PATH\" cargo xtask {args}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distributions_are_distinguished_by_os_release() {
        let cases = [
            ("ID=debian\nVERSION_ID=\"12\"\n", Distro::Debian12),
            ("ID=debian\nVERSION_ID=\"13\"\n", Distro::Apt),
            ("ID=ubuntu\nVERSION_ID=\"24.04\"\nID_LIKE=debian\n", Distro::Apt),
            ("ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n", Distro::Apt),
            ("ID=\"amzn\"\nVERSION_ID=\"2023\"\nID_LIKE=\"fedora\"\n", Distro::Dnf),
            ("ID=alpine\n", Distro::Unknown),
            ("", Distro::Unknown),
        ];
        for (text, distro) in cases {
            assert_eq!(Distro::from_os_release(text), distro, "{text}");
        }
    }
}
