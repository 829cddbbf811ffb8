//! `cargo xtask lint`: all checks except tests. All of them run, then failures are listed.

use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};

use crate::{columns, ebpf, host, pages, pins, process};

/// Each set of features is built separately, with all tests and examples.
const CLIPPY_RUNS: [(&str, &[&str]); 4] = [
    ("clippy", &["--workspace"]),
    ("clippy of the library without features", &["--package", "mirror-user", "--no-default-features"]),
    (
        "clippy of the feature af-xdp alone",
        &["--package", "mirror-user", "--no-default-features", "--features", "af-xdp"],
    ),
    (
        "clippy of the feature parquet alone",
        &["--package", "mirror-user", "--no-default-features", "--features", "parquet"],
    ),
];

/// Fuzz targets are a separate workspace.
const FUZZ: &str = "fuzz/Cargo.toml";

/// Runs all checks.
///
/// # Errors
/// If at least one check failed; the message lists them.
pub(crate) fn run() -> Result<ExitCode> {
    let has_fuzz = host::workspace().join(FUZZ).is_file();
    let mut report = Report::default();
    if let Some(note) = other_compiler() {
        report.not_checked.push(note);
    }
    report.check("columns", columns::check)?;
    report.check("links and named tests of the pages", pages::check)?;
    report.check("fmt", || cargo(&["fmt", "--all", "--check"]))?;
    for (name, arguments) in CLIPPY_RUNS {
        report.check(name, || clippy(arguments))?;
    }
    report.check("clippy of the kernel programs", ebpf::clippy)?;
    report.check("docs", || {
        let mut command = host::cargo();
        command.args(["doc", "--workspace", "--no-deps", "--locked"]).env("RUSTDOCFLAGS", "--deny warnings");
        process::check(&mut command)
    })?;
    report.check("ebpf --check", || ebpf::run(true).map(drop))?;
    if has_fuzz {
        report.check("fmt of fuzz", || cargo(&["fmt", "--manifest-path", FUZZ, "--check"]))?;
        report.check("clippy of fuzz", || clippy(&["--manifest-path", FUZZ]))?;
    }
    report.check("least Rust, as dependencies state theirs", stated_rust)?;
    least_rust(&mut report)?;
    report.check("licences, bans and sources", || deny(&["check", "licenses", "bans", "sources"]))?;
    if has_fuzz {
        // It has fewer dependencies, so not every allowed licence occurs.
        let arguments = ["check", "--allow", "license-not-encountered", "licenses", "bans", "sources"];
        report.check("licences, bans and sources of fuzz", || {
            deny_with(&["--manifest-path", FUZZ], &arguments)
        })?;
    }
    advisories(&mut report, has_fuzz)?;
    report.close()
}

/// The results so far.
#[derive(Debug, Default)]
struct Report {
    passed: usize,
    failed: Vec<String>,
    not_checked: Vec<String>,
}

impl Report {
    /// Runs one check and records its result. Only a signal ends the run early.
    fn check(&mut self, name: &str, check: impl FnOnce() -> Result<()>) -> Result<()> {
        let start = Instant::now();
        let outcome = check();
        process::stopped()?;
        match outcome {
            Ok(()) => {
                eprintln!("lint: {name}: clean ({:.0?})", start.elapsed());
                self.passed += 1;
            }
            Err(error) => {
                eprintln!("lint: {name}: FAILED: {error:#}");
                self.failed.push(name.to_owned());
            }
        }
        Ok(())
    }

    fn close(self) -> Result<ExitCode> {
        for what in &self.not_checked {
            eprintln!("lint: NOT checked: {what}");
        }
        if !self.failed.is_empty() {
            bail!(
                "lint: {} failed, {} clean. Failed: {}",
                self.failed.len(),
                self.passed,
                self.failed.join("; ")
            );
        }
        println!("lint: {} checks clean, {} not made", self.passed, self.not_checked.len());
        Ok(ExitCode::SUCCESS)
    }
}

fn cargo(arguments: &[&str]) -> Result<()> {
    process::check(host::cargo().args(arguments))
}

fn clippy(arguments: &[&str]) -> Result<()> {
    let mut command = host::cargo();
    process::check(
        command
            .args(["clippy", "--all-targets", "--locked"])
            .args(arguments)
            .args(["--", "--deny", "warnings"]),
    )
}

fn deny(arguments: &[&str]) -> Result<()> {
    deny_with(&[], arguments)
}

/// Position tells cargo-deny's own options from those of a subcommand.
fn deny_with(options: &[&str], arguments: &[&str]) -> Result<()> {
    if host::program(pins::CARGO_DENY.name).is_none() {
        bail!("{} is not installed: run `cargo xtask setup lint`", pins::CARGO_DENY.name);
    }
    process::check(host::cargo().args(["deny", "--locked"]).args(options).args(arguments))
}

/// Another version of clippy may have other lints.
fn other_compiler() -> Option<String> {
    let version =
        process::output_quietly(Command::new("rustc").current_dir(host::workspace()).arg("--version"))?;
    let version = version.split_whitespace().nth(1)?;
    (!version.starts_with(&format!("{}.", pins::LINT_RUST)))
        .then(|| format!("the lints of Rust {}: this is {version}, whose lints may differ", pins::LINT_RUST))
}

