//! Aggregate functions of `stats`:
//! [the list of CloudWatch](https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/CWL_QuerySyntax-Stats.html).

use std::{cmp::Ordering, collections::HashSet};

use super::{
    order::natural,
    value::{Numeric, Value},
};

/// An aggregate function.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Aggregate {
    Avg,
    Count,
    CountDistinct,
    Earliest,
    Latest,
    Max,
    Median,
    Min,
    Pct,
    SortsFirst,
    SortsLast,
    Stddev,
    Sum,
}

/// Function, name, fewest and most arguments.
const AGGREGATES: [(Aggregate, &str, usize, usize); 13] = [
    (Aggregate::Avg, "avg", 1, 1),
    (Aggregate::Count, "count", 0, 1),
    (Aggregate::CountDistinct, "count_distinct", 1, 1),
    (Aggregate::Earliest, "earliest", 1, 1),
    (Aggregate::Latest, "latest", 1, 1),
    (Aggregate::Max, "max", 1, 1),
    (Aggregate::Median, "median", 1, 1),
    (Aggregate::Min, "min", 1, 1),
    (Aggregate::Pct, "pct", 2, 2),
    (Aggregate::SortsFirst, "sortsFirst", 1, 1),
    (Aggregate::SortsLast, "sortsLast", 1, 1),
    (Aggregate::Stddev, "stddev", 1, 1),
    (Aggregate::Sum, "sum", 1, 1),
];

impl Aggregate {
    /// Finds a function by its name, whatever its capitals.
    pub(super) fn named(name: &str) -> Option<Self> {
        let found = AGGREGATES.into_iter().find(|(_, known, ..)| known.eq_ignore_ascii_case(name));
        found.map(|(aggregate, ..)| aggregate)
    }

    pub(super) fn names() -> impl Iterator<Item = &'static str> {
        AGGREGATES.into_iter().map(|(_, name, ..)| name)
    }

    pub(super) fn name(self) -> &'static str {
        self.entry().map_or("", |(_, name, ..)| name)
    }

    /// The fewest and the most arguments.
    pub(super) fn arguments(self) -> (usize, usize) {
        self.entry().map_or((0, 0), |(.., fewest, most)| (fewest, most))
    }

    fn entry(self) -> Option<(Self, &'static str, usize, usize)> {
        AGGREGATES.into_iter().find(|(aggregate, ..)| *aggregate == self)
    }
}

