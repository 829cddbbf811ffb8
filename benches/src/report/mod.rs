//! What a run leaves: a table, `report.json`, `report.md`, plots.

pub mod schema;
