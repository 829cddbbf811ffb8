//! The output of a run: a table, `report.json`, `report.md`, plots.

pub mod compare;
pub mod host;
mod markdown;
mod plot;
pub mod schema;
mod sections;
pub mod table;
#[cfg(test)]
mod tests;
mod text;
mod write;

pub use write::write;
