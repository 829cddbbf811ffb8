use super::*;

fn at(time: &str) -> i64 {
    time.parse::<Timestamp>().unwrap().as_millisecond()
}

#[test]
fn units_have_many_spellings() {
    for (word, printed) in [
        ("5m", "5m"),
        ("1min", "1m"),
        ("2hrs", "2h"),
        ("30seconds", "30s"),
        ("100ms", "100ms"),
        ("1MO", "1mo"),
        ("1qtr", "1q"),
    ] {
        assert_eq!(Period::read(word).map(|period| period.to_string()).as_deref(), Some(printed));
    }
    for word in ["0m", "5", "m", "5x", "5ss", "99999999999s", "5m5"] {
        assert_eq!(Period::read(word), None, "{word}");
    }
}

#[test]
fn periods_begin_where_they_should() {
    for (period, time, floor, ceil) in [
        ("1h", "2026-11-28T05:12:00Z", "2026-11-28T05:00:00Z", "2026-11-28T06:00:00Z"),
        ("5m", "2026-11-28T05:10:00Z", "2026-11-28T05:10:00Z", "2026-11-28T05:10:00Z"),
        ("1d", "1969-12-31T23:00:00Z", "1969-12-31T00:00:00Z", "1970-01-01T00:00:00Z"),
        // A Saturday.
        ("1w", "2026-11-28T05:12:00Z", "2026-11-23T00:00:00Z", "2026-11-30T00:00:00Z"),
        ("1mo", "2026-11-28T05:12:00Z", "2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z"),
        ("1q", "2026-11-28T05:12:00Z", "2026-10-01T00:00:00Z", "2027-01-01T00:00:00Z"),
        ("1y", "2026-11-28T05:12:00Z", "2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z"),
    ] {
        let read = Period::read(period).unwrap();
        assert_eq!(read.floor(at(time)), Some(at(floor)), "{period}");
        assert_eq!(read.ceil(at(time)), Some(at(ceil)), "{period}");
    }
}

#[test]
fn times_without_a_calendar_have_no_period() {
    for word in ["4294967295y", "1y", "1w", "4294967295ms"] {
        let period = Period::read(word).unwrap();
        for millis in [i64::MIN, i64::MAX] {
            let (floor, ceil) = (period.floor(millis), period.ceil(millis));
            assert!(floor.is_none_or(|floor| floor <= millis) && ceil.is_none_or(|ceil| ceil >= millis));
        }
    }
}
