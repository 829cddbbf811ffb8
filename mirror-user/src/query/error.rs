//! What is wrong with a query, and where.

use std::{fmt, ops::Range};

/// A query that could not be understood: what was expected, and where.
///
/// [`Display`](fmt::Display) prints the line with the place marked by carets below it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ParseError {
    kind: ParseErrorKind,
    span: Range<usize>,
    place: Place,
}

/// What is wrong with a query.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseErrorKind {
    /// Something else stands where the grammar wants `expected`.
    #[error("expected {expected}, found {found}")]
    Unexpected {
        /// What the grammar wants.
        expected: String,
        /// What is there.
        found: String,
    },
    /// A string, a regular expression, or a quoted name has no end.
    #[error("{what} is not closed; it began here and wants a {delimiter}")]
    Unclosed {
        /// What it is.
        what: &'static str,
        /// What ends it.
        delimiter: char,
    },
    /// A command, function or operator of CloudWatch Logs Insights that is not built here.
    #[error("CloudWatch knows {what} `{name}`, this tool does not")]
    NotSupported {
        /// `the command`, `the function`, …
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// A command that nobody knows.
    #[error("`{name}` is no command; expected one of: {known}")]
    UnknownCommand {
        /// As written.
        name: String,
        /// The commands of this tool.
        known: String,
    },
    /// A function that nobody knows.
    #[error("`{name}` is no function; the functions are: {known}")]
    UnknownFunction {
        /// As written.
        name: String,
        /// The functions of this tool.
        known: String,
    },
    /// A function with more or fewer arguments than it takes.
    #[error("`{name}` takes {takes}, not {given}")]
    Arguments {
        /// The function.
        name: &'static str,
        /// How many it takes.
        takes: String,
        /// How many there are.
        given: usize,
    },
    /// A regular expression that does not compile.
    #[error("the regular expression is not valid: {0}")]
    Regex(String),
    /// A subnet in a query that is none.
    #[error("`{0}` is no subnet of that family; write it as 10.0.0.0/8 or 2001:db8::/32")]
    Subnet(String),
    /// `parse` names more or fewer fields than its pattern has.
    #[error("the pattern has {pattern} for {names}; both must be as many")]
    ParseNames {
        /// How many the pattern has, in words.
        pattern: String,
        /// How many names follow `as`, in words.
        names: String,
    },
    /// A field name with hyphens, which is a subtraction unless quoted.
    #[error(
        "`{0}` is a subtraction in this language; for the field write it in backticks, or with underscores"
    )]
    HyphenatedName(String),
    /// A name that stands for nothing after `stats`.
    #[error("there is no `{name}` after `stats`; its columns are: {known}")]
    NoSuchColumn {
        /// As written.
        name: String,
        /// The columns there are.
        known: String,
    },
    /// A field that is neither aggregated nor grouped by.
    #[error("`{0}` is neither in an aggregate function nor in `by`")]
    NotAggregated(String),
    /// A combination that the language does not have.
    #[error("{0}")]
    Misplaced(String),
}

/// Line and column of a byte offset, and the line's text.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Place {
    /// From 1.
    line: usize,
    /// Characters before it in its line.
    before: usize,
    /// Characters to mark.
    marked: usize,
    text: String,
}

impl ParseError {
    pub(super) fn new(query: &str, span: Range<usize>, kind: ParseErrorKind) -> Self {
        let before = query.get(..span.start).unwrap_or(query);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let rest = query.get(line_start..).unwrap_or_default();
        let text = rest.split(['\n', '\r']).next().unwrap_or_default();
        let line_end = line_start + text.len();
        let marked = query.get(span.start..span.end.min(line_end)).map_or(0, |part| part.chars().count());
        let place = Place {
            line: before.matches('\n').count() + 1,
            before: query.get(line_start..span.start).map_or(0, |part| part.chars().count()),
            marked: marked.max(1),
            text: text.to_owned(),
        };
        Self { kind, span, place }
    }

    /// What is wrong.
    pub fn kind(&self) -> &ParseErrorKind {
        &self.kind
    }

    /// Where, as bytes of the query.
    pub fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    /// The line, from 1.
    pub fn line(&self) -> usize {
        self.place.line
    }

    /// The column, in characters from 1.
    pub fn column(&self) -> usize {
        self.place.before + 1
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Place { line, before, marked, text } = &self.place;
        writeln!(out, "line {line}, column {}: {}", before + 1, self.kind)?;
        // Tabs would put the carets elsewhere.
        writeln!(out, "  {}", text.replace('\t', " "))?;
        write!(out, "  {:before$}{}", "", "^".repeat(*marked))
    }
}

impl std::error::Error for ParseError {}
