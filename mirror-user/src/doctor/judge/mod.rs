//! What the facts mean. Pure: the same facts give the same findings, anywhere.

mod host;
mod interface;
mod native;
mod spread;

use std::fmt;

use serde::{Deserialize, Serialize};

use super::facts::Facts;
use crate::host::kernel::KernelVersion;

/// How much a finding matters.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// As it should be.
    Ok,
    /// Worth knowing; nothing is lost by it.
    Note,
    /// Ingest runs, but slower, or with less than it could have.
    Warning,
    /// Ingest cannot run.
    Error,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}

/// One thing judged.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Finding {
    /// How much it matters.
    pub severity: Severity,
    /// An interface's name, or `host`.
    pub about: String,
    /// What was found, with its cause.
    pub says: String,
    /// The command that mends it, where there is one. It changes the running host only.
    pub mend: Option<String>,
}

/// What [`Finding::about`] says of findings that are not about one interface.
pub(super) const HOST: &str = "host";

/// Judges a host: first what holds for all of it, then interface by interface.
#[must_use]
pub fn judge(facts: &Facts) -> Vec<Finding> {
    let mut findings = Findings { about: HOST.to_owned(), all: Vec::new() };
    host::judge(facts, &mut findings);
    match facts.interfaces.known() {
        Some(interfaces) => {
            for interface in interfaces {
                findings.about.clone_from(&interface.name);
                interface::judge(facts, interface, &mut findings);
            }
        }
        None => {
            if let Some(name) = &facts.asked {
                findings.about.clone_from(name);
            }
            findings.error(facts.interfaces.reason().unwrap_or("the interfaces are not known"), None);
        }
    }
    findings.all
}

/// The kernel's version, where it is known.
pub(super) fn kernel_version(facts: &Facts) -> Option<KernelVersion> {
    facts.kernel.known()?.parse().ok()
}

/// The findings so far, and what the next ones are about.
pub(super) struct Findings {
    about: String,
    all: Vec<Finding>,
}

impl Findings {
    fn add(&mut self, severity: Severity, says: impl Into<String>, mend: Option<String>) {
        self.all.push(Finding { severity, about: self.about.clone(), says: says.into(), mend });
    }

    fn ok(&mut self, says: impl Into<String>) {
        self.add(Severity::Ok, says, None);
    }

    fn note(&mut self, says: impl Into<String>, mend: Option<String>) {
        self.add(Severity::Note, says, mend);
    }

    fn warning(&mut self, says: impl Into<String>, mend: Option<String>) {
        self.add(Severity::Warning, says, mend);
    }

    fn error(&mut self, says: impl Into<String>, mend: Option<String>) {
        self.add(Severity::Error, says, mend);
    }

    /// Something that matters could not be read.
    fn unreadable(&mut self, what: &str, reason: Option<&str>) {
        self.note(format!("{what} unknown: {}", reason.unwrap_or("not recorded")), None);
    }
}

pub(super) use crate::engine::obstacles::counted;

/// `a`, `a and b`, `a, b and c`.
fn listed(words: &[String]) -> String {
    match words {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}
