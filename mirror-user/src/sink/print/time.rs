//! The time before a packet.

use std::fmt::Write as _;

use jiff::{Timestamp, tz::TimeZone};

use super::style::Time;

const NS: u64 = 1_000_000_000;

/// Prints times in a style.
#[derive(Debug)]
pub(super) struct Times {
    style: Time,
    zone: TimeZone,
    /// The packet that times are relative to.
    from: Option<u64>,
    /// The last second printed, and its text: many packets share one.
    second: Option<u64>,
    second_text: String,
}

impl Times {
    pub(super) fn new(style: Time, zone: TimeZone) -> Self {
        Self { style, zone, from: None, second: None, second_text: String::new() }
    }

    /// Appends the time, in ns since the epoch, and a space.
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
                // Rounded to µs first, so that the sum of printed deltas is exact.
                let passed = (time / 1000).abs_diff(from / 1000) * 1000;
                let (seconds, sign) = (passed / NS, if time < from { '-' } else { ' ' });
                let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
                write!(out, "{sign}{hours:02}:{minutes:02}:{:02}.{:06} ", seconds % 60, micros(passed))
            }
            Time::Clock | Time::Date => {
                let second = time / NS;
                if self.second.replace(second) != Some(second) {
                    self.put_second(second);
                }
                out.push_str(&self.second_text);
                write!(out, ".{:06} ", micros(time))
            }
        };
    }

    /// Formats a second, with the date if the style has it.
    fn put_second(&mut self, second: u64) {
        // 2^64 ns end in the year 2554, within jiff's range.
        let then = i64::try_from(second).ok().and_then(|second| Timestamp::from_second(second).ok());
        let then = self.zone.to_datetime(then.unwrap_or(Timestamp::MAX));
        self.second_text.clear();
        // Writing to a String cannot fail.
        if self.style == Time::Date {
            let _ = write!(self.second_text, "{:04}-{:02}-{:02} ", then.year(), then.month(), then.day());
        }
        let _ = write!(self.second_text, "{:02}:{:02}:{:02}", then.hour(), then.minute(), then.second());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2023-11-14 22:13:20 UTC.
    const THEN: u64 = 1_700_000_000;

    /// Prints these times, in a zone two and a half hours ahead of UTC.
    fn printed(style: Time, times: &[u64]) -> Vec<String> {
        let zone = TimeZone::fixed(jiff::tz::Offset::from_seconds(9000).expect("an offset"));
        let mut printer = Times::new(style, zone);
        let print = |time: &u64| {
            let mut text = String::new();
            printer.put(*time, &mut text);
            text
        };
        times.iter().map(print).collect()
    }

    #[test]
    fn times_of_day_and_dates_are_those_of_the_zone() {
        let time = [THEN * NS + 123_456_789];
        assert_eq!(printed(Time::Clock, &time), ["00:43:20.123456 "]);
        assert_eq!(printed(Time::Date, &time), ["2023-11-15 00:43:20.123456 "]);
        assert_eq!(printed(Time::Epoch, &time), ["1700000000.123456 "]);
        assert_eq!(printed(Time::None, &time), [""]);
    }

    #[test]
    fn deltas_are_to_the_first_packet_or_the_previous_one_and_may_be_negative() {
        let times = [0, 90_000_001, 90_001_000 + 3_600_000_000_000, 90_000_000].map(|ns| THEN * NS + ns);
        let first = [" 00:00:00.000000 ", " 00:00:00.090000 ", " 01:00:00.090001 ", " 00:00:00.090000 "];
        assert_eq!(printed(Time::SinceFirst, &times), first);
        let previous = [" 00:00:00.000000 ", " 00:00:00.090000 ", " 01:00:00.000001 ", "-01:00:00.000001 "];
        assert_eq!(printed(Time::SincePrevious, &times), previous);
    }

    #[test]
    fn no_time_is_too_late_to_be_printed() {
        for style in [Time::Clock, Time::Date, Time::Epoch, Time::SinceFirst] {
            assert_eq!(printed(style, &[0, u64::MAX]).len(), 2);
        }
    }
}
