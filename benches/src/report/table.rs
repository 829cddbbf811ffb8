//! The report on a terminal.

use std::fmt::Write as _;

use comfy_table::{CellAlignment, Table, presets::UTF8_FULL_CONDENSED};

use super::{
    compare::Comparison,
    schema::Report,
    sections::{self, Section},
    text,
};

/// The whole of it as tables, each under its title.
#[must_use]
pub fn render(report: &Report, comparison: Option<&Comparison>) -> String {
    let mut out = format!("{}\n", text::provenance(report));
    let compared = comparison.into_iter().flat_map(Comparison::sections);
    for section in sections::of(report).into_iter().chain(compared) {
        let _infallible = write!(out, "\n{}", one(&section));
    }
    out
}

fn one(section: &Section) -> String {
    let mut out = format!("{}\n", section.title);
    if !section.rows.is_empty() {
        let _infallible = writeln!(out, "{}", table(section));
    }
    for note in &section.notes {
        let _infallible = writeln!(out, "  {note}");
    }
    out
}

fn table(section: &Section) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED.with_rounded_corners());
    table.set_header(section.columns.iter().map(|column| column.name));
    table.add_rows(&section.rows);
    for (column, head) in table.column_iter_mut().zip(&section.columns) {
        column.set_cell_alignment(if head.right { CellAlignment::Right } else { CellAlignment::Left });
    }
    table
}