/// An aggregate of one group, so far. What is no number is left out of those of numbers, so `-` counts for
/// nothing in `sum` or `min`.
#[derive(Clone, Debug)]
pub(super) enum State {
    /// `count(*)`, or of values that are there.
    Count(i64),
    Sum(Sum),
    Avg(Sum, i64),
    Extreme(Ordering, Option<(Numeric, bool)>),
    Distinct(HashSet<Box<str>, foldhash::fast::RandomState>),
    /// All values, and which percentile is wanted.
    Percentile(Vec<f64>, f64),
    /// Number, mean, and sum of squared distances from it (Welford).
    Spread(f64, f64, f64),
    /// A value and when it was: the earliest or latest.
    Timed(Ordering, Option<(Numeric, Value<'static>)>),
    /// The value that sorts first or last.
    Sorted(Ordering, Option<Value<'static>>),
}

/// A sum: exact as long as all numbers are integers and it is one of 64 bits.
#[derive(Clone, Copy, Debug)]
pub(super) enum Sum {
    Nothing,
    Integer(i64),
    Float(f64),
}

impl State {
    /// The state before the first record; `percentile` is what `pct` asks for.
    pub(super) fn new(aggregate: Aggregate, percentile: f64) -> Self {
        match aggregate {
            Aggregate::Avg => Self::Avg(Sum::Nothing, 0),
            Aggregate::Count => Self::Count(0),
            Aggregate::CountDistinct => Self::Distinct(HashSet::default()),
            Aggregate::Earliest => Self::Timed(Ordering::Less, None),
            Aggregate::Latest => Self::Timed(Ordering::Greater, None),
            Aggregate::Max => Self::Extreme(Ordering::Greater, None),
            Aggregate::Median => Self::Percentile(Vec::new(), 50.0),
            Aggregate::Min => Self::Extreme(Ordering::Less, None),
            Aggregate::Pct => Self::Percentile(Vec::new(), percentile),
            Aggregate::SortsFirst => Self::Sorted(Ordering::Less, None),
            Aggregate::SortsLast => Self::Sorted(Ordering::Greater, None),
            Aggregate::Stddev => Self::Spread(0.0, 0.0, 0.0),
            Aggregate::Sum => Self::Sum(Sum::Nothing),
        }
    }

    /// Adds a value; `time` is the record's, for the earliest and latest. Returns how many bytes of memory
    /// the state has grown by.
    pub(super) fn add(&mut self, value: &Value<'_>, time: &Value<'_>) -> usize {
        if *value == Value::Null {
            return 0;
        }
        match self {
            Self::Count(count) => *count += 1,
            Self::Distinct(seen) => return distinct(seen, value),
            Self::Timed(wanted, best) => {
                let Some(time) = time.number() else { return 0 };
                // Among equal times the first of the earliest, and the last of the latest.
                let is_better = best.as_ref().is_none_or(|(best, _)| {
                    let order = time.total_cmp(*best);
                    order == *wanted || (order == Ordering::Equal && *wanted == Ordering::Greater)
                });
                if is_better {
                    return replace(best, (time, value.borrowed().into_owned()), |(_, value)| value);
                }
            }
            Self::Sorted(wanted, best) => {
                if best.as_ref().is_none_or(|best| natural(value, best) == *wanted) {
                    return replace(best, value.borrowed().into_owned(), |value| value);
                }
            }
            _ => {
                if let Some(number) = value.number() {
                    return self.add_number(number, matches!(value, Value::Timestamp(_)));
                }
            }
        }
        0
    }

    fn add_number(&mut self, number: Numeric, is_time: bool) -> usize {
        match self {
            Self::Sum(sum) => sum.add(number),
            Self::Avg(sum, count) => {
                sum.add(number);
                *count += 1;
            }
            Self::Extreme(wanted, best) => {
                if best.is_none_or(|(best, _)| number.total_cmp(best) == *wanted) {
                    *best = Some((number, is_time));
                }
            }
            Self::Percentile(values, _) => {
                let before = values.capacity();
                values.push(number.float());
                return (values.capacity() - before) * size_of::<f64>();
            }
            Self::Spread(count, mean, squares) => {
                let number = number.float();
                let distance = number - *mean;
                *count += 1.0;
                *mean += distance / *count;
                *squares += distance * (number - *mean);
            }
            Self::Count(_) | Self::Distinct(_) | Self::Timed(..) | Self::Sorted(..) => {}
        }
        0
    }

    /// The result.
    #[expect(clippy::cast_precision_loss, reason = "counts of records are below 2^53")]
    pub(super) fn finish(self) -> Value<'static> {
        match self {
            Self::Count(count) => Value::Integer(count),
            Self::Sum(sum) => sum.total().map_or(Value::Null, Value::from),
            Self::Avg(sum, count) => match sum.total() {
                Some(total) => Numeric::Float(total.float() / count as f64).into(),
                None => Value::Null,
            },
            Self::Extreme(_, best) => match best {
                Some((Numeric::Integer(millis), true)) => Value::Timestamp(millis),
                Some((number, _)) => number.into(),
                None => Value::Null,
            },
            Self::Distinct(seen) => i64::try_from(seen.len()).map_or(Value::Null, Value::Integer),
            Self::Percentile(values, percentile) => {
                nearest_rank(values, percentile).map_or(Value::Null, |value| Numeric::Float(value).into())
            }
            Self::Spread(count, _, squares) => {
                if count > 0.0 {
                    Numeric::Float((squares / count).sqrt()).into()
                } else {
                    Value::Null
                }
            }
            Self::Timed(_, best) => best.map_or(Value::Null, |(_, value)| value),
            Self::Sorted(_, best) => best.unwrap_or(Value::Null),
        }
    }
}

impl Sum {
    #[inline]
    fn add(&mut self, number: Numeric) {
        *self = match (*self, number) {
            (Self::Nothing, Numeric::Integer(integer)) => Self::Integer(integer),
            (Self::Nothing, Numeric::Float(float)) => Self::Float(float),
            (Self::Integer(sum), Numeric::Integer(integer)) => match sum.checked_add(integer) {
                Some(sum) => Self::Integer(sum),
                None => Self::Float(Numeric::Integer(sum).float() + number.float()),
            },
            (Self::Integer(sum), Numeric::Float(float)) => Self::Float(Numeric::Integer(sum).float() + float),
            (Self::Float(sum), number) => Self::Float(sum + number.float()),
        }
    }

    fn total(self) -> Option<Numeric> {
        match self {
            Self::Nothing => None,
            Self::Integer(integer) => Some(Numeric::Integer(integer)),
            Self::Float(float) => Some(Numeric::Float(float)),
        }
    }
}

/// The smallest value that at least so many percent of the values do not exceed.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "a share of the number of values, which fits memory"
)]
fn nearest_rank(mut values: Vec<f64>, percentile: f64) -> Option<f64> {
    let rank = (percentile / 100.0 * values.len() as f64).ceil().max(1.0) as usize;
    let index = rank.min(values.len()).checked_sub(1)?;
    Some(*values.select_nth_unstable_by(index, f64::total_cmp).1)
}

/// Adds a value in its printed form, where numbers of text and of integers are one.
fn distinct(seen: &mut HashSet<Box<str>, foldhash::fast::RandomState>, value: &Value<'_>) -> usize {
    let Some(text) = value.borrowed().into_text() else { return 0 };
    if seen.contains(text.as_ref()) {
        return 0;
    }
    let before = seen.capacity();
    seen.insert(text.as_ref().into());
    text.len() + (seen.capacity() - before) * (size_of::<Box<str>>() + 1)
}

/// Puts a value in place of another; returns by how much its text is longer.
fn replace<T>(best: &mut Option<T>, with: T, value: impl Fn(&T) -> &Value<'static>) -> usize {
    let length = |held: &T| if let Value::Text(text) = value(held) { text.len() } else { 0 };
    let before = best.as_ref().map_or(0, length);
    let grown = length(&with).saturating_sub(before);
    *best = Some(with);
    grown
}

#[cfg(test)]
mod tests;
