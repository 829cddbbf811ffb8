//! What a query does, step by step: names resolved to places, steps whose results nothing reads left out.

mod build;
mod live;
mod scope;

use super::{
    aggregate::Aggregate,
    ast::{Command, Direction},
    error::ParseError,
    expression::Compiled,
    pattern::Matcher,
};

/// The most rows of a result without `limit`, as of
/// [CloudWatch](https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/CWL_QuerySyntax-Limit.html).
pub(super) const DEFAULT_LIMIT: usize = 10_000;

/// A whole query: each stage's rows are what comes in to the next one.
#[derive(Debug)]
pub(super) struct Plan {
    /// Fields of a record that are read.
    pub(super) columns: Vec<String>,
    pub(super) stages: Vec<Stage>,
    /// Names of the columns of the result, which are the last stage's.
    pub(super) labels: Vec<String>,
}

/// What is done with a row as it comes in, and then with all of them.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) steps: Vec<Step>,
    /// How many values the steps compute.
    pub(super) width: usize,
    pub(super) end: End,
}

#[derive(Debug)]
pub(super) enum Step {
    Compute { slot: usize, expr: Compiled },
    Filter(Compiled),
    Parse(Parse),
}

/// A `parse`: parts of the source become computed values.
#[derive(Debug)]
pub(super) struct Parse {
    pub(super) source: Compiled,
    pub(super) matcher: Matcher,
    /// Which value each part becomes; none behind the last that is read.
    pub(super) slots: Vec<Option<usize>>,
    /// As notes name it.
    pub(super) written: String,
}

#[derive(Debug)]
pub(super) enum End {
    Collect(Collect),
    Group(Group),
}

/// Keeps rows, in order.
#[derive(Debug)]
pub(super) struct Collect {
    /// By which they are sorted; equal ones stay in the order in which they came.
    pub(super) keys: Vec<(Compiled, Direction)>,
    pub(super) limit: Option<usize>,
    /// Whether nobody asked for the limit.
    pub(super) is_default_limit: bool,
    /// Of rows that are equal in all of these, the first is kept.
    pub(super) distinct: Vec<Compiled>,
    /// What of a row goes on.
    pub(super) kept: Vec<Compiled>,
}

/// Groups rows. A row of the result has the keys, then the columns.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) keys: Vec<Compiled>,
    pub(super) aggregates: Vec<Call>,
    /// Each sees keys and aggregates as input, and the columns before it as computed.
    pub(super) columns: Vec<Compiled>,
}

/// An aggregate function and its arguments.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) aggregate: Aggregate,
    /// None counts rows.
    pub(super) argument: Option<Compiled>,
    /// Of `pct`.
    pub(super) percentile: f64,
    /// The time of a row, for functions that ask which is earlier.
    pub(super) time: Option<Compiled>,
}

impl Plan {
    /// Resolves the names of a query.
    pub(super) fn new(query: &str, commands: &[Command]) -> Result<Self, ParseError> {
        let mut plan = build::build(query, commands)?;
        live::reduce(&mut plan);
        Ok(plan)
    }
}

#[cfg(test)]
mod tests;
