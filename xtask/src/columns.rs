//! Lines wider than `.editorconfig` allows: rustfmt does not wrap comments and strings, and nothing formats
//! Markdown.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};

use crate::tree;

/// `max_line_length` of `.editorconfig`, in characters.
const COLUMNS: usize = 110;
/// Extensions of the files that are checked.
const HELD: [&str; 2] = ["md", "rs"];

/// A line that is too long.
#[derive(Debug, PartialEq)]
struct Long {
    path: PathBuf,
    /// From 1.
    line: usize,
    columns: usize,
}

/// Fails if there are lines that are too long.
///
/// # Errors
/// If there are any; the message has the first ones.
pub(crate) fn check() -> Result<()> {
    let long = long()?;
    let Some(first) = long.first() else { return Ok(()) };
    bail!(
        "{} lines over {COLUMNS} columns, the first at {}:{}; `cargo xtask lint --columns` lists them",
        long.len(),
        first.path.display(),
        first.line
    );
}

/// Lists every line that is too long, and fails if there is one.
///
/// # Errors
/// If a file cannot be read.
pub(crate) fn list() -> Result<ExitCode> {
    let long = long()?;
    for Long { path, line, columns } in &long {
        println!("{}:{line}: {columns} columns", path.display());
    }
    println!("{} lines over {COLUMNS} columns", long.len());
    Ok(if long.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn long() -> Result<Vec<Long>> {
    let mut found = Vec::new();
    for extension in HELD {
        for source in tree::sources(extension)? {
            found.extend(source.text.lines().enumerate().filter_map(|(at, text)| {
                let columns = excess(text, extension == "rs")?;
                Some(Long { path: source.path.clone(), line: at + 1, columns })
            }));
        }
    }
    Ok(found)
}

/// The width of a line that is too long. Rows of tables, and lines that are too long only because of links,
/// may be longer: they cannot be broken.
fn excess(text: &str, is_rust: bool) -> Option<usize> {
    let columns = text.chars().count();
    if columns <= COLUMNS {
        return None;
    }
    let content = text.trim_start();
    let content = if is_rust { content.trim_start_matches(['/', '!']).trim_start() } else { content };
    let row = content.starts_with('|') && content.trim_end().ends_with('|');
    (!row && without_links(text).chars().count() > COLUMNS).then_some(columns)
}

/// The text without link targets.
fn without_links(text: &str) -> String {
    let mut rest = text;
    let mut kept = String::new();
    while let Some(at) = ["](", "https://", "http://"].iter().filter_map(|start| rest.find(start)).min() {
        let target = &rest[at..];
        let end = target.find(|c: char| c == ')' || c.is_whitespace()).unwrap_or(target.len());
        kept.push_str(&rest[..at]);
        rest = &target[end..];
    }
    kept.push_str(rest);
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_over_the_width_is_found_with_its_width_in_characters() {
        let fits = "é".repeat(COLUMNS);
        assert_eq!(excess(&fits, false), None);
        assert_eq!(excess(&format!("{fits}é"), false), Some(COLUMNS + 1));
        assert_eq!(excess(&format!("    // {}", "word ".repeat(30)), true), Some(157));
    }

    #[test]
    fn rows_of_tables_may_be_longer_in_markdown_and_in_comments() {
        let row = format!("| {} |", "cell ".repeat(40));
        assert_eq!(excess(&row, false), None);
        assert_eq!(excess(&format!("    /// {row}"), true), None);
        assert_eq!(excess(&format!("//! {row}"), true), None);
        assert!(excess(&format!("    || {}", "call() ".repeat(40)), true).is_some());
    }

    #[test]
    fn a_link_may_be_longer_and_the_text_around_it_may_not() {
        let link = format!("[kernel](https://git.kernel.org/{})", "x".repeat(COLUMNS));
        assert_eq!(excess(&format!("see {link}"), false), None);
        assert_eq!(excess(&format!("// https://{}", "x".repeat(COLUMNS)), true), None);
        assert!(excess(&format!("{} {link}", "word ".repeat(30)), false).is_some());
    }

    #[test]
    fn files_held_to_the_width_keep_it() {
        check().unwrap();
    }
}
