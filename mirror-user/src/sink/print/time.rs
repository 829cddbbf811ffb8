//! The time in front of a packet.

use std::fmt::Write as _;

use jiff::{Timestamp, tz::TimeZone};

use super::style::Time;

const NS: u64 = 1_000_000_000;

/// Prints times as a style wants them.
#[derive(Debug)]
pub(super) struct Times {
    style: Time,
    zone: TimeZone,
    /// The packet that times are told from.
    from: Option<u64>,
}

impl Times {
    pub(super) fn new(style: Time, zone: TimeZone) -> Self {
        Self { style, zone, from: None }
    }

    /// Adds the time, in ns since the epoch, and a blank.
    pub(super) fn put(&mut self, time: u64, out: &mut String) {
        let micros = |time: u64| time % NS / 1000;
        // Writing to a String cannot fail.
        let _ = match self.style {
            Time::None => Ok(()),
            Time::Epoch => write!(out, "{}.{:06} ", time / NS, micros(time)),
            Time::SincePrevious | Time::SinceFirst => {
                let from = *self.from.get_or_insert(time);
                if self.style == Time::SincePrevious {
                    self.from = Some(time);
                }
                // To the µs first: the sum of what is printed is what has passed.
                let passed = (time / 1000).abs_diff(from / 1000) * 1000;
                let (seconds, sign) = (passed / NS, if time < from { '-' } else { ' ' });
                let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
                write!(out, "{sign}{hours:02}:{minutes:02}:{:02}.{:06} ", seconds % 60, micros(passed))
            }
            Time::Clock | Time::Date => {
                // 2^64 ns end in the year 2554, far from where jiff's times do.
                let then =
                    i64::try_from(time / NS).ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
                let then = self.zone.to_datetime(then.unwrap_or(Timestamp::MAX));
                if self.style == Time::Date {
                    let _ = write!(out, "{:04}-{:02}-{:02} ", then.year(), then.month(), then.day());
                }
                write!(
                    out,
                    "{:02}:{:02}:{:02}.{:06} ",
                    then.hour(),
                    then.minute(),
                    then.second(),
                    micros(time)
                )
            }
        };
    }
}
