//! Links and test names in the Markdown pages.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::{host, tree};

/// The page whose last column names tests.
const SPECIFICATION: &str = "docs/specification.md";

/// Fails if a link, a heading or a named test does not exist.
///
/// # Errors
/// If there are any; the message lists them.
pub(crate) fn check() -> Result<()> {
    let mut wrong = Vec::new();
    for page in tree::sources("md")? {
        for link in links(&page.text) {
            if let Err(reason) = resolve(&page.path, link) {
                wrong.push(format!("{}: {link}: {reason}", page.path.display()));
            }
        }
        if page.path == Path::new(SPECIFICATION) {
            let tests: BTreeSet<String> =
                tree::sources("rs")?.iter().flat_map(|source| tests_in(&source.text)).collect();
            let (promises, unknown) = promised(&page.text, &tests);
            if promises == 0 {
                wrong.push(format!("{SPECIFICATION}: no promise found"));
            }
            wrong.extend(unknown.into_iter().map(|what| format!("{SPECIFICATION}: {what}")));
        }
    }
    if !wrong.is_empty() {
        bail!("{}", wrong.join("\n"));
    }
    Ok(())
}

/// Lines outside of code blocks.
fn prose(page: &str) -> impl Iterator<Item = &str> {
    let mut code = false;
    page.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        code ^= fence;
        !code && !fence
    })
}

/// Targets of links, except to other hosts.
fn links(page: &str) -> Vec<&str> {
    prose(page)
        .flat_map(|line| line.split("](").skip(1))
        .filter_map(|rest| rest.split_once(')').map(|(target, _)| target))
        .filter(|target| !target.contains("://"))
        .collect()
}

/// Whether the target of a link exists, with its heading if it names one.
fn resolve(page: &Path, link: &str) -> Result<(), String> {
    let (file, heading) = link.split_once('#').map_or((link, None), |(file, heading)| (file, Some(heading)));
    if Path::new(file).is_absolute() {
        return Err("not a relative link".into());
    }
    let root = host::workspace();
    let target: PathBuf =
        if file.is_empty() { root.join(page) } else { root.join(page.parent().unwrap_or(page)).join(file) };
    if !target.exists() {
        return Err("no such file".into());
    }
    let Some(heading) = heading else { return Ok(()) };
    let text = fs::read_to_string(&target).map_err(|error| error.to_string())?;
    if !prose(&text).filter(|line| line.starts_with('#')).any(|line| anchor(line) == heading) {
        return Err("no such heading".into());
    }
    Ok(())
}

/// The anchor that GitHub gives a heading.
fn anchor(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    text.chars()
        .filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

/// Names of the functions that `#[test]` marks.
fn tests_in(source: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut marked = false;
    for line in source.lines().map(str::trim) {
        if line == "#[test]" {
            marked = true;
        } else if let Some(rest) = line.strip_prefix("fn ").filter(|_| marked) {
            names.extend(rest.split_once('(').map(|(name, _)| name.to_owned()));
            marked = false;
        }
    }
    names
}

/// The number of promises in a specification, and the errors of those without an existing test.
fn promised(page: &str, tests: &BTreeSet<String>) -> (usize, Vec<String>) {
    let rows = prose(page).filter(|line| line.starts_with("| ") && *line != "| promise | test |");
    let mut wrong = Vec::new();
    let mut promises = 0;
    for row in rows {
        promises += 1;
        let cells = row.trim().trim_start_matches('|');
        let cells = cells.strip_suffix('|').unwrap_or(cells);
        let (promise, names) = cells.rsplit_once('|').unwrap_or((cells, ""));
        let names: Vec<&str> = names.split('`').skip(1).step_by(2).collect();
        if names.is_empty() {
            wrong.push(format!("no test is named for: {}", promise.trim()));
        }
        let unknown = names.iter().filter(|name| !tests.contains(**name));
        wrong.extend(unknown.map(|name| format!("no test has the name {name}")));
    }
    (promises, wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_and_named_tests_of_every_page_exist() {
        check().unwrap();
    }

    #[test]
    fn a_link_to_a_missing_file_or_heading_is_refused() {
        let page = Path::new("docs/kernels.md");
        resolve(page, "../README.md#requirements").unwrap();
        resolve(page, "architecture.md").unwrap();
        assert_eq!(resolve(page, "nowhere.md").unwrap_err(), "no such file");
        assert_eq!(resolve(page, "../README.md#nowhere").unwrap_err(), "no such heading");
        assert_eq!(resolve(page, "/README.md").unwrap_err(), "not a relative link");
    }

    #[test]
    fn links_are_those_outside_of_code_and_within_this_repository() {
        let page = "[a](b.md) and [c](d.md#e)\n```text\n[no](no.md)\n```\n[far](https://example.com/)\n";
        assert_eq!(links(page), ["b.md", "d.md#e"]);
    }

    #[test]
    fn anchors_are_those_that_github_makes() {
        assert_eq!(anchor("## Doctor's JSON"), "doctors-json");
        assert_eq!(anchor("# Report, exit codes, signals"), "report-exit-codes-signals");
    }

    #[test]
    fn a_promise_without_a_test_or_with_an_unknown_one_is_refused() {
        let tests = BTreeSet::from(["it_holds".to_owned()]);
        let page = "| promise | test |\n|---|---|\n| a | `it_holds` |\n| b | `gone` |\n| c | |\n";
        let (promises, wrong) = promised(page, &tests);
        assert_eq!(promises, 3);
        assert_eq!(wrong, ["no test has the name gone", "no test is named for: c"]);
    }

    #[test]
    fn tests_are_functions_with_the_test_attribute() {
        let source =
            "#[test]\n#[ignore = \"x\"]\nfn one() {}\nfn helper() {}\n    #[test]\n    fn two() -> R {}\n";
        assert_eq!(tests_in(source), ["one", "two"]);
    }
}
