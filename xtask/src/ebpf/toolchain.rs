//! Finds the compiler, the linker and the strip for the eBPF programs. `-Z build-std=core` needs the source
//! of `core` beside a compiler of exactly that version, and `bpf-linker` an LLVM that reads that compiler's
//! bitcode.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::{host, pins, process};

/// Where LLVM's packages install it, on Debian as from apt.llvm.org.
pub(crate) const STRIP: &str = "/usr/lib/llvm-22/bin/llvm-strip";

/// A compiler that has the source of `core`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Compiler {
    cargo: PathBuf,
    rustc: PathBuf,
    sysroot: PathBuf,
    version: String,
}

/// The toolchain of the eBPF programs.
#[derive(Debug)]
pub(crate) struct Toolchain {
    compiler: Compiler,
}

impl Toolchain {
    /// The toolchain of this host.
    ///
    /// # Errors
    /// If a part is missing; the message names it and the remedy.
    pub(crate) fn find() -> Result<Self> {
        let remedy = "run `cargo xtask setup ebpf`";
        let Some(compiler) = compiler() else {
            bail!("no rustc {} with the source of core is here: {remedy}", pins::EBPF_RUST);
        };
        if host::program(pins::BPF_LINKER.name).is_none() {
            bail!("{} is not installed: {remedy}", pins::BPF_LINKER.name);
        }
        if !Path::new(STRIP).is_file() {
            bail!("{STRIP} is not installed: {remedy}");
        }
        Ok(Self { compiler })
    }

    /// rustc's version, which the committed objects were made with if it is [`pins::EBPF_RUST`].
    pub(crate) fn version(&self) -> &str {
        &self.compiler.version
    }

    /// `cargo SUBCOMMAND` for the eBPF programs, in an environment without the user's settings.
    ///
    /// # Errors
    /// If the folder of cargo's own files is unknown.
    pub(crate) fn cargo(&self, subcommand: &str, target_dir: &Path) -> Result<Command> {
        let mut command = self.plain_cargo()?;
        command
            .arg(subcommand)
            .args(["--package", "mirror-ebpf", "--features", "programs", "--bins", "--locked"])
            .args(["--target", "bpfel-unknown-none", "--profile", "ebpf", "-Zbuild-std=core", "--target-dir"])
            .arg(target_dir)
            .env("CARGO_ENCODED_RUSTFLAGS", self.flags()?);
        Ok(command)
    }

    /// Fetches the dependencies of the eBPF programs: their directories must be known before [`Self::cargo`].
    ///
    /// # Errors
    /// If cargo fails.
    pub(crate) fn fetch(&self) -> Result<()> {
        let mut command = self.plain_cargo()?;
        process::check(command.args(["fetch", "--quiet", "--locked"]))
    }

    /// Removes debug sections from `from`, keeping BTF and what the loader needs.
    ///
    /// # Errors
    /// If llvm-strip fails.
    pub(crate) fn strip(from: &Path, to: &Path) -> Result<()> {
        process::check(Command::new(STRIP).arg("--strip-debug").arg("-o").arg(to).arg(from))
    }

    /// Directories of this host that must not appear in an object.
    ///
    /// # Errors
    /// If the folder of cargo's own files is unknown.
    pub(crate) fn private_paths(&self) -> Result<Vec<PathBuf>> {
        let home = env::var_os("HOME").filter(|home| home.len() > 1).map(PathBuf::from);
        Ok([host::workspace(), host::cargo_home()?, self.compiler.sysroot.clone()]
            .into_iter()
            .chain(home)
            .collect())
    }

    fn plain_cargo(&self) -> Result<Command> {
        let mut command = Command::new(&self.compiler.cargo);
        command.current_dir(host::workspace());
        for (name, _) in env::vars_os() {
            if name.to_str().is_some_and(changes_the_build) {
                command.env_remove(name);
            }
        }
        // First the compiler's own folder: `cargo clippy` must not come from another toolchain.
        let own = self.compiler.cargo.parent().map(Path::to_path_buf);
        let path = env::join_paths(own.into_iter().chain(host::search_path()))
            .context("PATH cannot be put together")?;
        command
            .env("PATH", path)
            .env("CARGO_HOME", host::cargo_home()?)
            .env("RUSTC", &self.compiler.rustc)
            // `-Z` on a compiler that is not nightly.
            .env("RUSTC_BOOTSTRAP", "1");
        Ok(command)
    }

