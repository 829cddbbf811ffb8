//! The result of a query, and its three forms.

use std::fmt::{self, Write as _};

use serde_json::{Value as Json, json};

use super::value::Value;

/// The result of a query.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Table {
    /// What heads the columns.
    pub columns: Vec<String>,
    /// As many values each as there are columns.
    pub rows: Vec<Vec<Value<'static>>>,
    /// Whether there are more rows than nobody's `limit` would show.
    pub is_cut: bool,
    /// How many records have been read.
    pub scanned: u64,
    /// How many of them passed the filters before the first `stats`, `limit` or `dedup`.
    pub matched: u64,
    /// What whoever asked should know: a `parse` that never matched, rows that are not shown.
    pub notes: Vec<String>,
}

impl Table {
    /// As aligned text, a heading and a rule above the rows, numbers to the right.
    pub fn to_text(&self) -> String {
        let cells: Vec<Vec<String>> = self
            .rows
            .iter()
            .map(|row| row.iter().map(|value| on_one_line(&value.to_string())).collect())
            .collect();
        let widths: Vec<usize> = self
            .columns
            .iter()
            .enumerate()
            .map(|(index, column)| {
                let of_cells = cells.iter().filter_map(|row| row.get(index)).map(|cell| width(cell)).max();
                of_cells.unwrap_or(0).max(width(column))
            })
            .collect();
        let mut text = String::new();
        let columns: Vec<_> = self.columns.iter().map(|column| on_one_line(column)).collect();
        line(&mut text, &columns, &widths, |_| false);
        let rules: Vec<_> = widths.iter().map(|width| "-".repeat(*width)).collect();
        line(&mut text, &rules, &widths, |_| false);
        for (row, cells) in self.rows.iter().zip(&cells) {
            let is_number = |index: usize| {
                row.get(index)
                    .is_some_and(|value| !matches!(value, Value::Timestamp(_)) && value.number().is_some())
            };
            line(&mut text, cells, &widths, is_number);
        }
        text
    }

    /// As CSV (RFC 4180, but with `\n` between lines): a heading line, then the rows; nothing for
    /// [`Value::Null`].
    pub fn to_csv(&self) -> String {
        let mut csv = String::new();
        let headings = self.columns.iter().map(ToString::to_string).collect();
        let rows = self.rows.iter().map(|row| row.iter().map(ToString::to_string).collect());
        for fields in [headings].into_iter().chain(rows) {
            let fields: Vec<String> = fields;
            for (index, field) in fields.iter().enumerate() {
                if index > 0 {
                    csv.push(',');
                }
                // A line of one empty field would be an empty line, which readers leave out.
                if field.contains(['"', ',', '\n', '\r']) || (field.is_empty() && fields.len() == 1) {
                    csv.extend(["\"", &field.replace('"', "\"\""), "\""]);
                } else {
                    csv.push_str(field);
                }
            }
            csv.push('\n');
        }
        csv
    }

    /// As JSON, as
    /// [GetQueryResults](https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_GetQueryResults.html)
    /// answers: each row a list of fields with their values, all of them text; fields without a value are
    /// left out. There is no `@ptr`, as no record has one.
    pub fn to_json(&self) -> Json {
        let results = self.rows.iter().map(|row| {
            let fields = self.columns.iter().zip(row).filter(|(_, value)| **value != Value::Null);
            fields.map(|(field, value)| json!({"field": field, "value": value.to_string()})).collect()
        });
        json!({
            "queryLanguage": "CWLI",
            "results": results.collect::<Vec<Json>>(),
            "statistics": {"recordsMatched": self.matched, "recordsScanned": self.scanned},
            "status": "Complete",
        })
    }
}

impl fmt::Display for Table {
    /// As [`Table::to_text`].
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.to_text())
    }
}

/// Two blanks between cells, none at the end.
fn line(text: &mut String, cells: &[String], widths: &[usize], to_right: impl Fn(usize) -> bool) {
    let start = text.len();
    for (index, (cell, wanted)) in cells.iter().zip(widths).enumerate() {
        let gap = if index == 0 { "" } else { "  " };
        let padding = wanted.saturating_sub(width(cell));
        // Writing to a string does not fail.
        let _ = match to_right(index) {
            true => write!(text, "{gap}{:padding$}{cell}", ""),
            false => write!(text, "{gap}{cell}{:padding$}", ""),
        };
    }
    text.truncate(start + text[start..].trim_end().len());
    text.push('\n');
}

/// In characters: what a terminal makes of wide ones is its own.
fn width(text: &str) -> usize {
    text.chars().count()
}

/// Text without line breaks and what else would move a terminal's cursor.
fn on_one_line(text: &str) -> String {
    text.chars().map(|character| if character.is_control() { ' ' } else { character }).collect()
}

#[cfg(test)]
mod tests;
