//! A query as SQL, over a table whose columns are those of AWS's Parquet files: underscores, numbers as
//! numbers.

mod dialect;
mod expression;

use super::{
    Query,
    ast::{Column, CommandKind, Direction, Expr, Pattern, column_key as key, expression_key as key_of},
    field::field_key,
    plan::DEFAULT_LIMIT,
};
use crate::flow_log::Format;

pub use dialect::Dialect;

/// What of a query has no counterpart in SQL.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SqlError {
    /// There is no counterpart.
    #[error("{0} has no counterpart in {1}; the query runs without --sql")]
    NoCounterpart(String, Dialect),
    /// A field that the table does not have.
    #[error("the table has no column for `{0}`")]
    NoColumn(String),
}

/// The same query in SQL, over a table or what stands for one (`flow_logs`, `read_parquet('*.parquet')`),
/// which is taken as it is written.
///
/// The table's columns have AWS's names with underscores. A `parse @message` with the 29 stars of
/// `select-all-v5` maps to the columns by their place, other `parse` to regular expressions; `-` is a missing
/// value, which is what AWS's Parquet files have where text has `-`. Text sorts by code points instead of by
/// chunks of digits, and `pct` and `count_distinct` are what the engine has for them.
///
/// # Errors
///
/// Something has no counterpart; the error names it.
pub fn to_sql(query: &Query, dialect: Dialect, table: &str) -> Result<String, SqlError> {
    let mut select = Select::new(dialect, table.to_owned());
    for command in &query.commands {
        select.command(&command.kind)?;
    }
    if !select.is_limited {
        select.limit = Some(DEFAULT_LIMIT.to_string());
    }
    select.finish()
}

/// What a name stands for.
#[derive(Clone, Debug)]
pub(super) struct Named {
    key: String,
    label: String,
    /// Expression in terms of the source, and whether it is a number there.
    sql: String,
    is_number: bool,
}

/// One `SELECT`, of a table or of another one.
struct Select {
    dialect: Dialect,
    source: String,
    /// Names made by `fields`, `parse` or the select below.
    names: Vec<Named>,
    /// Whether the source is the table, whose columns need not be named before.
    of_table: bool,
    shown: Vec<String>,
    is_chosen: bool,
    wheres: Vec<String>,
    order: Vec<String>,
    limit: Option<String>,
    is_limited: bool,
}

impl Select {
    fn new(dialect: Dialect, source: String) -> Self {
        Self {
            dialect,
            source,
            names: Vec::new(),
            of_table: true,
            shown: Vec::new(),
            is_chosen: false,
            wheres: Vec::new(),
            order: Vec::new(),
            limit: None,
            is_limited: false,
        }
    }

    fn command(&mut self, command: &CommandKind) -> Result<(), SqlError> {
        // What follows a limit sees only the rows that it leaves.
        if self.limit.is_some() {
            self.nest()?;
        }
        match command {
            CommandKind::Fields(columns) => self.fields(columns),
            CommandKind::Display(columns) => {
                self.shown.clear();
                self.fields(columns)
            }
            CommandKind::Filter(expr) => {
                let condition = self.condition(expr)?;
                self.wheres.push(condition);
                Ok(())
            }
            CommandKind::Parse { source, pattern, names } => self.parse(source.as_ref(), pattern, names),
            CommandKind::Stats { aggregates, by } => self.stats(aggregates, by),
            CommandKind::Sort(keys) => {
                let mut order = Vec::new();
                for (expr, direction) in keys {
                    let (sql, _) = self.expression(expr)?;
                    // What is missing sorts first, as `-` does.
                    let direction = match direction {
                        Direction::Ascending => "ASC NULLS FIRST",
                        Direction::Descending => "DESC NULLS LAST",
                    };
                    order.push(format!("{sql} {direction}"));
                }
                order.append(&mut self.order);
                self.order = order;
                Ok(())
            }
            CommandKind::Limit(limit) => {
                self.limit = Some(limit.to_string());
                self.is_limited = true;
                Ok(())
            }
            CommandKind::Dedup(_) => Err(SqlError::NoCounterpart(
                "`dedup`, which keeps the first of each,".to_owned(),
                self.dialect,
            )),
        }
    }

    fn fields(&mut self, columns: &[Column]) -> Result<(), SqlError> {
        self.is_chosen = true;
        for column in columns {
            let key = key(column);
            if column.alias.is_some() || column.expr.field().is_none() {
                let (sql, is_number) = self.expression(&column.expr)?;
                self.define(Named { key: key.clone(), label: column.label.clone(), sql, is_number });
            } else if let Some(field) = column.expr.field() {
                let (sql, is_number) = self.field(field)?;
                self.define(Named { key: key.clone(), label: column.label.clone(), sql, is_number });
            }
            self.show(key);
        }
        Ok(())
    }

