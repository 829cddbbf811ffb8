//! Cross-compiles the command with compilers and libraries of Debian 12 that are unpacked below the target
//! directory, not installed. The result runs wherever glibc is at least as new as in Debian 12.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command as Process, ExitCode};

use anyhow::{Context as _, Result, ensure};

use crate::apt::Apt;
use crate::setup::{self, Group};
use crate::vmtest::initramfs::Base;
use crate::{host, process};

/// The target machine.
const AARCH64: &str = "aarch64-unknown-linux-gnu";
/// Prefix of cross compilers and library directories.
const PREFIX: &str = "aarch64-linux-gnu";
/// Compilers for this host that target the other machine, and libraries of the other. gcc and rustc of the
/// same release are taken for both, so that nothing depends on what is installed here.
const PACKAGES: [&str; 7] = [
    "gcc-12-aarch64-linux-gnu:amd64",
    "rustc-web:amd64",
    "libstd-rust-web-dev:amd64",
    "libstd-rust-web-dev:arm64",
    "libpcap0.8-dev:arm64",
    "libc6-dev:arm64",
    "libgcc-12-dev:arm64",
];
/// Additional packages for guests of that machine.
const GUEST_PACKAGES: [&str; 3] = ["busybox-static:arm64", "iproute2:arm64", "ethtool:arm64"];

/// Builds it and prints its path.
///
/// # Errors
/// If packages are not to be had or something does not build.
pub(super) fn run() -> Result<ExitCode> {
    setup::ensure(&[Group::Build], false, "dist")?;
    let built = Toolchain::get()?.build(&["mirror"], Profile::Release)?;
    for program in built {
        let size = program.metadata().with_context(|| format!("cannot read {}", program.display()))?.len();
        println!("{}: {:.1} MiB", program.display(), size as f64 / f64::from(1 << 20));
    }
    Ok(ExitCode::SUCCESS)
}

/// The base of guests of that machine: its `mirror`, and programs of Debian.
///
/// # Errors
/// As [`run`].
pub(crate) fn guest_base() -> Result<Base> {
    let toolchain = Toolchain::get()?;
    let mut programs = toolchain.build(&["mirror", "mirror-lab"], Profile::Dev)?;
    for tool in ["ip", "ethtool"] {
        programs.push(toolchain.find(&["bin", "sbin", "usr/bin", "usr/sbin"], tool)?);
    }
    let libraries = toolchain.libraries(&programs)?;
    let named = |path: &PathBuf| -> Result<(String, Vec<u8>)> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok((format!("bin/{name}"), bytes))
    };
    Ok(Base {
        busybox: toolchain.find(&["bin", "usr/bin"], "busybox")?,
        // Taken from the host's busybox, which is of the same release or has more applets; those then fail
        // when called.
        applets: Base::applets_of(&host::program("busybox").context("busybox is not installed")?)?,
        programs: programs.iter().map(named).collect::<Result<_>>()?,
        libraries,
        links: Vec::new(),
    })
}

/// The build profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Profile {
    /// For distribution.
    Release,
    /// For guests, as on this machine: builds in a third of the time, with debug checks.
    Dev,
}

/// Compilers and libraries, unpacked.
struct Toolchain {
    root: PathBuf,
}

impl Toolchain {
    /// The unpacked toolchain, which is fetched if it is missing.
    fn get() -> Result<Self> {
        ensure!(
            cfg!(target_arch = "x86_64"),
            "the compilers that build for {AARCH64} are programs of x86-64; on aarch64 itself, `cargo build` \
            does it"
        );
        let folder = host::target_dir().join("dist");
        let root = folder.join("debian");
        if !root.is_dir() {
            let apt = Apt::new(&folder.join("apt"), &["bookworm"], &["amd64", "arm64"])?;
            apt.update()?;
            let unpacking = folder.join("unpacking");
            if unpacking.exists() {
                fs::remove_dir_all(&unpacking)
                    .with_context(|| format!("cannot empty {}", unpacking.display()))?;
            }
            fs::create_dir_all(&unpacking)
                .with_context(|| format!("cannot create {}", unpacking.display()))?;
            let packages: Vec<_> = PACKAGES.into_iter().chain(GUEST_PACKAGES).collect();
            apt.unpack_with_dependencies(&packages, is_wanted, &unpacking)?;
            // All or nothing.
            fs::rename(&unpacking, &root).with_context(|| format!("cannot create {}", root.display()))?;
        }
        Ok(Self { root })
    }

