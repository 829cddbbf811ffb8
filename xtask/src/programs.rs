//! The programs of this workspace as its tests have them, built by cargo.

use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::{host, process};

/// Programs as cargo has built them.
#[derive(Debug)]
pub(crate) struct Built {
    pub(crate) mirror: PathBuf,
    pub(crate) lab: PathBuf,
    /// Name and path of each program of tests.
    pub(crate) tests: Vec<(String, PathBuf)>,
}

/// A test program of each package, which is always built.
const BRING_BINARIES: [&str; 2] = ["kernel_log", "xdp_object"];

/// Builds the command, the lab, and these programs of tests.
///
/// It selects the whole workspace, as `cargo xtask test` does: features are those of all selected packages
/// together, and a selection of some would build every one of them, and what they depend on, once more.
///
/// # Errors
/// If something does not build.
pub(crate) fn build(tests: &[&str], release: bool) -> Result<Built> {
    // Both binaries come with tests of their packages, as cargo builds them for these tests. `cargo build`
    // would build others, without the features that only tests need.
    let mut command = host::cargo();
    command.args(["test", "--no-run", "--locked", "--workspace"]);
    command.arg("--message-format=json-render-diagnostics");
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
        bail!("the programs do not build");
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
}
