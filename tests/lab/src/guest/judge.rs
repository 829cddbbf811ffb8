//! Whether a run ended as expected: by exit code, report, and the frames of its capture, byte for byte.

use std::{collections::BTreeMap, fs};

use serde_json::Value;

use super::{
    Verdict,
    ingest::{Counted, Ending},
    numbered::Sent,
    plan::{Cell, Expect},
};
use crate::capture;

/// Lines of standard error that a failure shows.
const SHOWN: usize = 4;

/// The figures of a report that are checked.
#[derive(Debug, Default, PartialEq)]
struct Figures {
    seen: u64,
    decapsulated: u64,
    /// Σ passed to the kernel.
    passed: u64,
    /// Σ dropped by VNI or source.
    refused: u64,
    rejected: u64,
    /// Σ lost by the rings.
    lost: u64,
    residue: i64,
    /// Sinks that did not write all that they were offered.
    short_sinks: Vec<String>,
    mode: String,
    bind: String,
}

impl Figures {
    fn of(report: &Value) -> Self {
        let number = |value: &Value| value.as_u64().unwrap_or_default();
        let sum = |value: &Value| value.as_object().map_or(0, |terms| terms.values().map(number).sum());
        let mut figures = Self {
            decapsulated: number(&report["frames"]["decapsulated"]),
            rejected: sum(&report["frames"]["rejected"]),
            // A residue that is not there is none that is 0.
            residue: report["accounting"]["residue"].as_i64().unwrap_or(i64::MAX),
            ..Self::default()
        };
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        for interface in list(&report["interfaces"]) {
            figures.seen += number(&interface["xdp"]["seen"]);
            figures.passed += sum(&interface["xdp"]["passed"]);
            figures.refused += sum(&interface["xdp"]["dropped"]);
            for queue in list(&interface["queues"]) {
                figures.lost += number(&queue["rx_dropped"]) + number(&queue["rx_ring_full"]);
            }
            figures.mode = interface["xdp_mode"].as_str().unwrap_or_default().to_owned();
            figures.bind = interface["bind"].as_str().unwrap_or_default().to_owned();
        }
        for sink in list(&report["sinks"]) {
            if sink["written"] != sink["offered"] {
                figures.short_sinks.push(sink["name"].as_str().unwrap_or_default().to_owned());
            }
        }
        figures
    }
}

/// A list of faults.
#[derive(Default)]
struct Faults(Vec<String>);

impl Faults {
    fn unless(&mut self, right: bool, fault: impl FnOnce() -> String) {
        if !right {
            self.0.push(fault());
        }
    }
}

pub(super) fn judge(cell: &Cell, sent: &Sent, ending: &Ending) -> Verdict {
    let mut faults = Faults::default();
    let said = one_line(&ending.said);
    let code = |faults: &mut Faults, wanted: i32| {
        faults.unless(ending.status.code() == Some(wanted), || format!("{}", ending.status));
    };
    let words = |faults: &mut Faults, words: &[String]| {
        for word in words {
            faults.unless(said.contains(word), || format!("{word:?} was not said"));
        }
    };
    faults.unless(!ending.program_left, || "a program is left on the interface".into());
    if let Some(doctor) = &ending.doctor {
        // Only a run that started has a report, or was there to be killed.
        let started = ending.report.exists() || ending.status.code().is_none();
        faults.unless(doctor.yes == started, || {
            let what = if started { "started" } else { "did not start" };
            format!("it {what}, and doctor said: {}", one_line(&doctor.said))
        });
    }
    let detail = match &cell.expect {
        Expect::Refused(wanted) => {
            code(&mut faults, 1);
            words(&mut faults, wanted);
            if wanted.is_empty() {
                "refused".into()
            } else {
                format!("refused, and says {}", wanted.join(", "))
            }
        }
        Expect::NothingLeft => {
            faults.unless(ending.status.code().is_none(), || format!("not killed: {}", ending.status));
            "killed, and no program is left".into()
        }
        accounted => {
            let lost_interface = matches!(accounted, Expect::InterfaceLost);
            code(&mut faults, i32::from(lost_interface));
            match report(ending) {
                Ok(report) => {
                    let figures = Figures::of(&report);
                    figures_hold(&mut faults, accounted, sent.count(), &figures);
                    if let Expect::Whole { words: wanted, .. } = accounted {
                        words(&mut faults, wanted);
                    }
                    if let Err(fault) = frames_hold(accounted, sent, ending, &figures) {
                        faults.0.push(fault);
                    }
                    described(&figures, sent.count())
                }
                Err(fault) => {
                    faults.0.push(fault);
                    String::new()
                }
            }
        }
    };
    if faults.0.is_empty() {
        return Ok(detail);
    }
    let last: Vec<_> = ending.said.lines().filter(|line| !line.trim().is_empty()).collect();
    let last = &last[last.len().saturating_sub(SHOWN)..];
    if !detail.is_empty() && !matches!(cell.expect, Expect::Refused(_) | Expect::NothingLeft) {
        let Counted { sent, received, .. } = ending.counted;
        faults.0.insert(0, format!("{detail}; the source's card sent {sent}, the card received {received}"));
    }
    Err(format!("{}; said: {}", faults.0.join("; "), last.join(" | ")))
}