/// No dependency may need a newer Rust than promised. That our own code does not is checked by clippy's
/// `incompatible_msrv`; if that toolchain is installed, a build with it proves both.
fn stated_rust() -> Result<()> {
    let mut command = host::cargo();
    command.args([
        "metadata",
        "--format-version",
        "1",
        "--locked",
        "--filter-platform",
        "x86_64-unknown-linux-gnu",
    ]);
    let metadata: serde_json::Value = serde_json::from_str(&process::output(&mut command)?)?;
    let above = needing_more_than(pins::MSRV, &metadata)?;
    if !above.is_empty() {
        bail!("Rust {} is promised to suffice, but these need a newer one: {}", pins::MSRV, above.join(", "));
    }
    Ok(())
}

/// The packages in `metadata` (the output of `cargo metadata`) whose `rust-version` is above `least`.
fn needing_more_than(least: &str, metadata: &serde_json::Value) -> Result<Vec<String>> {
    let parse =
        |version: &str| -> Option<Vec<u32>> { version.split('.').map(|part| part.parse().ok()).collect() };
    let least = parse(least).context("the root manifest's rust-version is no version")?;
    let packages = metadata["packages"].as_array().context("`cargo metadata` lists no packages")?;
    let needs_more = |package: &&serde_json::Value| {
        package["rust_version"].as_str().and_then(parse).is_some_and(|needed| needed > least)
    };
    let describe = |package: &serde_json::Value| {
        let field = |name: &str| package[name].as_str().unwrap_or("?").to_owned();
        format!("{} {} ({})", field("name"), field("version"), field("rust_version"))
    };
    Ok(packages.iter().filter(needs_more).map(describe).collect())
}

/// Builds the workspace with its MSRV, if that toolchain is installed.
fn least_rust(report: &mut Report) -> Result<()> {
    let toolchain = format!("+{}", pins::MSRV);
    let rustup = host::program("cargo").filter(|_| host::program("rustup").is_some());
    let installed = rustup.filter(|cargo| {
        let mut ask = Command::new(cargo);
        // The cargo that runs us sets its own toolchain for its children.
        ask.args([&toolchain, "--version"]).env_remove("RUSTUP_TOOLCHAIN").env("RUSTUP_AUTO_INSTALL", "0");
        process::output_quietly(&mut ask).is_some()
    });
    let Some(cargo) = installed else {
        let remedy = format!("rustup toolchain install {} --profile minimal", pins::MSRV);
        report
            .not_checked
            .push(format!("a build by Rust {}: it is not installed; run `{remedy}`", pins::MSRV));
        return Ok(());
    };
    report.check("least Rust", || {
        let mut command = Command::new(cargo);
        command.current_dir(host::workspace()).env_remove("RUSTUP_TOOLCHAIN").env_remove("RUSTC");
        process::check(command.args([&toolchain, "check", "--package", "mirror-user", "--locked"]))
    })
}

/// The advisory database is a remote git repository, which not every host can reach; an earlier copy is used
/// then.
fn advisories(report: &mut Report, has_fuzz: bool) -> Result<()> {
    let fetched = deny(&["fetch", "db"]);
    process::stopped()?;
    let mut options = Vec::new();
    if let Err(error) = fetched {
        if !has_advisory_copy() {
            report.not_checked.push(format!(
                "ADVISORIES: the RustSec database cannot be fetched ({error:#}, see above), and there is \
                no local copy"
            ));
            return Ok(());
        }
        report
            .not_checked
            .push(format!("advisories newer than this host's copy of the RustSec database: {error:#}"));
        options.push("--offline");
    }
    report.check("advisories", || deny_with(&options, &["check", "advisories"]))?;
    if has_fuzz {
        options.extend(["--manifest-path", FUZZ]);
        report.check("advisories of fuzz", || deny_with(&options, &["check", "advisories"]))?;
    }
    Ok(())
}

/// Whether cargo-deny has a work tree of the database: a failed clone leaves an empty directory.
fn has_advisory_copy() -> bool {
    let copies = host::cargo_home().ok().and_then(|home| home.join("advisory-dbs").read_dir().ok());
    copies.into_iter().flatten().flatten().any(|copy| copy.path().join("crates").is_dir())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_check_does_not_keep_the_next_from_running_and_fails_the_whole() {
        let mut report = Report::default();
        let mut ran = false;
        report.check("first", || bail!("it is wrong")).unwrap();
        report
            .check("second", || {
                ran = true;
                Ok(())
            })
            .unwrap();
        assert!(ran);
        let error = report.close().unwrap_err().to_string();
        assert_eq!(error, "lint: 1 failed, 1 clean. Failed: first");
    }

    #[test]
    fn a_dependency_that_needs_more_rust_than_promised_is_named() {
        let metadata = serde_json::json!({"packages": [
            {"name": "old", "version": "1.0.0", "rust_version": "1.9"},
            {"name": "same", "version": "1.0.0", "rust_version": "1.88"},
            {"name": "silent", "version": "1.0.0", "rust_version": null},
            {"name": "patch", "version": "2.0.0", "rust_version": "1.88.1"},
            {"name": "new", "version": "3.1.0", "rust_version": "1.98"},
        ]});
        assert_eq!(
            needing_more_than("1.88", &metadata).unwrap(),
            ["patch 2.0.0 (1.88.1)", "new 3.1.0 (1.98)"]
        );
    }

    #[test]
    fn skipped_checks_are_not_failures() {
        let report = Report { passed: 1, not_checked: vec!["advisories".into()], ..Report::default() };
        assert!(report.close().is_ok());
    }
}
