//! `cargo xtask ebpf`: rebuilds the eBPF programs with the pinned toolchain, and compares them with the
//! committed objects, so that nobody has to trust a binary.

mod compare;
pub(crate) mod toolchain;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};

use self::toolchain::Toolchain;
use crate::{host, pins, process};

/// The programs, by the name of the committed object; the binary's name has `-xdp` appended.
const OBJECTS: [&str; 5] = ["mirror", "source", "discard", "generator", "bench"];

/// The command itself.
///
/// # Errors
/// If the toolchain is not there, the build fails, or `check` found a difference.
pub(crate) fn run(check: bool) -> Result<ExitCode> {
    let fresh = build(&Toolchain::find()?)?;
    let committed = host::workspace().join("mirror-ebpf/objects");
    if check {
        compare_all(&committed, &fresh)?;
        return Ok(ExitCode::SUCCESS);
    }
    fs::create_dir_all(&committed).with_context(|| format!("cannot create {}", committed.display()))?;
    for name in OBJECTS {
        let file = format!("{name}.o");
        let bytes = fs::copy(fresh.join(&file), committed.join(&file))
            .with_context(|| format!("cannot write {}", committed.join(&file).display()))?;
        println!("mirror-ebpf/objects/{file}: {bytes} bytes");
    }
    Ok(ExitCode::SUCCESS)
}

/// Builds the objects under `target/` and returns their directory.
///
/// # Errors
/// If cargo or llvm-strip fail, and if an object contains a path of this host.
pub(crate) fn build(toolchain: &Toolchain) -> Result<PathBuf> {
    if toolchain.version() != pins::EBPF_RUST {
        eprintln!(
            "note: the kernel half is being built by rustc {}, the committed objects by {}; where only the \
             compiler's choice of instructions differs, run `cargo xtask ebpf` and move the pin",
            toolchain.version(),
            pins::EBPF_RUST
        );
    }
    let target = host::target_dir().join("ebpf");
    toolchain.fetch()?;
    process::check(&mut toolchain.cargo("build", &target)?)?;

    let objects = target.join("objects");
    fs::create_dir_all(&objects).with_context(|| format!("cannot create {}", objects.display()))?;
    for name in OBJECTS {
        let linked = target.join("bpfel-unknown-none/ebpf").join(format!("{name}-xdp"));
        let stripped = objects.join(format!("{name}.o"));
        Toolchain::strip(&linked, &stripped)?;
        refuse_paths(&stripped, &toolchain.private_paths()?)?;
    }
    Ok(objects)
}

/// Lints the eBPF programs, which lints of the host's target skip.
///
/// # Errors
/// If the toolchain is not there or clippy finds something.
pub(crate) fn clippy() -> Result<()> {
    let toolchain = Toolchain::find()?;
    toolchain.fetch()?;
    let target = host::target_dir().join("ebpf");
    process::check(toolchain.cargo("clippy", &target)?.args(["--", "--deny", "warnings"]))
}

fn refuse_paths(object: &Path, paths: &[PathBuf]) -> Result<()> {
    let bytes = read(object)?;
    for path in paths {
        let needle = path.as_os_str().as_encoded_bytes();
        if needle.len() > 1 && bytes.windows(needle.len()).any(|window| window == needle) {
            bail!("{} holds the path {}: it needs a --remap-path-prefix", object.display(), path.display());
        }
    }
    Ok(())
}

fn compare_all(committed: &Path, fresh: &Path) -> Result<()> {
    let mut differing = Vec::new();
    for name in OBJECTS {
        let file = format!("{name}.o");
        let (old, new) = (read(&committed.join(&file))?, read(&fresh.join(&file))?);
        let comparison = compare::compare(&old, &new).with_context(|| format!("cannot compare {file}"))?;
        if comparison.differences.is_empty() {
            println!(
                "ebpf --check: {file}: same: {} instructions in {} sections, {} relocations, {} sections of \
                maps, settings and licence; {}",
                comparison.instructions,
                comparison.programs,
                comparison.relocations,
                comparison.other_sections,
                if old == new { "byte for byte the same file" } else { "only debug information differs" }
            );
        } else {
            for difference in &comparison.differences {
                eprintln!("ebpf --check: {file}: {difference}");
            }
            differing.push(file);
        }
    }
    if !differing.is_empty() {
        bail!(
            "{} in mirror-ebpf/objects is not what its source builds to: run `cargo xtask ebpf` and commit \
            the result",
            differing.join(" and ")
        );
    }
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_with_build_paths_is_refused() {
        let committed = host::workspace().join("mirror-ebpf/objects/mirror.o");
        refuse_paths(&committed, &["/somewhere/else".into()]).unwrap();
        let error = refuse_paths(&committed, &["/mirror/mirror-ebpf".into()]).unwrap_err();
        assert!(error.to_string().contains("/mirror/mirror-ebpf"), "{error}");
    }
}