fn one_line(said: &str) -> String {
    said.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn report(ending: &Ending) -> Result<Value, String> {
    let text = fs::read_to_string(&ending.report).map_err(|error| format!("no report: {error}"))?;
    serde_json::from_str(&text).map_err(|error| format!("the report is no JSON: {error}"))
}

fn described(figures: &Figures, sent: u64) -> String {
    let mut detail = format!("{} of {sent}, residue {}", figures.decapsulated, figures.residue);
    for (count, what) in [
        (figures.passed, "passed"),
        (figures.refused, "refused"),
        (figures.rejected, "rejected"),
        (figures.lost, "lost"),
    ] {
        if count > 0 {
            detail.push_str(&format!(", {count} {what}"));
        }
    }
    detail
}

fn figures_hold(faults: &mut Faults, expect: &Expect, sent: u64, figures: &Figures) {
    faults.unless(figures.residue == 0, || format!("residue {}", figures.residue));
    faults.unless(figures.short_sinks.is_empty(), || {
        format!("not all was written by {}", figures.short_sinks.join(", "))
    });
    let exactly = |faults: &mut Faults, what: &str, is: u64, wanted: u64| {
        faults.unless(is == wanted, || format!("{what} {is}, not {wanted}"));
    };
    match expect {
        Expect::Whole { mode, bind, .. } => {
            exactly(faults, "seen", figures.seen, sent);
            exactly(faults, "decapsulated", figures.decapsulated, sent);
            for (name, wanted, is) in [("mode", mode, &figures.mode), ("bind", bind, &figures.bind)] {
                if let Some(wanted) = wanted {
                    faults.unless(wanted == is, || format!("{name} {is}, not {wanted}"));
                }
            }
        }
        Expect::LetIn(wanted) => {
            exactly(faults, "seen", figures.seen, sent);
            exactly(faults, "decapsulated", figures.decapsulated, *wanted);
            exactly(faults, "refused", figures.refused, sent - wanted);
        }
        Expect::Accounted => {
            exactly(faults, "seen", figures.seen, sent);
            faults.unless(figures.lost > 0, || "nothing was lost: no overload".into());
            exactly(faults, "decapsulated and lost", figures.decapsulated + figures.lost, sent);
        }
        Expect::InterfaceLost => exactly(faults, "decapsulated", figures.decapsulated, sent),
        Expect::NothingLeft | Expect::Refused(_) => {}
    }
}

/// The capture has exactly the decapsulated frames: no duplicates, no changes, no others.
fn frames_hold(expect: &Expect, sent: &Sent, ending: &Ending, figures: &Figures) -> Result<(), String> {
    let failed = |error: crate::LabError| format!("capture: {error}");
    let file = capture::read(&ending.capture).map_err(failed)?;
    if file.torn {
        return Err("capture: it ends within a block".into());
    }
    let captured = file.frames();
    let whole = matches!(expect, Expect::Whole { .. });
    if !whole && captured.len() as u64 != figures.decapsulated {
        return Err(format!("capture: {} frames of {}", captured.len(), figures.decapsulated));
    }
    let Compared { missing, strange } = compare(&sent.inner(), &captured);
    if strange > 0 {
        return Err(format!("capture: {strange} frames that were not sent so, or came twice"));
    }
    if whole && !missing.is_empty() {
        return Err(format!("missing: {}", ranges(&missing)));
    }
    Ok(())
}

/// What a capture lacks, by the places of the frames in the order sent, and how many frames it has beyond.
#[derive(Debug, Default, PartialEq)]
struct Compared {
    missing: Vec<usize>,
    strange: usize,
}

/// Both as multisets, byte for byte.
fn compare(sent: &[Vec<u8>], captured: &[Vec<u8>]) -> Compared {
    let mut left: BTreeMap<&[u8], Vec<usize>> = BTreeMap::new();
    for (place, frame) in sent.iter().enumerate() {
        left.entry(frame).or_default().push(place);
    }
    let mut strange = 0;
    for frame in captured {
        if left.get_mut(frame.as_slice()).and_then(Vec::pop).is_none() {
            strange += 1;
        }
    }
    let mut missing: Vec<_> = left.into_values().flatten().collect();
    missing.sort_unstable();
    Compared { missing, strange }
}

/// `0-29, 512 and 7 more`: the first few runs of numbers.
fn ranges(numbers: &[usize]) -> String {
    const RUNS: usize = 5;
    let runs: Vec<_> = numbers.chunk_by(|a, b| a + 1 == *b).collect();
    let shown = runs.iter().take(RUNS).map(|run| match run {
        [only] => only.to_string(),
        [first, .., last] => format!("{first}-{last}"),
        [] => String::new(),
    });
    let mut text = shown.collect::<Vec<_>>().join(", ");
    let rest: usize = runs.iter().skip(RUNS).map(|run| run.len()).sum();
    if rest > 0 {
        text.push_str(&format!(" and {rest} more"));
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn whole() -> Value {
        json!({
            "interfaces": [{
                "xdp_mode": "native", "bind": "copy",
                "xdp": { "seen": 10, "passed": { "no_socket": 0 }, "dropped": { "vni": 0 } },
                "queues": [{ "rx_dropped": 0, "rx_ring_full": 0 }],
            }],
            "frames": { "decapsulated": 10, "rejected": { "short": 0 } },
            "sinks": [{ "name": "pcap", "offered": 10, "written": 10 }],
            "accounting": { "residue": 0 },
        })
    }

    fn faults(report: &Value, expect: &Expect) -> Vec<String> {
        let mut faults = Faults::default();
        figures_hold(&mut faults, expect, 10, &Figures::of(report));
        faults.0
    }

    #[test]
    fn a_whole_run_has_no_fault_and_each_loss_is_one() {
        let expect = Expect::Whole { mode: Some("native".into()), bind: Some("copy".into()), words: vec![] };
        assert!(faults(&whole(), &expect).is_empty());
        let spoilt: [(&str, Value, &str); 6] = [
            ("/accounting/residue", json!(1), "residue 1"),
            ("/frames/decapsulated", json!(9), "decapsulated 9, not 10"),
            ("/interfaces/0/xdp/seen", json!(11), "seen 11, not 10"),
            ("/interfaces/0/xdp_mode", json!("generic"), "mode generic, not native"),
            ("/interfaces/0/bind", json!("zerocopy"), "bind zerocopy, not copy"),
            ("/sinks/0/written", json!(9), "not all was written by pcap"),
        ];
        for (place, value, fault) in spoilt {
            let mut report = whole();
            *report.pointer_mut(place).unwrap() = value;
            assert_eq!(faults(&report, &expect), [fault]);
        }
        assert_eq!(faults(&json!({}), &Expect::InterfaceLost).len(), 2, "an empty report proves nothing");
    }

    #[test]
    fn missing_frames_are_listed_by_place_and_unknown_ones_counted() {
        let frames = |numbers: &[u8]| numbers.iter().map(|number| vec![*number]).collect::<Vec<_>>();
        let sent = frames(&[0, 1, 2, 3, 4, 5, 5]);
        assert_eq!(compare(&sent, &frames(&[5, 5, 4, 3, 2, 1, 0])), Compared::default());
        let compared = compare(&sent, &frames(&[3, 3, 9, 0]));
        assert_eq!(compared, Compared { missing: vec![1, 2, 4, 5, 6], strange: 2 });
        assert_eq!(ranges(&compared.missing), "1-2, 4-6");
        assert_eq!(ranges(&[1, 3, 5, 7, 9, 11, 12]), "1, 3, 5, 7, 9 and 2 more");
    }

    #[test]
    fn overload_must_lose_and_account_for_it() {
        assert_eq!(faults(&whole(), &Expect::Accounted), ["nothing was lost: no overload"]);
        let mut report = whole();
        report["frames"]["decapsulated"] = json!(4);
        report["sinks"] = json!([]);
        report["interfaces"][0]["queues"][0]["rx_ring_full"] = json!(6);
        assert!(faults(&report, &Expect::Accounted).is_empty());
    }

    #[test]
    fn frames_that_are_not_allowed_are_dropped_by_the_program() {
        let mut report = whole();
        report["frames"]["decapsulated"] = json!(4);
        assert_eq!(faults(&report, &Expect::LetIn(4)), ["refused 0, not 6"]);
        report["interfaces"][0]["xdp"]["dropped"]["vni"] = json!(6);
        assert!(faults(&report, &Expect::LetIn(4)).is_empty());
    }
}
