//! The command as packages have it: for an old glibc, with libpcap inside.
//!
//! zig has the symbols of every glibc, so that the linker takes those of the oldest host. libpcap is built
//! from Debian's source without all that captures: of it, only the compiler of filter expressions is used,
//! and the names of libraries differ between distributions.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use super::cross::write_program;
use super::source::Source;
use super::symbols;
use crate::apt::Apt;
use crate::{host, pins, process};

const TARGET: &str = "x86_64-unknown-linux-gnu";
/// What libpcap would use of this host.
const WITHOUT: [&str; 9] = [
    "--disable-shared",
    "--disable-dbus",
    "--disable-rdma",
    "--disable-bluetooth",
    "--disable-usb",
    "--disable-netmap",
    "--without-libnl",
    "--without-dag",
    "--without-dpdk",
];

/// What goes into packages.
pub(super) struct Portable {
    /// The command, stripped.
    pub(super) program: PathBuf,
    /// The licence of libpcap.
    pub(super) libpcap_license: PathBuf,
}

/// Builds it.
///
/// # Errors
/// If zig or the source of libpcap is not to be had, something does not build, or the result needs too new a
/// glibc.
pub(super) fn build(source: &Source) -> Result<Portable> {
    let folder = host::target_dir().join("dist");
    let zig = zig(&folder)?;
    let libpcap = libpcap(&folder, &zig)?;
    let work = folder.join("portable");
    let mut command = Command::new(zig.join("cargo-zigbuild"));
    let target = format!("{TARGET}.{}", pins::GLIBC);
    command.current_dir(&source.root);
    command.args(["build", "--locked", "--release", "--target", &target]);
    command.args(["--package", "mirror-user", "--bin", "mirror", "--target-dir"]).arg(&work);
    let path = std::env::join_paths([zig.clone()].into_iter().chain(host::search_path()))?;
    command.env("PATH", path).env("LIBPCAP_LIBDIR", &libpcap.library).env("LIBPCAP_VER", &libpcap.version);
    process::check(&mut command)?;
    let built = work.join(TARGET).join("release/mirror");
    let program = source.out.join("mirror");
    process::output(Command::new("strip").arg("-o").arg(&program).arg(&built))?;
    let bytes = fs::read(&program).with_context(|| format!("cannot read {}", program.display()))?;
    symbols::refuse_newer(&bytes, pins::GLIBC).with_context(|| program.display().to_string())?;
    Ok(Portable { program, libpcap_license: libpcap.license })
}

/// The programs of an environment with zig, which is made if it is missing.
fn zig(folder: &Path) -> Result<PathBuf> {
    let versions: Vec<_> = pins::ZIG.iter().map(|(name, version)| format!("{name}=={version}")).collect();
    let environment = folder.join(format!("zig-{}", pins::ZIG.map(|(_, version)| version).join("-")));
    let programs = environment.join("bin");
    let is_made = environment.join("made");
    if !is_made.is_file() {
        process::check(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&environment))?;
        let mut install = Command::new(programs.join("pip"));
        process::check(install.args(["install", "--quiet", "--no-deps"]).args(&versions))?;
        // All or nothing.
        fs::write(&is_made, "").with_context(|| format!("cannot write {}", is_made.display()))?;
    }
    Ok(programs)
}

struct Libpcap {
    /// The directory to link from.
    library: PathBuf,
    version: String,
    license: PathBuf,
}

fn libpcap(folder: &Path, zig: &Path) -> Result<Libpcap> {
    let made = folder.join("libpcap");
    let library = made.join("lib");
    if !library.is_dir() {
        let apt = Apt::new(&folder.join("apt-source"), &["bookworm"], &["amd64"])?;
        apt.update()?;
        let source = apt.unpack_source("libpcap", &made.join("source"))?;
        let cc = made.join("cc");
        let (python, glibc) = (zig.join("python").display().to_string(), pins::GLIBC);
        let python = process::quote(&python);
        let script =
            format!("#!/bin/sh\nexec {python} -m ziglang cc -target x86_64-linux-gnu.{glibc} \"$@\"\n");
        write_program(&cc, &script)?;
        let mut configure = Command::new("./configure");
        configure.current_dir(&source).args(["--quiet", "--host=x86_64-linux-gnu"]).args(WITHOUT);
        process::check(configure.arg(format!("CC={}", cc.display())).arg("AR=ar"))?;
        process::check(Command::new("make").current_dir(&source).args(["--silent", "libpcap.a"]))?;
        for name in ["LICENSE", "VERSION", "libpcap.a"] {
            let to = made.join(name);
            fs::copy(source.join(name), &to).with_context(|| format!("cannot write {}", to.display()))?;
        }
        let unfinished = made.join("unfinished");
        fs::create_dir_all(&unfinished).with_context(|| format!("cannot create {}", unfinished.display()))?;
        // The linker is asked for a shared library, and takes the static one by this script.
        let script = format!("INPUT({})\n", made.join("libpcap.a").display());
        fs::write(unfinished.join("libpcap.so"), script).context("cannot write a linker script")?;
        fs::rename(&unfinished, &library).with_context(|| format!("cannot create {}", library.display()))?;
    }
    let version = fs::read_to_string(made.join("VERSION")).context("the version of libpcap")?;
    Ok(Libpcap { library, version: version.trim().to_owned(), license: made.join("LICENSE") })
}
