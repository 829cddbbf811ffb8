//! Where the engines differ.

use std::fmt;

use super::super::period::Period;

/// An SQL engine.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Dialect {
    /// Amazon Athena, engine version 3 (Trino).
    Athena,
    /// Spark SQL.
    Spark,
    /// DuckDB.
    DuckDb,
}

impl fmt::Display for Dialect {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Athena => "Athena SQL",
            Self::Spark => "Spark SQL",
            Self::DuckDb => "DuckDB SQL",
        })
    }
}

impl Dialect {
    /// A name, in the quotes of the dialect: `end` and `start` are words of SQL.
    pub(super) fn quoted(self, name: &str) -> String {
        match self {
            Self::Spark => format!("`{}`", name.replace('`', "``")),
            Self::Athena | Self::DuckDb => format!("\"{}\"", name.replace('"', "\"\"")),
        }
    }

    /// A string. Spark has escapes in it.
    pub(super) fn text(self, text: &str) -> String {
        match self {
            Self::Spark => format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'")),
            Self::Athena | Self::DuckDb => format!("'{}'", text.replace('\'', "''")),
        }
    }

    /// Whether a text has a match of a regular expression.
    pub(super) fn matches(self, text: &str, regex: &str) -> String {
        match self {
            Self::Athena => format!("regexp_like({text}, {})", self.text(regex)),
            Self::Spark => format!("({text} RLIKE {})", self.text(regex)),
            Self::DuckDb => format!("regexp_matches({text}, {})", self.text(regex)),
        }
    }

    /// A group of a regular expression; what is empty is missing, as engines do not tell the two apart.
    pub(super) fn extract(self, text: &str, regex: &str, group: usize) -> String {
        let extracted = format!("regexp_extract({text}, {}, {group})", self.text(regex));
        if self == Self::Athena { extracted } else { format!("NULLIF({extracted}, '')") }
    }

    /// Text, or an expression of another type as text.
    pub(super) fn as_text(self, sql: &str) -> String {
        let name = if self == Self::Spark { "STRING" } else { "VARCHAR" };
        format!("CAST({sql} AS {name})")
    }

    /// Seconds since 1970 as a time.
    pub(super) fn time(self, seconds: &str) -> String {
        match self {
            Self::Athena => format!("from_unixtime({seconds})"),
            Self::Spark => format!("timestamp_seconds({seconds})"),
            // Without a time zone, so UTC whatever the session has.
            Self::DuckDb => format!("make_timestamp(({seconds}) * 1000000)"),
        }
    }

    /// The beginning of a period, of seconds since 1970; nothing for periods that seconds or the calendar do
    /// not give.
    pub(super) fn bin(self, seconds: &str, period: Period) -> Option<String> {
        if let Some(unit) = period.calendar_unit() {
            return Some(format!("date_trunc('{unit}', {})", self.time(seconds)));
        }
        let (millis, origin) = period.fixed()?;
        if millis % 1000 != 0 {
            return None;
        }
        let (length, origin) = (millis / 1000, origin / 1000);
        let since = if origin == 0 { seconds.to_owned() } else { format!("({seconds} - {origin})") };
        Some(self.time(&format!("{seconds} - {since} % {length}")))
    }

    /// A percentile of a column.
    pub(super) fn percentile(self, sql: &str, percentile: f64) -> String {
        let share = percentile / 100.0;
        match self {
            Self::Athena => format!("approx_percentile({sql}, {share})"),
            Self::Spark => format!("percentile_approx({sql}, {share})"),
            Self::DuckDb => format!("quantile_disc({sql}, {share})"),
        }
    }
}
