//! Reads expressions. Precedence, loosest first: `or`, `and`, `not`, comparisons, `+ -`, `* / %`, `^`, a
//! sign.

use std::ops::Range;

use super::{
    super::{
        aggregate::Aggregate,
        ast::{Comparison, Expr, ExprKind, KEYWORDS, Operator},
        error::{ParseError, ParseErrorKind},
        functions::{self, Function},
        lexer::Token,
        period::Period,
        value::{Numeric, Value},
    },
    Aggregates, Parser,
};
use crate::flow_log::Field;

/// The most operators of an expression, and the deepest brackets: what follows the tree by recursion has a
/// bounded stack.
const MOST_OPERATORS: usize = 100;
const DEEPEST: usize = 32;

type Read<'q> = fn(&mut Parser<'q>) -> Result<Expr, ParseError>;

impl<'q> Parser<'q> {
    pub(super) fn any(&mut self) -> Result<Expr, ParseError> {
        self.chain("or", Self::all, ExprKind::Any)
    }

    fn all(&mut self) -> Result<Expr, ParseError> {
        self.chain("and", Self::not, ExprKind::All)
    }

    fn chain(
        &mut self,
        word: &str,
        read: Read<'q>,
        join: fn(Vec<Expr>) -> ExprKind,
    ) -> Result<Expr, ParseError> {
        let first = read(self)?;
        if !self.is_word(word) {
            return Ok(first);
        }
        let start = first.span.start;
        let mut terms = vec![first];
        while self.take_word(word)? {
            terms.push(read(self)?);
        }
        Ok(Expr { kind: join(terms), span: start..self.end })
    }

    fn not(&mut self) -> Result<Expr, ParseError> {
        let start = self.span.start;
        if !self.take_word("not")? {
            return self.relation();
        }
        let expr = self.nested(Self::not)?;
        Ok(self.from(start, ExprKind::Not(Box::new(expr))))
    }

    fn relation(&mut self) -> Result<Expr, ParseError> {
        let left = self.sum()?;
        let start = left.span.start;
        if let Token::Symbol(symbol) = self.token {
            if let Some((_, comparison)) = Comparison::ALL.into_iter().find(|(known, _)| *known == symbol) {
                self.advance()?;
                let right = self.sum()?;
                return Ok(self.from(start, ExprKind::Compare(comparison, Box::new([left, right]))));
            }
            if symbol == "=~" {
                self.advance()?;
                return self.like(left);
            }
            if symbol == "==" {
                return Err(self.unexpected("`=`, which compares"));
            }
        }
        let is_negated = self.take_word("not")?;
        let expr = if self.take_word("like")? {
            self.like(left)?
        } else if self.take_word("in")? {
            self.list(left)?
        } else if is_negated {
            return Err(self.unexpected("`like` or `in`"));
        } else {
            return Ok(left);
        };
        Ok(if is_negated { self.from(start, ExprKind::Not(Box::new(expr))) } else { expr })
    }

    /// The pattern after `like`, or `=~`, which is the same.
    fn like(&mut self, left: Expr) -> Result<Expr, ParseError> {
        let start = left.span.start;
        let kind = match self.token {
            Token::Symbol("/") => ExprKind::Matches(Box::new(left), self.regex()?),
            Token::Symbol("%") => {
                let kind =
                    ParseErrorKind::NotSupported { what: "the pattern", name: "like %…%".to_owned() };
                return Err(self.error(self.span.clone(), kind));
            }
            _ => ExprKind::Contains(Box::new([left, self.sum()?])),
        };
        Ok(self.from(start, kind))
    }

    fn list(&mut self, left: Expr) -> Result<Expr, ParseError> {
        let start = left.span.start;
        // CloudWatch documents square brackets; round ones hold its subqueries.
        if !self.take_symbol("[")? {
            return Err(self.unexpected("a list in square brackets, such as [80, 443]"));
        }
        let list = if self.take_symbol("]")? {
            Vec::new()
        } else {
            let list = self.separated(|parser| parser.nested(Self::any))?;
            self.want_symbol("]")?;
            list
        };
        Ok(self.from(start, ExprKind::In(Box::new(left), list)))
    }

    fn sum(&mut self) -> Result<Expr, ParseError> {
        self.arithmetic(&Operator::ADDITIVE, Self::product)
    }

