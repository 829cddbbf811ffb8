//! The no-drop rate: throughput as in RFC 2544 section 26.1, by bisection.

use anyhow::Result;

use crate::stats::ratio;

/// How to search.
#[derive(Clone, Copy, Debug)]
pub struct Search {
    /// The lowest rate tried, frames a second.
    pub least: u64,
    /// It ends when the rate that passed and the one that failed differ by less than this fraction: 0.02 is 2
    /// %.
    pub resolution: f64,
    /// Trials at a rate; it passes if more than half of them have no loss, so that noise of the host in one
    /// trial does not decide.
    pub trials: u32,
}

/// Result of a trial.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Trial {
    /// Frames sent.
    pub offered: u64,
    /// Frames of these that did not arrive.
    pub lost: u64,
    /// The actual rate, frames a second.
    pub rate: u64,
}

/// The rate found.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Found {
    /// Actual frames a second; 0 if there was loss even at the lowest rate.
    pub rate: u64,
    /// Whether there was no loss at the generator's full speed.
    pub generator_bound: bool,
    /// Frames of the longest trial at that rate.
    pub frames: u64,
}

/// The least fraction of the requested rate that the generator must reach.
const REACHED: f64 = 0.97;

impl Search {
    /// Searches with `trial`, which sends at a rate in frames a second, or at full speed.
    ///
    /// # Errors
    ///
    /// The first error of a trial.
    pub fn run(&self, mut trial: impl FnMut(Option<u64>) -> Result<Trial>) -> Result<Found> {
        let (passed, fastest) = self.passes(None, &mut trial)?;
        if let Some(passed) = passed {
            return Ok(Found { generator_bound: true, ..passed });
        }
        let mut best = Found::default();
        let (mut low, mut high) = (self.least, fastest.max(self.least));
        // A failure at the lowest rate means none; otherwise the bisection starts there.
        if let (Some(passed), _) = self.passes(Some(low), &mut trial)? {
            best = passed;
        } else {
            return Ok(best);
        }
        while ratio(high, low) > 1.0 + self.resolution {
            // Rates differ by factors: the geometric mean halves what is left.
            let middle = geometric_mean(low, high);
            match self.passes(Some(middle), &mut trial)? {
                (Some(passed), _) => {
                    best = passed;
                    if ratio(passed.rate, middle) < REACHED {
                        // Pacing takes time: no higher rate can be sent.
                        return Ok(Found { generator_bound: true, ..best });
                    }
                    low = middle;
                }
                (None, _) => high = middle,
            }
        }
        Ok(best)
    }

    /// Whether a rate passes, and the actual rate.
    fn passes(
        &self,
        rate: Option<u64>,
        trial: &mut impl FnMut(Option<u64>) -> Result<Trial>,
    ) -> Result<(Option<Found>, u64)> {
        let needed = self.trials / 2 + 1;
        let (mut clean, mut spoilt, mut fastest) = (0, 0, 0);
        let mut found = Found::default();
        while clean < needed && spoilt + needed <= self.trials {
            let Trial { offered, lost, rate } = trial(rate)?;
            fastest = fastest.max(rate);
            if lost == 0 {
                clean += 1;
                found.frames = found.frames.max(offered);
                // The lowest of those that passed: the rate that was shown to pass.
                found.rate = if clean == 1 { rate } else { found.rate.min(rate) };
            } else {
                spoilt += 1;
            }
        }
        Ok(((clean >= needed).then_some(found), fastest))
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "between two rates"
)]
fn geometric_mean(a: u64, b: u64) -> u64 {
    (a as f64 * b as f64).sqrt() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEARCH: Search = Search { least: 20_000, resolution: 0.02, trials: 3 };

    /// A receiver that loses what is above `limit`, behind a generator that sends `most`.
    fn receiver(limit: u64, most: u64) -> impl FnMut(Option<u64>) -> Result<Trial> {
        move |rate| {
            let rate = rate.unwrap_or(most).min(most);
            Ok(Trial { offered: rate, lost: rate.saturating_sub(limit), rate })
        }
    }

    #[test]
    fn the_rate_found_is_below_the_limit_by_no_more_than_the_resolution() {
        for limit in [30_000, 123_456, 1_000_000, 4_900_000] {
            let found = SEARCH.run(receiver(limit, 5_000_000)).unwrap();
            assert!(found.rate <= limit && ratio(limit, found.rate) <= 1.02, "{limit}: {found:?}");
            assert!(!found.generator_bound);
        }
    }

    #[test]
    fn a_receiver_faster_than_the_generator_is_reported_as_such() {
        let found = SEARCH.run(receiver(6_000_000, 5_000_000)).unwrap();
        assert_eq!(found, Found { rate: 5_000_000, generator_bound: true, frames: 5_000_000 });
    }

    #[test]
    fn a_receiver_that_always_loses_has_no_such_rate() {
        assert_eq!(SEARCH.run(receiver(0, 5_000_000)).unwrap(), Found::default());
    }

    #[test]
    fn one_spoilt_trial_of_three_does_not_decide() {
        let mut inner = receiver(1_000_000, 5_000_000);
        let mut count = 0;
        let found = SEARCH.run(|rate| {
            count += 1;
            let trial = inner(rate)?;
            Ok(Trial { lost: trial.lost + u64::from(count % 3 == 0), ..trial })
        });
        assert!(ratio(1_000_000, found.unwrap().rate) <= 1.02);
    }

    #[test]
    fn an_error_of_a_trial_ends_the_search() {
        assert!(SEARCH.run(|_| anyhow::bail!("no")).is_err());
    }
}
