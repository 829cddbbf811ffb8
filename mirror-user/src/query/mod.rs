//! Queries of CloudWatch Logs Insights, run here: the language, its evaluation over records in bounded
//! memory, and the same query as SQL. Pure: who reads records hands them over, one at a time.
//!
//! ```
//! use mirror_user::query::{Execution, Limits, Query, Value};
//!
//! let query = Query::parse("stats sum(bytes) as total by srcAddr | sort total desc | limit 2")?;
//! assert_eq!(query.columns(), ["srcAddr", "bytes"]);
//! let mut execution = Execution::new(&query, Limits::default());
//! for (source, bytes) in [("10.0.0.1", 40), ("10.0.0.2", 52), ("10.0.0.1", 84)] {
//!     execution.push(&[Value::text(source), Value::Integer(bytes)])?;
//! }
//! assert_eq!(execution.finish()?.to_csv(), "srcAddr,total\n10.0.0.1,124\n10.0.0.2,52\n");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # The language
//!
//! The commands `fields`, `display`, `filter` (`where`), `parse`, `stats`, `sort`, `limit` and `dedup`, as
//! the [CloudWatch Logs user
//! guide](https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/CWL_QuerySyntax.html) documents them. What
//! that has and this has not is an error that names it. Where the guide is silent, it is decided here:
//!
//! - Two values compare as numbers if both read as numbers (digits with a sign or a fraction, no exponent),
//!   else as text. With a missing value a comparison has no result, and `filter` drops the record, as in SQL.
//! - Aggregates of numbers leave out what is no number, such as `-`. `pct` is the nearest rank, `stddev` that
//!   of the whole population, `count_distinct` exact.
//! - Equal rows of `sort` stay in the order of records. Rows without `sort` are those of the latest records;
//!   groups come in the order in which they appeared.
//! - `bin` counts from 1970-01-01 00:00 UTC, weeks begin on Mondays, months and longer follow the calendar.
//! - Columns of `parse` are shown without being asked for, unless there is a `display`.
//! - A field name with a hyphen needs backticks, but any name also finds the field in the spelling of AWS's
//!   Parquet files or discovered fields: see [`field_key`].

mod aggregate;
mod ast;
mod error;
mod execution;
mod expression;
mod field;
mod functions;
mod lexer;
mod order;
mod parser;
mod pattern;
mod period;
mod plan;
pub mod sql;
mod table;
mod value;

use std::{fmt, sync::Arc};

pub use error::{ParseError, ParseErrorKind};
pub use execution::{Execution, Limits, QueryError};
pub use field::field_key;
pub use table::Table;
pub use value::Value;

use self::{ast::Command, plan::Plan};

/// A query that has been understood.
#[derive(Clone, Debug)]
pub struct Query {
    commands: Vec<Command>,
    plan: Arc<Plan>,
}

impl Query {
    /// Reads a query.
    ///
    /// # Errors
    ///
    /// It is not one, or not one that this tool can run; the error says where and why.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let commands = parser::commands(text)?;
        let plan = Arc::new(Plan::new(text, &commands)?);
        Ok(Self { commands, plan })
    }

    /// The fields of a record that the query reads, each once, as it first names them: `@message`,
    /// `@timestamp`, `@logStream` and `@log` among them, if it reads these. Two are the same field if their
    /// [`field_key`] is.
    pub fn columns(&self) -> &[String] {
        &self.plan.columns
    }
}

impl fmt::Display for Query {
    /// The query with every bracket written, one command a line.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, command) in self.commands.iter().enumerate() {
            write!(out, "{}{command}", if index == 0 { "" } else { "\n| " })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
