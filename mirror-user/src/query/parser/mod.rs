//! Reads the commands of a query.

mod expression;

use std::ops::Range;

use regex::Regex;

use super::{
    ast::{Column, Command, CommandKind, Direction, Expr, Pattern},
    error::{ParseError, ParseErrorKind},
    lexer::{Lexer, Token},
};

/// Commands of this tool, as it lists them.
const COMMANDS: &str = "fields, display, filter, parse, stats, sort, limit, dedup";

/// Commands that
/// [CloudWatch documents](https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/CWL_QuerySyntax.html) and
/// this tool does not have.
const NOT_SUPPORTED: [&str; 23] = [
    "accum",
    "addtotals",
    "anomaly",
    "appendcols",
    "autoregress",
    "cidrlookup",
    "countFrequent",
    "diff",
    "expand",
    "filldown",
    "fillmissing",
    "filterIndex",
    "join",
    "logcompare",
    "lookup",
    "outlier",
    "pattern",
    "relevantfields",
    "sessionize",
    "SOURCE",
    "subqueries",
    "unmask",
    "unnest",
];

/// Where in a query expressions may aggregate.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Aggregates {
    /// In the first part of `stats`.
    Allowed,
    /// After `stats`, where `count(*)` names a column.
    AsColumns,
    No,
}

/// Reads what follows the name of a command.
type ReadCommand<'q> = fn(&mut Parser<'q>) -> Result<CommandKind, ParseError>;

/// Reads the commands of a query.
pub(super) fn commands(query: &str) -> Result<Vec<Command>, ParseError> {
    let mut parser = Parser::new(query)?;
    // A query may begin with a pipe, as its parts are often written one a line.
    parser.take_symbol("|")?;
    let mut commands = vec![parser.command()?];
    while parser.take_symbol("|")? {
        commands.push(parser.command()?);
    }
    match parser.token {
        Token::End => Ok(commands),
        _ => Err(parser.unexpected("`|` or the end of the query")),
    }
}

/// One word ahead.
struct Parser<'q> {
    query: &'q str,
    lexer: Lexer<'q>,
    token: Token<'q>,
    span: Range<usize>,
    /// Where the word before ended.
    end: usize,
    aggregates: Aggregates,
    /// Operators of the expression so far, and how deep its brackets are: bounds of the tree.
    operators: usize,
    depth: usize,
}

impl<'q> Parser<'q> {
    fn new(query: &'q str) -> Result<Self, ParseError> {
        let lexer = Lexer::new(query);
        let (token, span) = lexer.token(0)?;
        let aggregates = Aggregates::No;
        Ok(Self { query, lexer, token, span, end: 0, aggregates, operators: 0, depth: 0 })
    }