    fn product(&mut self) -> Result<Expr, ParseError> {
        self.arithmetic(&Operator::MULTIPLICATIVE, Self::power)
    }

    fn power(&mut self) -> Result<Expr, ParseError> {
        self.arithmetic(&Operator::POWER, Self::sign)
    }

    /// From left to right.
    fn arithmetic(
        &mut self,
        operators: &[(&'static str, Operator)],
        read: Read<'q>,
    ) -> Result<Expr, ParseError> {
        let mut left = read(self)?;
        while let Token::Symbol(symbol) = self.token {
            let Some(&(_, operator)) = operators.iter().find(|(known, _)| *known == symbol) else { break };
            self.operators += 1;
            if self.operators > MOST_OPERATORS {
                let reason = format!("an expression may have {MOST_OPERATORS} operators");
                return Err(self.error(self.span.clone(), ParseErrorKind::Misplaced(reason)));
            }
            self.advance()?;
            let right = read(self)?;
            let span = left.span.start..self.end;
            self.hyphenated(operator, [&left, &right], &span)?;
            left = Expr { kind: ExprKind::Arithmetic(operator, Box::new([left, right])), span };
        }
        Ok(left)
    }

    /// Refuses `pkt-srcaddr`: a subtraction in this language, but surely meant as a field.
    fn hyphenated(
        &self,
        operator: Operator,
        sides: [&Expr; 2],
        span: &Range<usize>,
    ) -> Result<(), ParseError> {
        let written = self.query.get(span.clone()).unwrap_or_default();
        let is_field =
            operator == Operator::Subtract && sides[1].field().is_some() && Field::named(written).is_some();
        if is_field {
            return Err(self.error(span.clone(), ParseErrorKind::HyphenatedName(written.to_owned())));
        }
        Ok(())
    }

    fn sign(&mut self) -> Result<Expr, ParseError> {
        let start = self.span.start;
        if !self.take_symbol("-")? {
            return self.primary();
        }
        let expr = self.nested(Self::sign)?;
        Ok(self.from(start, ExprKind::Negative(Box::new(expr))))
    }

    /// What `read` reads, one level deeper.
    fn nested(&mut self, read: Read<'q>) -> Result<Expr, ParseError> {
        self.depth += 1;
        if self.depth > DEEPEST {
            let reason = format!("an expression may be {DEEPEST} levels deep");
            return Err(self.error(self.span.clone(), ParseErrorKind::Misplaced(reason)));
        }
        let expr = read(self)?;
        self.depth -= 1;
        Ok(expr)
    }

    pub(super) fn primary(&mut self) -> Result<Expr, ParseError> {
        let start = self.span.start;
        let kind = match &self.token {
            Token::Number(digits) => {
                ExprKind::Constant(Numeric::read(digits).map_or(Value::Null, Value::from))
            }
            Token::Text(text) => ExprKind::Constant(Value::Text(text.clone().into())),
            Token::Quoted(name) => ExprKind::Field((*name).to_owned()),
            Token::Name(name) => {
                let name = *name;
                if KEYWORDS.iter().any(|keyword| keyword.eq_ignore_ascii_case(name)) {
                    return Err(self.unexpected("a field, a value or a function"));
                }
                let span = self.span.clone();
                self.advance()?;
                if self.take_symbol("(")? {
                    return self.call(name, &span);
                }
                return Ok(Expr { kind: ExprKind::Field(name.to_owned()), span });
            }
            Token::Symbol("(") => {
                self.advance()?;
                let inner = self.nested(Self::any)?;
                self.want_symbol(")")?;
                return Ok(Expr { kind: inner.kind, span: start..self.end });
            }
            _ => return Err(self.unexpected("a field, a value or a function")),
        };
        self.advance()?;
        Ok(self.from(start, kind))
    }

    /// The arguments of a function, whose bracket is read.
    fn call(&mut self, name: &str, span: &Range<usize>) -> Result<Expr, ParseError> {
        if let Some(function) = Function::named(name) {
            let mut arguments = Vec::new();
            if !self.take_symbol(")")? {
                loop {
                    let is_period = function.takes_period() && arguments.len() + 1 == function.arguments().1;
                    arguments.push(if is_period { self.period()? } else { self.nested(Self::any)? });
                    if !self.take_symbol(",")? {
                        break;
                    }
                }
                self.want_symbol(")")?;
            }
            self.number_of(function.name(), function.arguments(), &arguments, span)?;
            self.subnet(function, &arguments)?;
            return Ok(self.from(span.start, ExprKind::Call(function, arguments)));
        }
        let Some(aggregate) = Aggregate::named(name) else { return Err(self.unknown_function(name, span)) };
        let before = match self.aggregates {
            Aggregates::No => {
                let reason = format!("`{name}` aggregates: only the first part of `stats` takes it");
                return Err(self.error(span.clone(), ParseErrorKind::Misplaced(reason)));
            }
            before => before,
        };
        // Not one within another.
        self.aggregates = Aggregates::No;
        let arguments = if self.take_symbol(")")? {
            Vec::new()
        } else if aggregate == Aggregate::Count && self.take_symbol("*")? {
            self.want_symbol(")")?;
            Vec::new()
        } else {
            let arguments = self.separated(|parser| parser.nested(Self::any))?;
            self.want_symbol(")")?;
            arguments
        };
        self.aggregates = before;
        self.number_of(aggregate.name(), aggregate.arguments(), &arguments, span)?;
        if let (Aggregate::Pct, [_, percentile]) = (aggregate, arguments.as_slice()) {
            let ExprKind::Constant(Value::Integer(_) | Value::Number(_)) = percentile.kind else {
                let reason = "`pct` wants a number from 0 to 100 as its second argument".to_owned();
                return Err(self.error(percentile.span.clone(), ParseErrorKind::Misplaced(reason)));
            };
        }
        Ok(self.from(span.start, ExprKind::Aggregate(aggregate, arguments)))
    }

    /// A period: `5m`, or `5 m`.
    fn period(&mut self) -> Result<Expr, ParseError> {
        let span = self.span.clone();
        let word = match self.token {
            Token::Period(word) => word.to_owned(),
            Token::Number(digits) => {
                self.advance()?;
                match self.token {
                    Token::Name(unit) => format!("{digits}{unit}"),
                    _ => return Err(self.unexpected("a unit of time")),
                }
            }
            _ => return Err(self.unexpected("a period, such as 5m or 1h")),
        };
        let Some(period) = Period::read(&word) else {
            return Err(self.unexpected("a period: a number and one of ms, s, m, h, d, w, mo, q, y"));
        };
        self.advance()?;
        Ok(self.from(span.start, ExprKind::Period(period)))
    }

    fn subnet(&self, function: Function, arguments: &[Expr]) -> Result<(), ParseError> {
        let Some(written) = arguments.get(1).filter(|_| function.takes_subnet()) else { return Ok(()) };
        match written.text() {
            Some(text) if function.subnet(text).is_none() => {
                Err(self.error(written.span.clone(), ParseErrorKind::Subnet(text.to_owned())))
            }
            _ => Ok(()),
        }
    }

    fn number_of(
        &self,
        name: &'static str,
        (fewest, most): (usize, usize),
        arguments: &[Expr],
        span: &Range<usize>,
    ) -> Result<(), ParseError> {
        let given = arguments.len();
        if (fewest..=most).contains(&given) {
            return Ok(());
        }
        let takes = match (fewest, most) {
            (0, 0) => "no arguments".to_owned(),
            (1, 1) => "1 argument".to_owned(),
            (fewest, usize::MAX) => format!("at least {fewest}"),
            (fewest, most) if fewest == most => format!("{fewest} arguments"),
            (fewest, most) => format!("{fewest} to {most} arguments"),
        };
        Err(self.error(span.start..self.end, ParseErrorKind::Arguments { name, takes, given }))
    }

    fn unknown_function(&self, name: &str, span: &Range<usize>) -> ParseError {
        let known = functions::NOT_SUPPORTED.into_iter().find(|known| known.eq_ignore_ascii_case(name));
        self.error(
            span.clone(),
            match known {
                Some(known) => ParseErrorKind::NotSupported { what: "the function", name: known.to_owned() },
                None => {
                    let names: Vec<_> = Function::names().chain(Aggregate::names()).collect();
                    ParseErrorKind::UnknownFunction { name: name.to_owned(), known: names.join(", ") }
                }
            },
        )
    }

    fn from(&self, start: usize, kind: ExprKind) -> Expr {
        Expr { kind, span: start..self.end }
    }
}
