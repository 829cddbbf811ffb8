//! Values: of fields, of expressions, of results.

use std::{borrow::Cow, cmp::Ordering, fmt};

/// What a field or an expression is.
#[derive(Clone, Debug, PartialEq)]
pub enum Value<'a> {
    /// The record has no such field, or an expression has no result.
    Null,
    /// A whole number.
    Integer(i64),
    /// Any other number.
    Number(f64),
    /// Milliseconds since 1970-01-01 00:00 UTC: a number that prints as a time.
    Timestamp(i64),
    /// Text; a number where it reads as one.
    Text(Cow<'a, str>),
}

/// A value as a number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Numeric {
    Integer(i64),
    Float(f64),
}

impl<'a> Value<'a> {
    /// Text, borrowed.
    pub fn text(text: &'a str) -> Self {
        Self::Text(Cow::Borrowed(text))
    }

    /// The same value, which borrows from this one.
    pub fn borrowed(&self) -> Value<'_> {
        match self {
            Self::Null => Value::Null,
            Self::Integer(integer) => Value::Integer(*integer),
            Self::Number(number) => Value::Number(*number),
            Self::Timestamp(millis) => Value::Timestamp(*millis),
            Self::Text(text) => Value::Text(Cow::Borrowed(text)),
        }
    }

    /// The same value, which borrows nothing.
    pub fn into_owned(self) -> Value<'static> {
        match self {
            Self::Null => Value::Null,
            Self::Integer(integer) => Value::Integer(integer),
            Self::Number(number) => Value::Number(number),
            Self::Timestamp(millis) => Value::Timestamp(millis),
            Self::Text(text) => Value::Text(Cow::Owned(text.into_owned())),
        }
    }

    /// What the language has for true and false: 1 and 0.
    pub(super) fn truth(truth: bool) -> Self {
        Self::Integer(i64::from(truth))
    }

    /// True, false, or nothing for [`Value::Null`]. Numbers other than 0 are true, of other text only `true`.
    pub(super) fn is_true(&self) -> Option<bool> {
        match (self, self.number()) {
            (Self::Null, _) => None,
            (_, Some(Numeric::Integer(integer))) => Some(integer != 0),
            (_, Some(Numeric::Float(float))) => Some(float != 0.0),
            (Self::Text(text), None) => Some(text.eq_ignore_ascii_case("true")),
            (_, None) => Some(false),
        }
    }

    /// The value as a number, if it is one or reads as one.
    pub(super) fn number(&self) -> Option<Numeric> {
        match self {
            Self::Null => None,
            Self::Integer(integer) | Self::Timestamp(integer) => Some(Numeric::Integer(*integer)),
            Self::Number(number) => Some(Numeric::Float(*number)),
            Self::Text(text) => Numeric::read(text),
        }
    }

    /// The value as text; nothing for [`Value::Null`].
    pub(super) fn into_text(self) -> Option<Cow<'a, str>> {
        match self {
            Self::Null => None,
            Self::Text(text) => Some(text),
            other => Some(Cow::Owned(other.to_string())),
        }
    }

    /// How two values compare: as numbers if both read as numbers, else as text; nothing with
    /// [`Value::Null`].
    pub(super) fn compare(&self, other: &Self) -> Option<Ordering> {
        if let (Some(ours), Some(theirs)) = (self.number(), other.number()) {
            return Some(ours.total_cmp(theirs));
        }
        match (self, other) {
            (Self::Text(ours), Self::Text(theirs)) => Some(ours.as_ref().cmp(theirs.as_ref())),
            _ => Some(self.borrowed().into_text()?.cmp(&other.borrowed().into_text()?)),
        }
    }
}

impl Numeric {
    /// Decimal digits with an optional sign and fraction; no exponent, no `inf`.
    #[inline]
    pub(super) fn read(text: &str) -> Option<Self> {
        let digits = text.strip_prefix(['-', '+']).unwrap_or(text).as_bytes();
        let mut integer: i64 = 0;
        let mut exact = true;
        for (index, &byte) in digits.iter().enumerate() {
            if !byte.is_ascii_digit() {
                let fraction = digits.get(index + 1..)?;
                let is_number = byte == b'.' && index > 0 && !fraction.is_empty();
                return (is_number && fraction.iter().all(u8::is_ascii_digit))
                    .then(|| text.parse().ok().map(Self::Float))
                    .flatten();
            }
            match integer.checked_mul(10).and_then(|tens| tens.checked_add(i64::from(byte - b'0'))) {
                Some(next) => integer = next,
                None => exact = false,
            }
        }
        match (digits.is_empty(), exact) {
            (true, _) => None,
            (false, true) => Some(Self::Integer(if text.starts_with('-') { -integer } else { integer })),
            (false, false) => text.parse().ok().map(Self::Float),
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "that is what a float is")]
    pub(super) fn float(self) -> f64 {
        match self {
            Self::Integer(integer) => integer as f64,
            Self::Float(float) => float,
        }
    }

    /// An integer if it is whole and small enough to be exact.
    #[expect(clippy::cast_possible_truncation, reason = "it is whole, and within the range")]
    pub(super) fn whole(self) -> Option<i64> {
        const EXACT: f64 = (1_u64 << 53) as f64;
        match self {
            Self::Integer(integer) => Some(integer),
            Self::Float(float) => (float.fract() == 0.0 && float.abs() <= EXACT).then_some(float as i64),
        }
    }

    pub(super) fn total_cmp(self, other: Self) -> Ordering {
        match (self, other) {
            (Self::Integer(ours), Self::Integer(theirs)) => ours.cmp(&theirs),
            // 0 and -0 are one number.
            _ => (self.float() + 0.0).total_cmp(&(other.float() + 0.0)),
        }
    }
}

impl From<Numeric> for Value<'_> {
    /// Nothing for what is no finite number.
    fn from(numeric: Numeric) -> Self {
        match numeric {
            Numeric::Integer(integer) => Self::Integer(integer),
            Numeric::Float(float) if float.is_finite() => {
                numeric.whole().map_or(Self::Number(float), Self::Integer)
            }
            Numeric::Float(_) => Self::Null,
        }
    }
}

impl fmt::Display for Value<'_> {
    /// As a result shows it: integers without a fraction, other numbers with at most four digits of one,
    /// times as `2026-11-28 05:00:00.000` (UTC), nothing for [`Value::Null`].
    ///
    /// AWS documents no form of numbers: four digits are our choice.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => Ok(()),
            Self::Integer(integer) => write!(out, "{integer}"),
            Self::Number(number) => {
                let printed = format!("{number:.4}");
                let shown = printed.trim_end_matches('0').trim_end_matches('.');
                out.write_str(if shown == "-0" { "0" } else { shown })
            }
            Self::Timestamp(millis) => match jiff::Timestamp::from_millisecond(*millis) {
                Ok(time) => write!(out, "{}", time.strftime("%Y-%m-%d %H:%M:%S%.3f")),
                Err(_) => write!(out, "{millis}"),
            },
            Self::Text(text) => out.write_str(text),
        }
    }
}

#[cfg(test)]
mod tests;