    /// Builds these programs of the workspace; returns them stripped, in `target/dist/aarch64`, or beside it
    /// for guests.
    fn build(&self, programs: &[&str], profile: Profile) -> Result<Vec<PathBuf>> {
        let root = self.root.display();
        let tool = |name: &str| format!("{root}/usr/bin/{PREFIX}-{name}");
        let to = host::target_dir().join("dist");
        let (folder, built) = match profile {
            Profile::Release => ("aarch64", "release"),
            Profile::Dev => ("aarch64-guest", "debug"),
        };
        let (work, out) = (to.join("build"), to.join(folder));
        fs::create_dir_all(&out).with_context(|| format!("cannot create {}", out.display()))?;
        // cargo accepts only a path as linker, and ours needs an argument.
        let cc = to.join("cc");
        let script = format!(
            "#!/bin/sh\nexec {} --sysroot={} \"$@\"\n",
            process::quote(&tool("gcc-12")),
            process::quote(&root.to_string())
        );
        write_program(&cc, &script)?;
        let cc = cc.to_str().context("the target folder's path is not UTF-8")?;
        let ar = tool("ar");
        let libraries = format!("{root}/usr/lib/x86_64-linux-gnu");
        let pkg_config = format!("{root}/usr/lib/{PREFIX}/pkgconfig:{root}/usr/share/pkgconfig");
        let (root_text, rustc) = (root.to_string(), format!("{root}/usr/bin/rustc"));
        let mut command = host::cargo();
        command.args(["build", "--locked", "--target", AARCH64]);
        if profile == Profile::Release {
            command.arg("--release");
        }
        command.args(["--package", "mirror-user"]);
        if programs.contains(&"mirror-lab") {
            command.args(["--package", "mirror-lab"]);
        }
        for program in programs {
            command.args(["--bin", program]);
        }
        command.arg("--target-dir").arg(&work);
        for (name, value) in [
            ("RUSTC", rustc.as_str()),
            ("LD_LIBRARY_PATH", &libraries),
            ("CC_aarch64_unknown_linux_gnu", cc),
            ("AR_aarch64_unknown_linux_gnu", &ar),
            ("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", cc),
            ("PKG_CONFIG_ALLOW_CROSS", "1"),
            ("PKG_CONFIG_SYSROOT_DIR", &root_text),
            ("PKG_CONFIG_LIBDIR", &pkg_config),
        ] {
            command.env(name, value);
        }
        // The cargo that runs us sets it for another compiler.
        command.env_remove("RUSTUP_TOOLCHAIN");
        process::check(&mut command)?;
        let stripped = |program: &&str| {
            let (from, to) = (work.join(AARCH64).join(built).join(program), out.join(program));
            let mut strip = Process::new(tool("strip"));
            strip.env("LD_LIBRARY_PATH", &libraries).arg("-o").arg(&to).arg(&from);
            process::output(&mut strip)?;
            Ok(to)
        };
        programs.iter().map(stripped).collect()
    }

    /// A file in one of these directories below the root.
    fn find(&self, folders: &[&str], name: &str) -> Result<PathBuf> {
        let paths = folders.iter().map(|folder| self.root.join(folder).join(name));
        let found = paths.into_iter().find(|path| path.is_file());
        found.with_context(|| format!("no {name} among the packages in {}", self.root.display()))
    }

    /// The libraries that these programs load, directly or indirectly, by the path that the loader uses.
    fn libraries(&self, programs: &[PathBuf]) -> Result<Vec<(String, PathBuf)>> {
        const FOLDERS: [&str; 4] = ["lib/aarch64-linux-gnu", "usr/lib/aarch64-linux-gnu", "lib", "usr/lib"];
        let mut names = BTreeSet::new();
        let mut open = programs.to_vec();
        let mut libraries = Vec::new();
        while let Some(program) = open.pop() {
            let shown = process::output(Process::new("readelf").arg("-d").arg(&program))?;
            for name in needed(&shown) {
                if names.insert(name.to_owned()) {
                    let path = self.find(&FOLDERS, name)?;
                    libraries.push((format!("lib/{PREFIX}/{name}"), path.clone()));
                    open.push(path);
                }
            }
        }
        let loader = "ld-linux-aarch64.so.1";
        libraries.push((format!("lib/{loader}"), self.find(&FOLDERS, loader)?));
        Ok(libraries)
    }
}

/// Packages: compilers for this host, and everything of the other machine except its own compilers.
fn is_wanted(deb: &str) -> bool {
    let own_compiler = deb.starts_with("libllvm") || deb.starts_with("libstd-rust-web-1");
    if deb.ends_with("_arm64.deb") {
        return !own_compiler;
    }
    own_compiler
        || ["rustc-web_", "libstd-rust-web", PREFIX, "-arm64-cross"].iter().any(|part| deb.contains(part))
}

/// Names in `readelf -d`: ` 0x01 (NEEDED)  Shared library: [libc.so.6]`.
fn needed(shown: &str) -> impl Iterator<Item = &str> {
    let lines = shown.lines().filter(|line| line.contains("(NEEDED)"));
    lines.filter_map(|line| line.split_once('[')?.1.split_once(']')).map(|(name, _)| name)
}

pub(super) fn write_program(path: &Path, text: &str) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
        .with_context(|| format!("cannot make {} a program", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compilers_are_of_this_host_and_libraries_of_the_other() {
        for deb in [
            "rustc-web_1.96.0_amd64.deb",
            "libllvm22_1%3a22_amd64.deb",
            "libstd-rust-web-1.96_1.96.0_amd64.deb",
            "gcc-12-aarch64-linux-gnu_12.2.0_amd64.deb",
            "libc6-dev-arm64-cross_2.36_all.deb",
            "libstd-rust-web-dev_1.96.0_arm64.deb",
            "libpcap0.8_1.10_arm64.deb",
        ] {
            assert!(is_wanted(deb), "{deb}");
        }
        for deb in
            ["libllvm22_1%3a22_arm64.deb", "libc6_2.36_amd64.deb", "libstd-rust-web-1.96_1.96.0_arm64.deb"]
        {
            assert!(!is_wanted(deb), "{deb}");
        }
    }

    #[test]
    fn libraries_needed_are_those_that_readelf_names() {
        let shown = " 0x0000000000000001 (NEEDED)             Shared library: [libpcap.so.0.8]\n \
                     0x000000000000000e (SONAME)             Library soname: [libx.so]\n";
        assert_eq!(needed(shown).collect::<Vec<_>>(), ["libpcap.so.0.8"]);
    }
}