    /// BTF is made from debug information, which must contain no path of this host: it would differ on each,
    /// and reveal where it was built. The last matching prefix applies.
    fn flags(&self) -> Result<OsString> {
        let cargo_home = host::cargo_home()?;
        let mut remap = vec![
            (host::workspace(), "/mirror".to_owned()),
            (cargo_home.clone(), "/cargo".to_owned()),
            (self.compiler.sysroot.clone(), "/rust".to_owned()),
        ];
        // The name of the folder below it is derived from the registry's address.
        if let Ok(registries) = cargo_home.join("registry/src").read_dir() {
            remap.extend(registries.flatten().map(|entry| (entry.path(), "/crates".to_owned())));
        }
        let mut flags = OsString::from("-Cdebuginfo=2\x1f-Clink-arg=--btf");
        for (from, to) in remap {
            flags.push("\x1f--remap-path-prefix=");
            flags.push(from);
            flags.push("=");
            flags.push(to);
        }
        Ok(flags)
    }
}

/// Variables by which the user's settings, or the cargo that runs us, would change the object.
fn changes_the_build(name: &str) -> bool {
    const KEPT: [&str; 2] = ["CARGO_HOME", "CARGO_NET_OFFLINE"];
    const PREFIXES: [&str; 5] = ["CARGO_BUILD_", "CARGO_PROFILE_", "CARGO_TARGET_", "CARGO_PKG_", "RUSTC"];
    const NAMES: [&str; 8] = [
        "CARGO",
        "CARGO_ENCODED_RUSTFLAGS",
        "CARGO_INCREMENTAL",
        "CARGO_MANIFEST_DIR",
        "CARGO_MANIFEST_PATH",
        // The cargo that runs us sets it to its own toolchain's libraries.
        "LD_LIBRARY_PATH",
        "RUSTFLAGS",
        "RUSTUP_TOOLCHAIN",
    ];
    !KEPT.contains(&name) && (NAMES.contains(&name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix)))
}

/// The compiler to use: the pinned version wherever it is, else Debian's.
pub(crate) fn compiler() -> Option<Compiler> {
    let debian = candidate("/usr/bin/cargo".into(), "/usr/bin/rustc".into());
    let pinned = debian.clone().filter(|compiler| compiler.version == pins::EBPF_RUST);
    pinned.or_else(from_rustup).or(debian)
}

fn from_rustup() -> Option<Compiler> {
    let which = |name: &str| {
        let mut command = Command::new(host::program("rustup")?);
        command.args(["which", "--toolchain", pins::EBPF_RUST, name]).stderr(Stdio::null());
        process::output_quietly(&mut command).map(|path| PathBuf::from(path.trim_end()))
    };
    candidate(which("cargo")?, which("rustc")?)
}

fn candidate(cargo: PathBuf, rustc: PathBuf) -> Option<Compiler> {
    let ask = |args: &[&str]| {
        let mut command = Command::new(&rustc);
        // The toolchain that runs us sets libraries that are not this compiler's.
        command.args(args).env_remove("LD_LIBRARY_PATH");
        process::output_quietly(&mut command)
    };
    let sysroot = PathBuf::from(ask(&["--print", "sysroot"])?.trim_end());
    let version = ask(&["--version"])?.split_whitespace().nth(1)?.to_owned();
    let has_source = sysroot.join("lib/rustlib/src/rust/library/core/src/lib.rs").is_file();
    (has_source && cargo.is_file()).then_some(Compiler { cargo, rustc, sysroot, version })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn environment_flags_do_not_reach_the_ebpf_build() {
        for name in [
            "RUSTFLAGS",
            "RUSTC_WRAPPER",
            "CARGO_BUILD_RUSTFLAGS",
            "CARGO_PROFILE_EBPF_OPT_LEVEL",
            "RUSTUP_TOOLCHAIN",
        ] {
            assert!(changes_the_build(name), "{name}");
        }
        for name in [
            "PATH",
            "HOME",
            "CARGO_HOME",
            "CARGO_HTTP_PROXY",
            "CARGO_SOURCE_CRATES_IO_REPLACE_WITH",
            "RUSTUP_HOME",
        ] {
            assert!(!changes_the_build(name), "{name}");
        }
    }
}
