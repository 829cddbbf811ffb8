//! Judges facts. Pure: the same facts give the same findings anywhere.

mod balancer;
mod host;
mod interface;
mod native;
mod spread;

use std::fmt;

use serde::{Deserialize, Serialize};

use super::facts::Facts;
use crate::{
    engine::HostCommand,
    host::settings::{Assignment, Setting, Sysctl},
};

/// How much a finding matters.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Severity {
    /// No obstacle.
    Ok,
    /// For information; nothing is lost.
    Note,
    /// Ingest runs, but slower or with restrictions.
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

/// One result of judging the facts.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Finding {
    /// How much it matters.
    pub severity: Severity,
    /// An interface's name, or `host`.
    pub subject: String,
    /// What was found, with its cause.
    pub message: String,
    /// The command that fixes it, if there is one. It changes the running host only.
    pub remedy: Option<String>,
    /// The settings that the command changes, if it is one of settings that can be kept over a boot.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub settings: Vec<Assignment>,
}

/// What fixes a finding.
pub(super) enum Remedy {
    Command(String),
    Settings(Vec<Assignment>),
}

impl Remedy {
    /// A command that is to be typed.
    fn command(command: impl Into<String>) -> Self {
        Self::Command(command.into())
    }

    /// Settings of the whole host.
    fn sysctls(all: &[(Sysctl, i64)]) -> Self {
        let assign = |&(name, value): &(Sysctl, i64)| Assignment::of(Setting::Sysctl { name }, value);
        Self::Settings(all.iter().map(assign).collect())
    }

    /// A setting of one interface.
    fn setting(setting: Setting, value: impl fmt::Display) -> Self {
        Self::Settings(vec![Assignment::of(setting, value)])
    }
}

impl From<HostCommand> for Remedy {
    fn from(command: HostCommand) -> Self {
        match command.assignment() {
            Some(assignment) => Self::Settings(vec![assignment]),
            None => Self::Command(command.to_string()),
        }
    }
}

impl fmt::Display for Remedy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let settings = match self {
            Self::Command(command) => return f.write_str(command),
            Self::Settings(settings) => settings,
        };
        for (at, setting) in settings.iter().enumerate() {
            let command = setting.to_string();
            // sysctl(8) takes several.
            f.write_str(if at == 0 { &command } else { command.trim_start_matches("sysctl -w") })?;
        }
        Ok(())
    }
}

/// The [`Finding::subject`] of findings that are not of one interface.
pub(super) const HOST: &str = "host";

/// Judges a host: the host itself, then each interface.
#[must_use]
pub fn judge(facts: &Facts) -> Vec<Finding> {
    let mut findings = Findings { subject: HOST.to_owned(), all: Vec::new() };
    host::judge(facts, &mut findings);
    match facts.interfaces.known() {
        Some(interfaces) => {
            for interface in interfaces {
                findings.subject.clone_from(&interface.name);
                interface::judge(facts, interface, &mut findings);
            }
        }
        None => {
            if let Some(name) = &facts.asked {
                findings.subject.clone_from(name);
            }
            findings.error(facts.interfaces.reason().unwrap_or("the interfaces are not known"), None);
        }
    }
    findings.all
}

/// The findings so far, and the subject of the next ones.
pub(super) struct Findings {
    subject: String,
    all: Vec<Finding>,
}

impl Findings {
    fn add(&mut self, severity: Severity, message: impl Into<String>, remedy: Option<Remedy>) {
        let (subject, message) = (self.subject.clone(), message.into());
        let text = remedy.as_ref().map(ToString::to_string);
        let settings = match remedy {
            Some(Remedy::Settings(settings)) => settings,
            _ => Vec::new(),
        };
        self.all.push(Finding { severity, subject, message, remedy: text, settings });
    }

    fn ok(&mut self, message: impl Into<String>) {
        self.add(Severity::Ok, message, None);
    }

    fn note(&mut self, message: impl Into<String>, remedy: Option<Remedy>) {
        self.add(Severity::Note, message, remedy);
    }

    fn warning(&mut self, message: impl Into<String>, remedy: Option<Remedy>) {
        self.add(Severity::Warning, message, remedy);
    }

    fn error(&mut self, message: impl Into<String>, remedy: Option<Remedy>) {
        self.add(Severity::Error, message, remedy);
    }

    /// A relevant fact could not be read.
    fn unreadable(&mut self, what: &str, reason: Option<&str>) {
        self.note(format!("{what} unknown: {}", reason.unwrap_or("not recorded")), None);
    }
}

pub(super) use crate::engine::words::counted;

/// `a`, `a and b`, `a, b and c`.
fn listed(words: &[String]) -> String {
    match words {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}
