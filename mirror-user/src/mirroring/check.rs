//! The constraints of the EC2 API, and what else is likely to be a mistake.
//!
//! Sources: [limits](https://docs.aws.amazon.com/vpc/latest/mirroring/traffic-mirroring-limits.html) and
//! [considerations](https://docs.aws.amazon.com/vpc/latest/mirroring/traffic-mirroring-considerations.html),
//! and the API's own ranges (`CreateTrafficMirrorSession`, `CreateTrafficMirrorFilterRule`).

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use super::{
    Filter, MAX_RULES, MAX_SESSIONS, MAX_SOURCES, MAX_VNI, Mirroring, Rule, SESSION_NUMBERS, Session,
    TargetKind,
};

/// The shortest packet length with which a session mirrors IPv4, in bytes.
const MIN_LENGTH_V4: u32 = 35;
/// The same for IPv6.
const MIN_LENGTH_V6: u32 = 55;
/// Numbers that have ports.
const WITH_PORTS: [u8; 2] = [6, 17];

/// Whether a set-up can be used.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Severity {
    /// AWS takes it, but it is likely to be a mistake.
    Warning,
    /// AWS refuses it.
    Error,
}

/// Something that is wrong with a set-up.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Problem {
    /// Whether it can be used all the same.
    pub severity: Severity,
    /// Of which resource: its id.
    pub resource: String,
    /// Of which field, as the EC2 API names it.
    pub field: &'static str,
    /// Its value.
    pub value: String,
    /// What it must be, or why it is doubtful.
    pub limit: String,
}

impl Problem {
    pub(super) fn error(
        resource: &str,
        field: &'static str,
        value: impl fmt::Display,
        limit: impl Into<String>,
    ) -> Self {
        let (resource, value) = (resource.to_owned(), value.to_string());
        Self { severity: Severity::Error, resource, field, value, limit: limit.into() }
    }

    fn warning(
        resource: &str,
        field: &'static str,
        value: impl fmt::Display,
        limit: impl Into<String>,
    ) -> Self {
        Self { severity: Severity::Warning, ..Self::error(resource, field, value, limit) }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { resource, field, value, limit, .. } = self;
        write!(f, "{resource}: {field} {value}: {limit}")
    }
}

impl Mirroring {
    /// What is wrong with the set-up: errors, then warnings.
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        duplicates(self.targets.iter().map(|it| it.id.as_str()), "TrafficMirrorTargetId", &mut problems);
        duplicates(self.filters.iter().map(|it| it.id.as_str()), "TrafficMirrorFilterId", &mut problems);
        duplicates(self.sessions.iter().map(|it| it.id.as_str()), "TrafficMirrorSessionId", &mut problems);
        duplicates(self.interfaces.iter().map(|it| it.id.as_str()), "NetworkInterfaceId", &mut problems);
        self.filters.iter().for_each(|filter| filter.check(&mut problems));
        self.sessions.iter().for_each(|session| session.check(self, &mut problems));
        self.check_sources(&mut problems);
        self.check_targets(&mut problems);
        problems.sort_by_key(|problem| std::cmp::Reverse(problem.severity));
        problems
    }

    /// Sessions of each source: how many, and their numbers.
    fn check_sources(&self, problems: &mut Vec<Problem>) {
        let sources: BTreeSet<_> = self.sessions.iter().map(|session| session.interface.as_str()).collect();
        for source in sources {
            let sessions = self.sessions_of(source);
            if sessions.len() > MAX_SESSIONS {
                let ids: Vec<_> = sessions.iter().map(|session| session.id.as_str()).collect();
                problems.push(Problem::error(
                    source,
                    "TrafficMirrorSessions",
                    ids.join(", "),
                    format!("a source has at most {MAX_SESSIONS} sessions"),
                ));
            }
            for pair in sessions.windows(2) {
                let [one, other] = pair else { continue };
                if one.number == other.number {
                    problems.push(Problem::error(
                        &other.id,
                        "SessionNumber",
                        other.number,
                        format!("{}, of the same source, has it, too", one.id),
                    ));
                }
            }
        }
    }

    /// Sources of each target that is an interface.
    fn check_targets(&self, problems: &mut Vec<Problem>) {
        let mut sources: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for session in &self.sessions {
            if let Some(TargetKind::NetworkInterface(interface)) =
                self.target(&session.target).map(|it| &it.kind)
            {
                sources.entry(interface).or_default().insert(&session.interface);
            }
        }
        for (target, sources) in sources.iter().filter(|(_, sources)| sources.len() > MAX_SOURCES) {
            problems.push(Problem::warning(
                target,
                "NetworkInterfaceId",
                format!("target of {} sources", sources.len()),
                format!("a target that is an interface takes at most {MAX_SOURCES} by default"),
            ));
        }
    }
}

fn duplicates<'a>(ids: impl Iterator<Item = &'a str>, field: &'static str, problems: &mut Vec<Problem>) {
    let mut seen = BTreeSet::new();
    for id in ids {
        if !seen.insert(id) {
            problems.push(Problem::error(id, field, id, "it is described more than once"));
        }
    }
}

