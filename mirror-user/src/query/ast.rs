//! A query as it is written: commands and expressions, which print as a query again.

use std::{fmt, ops::Range};

use regex::Regex;

use super::{
    aggregate::Aggregate, field::field_key, functions::Function, lexer::is_bare_name, period::Period,
    value::Value,
};

#[derive(Clone, Debug)]
pub(super) struct Command {
    pub(super) kind: CommandKind,
    pub(super) span: Range<usize>,
}

#[derive(Clone, Debug)]
pub(super) enum CommandKind {
    Fields(Vec<Column>),
    Display(Vec<Column>),
    Filter(Expr),
    Parse { source: Option<Expr>, pattern: Pattern, names: Vec<String> },
    Stats { aggregates: Vec<Column>, by: Vec<Column> },
    Sort(Vec<(Expr, Direction)>),
    Limit(u64),
    Dedup(Vec<Expr>),
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Direction {
    Ascending,
    Descending,
}

/// An expression that becomes a column.
#[derive(Clone, Debug)]
pub(super) struct Column {
    pub(super) expr: Expr,
    pub(super) alias: Option<String>,
    /// What heads it: the alias, or the expression as written.
    pub(super) label: String,
}

/// What `parse` looks for.
#[derive(Clone, Debug)]
pub(super) enum Pattern {
    Glob(String),
    Regex(Regex),
}

#[derive(Clone, Debug)]
pub(super) struct Expr {
    pub(super) kind: ExprKind,
    pub(super) span: Range<usize>,
}

#[derive(Clone, Debug)]
pub(super) enum ExprKind {
    Constant(Value<'static>),
    Field(String),
    All(Vec<Expr>),
    Any(Vec<Expr>),
    Not(Box<Expr>),
    Negative(Box<Expr>),
    Compare(Comparison, Box<[Expr; 2]>),
    Arithmetic(Operator, Box<[Expr; 2]>),
    /// Whether the first holds the second.
    Contains(Box<[Expr; 2]>),
    Matches(Box<Expr>, Regex),
    In(Box<Expr>, Vec<Expr>),
    Call(Function, Vec<Expr>),
    Aggregate(Aggregate, Vec<Expr>),
    Period(Period),
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Operator {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
    Power,
}

impl Comparison {
    pub(super) const ALL: [(&'static str, Self); 6] = [
        ("=", Self::Equal),
        ("!=", Self::NotEqual),
        ("<=", Self::LessOrEqual),
        ("<", Self::Less),
        (">=", Self::GreaterOrEqual),
        (">", Self::Greater),
    ];

    pub(super) fn symbol(self) -> &'static str {
        Self::ALL.into_iter().find(|(_, comparison)| *comparison == self).map_or("", |(symbol, _)| symbol)
    }
}

impl Operator {
    pub(super) const ADDITIVE: [(&'static str, Self); 2] = [("+", Self::Add), ("-", Self::Subtract)];
    pub(super) const MULTIPLICATIVE: [(&'static str, Self); 3] =
        [("*", Self::Multiply), ("/", Self::Divide), ("%", Self::Remainder)];
    pub(super) const POWER: [(&'static str, Self); 1] = [("^", Self::Power)];

    pub(super) fn symbol(self) -> &'static str {
        Self::ADDITIVE
            .iter()
            .chain(&Self::MULTIPLICATIVE)
            .chain(&Self::POWER)
            .find(|(_, operator)| *operator == self)
            .map_or("", |(symbol, _)| symbol)
    }
}

impl Expr {
    /// The field's name, if it is nothing but one.
    pub(super) fn field(&self) -> Option<&str> {
        match &self.kind {
            ExprKind::Field(name) => Some(name),
            _ => None,
        }
    }

    /// The text, if it is a string.
    pub(super) fn text(&self) -> Option<&str> {
        match &self.kind {
            ExprKind::Constant(Value::Text(text)) => Some(text),
            _ => None,
        }
    }
}

impl Pattern {
    /// Names of the groups of a regular expression that have one, in order.
    pub(super) fn group_names(regex: &Regex) -> Vec<String> {
        regex.capture_names().flatten().map(ToOwned::to_owned).collect()
    }
}

/// What finds a column: its name in normal form, or the text of its expression.
pub(super) fn column_key(column: &Column) -> String {
    column.alias.as_deref().map_or_else(|| expression_key(&column.expr), field_key)
}

/// The key of a column that is an expression without a name.
pub(super) fn expression_key(expr: &Expr) -> String {
    expr.field().map_or_else(|| expr.to_string().to_lowercase(), field_key)
}

impl fmt::Display for Command {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            CommandKind::Fields(columns) => write!(out, "fields {}", Listed(columns)),
            CommandKind::Display(columns) => write!(out, "display {}", Listed(columns)),
            CommandKind::Filter(expr) => write!(out, "filter {expr}"),
            CommandKind::Parse { source, pattern, names } => {
                out.write_str("parse ")?;
                if let Some(source) = source {
                    write!(out, "{source} ")?;
                }
                match pattern {
                    Pattern::Glob(glob) => write!(out, "{}", Text(glob))?,
                    Pattern::Regex(regex) => write!(out, "{}", Slashed(regex))?,
                }
                let is_named =
                    matches!(pattern, Pattern::Regex(regex) if Pattern::group_names(regex) == *names);
                if is_named {
                    return Ok(());
                }
                let names: Vec<_> = names.iter().map(|name| Name(name)).collect();
                write!(out, " as {}", Listed(&names))
            }
            CommandKind::Stats { aggregates, by } => {
                write!(out, "stats {}", Listed(aggregates))?;
                if by.is_empty() { Ok(()) } else { write!(out, " by {}", Listed(by)) }
            }
            CommandKind::Sort(keys) => {
                out.write_str("sort ")?;
                for (index, (expr, direction)) in keys.iter().enumerate() {
                    let comma = if index == 0 { "" } else { ", " };
                    let direction = if *direction == Direction::Ascending { "asc" } else { "desc" };
                    write!(out, "{comma}{expr} {direction}")?;
                }
                Ok(())
            }
            CommandKind::Limit(limit) => write!(out, "limit {limit}"),
            CommandKind::Dedup(fields) => write!(out, "dedup {}", Listed(fields)),
        }
    }
}

impl fmt::Display for Column {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.alias {
            Some(alias) => write!(out, "{} as {}", self.expr, Name(alias)),
            None => self.expr.fmt(out),
        }
    }
}

impl fmt::Display for Expr {
    /// Operators in brackets, so that none of their precedence is needed to read it.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            ExprKind::Constant(Value::Text(text)) => Text(text).fmt(out),
            // With all of its digits, where results have four.
            ExprKind::Constant(Value::Number(number)) => number.fmt(out),
            ExprKind::Constant(value) => value.fmt(out),
            ExprKind::Field(name) => Name(name).fmt(out),
            ExprKind::All(terms) => chain(out, terms, " and "),
            ExprKind::Any(terms) => chain(out, terms, " or "),
            ExprKind::Not(expr) => write!(out, "(not {expr})"),
            ExprKind::Negative(expr) => write!(out, "(-{expr})"),
            ExprKind::Compare(comparison, sides) => infix(out, sides, comparison.symbol()),
            ExprKind::Arithmetic(operator, sides) => infix(out, sides, operator.symbol()),
            ExprKind::Contains(sides) => infix(out, sides, "like"),
            ExprKind::Matches(expr, regex) => write!(out, "({expr} like {})", Slashed(regex)),
            ExprKind::In(expr, list) => write!(out, "({expr} in [{}])", Listed(list)),
            ExprKind::Call(function, arguments) => write!(out, "{}({})", function.name(), Listed(arguments)),
            ExprKind::Aggregate(Aggregate::Count, arguments) if arguments.is_empty() => {
                out.write_str("count(*)")
            }
            ExprKind::Aggregate(aggregate, arguments) => {
                write!(out, "{}({})", aggregate.name(), Listed(arguments))
            }
            ExprKind::Period(period) => period.fmt(out),
        }
    }
}

fn infix(out: &mut fmt::Formatter<'_>, [left, right]: &[Expr; 2], symbol: &str) -> fmt::Result {
    write!(out, "({left} {symbol} {right})")
}

fn chain(out: &mut fmt::Formatter<'_>, terms: &[Expr], between: &str) -> fmt::Result {
    for (index, term) in terms.iter().enumerate() {
        write!(out, "{}{term}", if index == 0 { "(" } else { between })?;
    }
    out.write_str(")")
}

/// Separated by commas.
struct Listed<'a, T>(&'a [T]);

impl<T: fmt::Display> fmt::Display for Listed<'_, T> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, item) in self.0.iter().enumerate() {
            write!(out, "{}{item}", if index == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

/// In backticks where it needs them, or would be an operator.
struct Name<'a>(&'a str);

/// Names that are not bare fields, whatever their capitals.
pub(super) const KEYWORDS: [&str; 9] = ["and", "or", "not", "like", "in", "as", "by", "asc", "desc"];

impl fmt::Display for Name<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_keyword = KEYWORDS.iter().any(|keyword| keyword.eq_ignore_ascii_case(self.0));
        if is_bare_name(self.0) && !is_keyword { out.write_str(self.0) } else { write!(out, "`{}`", self.0) }
    }
}

struct Text<'a>(&'a str);

impl fmt::Display for Text<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "\"{}\"", self.0.replace('\\', "\\\\").replace('"', "\\\""))
    }
}

struct Slashed<'a>(&'a Regex);

impl fmt::Display for Slashed<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "/{}/", self.0.as_str().replace('/', "\\/"))
    }
}