    fn command(&mut self) -> Result<Command, ParseError> {
        let Token::Name(name) = self.token else {
            return Err(self.unexpected(&format!("a command ({COMMANDS})")));
        };
        let span = self.span.clone();
        let read: ReadCommand<'q> = match name.to_ascii_lowercase().as_str() {
            "fields" => |parser| parser.columns().map(CommandKind::Fields),
            "display" => |parser| parser.columns().map(CommandKind::Display),
            "filter" | "where" => |parser| parser.expression().map(CommandKind::Filter),
            "parse" => Self::parse,
            "stats" => Self::stats,
            "sort" => Self::sort,
            "limit" => Self::limit,
            "dedup" => |parser| parser.separated(Self::expression).map(CommandKind::Dedup),
            _ => return Err(self.unknown_command(name)),
        };
        self.advance()?;
        let kind = read(self)?;
        Ok(Command { kind, span: span.start..self.end })
    }

    fn unknown_command(&self, name: &str) -> ParseError {
        let known = NOT_SUPPORTED.into_iter().find(|known| known.eq_ignore_ascii_case(name));
        self.error(
            self.span.clone(),
            match known {
                Some(known) => ParseErrorKind::NotSupported { what: "the command", name: known.to_owned() },
                None => ParseErrorKind::UnknownCommand { name: name.to_owned(), known: COMMANDS.to_owned() },
            },
        )
    }

    /// Expressions with names, separated by commas.
    fn columns(&mut self) -> Result<Vec<Column>, ParseError> {
        self.separated(|parser| {
            let expr = parser.expression()?;
            let alias = if parser.take_word("as")? { Some(parser.name()?.0) } else { None };
            let written = || parser.query.get(expr.span.clone()).unwrap_or_default().to_owned();
            let label = match (&alias, expr.field()) {
                (Some(alias), _) => alias.clone(),
                (None, Some(field)) => field.to_owned(),
                (None, None) => written(),
            };
            Ok(Column { expr, alias, label })
        })
    }

    fn parse(&mut self) -> Result<CommandKind, ParseError> {
        let is_pattern = |token: &Token<'_>| matches!(token, Token::Text(_) | Token::Symbol("/"));
        let source = if is_pattern(&self.token) { None } else { Some(self.primary()?) };
        let span = self.span.clone();
        let pattern = match &self.token {
            Token::Text(glob) => Pattern::Glob(glob.clone()),
            Token::Symbol("/") => Pattern::Regex(self.regex()?),
            _ => return Err(self.unexpected("a pattern in quotes, or a regular expression in slashes")),
        };
        if matches!(pattern, Pattern::Glob(_)) {
            self.advance()?;
        }
        let names = match &pattern {
            Pattern::Glob(glob) => {
                let stars = glob.matches('*').count();
                let names =
                    if self.take_word("as")? { self.separated(Self::field_name)? } else { Vec::new() };
                self.same_number(span, stars, "`*`", &names)?;
                names
            }
            Pattern::Regex(regex) => {
                let named = Pattern::group_names(regex);
                if self.take_word("as")? {
                    let names = self.separated(Self::field_name)?;
                    self.same_number(span, regex.captures_len() - 1, "group", &names)?;
                    names
                } else if named.is_empty() {
                    return Err(
                        self.unexpected("`as` and names for the groups, as `(?<name>…)` has none here")
                    );
                } else {
                    named
                }
            }
        };
        Ok(CommandKind::Parse { source, pattern, names })
    }

    fn same_number(
        &self,
        span: Range<usize>,
        found: usize,
        what: &str,
        names: &[String],
    ) -> Result<(), ParseError> {
        if found == names.len() && found > 0 {
            return Ok(());
        }
        let plural = |count: usize| if count == 1 { "" } else { "s" };
        Err(self.error(
            span,
            ParseErrorKind::ParseNames {
                pattern: format!("{found} {what}{}", plural(found)),
                names: format!("{} name{}", names.len(), plural(names.len())),
            },
        ))
    }

    fn stats(&mut self) -> Result<CommandKind, ParseError> {
        self.aggregates = Aggregates::Allowed;
        let aggregates = self.columns()?;
        self.aggregates = Aggregates::No;
        let by = if self.take_word("by")? { self.columns()? } else { Vec::new() };
        self.aggregates = Aggregates::AsColumns;
        Ok(CommandKind::Stats { aggregates, by })
    }

    fn sort(&mut self) -> Result<CommandKind, ParseError> {
        // Not documented, but people write it, and CloudWatch takes it.
        self.take_word("by")?;
        let keys = self.separated(|parser| {
            let expr = parser.expression()?;
            let is_descending = parser.take_word("desc")?;
            if !is_descending {
                parser.take_word("asc")?;
            }
            Ok((expr, if is_descending { Direction::Descending } else { Direction::Ascending }))
        })?;
        Ok(CommandKind::Sort(keys))
    }

    fn limit(&mut self) -> Result<CommandKind, ParseError> {
        let limit = match self.token {
            Token::Number(digits) => digits.parse().ok(),
            Token::Name(word) if word.eq_ignore_ascii_case("any") => {
                let kind = ParseErrorKind::NotSupported { what: "the option", name: "limit any".to_owned() };
                return Err(self.error(self.span.clone(), kind));
            }
            _ => None,
        };
        let Some(limit) = limit else { return Err(self.unexpected("a whole number of rows")) };
        self.advance()?;
        Ok(CommandKind::Limit(limit))
    }

    /// What `read` reads, once or more, separated by commas.
    fn separated<T>(
        &mut self,
        read: impl Fn(&mut Self) -> Result<T, ParseError>,
    ) -> Result<Vec<T>, ParseError> {
        let mut items = vec![read(self)?];
        while self.take_symbol(",")? {
            items.push(read(self)?);
        }
        Ok(items)
    }

    /// The regular expression at the next word, which is a slash.
    fn regex(&mut self) -> Result<Regex, ParseError> {
        let start = self.span.start;
        let (source, end) = self.lexer.regex(start)?;
        self.span = start..end;
        let regex = Regex::new(&source).map_err(|error| {
            // Its own picture of the place takes several lines; the last says what is wrong.
            let text = error.to_string();
            let last = text.lines().last().unwrap_or_default();
            let reason = last.trim().trim_start_matches("error: ").to_owned();
            self.error(start..end, ParseErrorKind::Regex(reason))
        })?;
        self.advance()?;
        Ok(regex)
    }

    fn field_name(&mut self) -> Result<String, ParseError> {
        self.name().map(|(name, _)| name)
    }

    /// A bare or quoted name.
    fn name(&mut self) -> Result<(String, Range<usize>), ParseError> {
        let (Token::Name(name) | Token::Quoted(name)) = self.token else {
            return Err(self.unexpected("a name"));
        };
        let span = self.span.clone();
        self.advance()?;
        Ok((name.to_owned(), span))
    }

    /// Whether the next word is this one, whatever its capitals; if so, it is read.
    fn take_word(&mut self, word: &str) -> Result<bool, ParseError> {
        let is_it = self.is_word(word);
        if is_it {
            self.advance()?;
        }
        Ok(is_it)
    }

    fn is_word(&self, word: &str) -> bool {
        matches!(self.token, Token::Name(name) if name.eq_ignore_ascii_case(word))
    }

    fn take_symbol(&mut self, symbol: &str) -> Result<bool, ParseError> {
        let is_it = matches!(self.token, Token::Symbol(found) if found == symbol);
        if is_it {
            self.advance()?;
        }
        Ok(is_it)
    }

    fn want_symbol(&mut self, symbol: &str) -> Result<(), ParseError> {
        if self.take_symbol(symbol)? { Ok(()) } else { Err(self.unexpected(&format!("`{symbol}`"))) }
    }

    fn advance(&mut self) -> Result<(), ParseError> {
        self.end = self.span.end;
        (self.token, self.span) = self.lexer.token(self.span.end)?;
        Ok(())
    }

    fn unexpected(&self, expected: &str) -> ParseError {
        let found = match self.token {
            Token::End => "the end of the query".to_owned(),
            _ => format!("`{}`", self.query.get(self.span.clone()).unwrap_or_default()),
        };
        let expected = expected.to_owned();
        self.error(self.span.clone(), ParseErrorKind::Unexpected { expected, found })
    }

    fn error(&self, span: Range<usize>, kind: ParseErrorKind) -> ParseError {
        ParseError::new(self.query, span, kind)
    }

    fn expression(&mut self) -> Result<Expr, ParseError> {
        (self.operators, self.depth) = (0, 0);
        self.any()
    }
}

#[cfg(test)]
mod tests;