impl Filter {
    fn check(&self, problems: &mut Vec<Problem>) {
        let rules = self.ingress.len() + self.egress.len();
        if rules > MAX_RULES {
            problems.push(Problem::error(
                &self.id,
                "FilterRules",
                format!("{rules} rules"),
                format!("a filter has at most {MAX_RULES}"),
            ));
        }
        for rules in [&self.ingress, &self.egress] {
            let mut numbers = BTreeSet::new();
            for rule in rules {
                if !numbers.insert(rule.number) {
                    let limit = "another rule of this direction has it, too";
                    problems.push(Problem::error(&self.name_of(rule), "RuleNumber", rule.number, limit));
                }
                rule.check(&self.name_of(rule), problems);
            }
        }
        if rules == 0 {
            problems.push(Problem::warning(&self.id, "FilterRules", "none", "it mirrors nothing"));
        }
    }

    /// The rule's id, or that of the filter.
    fn name_of(&self, rule: &Rule) -> String {
        rule.id.clone().unwrap_or_else(|| format!("{} rule {}", self.id, rule.number))
    }
}

impl Rule {
    fn check(&self, name: &str, problems: &mut Vec<Problem>) {
        let Self { number, protocol, source, destination, source_ports, destination_ports, .. } = self;
        if !SESSION_NUMBERS.contains(&u16::try_from(*number).unwrap_or(0)) {
            problems.push(Problem::error(name, "RuleNumber", number, numbers("a rule's number")));
        }
        if source.addr().is_ipv4() != destination.addr().is_ipv4() {
            let limit = format!("SourceCidrBlock {source} is of the other address family");
            problems.push(Problem::error(name, "DestinationCidrBlock", destination, limit));
        }
        let has_ports = protocol.is_some_and(|protocol| WITH_PORTS.contains(&protocol));
        for (field, ports) in [("SourcePortRange", source_ports), ("DestinationPortRange", destination_ports)]
        {
            let Some(ports) = ports else { continue };
            let range = format!("{}-{}", ports.start(), ports.end());
            if ports.is_empty() {
                problems.push(Problem::error(name, field, &range, "FromPort must not be above ToPort"));
            }
            if !has_ports {
                let limit = "only rules for TCP (6) and UDP (17) have ports";
                problems.push(Problem::error(name, field, range, limit));
            }
        }
    }
}

impl Session {
    fn check(&self, all: &Mirroring, problems: &mut Vec<Problem>) {
        let Self { id, target, filter, interface, number, packet_length, vni, .. } = self;
        if !SESSION_NUMBERS.contains(number) {
            problems.push(Problem::error(id, "SessionNumber", number, numbers("a session's number")));
        }
        if let Some(vni) = vni.filter(|vni| *vni > MAX_VNI) {
            problems.push(Problem::error(id, "VirtualNetworkId", vni, "24 bits: at most 16777215"));
        }
        match *packet_length {
            Some(length) if length < MIN_LENGTH_V4 => {
                let limit = format!("at least {MIN_LENGTH_V4}, and {MIN_LENGTH_V6} for IPv6");
                problems.push(Problem::error(id, "PacketLength", length, limit));
            }
            Some(length) if length < MIN_LENGTH_V6 => {
                let limit = format!("IPv6 packets need {MIN_LENGTH_V6}");
                problems.push(Problem::warning(id, "PacketLength", length, limit));
            }
            _ => {}
        }
        if all.filter(filter).is_none() {
            problems.push(Problem::error(id, "TrafficMirrorFilterId", filter, "no file describes it"));
        }
        match all.target(target).map(|target| &target.kind) {
            None => {
                problems.push(Problem::error(id, "TrafficMirrorTargetId", target, "no file describes it"));
            }
            Some(TargetKind::NetworkInterface(own)) if own == interface => problems.push(Problem::error(
                id,
                "NetworkInterfaceId",
                interface,
                format!("it is the target {target}, too, and would mirror its copies"),
            )),
            Some(_) => {}
        }
        let is_target = |kind: &TargetKind| *kind == TargetKind::NetworkInterface(interface.clone());
        if let Some(other) = all.targets.iter().find(|other| other.id != *target && is_target(&other.kind)) {
            let limit = format!("it is the target {}, too: copies for that one are mirrored", other.id);
            problems.push(Problem::warning(id, "NetworkInterfaceId", interface, limit));
        }
    }
}

fn numbers(what: &str) -> String {
    format!("{what} is {} to {}", SESSION_NUMBERS.start(), SESSION_NUMBERS.end())
}

#[cfg(test)]
mod tests {
    use super::super::testing::{filter, rule, session, target};
    use super::*;

    /// One source, one target, one filter with one rule each way.
    fn sound() -> Mirroring {
        Mirroring {
            targets: vec![target("tmt-1", "eni-9")],
            filters: vec![filter(
                "tmf-1",
                &["1 accept tcp 0.0.0.0/0 10.0.0.0/8"],
                &["1 accept any ::/0 ::/0"],
            )],
            sessions: vec![session("tms-1", 1)],
            ..Mirroring::default()
        }
    }

