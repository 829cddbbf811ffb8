//! `report.md`.

use std::fmt::Write as _;

use super::{
    compare::Comparison,
    plot::Plot,
    schema::{Host, Report},
    sections::{self, Section, words},
};

/// The whole of it, with the plots that were drawn beside it.
pub(super) fn render(report: &Report, comparison: Option<&Comparison>, plots: &[Plot]) -> String {
    let kind = if report.quick { "quick run, with fewer rounds and points" } else { "full run" };
    let mut out = format!(
        "# Benchmarks\n\nA {kind}, begun {}, of {:.0} s.\n\n{}",
        report.started,
        report.duration_s,
        table(&conditions(report))
    );
    let mut sections = sections::of(report).into_iter().peekable();
    // Goals before pictures: whoever reads no further has read the verdicts.
    if let Some(goals) = sections.next_if(|section| section.title == "Goals") {
        out.push_str(&one(&goals));
    }
    for plot in plots.iter().filter(|plot| plot.svg.is_some()) {
        let _infallible = write!(out, "\n![{}]({})\n", plot.caption, plot.file);
    }
    for section in sections.chain(comparison.into_iter().flat_map(Comparison::sections)) {
        out.push_str(&one(&section));
    }
    out
}

/// Host and settings.
fn conditions(report: &Report) -> Section {
    let Host { cpu, cpus, kernel, os, driver, mode, commit, rustc } = &report.host;
    let cpu = format!("{cpu}, {cpus} online");
    let interface = if driver.is_empty() { "none".into() } else { format!("{driver}, {mode} XDP") };
    let host = [
        ("CPU", &cpu),
        ("kernel", kernel),
        ("system", os),
        ("interface", &interface),
        ("commit", commit),
        ("compiler", rustc),
    ];
    let settings = report.settings.iter().map(|(name, value)| (name.as_str(), value));
    let rows = host.into_iter().chain(settings).map(|(name, value)| vec![name.to_owned(), value.clone()]);
    Section { columns: vec![words("on"), words("")], rows: rows.collect(), ..Section::default() }
}

fn one(section: &Section) -> String {
    let mut out = format!("\n## {}\n", section.title);
    if !section.rows.is_empty() {
        let _infallible = write!(out, "\n{}", table(section));
    }
    for (index, note) in section.notes.iter().enumerate() {
        let _infallible = writeln!(out, "{}- {note}", if index == 0 { "\n" } else { "" });
    }
    out
}

fn table(section: &Section) -> String {
    let mut out = String::new();
    let mut line = |cells: &mut dyn Iterator<Item = String>| {
        out.push('|');
        for cell in cells {
            let _infallible = write!(out, " {cell} |");
        }
        out.push('\n');
    };
    line(&mut section.columns.iter().map(|column| column.name.to_owned()));
    line(&mut section.columns.iter().map(|column| if column.right { "---:" } else { "---" }.to_owned()));
    for row in &section.rows {
        // A bar would end the cell.
        line(&mut row.iter().map(|cell| cell.replace('|', "\\|")));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sections::figures;

    #[test]
    fn a_bar_in_a_cell_does_not_end_it() {
        let section = Section {
            columns: vec![words("tool"), figures("Mpps")],
            rows: vec![vec!["tcpdump | wc".into(), "1.000".into()]],
            ..Section::default()
        };
        assert_eq!(table(&section), "| tool | Mpps |\n| --- | ---: |\n| tcpdump \\| wc | 1.000 |\n");
    }
}
