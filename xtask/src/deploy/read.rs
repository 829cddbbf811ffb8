//! Terraform, CloudFormation and YAML files as JSON, by parsers that others maintain.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::{files, tools};
use crate::pins;

const SCRIPT: &str = include_str!("read.py");

/// The files below `folder` with this extension, by their path from `root`.
///
/// # Errors
/// If one cannot be parsed.
pub(super) fn below(root: &Path, folder: &str, extension: &str) -> Result<BTreeMap<PathBuf, Value>> {
    let mut paths = files(root, folder)?;
    paths.retain(|path| path.extension().is_some_and(|found| found == extension));
    let mut command = Command::new(tools::program(&pins::TEMPLATE_TOOLS, "python"));
    command.args(["-c", SCRIPT]).args(paths.iter().map(|path| root.join(path)));
    let printed = tools::quietly(&mut command)?;
    let mut parsed: BTreeMap<PathBuf, Value> =
        serde_json::from_str(&printed).context("the parsers printed no JSON")?;
    Ok(paths
        .into_iter()
        .filter_map(|path| {
            let value = parsed.remove(&root.join(&path))?;
            Some((path, value))
        })
        .collect())
}
