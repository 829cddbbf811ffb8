//! `mirror-bench-probe`: the same parts in a process of their own, for what needs one: callgrind, and an
//! allocator that counts.

use std::{
    env,
    io::ErrorKind,
    path::PathBuf,
    process::{Command, Output},
};

use anyhow::{Context as _, Result, bail};

use super::Part;

/// File name of the probe, beside the program that runs it.
pub const PROGRAM: &str = "mirror-bench-probe";
/// Argument: does each part of [`instruction_parts`] once, in sequence, for callgrind to count.
pub const INSTRUCTIONS: &str = "instructions";
/// Argument: prints what the allocation counts are read from.
pub const ALLOCATIONS: &str = "allocations";

/// The function that callgrind counts in.
pub const COLLECTED: &str = "part_of_the_probe";
/// The function around it after which callgrind writes what it has counted; it cannot be the same.
pub const SEPARATED: &str = "separated_part_of_the_probe";

/// The parts whose instructions are counted.
pub fn instruction_parts() -> Vec<Part> {
    let mut parts = vec![Part::Loop];
    parts.extend(Part::each());
    parts
}

/// Frames of each part to count over: few enough for the writer of a capture never to be waited for.
pub const FRAMES: u64 = 4096;

/// How often a part is done for [`FRAMES`].
pub fn passes(part: Part) -> u64 {
    FRAMES.div_ceil(part.frames())
}

/// Where the probe is; `None` where it was not built.
pub(super) fn path() -> Result<Option<PathBuf>> {
    let path = env::current_exe().context("the path of this program")?.with_file_name(PROGRAM);
    Ok(path.exists().then_some(path))
}

/// Runs a command to its end; `None` where there is no such program.
pub(super) fn output(command: &mut Command) -> Result<Option<Output>> {
    let name = command.get_program().display().to_string();
    match command.output() {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot run {name}")),
        Ok(output) if output.status.success() => Ok(Some(output)),
        Ok(output) => {
            bail!("{name}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr))
        }
    }
}
