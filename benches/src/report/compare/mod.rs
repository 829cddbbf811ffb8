//! Comparison with an earlier run, and whether changes exceed the noise.

mod figures;

use std::{fs, path::Path};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use self::figures::{Better, Figure, Group};
use super::{
    schema::{Report, SCHEMA, Spread},
    sections::{Section, figures, words},
    text::{self, NONE},
};

/// Two reports compared.
#[derive(Clone, Debug, Default)]
pub struct Comparison {
    /// Differences that limit the comparison: another host, other settings.
    pub warnings: Vec<String>,
    /// What is in both.
    pub changes: Vec<Change>,
    /// What is in one of them only.
    pub unmatched: Vec<String>,
    /// What the earlier one is of.
    since: String,
}

/// A figure in both reports.
#[derive(Clone, Debug)]
pub struct Change {
    /// Of what, with its unit: `counters, 114 bytes, 64 flows, 1 VNI, 1 queue: Mpps`.
    pub what: String,
    /// The earlier figure.
    pub old: Spread,
    /// The later one.
    pub new: Spread,
    /// The verdict on the two.
    pub verdict: Verdict,
}

/// The verdict on a change.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// The quartile ranges overlap.
    WithinNoise,
    /// They do not overlap, and the new one is better.
    Better,
    /// They do not overlap, and the new one is worse.
    Worse,
    /// A single figure: its noise is not known.
    Unknown,
}

impl Verdict {
    fn text(self) -> &'static str {
        match self {
            Self::WithinNoise => "within the noise",
            Self::Better => "BETTER",
            Self::Worse => "WORSE",
            Self::Unknown => "noise not known",
        }
    }
}

impl Change {
    fn ratio(&self) -> Option<f64> {
        (self.old.median > 0.0).then(|| self.new.median / self.old.median - 1.0)
    }
}

/// Reads an earlier report.
///
/// # Errors
///
/// If the file cannot be read, or is not a report of these benchmarks.
pub fn load(path: &Path) -> Result<Report> {
    #[derive(Deserialize)]
    struct Head {
        schema: String,
    }
    let shown = path.display();
    let text = fs::read_to_string(path).with_context(|| format!("{shown}: cannot be read"))?;
    // Before the rest: a report of another kind is not a broken one.
    let head: Head = serde_json::from_str(&text)
        .with_context(|| format!("{shown}: not a report.json of these benchmarks ({SCHEMA})"))?;
    if head.schema != SCHEMA {
        bail!("{shown}: is {}; only {SCHEMA} can be compared", head.schema);
    }
    serde_json::from_str(&text).with_context(|| format!("{shown}: is a damaged {SCHEMA}"))
}

/// Compares two reports.
#[must_use]
pub fn compare(old: &Report, new: &Report) -> Comparison {
    let mut comparison = Comparison {
        warnings: warnings(old, new),
        since: format!("commit {}, {}", old.host.commit, old.started),
        ..Comparison::default()
    };
    for (old, new) in figures::groups(old).iter().zip(&figures::groups(new)) {
        comparison.add(old, new);
    }
    comparison
}

impl Comparison {
    fn add(&mut self, old: &Group, new: &Group) {
        // A part that is missing gets one line, not one for each of its figures.
        match (old.figures.is_empty(), new.figures.is_empty()) {
            (true, true) => return,
            (true, false) => return self.unmatched.push(format!("{}: only in the new report", old.name)),
            (false, true) => return self.unmatched.push(format!("{}: only in the old report", old.name)),
            (false, false) => {}
        }
        for figure in &new.figures {
            match old.find(&figure.what) {
                Some(before) => self.changes.push(Change {
                    what: figure.what.clone(),
                    old: before.spread,
                    new: figure.spread,
                    verdict: judge(before, figure),
                }),
                None => self.unmatched.push(format!("{}: only in the new report", figure.what)),
            }
        }
        let gone = old.figures.iter().filter(|figure| new.find(&figure.what).is_none());
        self.unmatched.extend(gone.map(|figure| format!("{}: only in the old report", figure.what)));
    }

    /// As tables, for terminal and Markdown.
    pub(super) fn sections(&self) -> Vec<Section> {
        let row = |change: &Change| {
            vec![
                change.what.clone(),
                text::spread(change.old),
                text::spread(change.new),
                change.ratio().map_or_else(|| NONE.into(), |ratio| format!("{:+.1} %", 100.0 * ratio)),
                change.verdict.text().into(),
            ]
        };
        let warnings = self.warnings.iter().map(|warning| format!("WARNING: {warning}"));
        let notes = warnings.chain([self.summary()]).chain(self.unmatched.iter().cloned());
        vec![Section {
            title: format!("Compared with {}", self.since),
            columns: vec![words("what"), figures("old"), figures("new"), figures("change"), words("verdict")],
            rows: self.changes.iter().map(row).collect(),
            notes: notes.collect(),
        }]
    }

    fn summary(&self) -> String {
        let count = |verdict| self.changes.iter().filter(|change| change.verdict == verdict).count();
        format!(
            "{} better, {} worse, {} within the noise (the ranges between the quartiles overlap), {} of \
            which the noise is not known.",
            count(Verdict::Better),
            count(Verdict::Worse),
            count(Verdict::WithinNoise),
            count(Verdict::Unknown)
        )
    }
}

/// Differences that limit the comparison.
fn warnings(old: &Report, new: &Report) -> Vec<String> {
    let mut warnings = Vec::new();
    let mut differ = |what: &str, old: &str, new: &str| {
        // A value that one of them lacks is not a difference.
        if old != new && !old.is_empty() && !new.is_empty() {
            warnings.push(format!("{what}: {old} before, {new} now"));
        }
    };
    differ("CPU", &old.host.cpu, &new.host.cpu);
    differ("number of CPUs", &old.host.cpus.to_string(), &new.host.cpus.to_string());
    differ("kernel", &old.host.kernel, &new.host.kernel);
    differ("driver", &old.host.driver, &new.host.driver);
    differ("XDP mode", &old.host.mode, &new.host.mode);
    differ("compiler", &old.host.rustc, &new.host.rustc);
    let kind = |report: &Report| if report.quick { "quick" } else { "full" };
    differ("kind of run", kind(old), kind(new));
    for (name, value) in &new.settings {
        differ(name, old.settings.get(name).map_or("", String::as_str), value);
    }
    warnings
}

fn judge(old: &Figure, new: &Figure) -> Verdict {
    let (more, less) = match new.better {
        Some(Better::More) => (Verdict::Better, Verdict::Worse),
        Some(Better::Less) => (Verdict::Worse, Verdict::Better),
        None => return Verdict::Unknown,
    };
    if new.spread.q1 > old.spread.q3 {
        more
    } else if new.spread.q3 < old.spread.q1 {
        less
    } else {
        Verdict::WithinNoise
    }
}
