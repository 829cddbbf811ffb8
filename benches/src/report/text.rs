//! Figures as people read them.

use super::schema::{Host, Report, Spread};

/// Placeholder of what was not measured.
pub(super) const NONE: &str = "–";

/// A figure with about four significant digits.
pub(super) fn figure(value: f64) -> String {
    let decimals = match value.abs() {
        size if size == 0.0 || size >= 1000.0 => 0,
        size if size >= 100.0 => 1,
        size if size >= 10.0 => 2,
        _ => 3,
    };
    format!("{value:.decimals$}")
}

/// The same, or [`NONE`] for zero.
pub(super) fn figure_or_none(value: f64) -> String {
    if value == 0.0 { NONE.into() } else { figure(value) }
}

/// `median [q1, q3]`; the median alone where every round gave the same.
pub(super) fn spread(Spread { median, q1, q3 }: Spread) -> String {
    if q1 == q3 { figure(median) } else { format!("{} [{}, {}]", figure(median), figure(q1), figure(q3)) }
}

/// The same, or [`NONE`] for zeros that mean that there is none.
pub(super) fn spread_or_none(value: Spread) -> String {
    if value == Spread::default() { NONE.into() } else { spread(value) }
}

/// Digits in groups of three.
pub(super) fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A fraction, in which zero and almost zero differ.
#[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
pub(super) fn share(part: u64, whole: u64) -> String {
    let percent = 100.0 * part as f64 / whole.max(1) as f64;
    match percent {
        _ if part == 0 => "0 %".into(),
        small if small < 0.01 => "<0.01 %".into(),
        _ => format!("{percent:.2} %"),
    }
}

/// A part of one.
pub(super) fn percent(ratio: f64) -> String {
    format!("{:.0} %", 100.0 * ratio)
}

/// The same, or [`NONE`] for zero.
pub(super) fn percent_or_none(ratio: f64) -> String {
    if ratio == 0.0 { NONE.into() } else { percent(ratio) }
}

/// Nanoseconds as microseconds.
#[expect(clippy::cast_precision_loss, reason = "times far below 2^52 ns")]
pub(super) fn micros(nanoseconds: u64) -> String {
    figure(nanoseconds as f64 / 1e3)
}

/// `one VNI`, `1,000 VNIs`.
pub(super) fn plural(number: u32, thing: &str) -> String {
    if number == 1 { format!("1 {thing}") } else { format!("{} {thing}s", count(number.into())) }
}

/// Host and kind of run in one line.
pub(super) fn provenance(report: &Report) -> String {
    let Host { cpu, cpus, kernel, driver, mode, commit, os: _, rustc: _ } = &report.host;
    let mut facts = vec![cpu.clone(), format!("{cpus} CPUs"), format!("Linux {kernel}")];
    if !driver.is_empty() {
        facts.push(format!("{driver}, {mode} XDP"));
    }
    facts.push(format!("commit {commit}"));
    if report.quick {
        facts.push("quick run".into());
    }
    facts.join(" · ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_keep_their_significant_digits() {
        let cases = [
            (0.0, "0"),
            (0.9512, "0.951"),
            (5.0, "5.000"),
            (43.217, "43.22"),
            (250.04, "250.0"),
            (1234.5, "1234"),
        ];
        for (value, text) in cases {
            assert_eq!(figure(value), text);
        }
    }

    #[test]
    fn rounds_that_agree_have_no_quartiles_and_no_rounds_have_no_figure() {
        assert_eq!(spread(Spread { median: 4.5, q1: 4.25, q3: 5.0 }), "4.500 [4.250, 5.000]");
        assert_eq!(spread(Spread { median: 70.0, q1: 70.0, q3: 70.0 }), "70.00");
        assert_eq!(spread_or_none(Spread::default()), NONE);
    }

    #[test]
    fn counts_are_grouped() {
        for (value, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (12_345_678, "12,345,678")] {
            assert_eq!(count(value), text);
        }
    }

    #[test]
    fn one_frame_lost_of_many_is_not_nothing() {
        assert_eq!(share(0, 1_000_000), "0 %");
        assert_eq!(share(1, 1_000_000), "<0.01 %");
        assert_eq!(share(1, 80), "1.25 %");
        assert_eq!(share(0, 0), "0 %");
    }
}