    #[test]
    fn a_sound_set_up_has_no_problems() {
        assert_eq!(sound().problems(), []);
    }

    #[test]
    fn each_constraint_is_named_with_resource_field_value_and_limit() {
        type Change = fn(&mut Mirroring);
        let cases: [(Change, &str); 17] = [
            (
                |all| all.targets.push(target("tmt-1", "eni-8")),
                "tmt-1: TrafficMirrorTargetId tmt-1: it is described",
            ),
            (
                |all| all.sessions.push(session("tms-1", 2)),
                "tms-1: TrafficMirrorSessionId tms-1: it is described",
            ),
            (|all| all.sessions[0].number = 0, "tms-1: SessionNumber 0: a session's number is 1 to 32766"),
            (|all| all.sessions[0].number = 32767, "tms-1: SessionNumber 32767: a session's number is 1"),
            (|all| all.sessions[0].vni = Some(1 << 24), "tms-1: VirtualNetworkId 16777216: 24 bits"),
            (
                |all| all.sessions[0].packet_length = Some(34),
                "tms-1: PacketLength 34: at least 35, and 55 for",
            ),
            (|all| all.sessions[0].filter = "tmf-2".into(), "tms-1: TrafficMirrorFilterId tmf-2: no file"),
            (|all| all.sessions[0].target = "tmt-2".into(), "tms-1: TrafficMirrorTargetId tmt-2: no file"),
            (
                |all| all.sessions[0].interface = "eni-9".into(),
                "tms-1: NetworkInterfaceId eni-9: it is the target",
            ),
            (
                |all| all.sessions.push(session("tms-2", 1)),
                "tms-2: SessionNumber 1: tms-1, of the same source",
            ),
            (
                |all| all.sessions.extend((2..5).map(|number| session(&format!("tms-{number}"), number))),
                "eni-1: TrafficMirrorSessions tms-1, tms-2, tms-3, tms-4: a source has at most 3 sessions",
            ),
            (
                |all| {
                    let rules =
                        (2..12).map(|number| rule(&format!("{number} accept any 0.0.0.0/0 0.0.0.0/0")));
                    all.filters[0].ingress.extend(rules);
                },
                "tmf-1: FilterRules 12 rules: a filter has at most 10",
            ),
            (
                |all| all.filters[0].ingress.push(rule("1 reject any 0.0.0.0/0 0.0.0.0/0")),
                "tmf-1 rule 1: RuleNumber 1: another rule of this direction has it, too",
            ),
            (
                |all| all.filters[0].ingress[0].number = 0,
                "tmf-1 rule 0: RuleNumber 0: a rule's number is 1 to 32766",
            ),
            (
                |all| all.filters[0].ingress[0] = rule("1 accept any 0.0.0.0/0 ::/0"),
                "tmf-1 rule 1: DestinationCidrBlock ::/0: SourceCidrBlock 0.0.0.0/0 is of the other",
            ),
            (
                |all| all.filters[0].ingress[0] = rule("1 accept 1 0.0.0.0/0:80-80 0.0.0.0/0"),
                "tmf-1 rule 1: SourcePortRange 80-80: only rules for TCP (6) and UDP (17) have ports",
            ),
            (
                |all| all.filters[0].ingress[0] = rule("1 accept udp 0.0.0.0/0 0.0.0.0/0:90-80"),
                "tmf-1 rule 1: DestinationPortRange 90-80: FromPort must not be above ToPort",
            ),
        ];
        for (change, expected) in cases {
            let mut changed = sound();
            change(&mut changed);
            let errors: Vec<_> =
                changed.problems().into_iter().filter(|it| it.severity == Severity::Error).collect();
            let [error] = &errors[..] else { panic!("{expected}: {errors:#?}") };
            assert!(error.to_string().starts_with(expected), "{expected}: {error}");
        }
    }

    #[test]
    fn what_is_doubtful_is_a_warning() {
        type Change = fn(&mut Mirroring);
        let cases: [(Change, &str); 4] = [
            (|all| all.sessions[0].packet_length = Some(54), "tms-1: PacketLength 54: IPv6 packets need 55"),
            (
                |all| all.filters.push(filter("tmf-2", &[], &[])),
                "tmf-2: FilterRules none: it mirrors nothing",
            ),
            (
                |all| all.targets.push(target("tmt-2", "eni-1")),
                "tms-1: NetworkInterfaceId eni-1: it is the target tmt-2, too",
            ),
            (
                |all| {
                    all.sessions = (0..11)
                        .map(|source| {
                            let mut session = session(&format!("tms-{source}"), 1);
                            session.interface = format!("eni-1{source}");
                            session
                        })
                        .collect();
                },
                "eni-9: NetworkInterfaceId target of 11 sources: a target that is an interface takes",
            ),
        ];
        for (change, expected) in cases {
            let mut changed = sound();
            change(&mut changed);
            let problems = changed.problems();
            let [warning] = &problems[..] else { panic!("{expected}: {problems:#?}") };
            assert!(warning.to_string().starts_with(expected), "{expected}: {warning}");
            assert_eq!(warning.severity, Severity::Warning);
        }
    }
}
