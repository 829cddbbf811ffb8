//! The programs of this workspace that run in guests, built by cargo, and the libraries they need.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::{host, process};

/// Programs as cargo has built them.
#[derive(Debug)]
pub(super) struct Built {
    pub(super) mirror: PathBuf,
    pub(super) lab: PathBuf,
    /// Name and path of each program of tests.
    pub(super) tests: Vec<(String, PathBuf)>,
}

/// A test program of each package, which is always built.
const BRING_BINARIES: [&str; 2] = ["kernel_log", "xdp_object"];

/// Builds the command, the lab, and these programs of tests.
///
/// # Errors
/// If something does not build.
pub(super) fn build(tests: &[&str], release: bool) -> Result<Built> {
    // Both binaries come with tests of their packages, as cargo builds them for these tests. `cargo build`
    // would build others, without the features that only tests need.
    let mut command = host::cargo();
    command.args(["test", "--no-run", "--locked", "--message-format=json-render-diagnostics"]);
    command.args(["--package", "mirror-user", "--package", "mirror-lab"]);
    if release {
        command.arg("--release");
    }
    for test in BRING_BINARIES.iter().filter(|test| !tests.contains(test)).chain(tests) {
        command.args(["--test", test]);
    }
    eprintln!("$ {}", process::display(&command));
    let output =
        command.stderr(Stdio::inherit()).stdin(Stdio::null()).output().context("cannot start cargo")?;
    process::stopped()?;
    if !output.status.success() {
        bail!("the programs of the guests do not build");
    }
    let messages = String::from_utf8(output.stdout).context("cargo printed no UTF-8")?;
    let artifacts = artifacts(&messages);
    let find = |kind: &str, name: &str| {
        let found = artifacts.iter().find(|artifact| artifact.kind == kind && artifact.name == name);
        found.map(|artifact| artifact.path.clone()).with_context(|| format!("cargo built no {kind} {name}"))
    };
    Ok(Built {
        mirror: find("bin", "mirror")?,
        lab: find("bin", "mirror-lab")?,
        tests: tests
            .iter()
            .map(|test| Ok(((*test).to_owned(), find("test", test)?)))
            .collect::<Result<_>>()?,
    })
}

/// A program in cargo's output.
#[derive(Debug, PartialEq, Eq)]
struct Artifact {
    kind: String,
    name: String,
    path: PathBuf,
}

fn artifacts(messages: &str) -> Vec<Artifact> {
    let artifact = |line: &str| {
        let message: Value = serde_json::from_str(line).ok()?;
        let path = message["executable"].as_str()?.into();
        let target = &message["target"];
        let (kind, name) = (target["kind"][0].as_str()?, target["name"].as_str()?);
        Some(Artifact { kind: kind.into(), name: name.into(), path })
    };
    messages.lines().filter_map(artifact).collect()
}

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
    fn programs_are_found_in_the_output_of_cargo() {
        let messages = r#"
{"reason":"compiler-artifact","target":{"kind":["lib"],"name":"x"},"executable":null}
{"reason":"compiler-artifact","target":{"kind":["test"],"name":"endings"},"executable":"/t/endings-1"}
{"reason":"build-finished","success":true}
not JSON"#;
        let wanted = Artifact { kind: "test".into(), name: "endings".into(), path: "/t/endings-1".into() };
        assert_eq!(artifacts(messages), [wanted]);
    }

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
