//! The guide's commands of the AWS CLI, run in their order against a server that answers it: the CLI refuses
//! unknown commands, options and values.
//!
//! In blocks marked `console`, lines after `$ ` are typed where the AWS CLI is, lines after `# ` on a target.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};

use super::moto::Moto;

const GUIDE: &str = "docs/deploy.md";
/// Makes what the newcomer has: an interface to mirror, a key pair, and a package.
const BEFORE: &str = include_str!("guide_before.sh");
/// Commands that are not the AWS CLI's; nothing here runs them.
const NOT_RUN: [&str; 2] = ["terraform ", "cargo "];

/// # Errors
/// If a command is refused.
pub(super) fn check(root: &Path) -> Result<BTreeSet<PathBuf>> {
    let commands = commands(&read(root)?, "$ ").concat();
    let (not_run, run): (Vec<_>, Vec<_>) =
        commands.iter().partition(|command| NOT_RUN.iter().any(|program| command.starts_with(program)));
    ensure!(run.len() > 1, "{GUIDE} has no commands of the AWS CLI");
    let server = Moto::start()?;
    let mut script = format!("{BEFORE}\ncd \"$1\"\n");
    for command in &run {
        // bash -x would show variables expanded; the line as it is written is what one looks for.
        let shown = command.replace('\'', "'\\''");
        script.push_str(&format!("echo '+ {shown}' >&2\n{command}\n"));
    }
    let root = root.to_str().context("the path is no UTF-8")?;
    if let Err(error) = server.run(&script, &[root]) {
        bail!("{GUIDE}: the last command is refused: {error:#}");
    }
    eprintln!("deploy: {} commands of {GUIDE} run, {} NOT run: {not_run:?}", run.len(), not_run.len());
    Ok(BTreeSet::from([GUIDE.into()]))
}

/// What the guide has typed on a target, by block.
///
/// # Errors
/// If it cannot be read, or has none.
pub(crate) fn on_target(root: &Path) -> Result<Vec<Vec<String>>> {
    let blocks = commands(&read(root)?, "# ");
    ensure!(!blocks.is_empty(), "{GUIDE} has no commands for a target");
    Ok(blocks)
}

fn read(root: &Path) -> Result<String> {
    fs::read_to_string(root.join(GUIDE)).with_context(|| format!("cannot read {GUIDE}"))
}

/// The commands after this prompt by block, those over several lines in one.
fn commands(text: &str, prompt: &str) -> Vec<Vec<String>> {
    let (mut blocks, mut in_block, mut continued) = (Vec::<Vec<String>>::new(), false, false);
    for line in text.lines() {
        if let Some(language) = line.trim_start().strip_prefix("```") {
            in_block = !in_block && language == "console";
            continued = false;
            blocks.push(Vec::new());
        } else if in_block && continued {
            if let Some(last) = blocks.last_mut().and_then(|block| block.last_mut()) {
                last.push('\n');
                last.push_str(line);
            }
            continued = line.ends_with('\\');
        } else if let Some(command) = line.strip_prefix(prompt).filter(|_| in_block) {
            if let Some(block) = blocks.last_mut() {
                block.push(command.to_owned());
            }
            continued = line.ends_with('\\');
        }
    }
    blocks.retain(|block| !block.is_empty());
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_taken_from_console_blocks_by_their_prompt() {
        let text = "$ not this\n```console\n$ aws one \\\n    --two\noutput\n# mirror status\n```\n\
                    ```sh\n$ nor this\n```\n```console\n$ aws three\n```\n";
        assert_eq!(commands(text, "$ "), [["aws one \\\n    --two"], ["aws three"]]);
        assert_eq!(commands(text, "# "), [["mirror status"]]);
    }
}
