//! The programs that run in guests, without what only debuggers need, and the libraries they need.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::process;

/// A program without debug information, which is most of it.
///
/// # Errors
/// If it cannot be stripped.
pub(super) fn stripped(program: &Path, scratch: &Path, strip: &str) -> Result<Vec<u8>> {
    let to = scratch.join("stripped");
    process::output(Command::new(strip).arg("-o").arg(&to).arg(program))?;
    let bytes = fs::read(&to).with_context(|| format!("cannot read {}", to.display()))?;
    fs::remove_file(&to).with_context(|| format!("cannot remove {}", to.display()))?;
    Ok(bytes)
}

/// The libraries of all these programs, each by the path that the loader looks for it.
///
/// # Errors
/// If a library is missing.
pub(super) fn libraries(programs: &[&Path]) -> Result<BTreeSet<PathBuf>> {
    let mut libraries = BTreeSet::new();
    for program in programs {
        // It fails for static programs.
        if let Some(shown) = process::output_quietly(Command::new("ldd").arg(program)) {
            libraries.extend(in_ldd(&shown).with_context(|| format!("{}", program.display()))?);
        }
    }
    Ok(libraries)
}

fn in_ldd(shown: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for line in shown.lines() {
        if line.contains("not found") {
            bail!("a library is missing: {}", line.trim());
        }
        let path = line.split("=> ").last().unwrap_or(line).split_whitespace().next().unwrap_or_default();
        if path.starts_with('/') {
            found.push(path.into());
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_those_that_ldd_shows() {
        let shown = "\tlinux-vdso.so.1 (0x00007ffc)\n\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 \
            (0x00007f)\n\
            \t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n";
        let found = in_ldd(shown).unwrap();
        let paths: Vec<_> = found.iter().map(|path| path.to_str().unwrap()).collect();
        assert_eq!(paths, ["/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2"]);
        assert!(in_ldd("\tlibpcap.so.0.8 => not found\n").is_err());
    }
}
