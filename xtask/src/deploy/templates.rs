//! Templates by what others say of them: cfn-lint has the schemas of CloudFormation, checkov rules of
//! security.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use super::{files, tools};
use crate::pins;

/// # Errors
/// If cfn-lint has something to say.
pub(super) fn cfn_lint(root: &Path) -> Result<BTreeSet<PathBuf>> {
    let read = files(root, "deploy/cloudformation")?;
    let mut command = Command::new(tools::program(&pins::TEMPLATE_TOOLS, "cfn-lint"));
    tools::quietly(command.current_dir(root).args(&read))?;
    Ok(read.into_iter().collect())
}

/// Exceptions are in the files, each with its reason.
///
/// # Errors
/// If a rule is broken.
pub(super) fn checkov(root: &Path) -> Result<BTreeSet<PathBuf>> {
    let mut command = Command::new(tools::program(&pins::CHECKOV, "checkov"));
    command.current_dir(root).args(["--directory", "deploy", "--compact", "--quiet", "--skip-download"]);
    command.args(["--framework", "cloudformation", "terraform"]);
    tools::quietly(&mut command)?;
    let read = [files(root, "deploy/cloudformation")?, files(root, "deploy/terraform")?];
    Ok(read.into_iter().flatten().collect())
}
