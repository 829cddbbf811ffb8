//! Facts, findings and plans as text or as JSON.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{
    facts::{Facts, InterfaceFacts},
    judge::{Finding, HOST, Severity, counted, judge},
    plan::{Plan, plan},
};
use crate::escape::line;

/// Columns of the text, for terminals of 100.
const WIDTH: usize = 98;
/// Columns in front of a finding's message.
const INDENT: usize = 11;

/// The doctor's report on a host.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Report {
    /// Always `mirror.doctor/2`; fields may be added, never renamed.
    pub schema: String,
    /// Whether ingest can run: on all requested interfaces, or on any.
    pub can_run: bool,
    /// How it would run, for each interface without an error.
    pub plans: Vec<Plan>,
    /// The findings.
    pub findings: Vec<Finding>,
    /// The facts that were judged.
    pub facts: Facts,
}

impl Report {
    /// Judges a host.
    #[must_use]
    pub fn of(facts: Facts) -> Self {
        let findings = judge(&facts);
        let clean = |subject: &str| {
            !findings.iter().any(|one| one.severity == Severity::Error && one.subject == subject)
        };
        let interfaces = facts.interfaces.known().map(Vec::as_slice).unwrap_or_default();
        let able = |one: &&InterfaceFacts| clean(HOST) && clean(&one.name);
        let plans: Vec<Plan> = interfaces.iter().filter(able).filter_map(|one| plan(&facts, one)).collect();
        let all = facts.asked.is_none() || plans.len() == interfaces.len();
        let can_run = all && !plans.is_empty();
        Self { schema: "mirror.doctor/2".to_owned(), can_run, plans, findings, facts }
    }

    fn section(&self, f: &mut fmt::Formatter<'_>, subject: &str, title: &str) -> fmt::Result {
        writeln!(f, "{}", line(title))?;
        for finding in self.findings.iter().filter(|finding| finding.subject == subject) {
            write!(f, "  {:<7}  ", finding.severity)?;
            wrapped(f, &line(&finding.message))?;
            if let Some(remedy) = &finding.remedy {
                // On its own line and never wrapped, so that it can be copied.
                writeln!(f, "{:INDENT$}$ {}", "", line(remedy))?;
            }
        }
        writeln!(f)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let machine = self.facts.machine.known().map_or_else(String::new, |machine| format!("  {machine}"));
        let cpus =
            self.facts.cpus.known().map_or_else(String::new, |&cpus| format!(", {}", counted(cpus, "CPU")));
        self.section(f, HOST, &format!("{HOST}{machine}{cpus}"))?;
        let interfaces = self.facts.interfaces.known().map(Vec::as_slice).unwrap_or_default();
        for interface in interfaces {
            let driver = interface.driver.as_ref().map_or_else(
                || ", driver unknown".to_owned(),
                |driver| format!("  {} {}", driver.name, driver.version),
            );
            let node = interface.numa_node.map_or_else(String::new, |node| format!(", NUMA node {node}"));
            self.section(
                f,
                &interface.name,
                &format!("{}{driver}, MTU {}{node}", interface.name, interface.mtu),
            )?;
        }
        if let (None, Some(name)) = (self.facts.interfaces.known(), &self.facts.asked) {
            self.section(f, name, name)?;
        }
        for interface in interfaces {
            match self.plans.iter().find(|plan| plan.interface == interface.name) {
                Some(plan) => {
                    writeln!(f, "{}: would run: {}", line(&interface.name), line(&plan.to_string()))?;
                }
                None => {
                    writeln!(f, "{}: cannot run until the errors above are fixed", line(&interface.name))?;
                }
            }
        }
        if interfaces.is_empty() {
            writeln!(f, "there is no interface to run on")?;
        }
        Ok(())
    }
}

/// Wraps words to lines of [`WIDTH`], the first of which starts at [`INDENT`] already.
fn wrapped(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    let mut column = INDENT;
    for (at, word) in text.split(' ').enumerate() {
        let length = word.chars().count();
        if at > 0 && column + 1 + length > WIDTH {
            write!(f, "\n{:INDENT$}", "")?;
            column = INDENT;
        } else if at > 0 {
            write!(f, " ")?;
            column += 1;
        }
        write!(f, "{word}")?;
        column += length;
    }
    writeln!(f)
}
