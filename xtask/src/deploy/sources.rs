//! The script that keeps sessions for interfaces with a tag: by shellcheck, and by what it does to a server
//! that answers the AWS CLI.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

use super::moto::Moto;
use super::{files, user_data};

const SCRIPT: &str = "deploy/sources/mirror-sessions.sh";
const TEST: &str = include_str!("sources_test.sh");
const EXPECTED: &str = include_str!("sources_test.expected");

/// # Errors
/// If shellcheck has something to say, or the script does something else.
pub(super) fn check(root: &Path) -> Result<BTreeSet<PathBuf>> {
    let read = files(root, "deploy/sources")?;
    user_data::shellcheck(&read.iter().map(|path| root.join(path)).collect::<Vec<_>>())?;
    let script = root.join(SCRIPT);
    let said = Moto::start()?.run(TEST, &[script.to_str().context("the path is no UTF-8")?])?;
    ensure!(said == EXPECTED, "{SCRIPT} did this:\n{said}instead of this:\n{EXPECTED}");
    Ok(read.into_iter().collect())
}
