//! Expressions with names resolved to places: what is evaluated for each record.

use std::cmp::Ordering;

use ipnet::IpNet;
use regex::Regex;

use super::{
    ast::{Comparison, Operator},
    functions::{Function, arithmetic, in_subnet},
    period::Period,
    value::{Numeric, Value},
};

/// Where a value is.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) enum Place {
    /// A column of what comes in.
    Input(usize),
    /// What an earlier step computed.
    Computed(usize),
}

/// The values that an expression sees.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row<'r, 'a> {
    pub(super) input: &'r [Value<'a>],
    pub(super) computed: &'r [Value<'a>],
    /// When the query began, in seconds since 1970.
    pub(super) now: i64,
}

impl<'r, 'a> Row<'r, 'a> {
    /// The value at a place; [`Value::Null`] beyond the end.
    #[inline]
    pub(super) fn at(self, place: Place) -> &'r Value<'a> {
        let found = match place {
            Place::Input(index) => self.input.get(index),
            Place::Computed(index) => self.computed.get(index),
        };
        found.unwrap_or(&Value::Null)
    }
}

/// An expression.
#[derive(Clone, Debug)]
pub(super) enum Compiled {
    Place(Place),
    Constant(Value<'static>),
    All(Vec<Self>),
    Any(Vec<Self>),
    Not(Box<Self>),
    Negative(Box<Self>),
    Compare(Comparison, Box<[Self; 2]>),
    Arithmetic(Operator, Box<[Self; 2]>),
    Contains(Box<[Self; 2]>),
    Matches(Box<Self>, Regex),
    In(Box<Self>, Vec<Self>),
    InSubnet(Box<Self>, IpNet),
    Call(Function, Vec<Self>),
    /// The beginning of the period that a time is in, or the next one's.
    Floor(Box<Self>, Period),
    Ceil(Box<Self>, Period),
    Now,
}

impl Compiled {
    /// The value for a row. Missing values are those of SQL: what compares or computes with one has no
    /// result, and `filter` drops what is not true.
    pub(super) fn evaluate<'a>(&'a self, row: Row<'_, 'a>) -> Value<'a> {
        match self {
            Self::Place(place) => row.at(*place).clone(),
            Self::Constant(value) => value.borrowed(),
            Self::All(terms) => all(terms, row, false),
            Self::Any(terms) => all(terms, row, true),
            Self::Not(expr) => truth(expr.is_true(row).map(|truth| !truth)),
            Self::Negative(expr) => arithmetic(Operator::Subtract, &Value::Integer(0), &expr.evaluate(row)),
            Self::Arithmetic(operator, sides) => {
                arithmetic(*operator, &sides[0].evaluate(row), &sides[1].evaluate(row))
            }
            Self::Compare(..) | Self::Contains(_) | Self::Matches(..) | Self::In(..) => {
                truth(self.is_true(row))
            }
            Self::InSubnet(expr, subnet) => in_subnet(&expr.evaluate(row), subnet),
            Self::Call(function, arguments) => {
                function.call(arguments.iter().map(|argument| argument.evaluate(row)).collect())
            }
            Self::Floor(time, period) => rounded(&time.evaluate(row), |millis| period.floor(millis)),
            Self::Ceil(time, period) => rounded(&time.evaluate(row), |millis| period.ceil(millis)),
            Self::Now => Value::Integer(row.now),
        }
    }

    /// Whether the expression is true for a row; nothing if it has no result.
    pub(super) fn is_true(&self, row: Row<'_, '_>) -> Option<bool> {
        match self {
            Self::Compare(comparison, sides) => {
                let order = sides[0].view(row, |left| sides[1].view(row, |right| left.compare(right)))?;
                Some(match comparison {
                    Comparison::Equal => order == Ordering::Equal,
                    Comparison::NotEqual => order != Ordering::Equal,
                    Comparison::Less => order == Ordering::Less,
                    Comparison::LessOrEqual => order != Ordering::Greater,
                    Comparison::Greater => order == Ordering::Greater,
                    Comparison::GreaterOrEqual => order != Ordering::Less,
                })
            }
            Self::Contains(sides) => sides[0].view(row, |text| {
                sides[1].view(row, |part| {
                    let (text, part) = (text.borrowed().into_text()?, part.borrowed().into_text()?);
                    Some(text.contains(part.as_ref()))
                })
            }),
            Self::Matches(expr, regex) => {
                expr.view(row, |value| value.borrowed().into_text().map(|text| regex.is_match(&text)))
            }
            Self::In(expr, list) => expr.view(row, |value| {
                (*value != Value::Null).then(|| {
                    list.iter()
                        .any(|item| item.view(row, |item| value.compare(item) == Some(Ordering::Equal)))
                })
            }),
            Self::Place(place) => row.at(*place).is_true(),
            _ => self.evaluate(row).is_true(),
        }
    }

    /// Looks at the value without a copy, where it is one of the row.
    #[inline]
    pub(super) fn view<T>(&self, row: Row<'_, '_>, look: impl FnOnce(&Value<'_>) -> T) -> T {
        match self {
            Self::Place(place) => look(row.at(*place)),
            Self::Constant(value) => look(value),
            _ => look(&self.evaluate(row)),
        }
    }

    /// Visits every place in it.
    pub(super) fn places(&mut self, visit: &mut dyn FnMut(&mut Place)) {
        match self {
            Self::Place(place) => visit(place),
            Self::Constant(_) | Self::Now => {}
            Self::All(parts) | Self::Any(parts) | Self::Call(_, parts) => {
                parts.iter_mut().for_each(|part| part.places(visit));
            }
            Self::Compare(_, sides) | Self::Arithmetic(_, sides) | Self::Contains(sides) => {
                sides.iter_mut().for_each(|side| side.places(visit));
            }
            Self::In(expr, list) => {
                expr.places(visit);
                list.iter_mut().for_each(|item| item.places(visit));
            }
            Self::Not(expr)
            | Self::Negative(expr)
            | Self::Matches(expr, _)
            | Self::InSubnet(expr, _)
            | Self::Floor(expr, _)
            | Self::Ceil(expr, _) => expr.places(visit),
        }
    }
}

/// `and`, or with `deciding` true `or`: the first term that decides does, else one without a result.
fn all<'a>(terms: &[Compiled], row: Row<'_, '_>, deciding: bool) -> Value<'a> {
    let mut result = Some(!deciding);
    for term in terms {
        match term.is_true(row) {
            Some(found) if found == deciding => return Value::truth(deciding),
            Some(_) => {}
            None => result = None,
        }
    }
    truth(result)
}

fn truth<'a>(truth: Option<bool>) -> Value<'a> {
    truth.map_or(Value::Null, Value::truth)
}

fn rounded<'a>(time: &Value<'_>, round: impl FnOnce(i64) -> Option<i64>) -> Value<'a> {
    time.number().and_then(Numeric::whole).and_then(round).map_or(Value::Null, Value::Timestamp)
}
