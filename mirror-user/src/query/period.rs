//! Periods of time, as `bin(5m)` takes them.
//!
//! Units and abbreviations are those of
//! [CloudWatch](https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/CWL_QuerySyntax-operations-functions.html).

use std::fmt;

use jiff::{Timestamp, civil::Date, tz::TimeZone};

/// A whole number of a unit.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Period {
    count: u32,
    unit: Unit,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Unit {
    Millisecond,
    Second,
    Minute,
    Hour,
    Day,
    Week,
    Month,
    Quarter,
    Year,
}

/// Unit, its shortest spelling, the others. What is longer than one character may end in `s`.
const UNITS: [(Unit, &str, &[&str]); 9] = [
    (Unit::Millisecond, "ms", &["msec", "millisecond"]),
    (Unit::Second, "s", &["sec", "second"]),
    (Unit::Minute, "m", &["min", "minute"]),
    (Unit::Hour, "h", &["hr", "hour"]),
    (Unit::Day, "d", &["day"]),
    (Unit::Week, "w", &["week"]),
    (Unit::Month, "mo", &["mon", "month"]),
    (Unit::Quarter, "q", &["qtr", "quarter"]),
    (Unit::Year, "y", &["yr", "year"]),
];

const DAY: i64 = 24 * 60 * 60 * 1000;
/// 1970-01-01 was a Thursday, weeks begin on Mondays.
const FIRST_MONDAY: i64 = 4 * DAY;

impl Period {
    /// Reads `5m`, `1min`, `2hrs`; not 0 of anything.
    pub(super) fn read(word: &str) -> Option<Self> {
        let digits = word.find(|character: char| !character.is_ascii_digit())?;
        let (count, name) = word.split_at(digits);
        let name = name.to_lowercase();
        let (unit, ..) = UNITS.into_iter().find(|(_, short, others)| {
            others.iter().chain([short]).any(|known| {
                name == *known
                    || (known.len() > 1 && name.strip_suffix('s').is_some_and(|name| name == *known))
            })
        })?;
        let count = count.parse().ok().filter(|&count| count > 0)?;
        Some(Self { count, unit })
    }

    /// The beginning of the period that holds a time, both in ms since 1970 UTC. Periods of a fixed length
    /// are counted from 1970-01-01 00:00 UTC, weeks from a Monday, months and longer by the calendar; nothing
    /// for times outside the calendar.
    pub(super) fn floor(self, millis: i64) -> Option<i64> {
        match self.fixed() {
            Some((length, origin)) => {
                let since = millis.checked_sub(origin)?;
                since.checked_sub(since.rem_euclid(length))?.checked_add(origin)
            }
            None => self.month(millis, 0),
        }
    }

    /// The end of that period, or the time itself if one begins then.
    pub(super) fn ceil(self, millis: i64) -> Option<i64> {
        let floor = self.floor(millis)?;
        match self.fixed() {
            _ if floor == millis => Some(millis),
            Some((length, _)) => floor.checked_add(length),
            None => self.month(millis, 1),
        }
    }

    /// Length and origin in ms, if it is of one length.
    pub(super) fn fixed(self) -> Option<(i64, i64)> {
        let (unit, origin) = match self.unit {
            Unit::Millisecond => (1, 0),
            Unit::Second => (1000, 0),
            Unit::Minute => (60_000, 0),
            Unit::Hour => (3_600_000, 0),
            Unit::Day => (DAY, 0),
            Unit::Week => (7 * DAY, FIRST_MONDAY),
            Unit::Month | Unit::Quarter | Unit::Year => return None,
        };
        Some((unit * i64::from(self.count), origin))
    }

    /// `month`, `quarter`, or `year`, if it is one of these.
    pub(super) fn calendar_unit(self) -> Option<&'static str> {
        match (self.count, self.unit) {
            (1, Unit::Month) => Some("month"),
            (1, Unit::Quarter) => Some("quarter"),
            (1, Unit::Year) => Some("year"),
            _ => None,
        }
    }

    /// The beginning of the period of months that holds a time, or of one that is `later` by as many.
    fn month(self, millis: i64, later: i64) -> Option<i64> {
        let months = i64::from(self.count).checked_mul(match self.unit {
            Unit::Quarter => 3,
            Unit::Year => 12,
            _ => 1,
        })?;
        let date = Timestamp::from_millisecond(millis).ok()?.to_zoned(TimeZone::UTC).date();
        let month = i64::from(date.year()) * 12 + i64::from(date.month()) - 1;
        let first = month - month.rem_euclid(months) + later * months;
        let year = i16::try_from(first.div_euclid(12)).ok()?;
        let date = Date::new(year, i8::try_from(first.rem_euclid(12) + 1).ok()?, 1).ok()?;
        Some(date.to_zoned(TimeZone::UTC).ok()?.timestamp().as_millisecond())
    }
}

impl fmt::Display for Period {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let short = UNITS.into_iter().find(|(unit, ..)| *unit == self.unit).map_or("", |(_, short, _)| short);
        write!(out, "{}{short}", self.count)
    }
}

#[cfg(test)]
mod tests;
