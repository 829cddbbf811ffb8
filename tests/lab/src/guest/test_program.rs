//! A program of tests as cargo builds it.

use std::{
    fs::{self, File},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use super::{GUEST_VARIABLE, Verdict, file_stem, plan::TestProgram};
use crate::command::{end, ends_within};

/// Runs it.
pub(super) fn run(test: &TestProgram, papers: &Path) -> Verdict {
    let paper = papers.join(format!("{}.txt", file_stem(&test.name)));
    let failed = |error: std::io::Error| format!("{}: {error}", paper.display());
    let file = File::create(&paper).map_err(failed)?;
    let mut command = Command::new(&test.program);
    command.args([&format!("--test-threads={}", test.threads), "--exact"]);
    command.args(test.skip.iter().flat_map(|name| ["--skip", name]));
    command.env(GUEST_VARIABLE, "1").env("RUST_BACKTRACE", "0").stdin(Stdio::null());
    command.stdout(file.try_clone().map_err(failed)?).stderr(file);
    let mut child = command.spawn().map_err(|error| format!("{}: {error}", test.program))?;
    let ended = ends_within(&mut child, Duration::from_secs(test.limit));
    end(&mut child);
    let status = child.wait().map_err(|error| format!("{}: {error}", test.program))?;
    let text = String::from_utf8_lossy(&fs::read(&paper).map_err(failed)?).into_owned();
    let failed: Vec<_> = failures(&text).collect();
    if !ended {
        let last = text.lines().last().unwrap_or_default();
        return Err(format!("not over within {} s; its last line: {last}", test.limit));
    }
    let passed = passed(&text);
    match passed {
        Some(passed) if status.success() && passed > 0 => Ok(format!("{passed} tests passed")),
        Some(0) if status.success() => Err("no test was run".into()),
        _ => Err(format!("{status}; failed: {}", failed.join(", "))),
    }
}

/// From libtest's last line, `test result: ok. 12 passed; 0 failed; …`.
fn passed(text: &str) -> Option<u64> {
    let line = text.lines().rev().find(|line| line.starts_with("test result: "))?;
    line.split_once(". ")?.1.split_once(" passed")?.0.parse().ok()
}

fn failures(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|line| line.strip_prefix("test ")?.strip_suffix(" ... FAILED"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_libtest_are_read() {
        let text = "running 2 tests\ntest a ... ok\ntest b ... FAILED\n\n\
            test result: FAILED. 1 passed; 1 failed; 0 ignored\n";
        assert_eq!(passed(text), Some(1));
        assert_eq!(failures(text).collect::<Vec<_>>(), ["b"]);
        assert_eq!(passed("running 0 tests\n"), None);
    }
}
