//! The files of a report.

use std::{fs, io, io::Write as _, os::unix::fs::PermissionsExt as _, path::Path};

use anyhow::{Context as _, Result};
use tempfile::Builder;

use super::{compare::Comparison, markdown, plot, schema::Report};

/// Writes `report.json`, `report.md` and the plots into `directory`, which is created if necessary. Files are
/// renamed when complete. Plots of an earlier run that this one does not have are removed.
///
/// # Errors
///
/// If a file cannot be written, or a plot not drawn.
pub fn write(report: &Report, comparison: Option<&Comparison>, directory: &Path) -> Result<()> {
    fs::create_dir_all(directory).with_context(|| format!("{}: cannot be made", directory.display()))?;
    // First, because all else can be derived from it.
    let json = serde_json::to_string_pretty(report)? + "\n";
    put(directory, "report.json", &json)?;
    let plots = plot::all(report)?;
    for plot in &plots {
        match &plot.svg {
            Some(svg) => put(directory, plot.file, svg)?,
            None => remove(&directory.join(plot.file))?,
        }
    }
    put(directory, "report.md", &markdown::render(report, comparison, &plots))
}

/// Written under another name, then renamed.
fn put(directory: &Path, name: &str, content: &str) -> Result<()> {
    let path = directory.join(name);
    let put = || -> io::Result<()> {
        // Written by root, readable by all.
        let mut file = Builder::new()
            .prefix(&format!(".{name}."))
            .suffix(".partial")
            .permissions(fs::Permissions::from_mode(0o644))
            .tempfile_in(directory)?;
        file.write_all(content.as_bytes())?;
        file.persist(&path)?;
        Ok(())
    };
    put().with_context(|| format!("{}: cannot be written", path.display()))
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("{}: cannot be removed", path.display()))
        }
        _ => Ok(()),
    }
}