    fn parse(&mut self, source: Option<&Expr>, pattern: &Pattern, names: &[String]) -> Result<(), SqlError> {
        let of_message =
            source.is_none_or(|source| source.field().is_some_and(|name| field_key(name) == "@message"));
        let is_split = matches!(pattern, Pattern::Glob(glob) if glob.split(' ').all(|part| part == "*"));
        if of_message && self.of_table {
            let all = Format::select_all_v5();
            if !is_split || names.len() != all.fields().len() {
                let what = "a `parse` of @message other than the 29 stars of select-all-v5".to_owned();
                return Err(SqlError::NoCounterpart(what, self.dialect));
            }
            for (name, field) in names.iter().zip(all.fields()) {
                let (sql, is_number) = self.column(*field);
                self.define(Named { key: field_key(name), label: name.clone(), sql, is_number });
                self.show(field_key(name));
            }
            return Ok(());
        }
        let Some(source) = source else { return Err(SqlError::NoColumn("@message".to_owned())) };
        let (text, _) = self.expression(source)?;
        let (regex, groups) = match pattern {
            Pattern::Glob(glob) => expression::glob(glob),
            Pattern::Regex(regex) => {
                let named: Vec<_> = regex
                    .capture_names()
                    .enumerate()
                    .filter_map(|(group, name)| name.and(Some(group)))
                    .collect();
                let groups = if named.is_empty() { (1..regex.captures_len()).collect() } else { named };
                (regex.as_str().to_owned(), groups)
            }
        };
        for (name, group) in names.iter().zip(groups) {
            let sql = self.dialect.extract(&text, &regex, group);
            self.define(Named { key: field_key(name), label: name.clone(), sql, is_number: false });
            self.show(field_key(name));
        }
        Ok(())
    }

    fn stats(&mut self, aggregates: &[Column], by: &[Column]) -> Result<(), SqlError> {
        let mut named: Vec<Named> = Vec::new();
        let mut groups = Vec::new();
        for column in by {
            let (sql, is_number) = self.expression(&column.expr)?;
            groups.push(sql.clone());
            named.push(Named { key: key(column), label: column.label.clone(), sql, is_number });
        }
        for column in aggregates {
            // Names of this `stats` stand before those of the rows.
            let (sql, is_number) = self.aggregated(&column.expr, &named)?;
            named.push(Named { key: key(column), label: column.label.clone(), sql, is_number });
        }
        let mut sql = self.head(named.iter());
        if !groups.is_empty() {
            sql.push_str(&format!("\nGROUP BY {}", groups.join(", ")));
        }
        *self = self.above(&sql, named);
        Ok(())
    }

    /// Puts what there is so far below a new select.
    fn nest(&mut self) -> Result<(), SqlError> {
        let is_limited = self.is_limited;
        let shown = self.columns()?;
        let sql = self.text(&shown);
        // Names that are not shown may be asked for, too.
        *self = self.above(&sql, shown);
        self.is_limited = is_limited;
        Ok(())
    }

    fn above(&self, sql: &str, named: Vec<Named>) -> Self {
        let names: Vec<_> = named
            .into_iter()
            .map(|named| Named { sql: self.dialect.quoted(&named.label), ..named })
            .collect();
        Self {
            shown: names.iter().map(|named| named.key.clone()).collect(),
            names,
            of_table: false,
            is_chosen: true,
            ..Self::new(self.dialect, format!("(\n{sql}\n) AS t"))
        }
    }

    fn finish(&self) -> Result<String, SqlError> {
        Ok(self.text(&self.columns()?))
    }

    /// The columns to show.
    fn columns(&self) -> Result<Vec<Named>, SqlError> {
        if !self.is_chosen && self.shown.is_empty() {
            return Err(SqlError::NoCounterpart(
                "a query that shows @message, for want of `fields` or `stats`,".to_owned(),
                self.dialect,
            ));
        }
        let find = |key: &String| self.names.iter().rev().find(|named| named.key == *key).cloned();
        Ok(self.shown.iter().filter_map(find).collect())
    }

    fn text(&self, columns: &[Named]) -> String {
        let mut sql = self.head(columns.iter());
        let mut order = self.order.clone();
        if order.is_empty() && self.of_table {
            order.push(format!("{} DESC", self.dialect.quoted("start")));
        }
        if !order.is_empty() {
            sql.push_str(&format!("\nORDER BY {}", order.join(", ")));
        }
        if let Some(limit) = &self.limit {
            sql.push_str(&format!("\nLIMIT {limit}"));
        }
        sql
    }

    /// `SELECT` to `WHERE`.
    fn head<'n>(&self, columns: impl Iterator<Item = &'n Named>) -> String {
        let columns: Vec<_> = columns
            .map(|Named { sql, label, .. }| {
                let label = self.dialect.quoted(label);
                if *sql == label { label } else { format!("{sql} AS {label}") }
            })
            .collect();
        let mut text = format!("SELECT {}\nFROM {}", columns.join(", "), self.source);
        if !self.wheres.is_empty() {
            text.push_str(&format!("\nWHERE {}", self.wheres.join(" AND ")));
        }
        text
    }

    fn define(&mut self, named: Named) {
        self.names.retain(|known| known.key != named.key);
        self.names.push(named);
    }

    fn show(&mut self, key: String) {
        if !self.shown.contains(&key) {
            self.shown.push(key);
        }
    }
}

#[cfg(test)]
mod tests;
