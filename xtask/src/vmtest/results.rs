//! Results of guests, one line each, and their count.

use serde_json::Value;

use super::kernel::Kernel;

/// Width of the longest name.
const NAME: usize = 38;

/// One step of a guest.
#[derive(Debug, PartialEq)]
pub(super) struct Outcome {
    pub(super) step: String,
    pub(super) ok: bool,
    pub(super) detail: String,
    pub(super) seconds: f64,
}

impl Outcome {
    /// From a line of results. The last line, which is no step, and other output give `None`.
    pub(super) fn parse(line: &str) -> Option<Self> {
        let value: Value = serde_json::from_str(line).ok()?;
        Some(Self {
            step: value["step"].as_str()?.to_owned(),
            ok: value["ok"].as_bool()?,
            detail: value["detail"].as_str()?.to_owned(),
            seconds: value["seconds"].as_f64()?,
        })
    }

    fn failed(step: &str, detail: &str) -> Self {
        Self { step: step.to_owned(), ok: false, detail: detail.to_owned(), seconds: 0.0 }
    }

    fn line(&self, kernel: Kernel) -> String {
        let Self { step, ok, detail, seconds } = self;
        let ok = if *ok { "ok" } else { "FAILED" };
        format!("{kernel:<9}  {step:<NAME$}  {ok:<6}  {seconds:5.1} s  {detail}")
    }
}

/// The count over all guests.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    passed: u32,
    failed: u32,
}

impl Tally {
    /// Prints an outcome and counts it.
    pub(super) fn take(&mut self, kernel: Kernel, outcome: &Outcome) {
        println!("{}", outcome.line(kernel));
        if outcome.ok {
            self.passed += 1;
        } else {
            self.failed += 1;
        }
    }

    /// Steps that a guest did not reach are failures.
    pub(super) fn missing(&mut self, kernel: Kernel, steps: &[String], reported: &[String], why: &str) {
        for step in steps.iter().filter(|step| !reported.contains(step)) {
            self.take(kernel, &Outcome::failed(step, why));
        }
    }

    /// Whether there were steps, and all passed.
    pub(super) fn is_clean(&self) -> bool {
        self.failed == 0 && self.passed > 0
    }

    pub(super) fn summary(&self) -> String {
        format!("{} passed, {} failed", self.passed, self.failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_results_are_read_and_other_output_is_ignored() {
        let line = r#"{"step":"igb native","ok":true,"detail":"20000 of 20000, residue 0","seconds":5.25}"#;
        let outcome = Outcome::parse(line).unwrap();
        assert_eq!(
            outcome.line(Kernel::V6_1),
            "6.1        igb native                              ok        5.2 s  20000 of 20000, residue 0"
        );
        for noise in ["", r#"{"steps":12}"#, "Kernel panic - not syncing", r#"{"step":1}"#] {
            assert_eq!(Outcome::parse(noise), None);
        }
    }

    #[test]
    fn tests_that_a_guest_did_not_reach_have_failed() {
        let steps = ["a", "b", "c"].map(str::to_owned);
        let mut tally = Tally::default();
        assert!(!tally.is_clean(), "nothing run is nothing passed");
        tally.take(Kernel::V6_1, &Outcome { ok: true, ..Outcome::failed("a", "") });
        assert!(tally.is_clean());
        tally.missing(Kernel::V6_1, &steps, &steps[..1], "the guest stopped");
        assert_eq!(tally.summary(), "1 passed, 2 failed");
        assert!(!tally.is_clean());
    }
}
