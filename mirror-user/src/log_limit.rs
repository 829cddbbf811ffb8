//! Rate-limited log lines, with a count of those suppressed.

use std::time::{Duration, Instant};

/// Passes the first 10 lines of each 60 s and counts the others.
///
/// For events that others can cause at any rate: connections, flapping links, ICMP errors. A flood of them
/// neither fills a disk nor buries other lines. One limit for each kind of line.
///
/// ```
/// use std::time::{Duration, Instant};
///
/// use mirror_user::log_limit::LogLimit;
///
/// let (mut limit, start) = (LogLimit::default(), Instant::now());
/// let logged = (0..1000).filter(|_| limit.passes(start)).count();
/// assert_eq!(logged, 10);
/// assert_eq!(limit.left_out(start + Duration::from_secs(61)), Some(990));
/// ```
#[derive(Clone, Debug, Default)]
pub struct LogLimit {
    /// When the period began: with its first line.
    since: Option<Instant>,
    passed: u32,
    left_out: u64,
}

/// Lines of a kind in a period.
const LINES: u32 = 10;
const PERIOD: Duration = Duration::from_secs(60);

impl LogLimit {
    /// Whether this line is to be logged; otherwise it counts as suppressed.
    pub fn passes(&mut self, now: Instant) -> bool {
        if self.since.is_none_or(|since| now.duration_since(since) >= PERIOD) && self.left_out == 0 {
            (self.since, self.passed) = (Some(now), 0);
        }
        let passes = self.passed < LINES;
        if passes {
            self.passed += 1;
        } else {
            self.left_out += 1;
        }
        passes
    }

    /// The number of lines suppressed in a period that has ended, to be logged; call it regularly.
    pub fn left_out(&mut self, now: Instant) -> Option<u64> {
        let is_over = self.since.is_some_and(|since| now.duration_since(since) >= PERIOD);
        if is_over { self.rest() } else { None }
    }

    /// The number of lines suppressed so far, for the end of a run.
    pub fn rest(&mut self) -> Option<u64> {
        let left_out = std::mem::take(self).left_out;
        (left_out > 0).then_some(left_out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_lines_of_a_flood_pass_in_each_period_and_the_others_are_counted() {
        let (mut limit, start) = (LogLimit::default(), Instant::now());
        let (mut passed, mut suppressed) = (0, 0);
        // Three minutes of a line each 10 ms.
        for line in 0..18_000_u64 {
            let now = start + Duration::from_millis(10 * line);
            suppressed += limit.left_out(now).unwrap_or(0);
            passed += u64::from(limit.passes(now));
        }
        suppressed += limit.rest().unwrap_or(0);
        assert_eq!((passed, passed + suppressed), (30, 18_000));
    }

    #[test]
    fn lines_at_a_low_rate_are_all_logged() {
        let (mut limit, start) = (LogLimit::default(), Instant::now());
        for line in 0..100 {
            let now = start + Duration::from_secs(7 * line);
            assert_eq!(limit.left_out(now), None);
            assert!(limit.passes(now), "line {line}");
        }
    }
}
