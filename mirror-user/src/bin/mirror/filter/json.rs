//! `--json`: what `mirror filter` prints, for programs.

use std::ops::RangeInclusive;

use mirror_user::mirroring::{Direction, Filter, Mirroring, Outcome, Packet, Rule, Session};
use serde_json::{Value, json};

use super::{excluded, sources};

/// `mirror.filter/1`: sources, with all that is asked in sequence, and what is doubtful.
pub(super) fn shown(all: &Mirroring) -> Value {
    let vnis = all.vnis();
    let session = |session: &Session| {
        let target = all.target(&session.target).map(|target| target.kind.resource());
        json!({
            "number": session.number,
            "session": session.id,
            "vni": vnis.get(session.id.as_str()),
            "vni_is_derived": session.vni.is_none(),
            "target": session.target,
            "to": target,
            "packet_length": session.packet_length,
            "filter": all.filter(&session.filter).map(filter),
        })
    };
    let source = |id: &&str| {
        let known = all.interface(id);
        let name = known.and_then(|known| known.tags.iter().find(|(key, _)| key.as_str() == "Name"));
        let sessions: Vec<_> = all.sessions_of(id).into_iter().map(session).collect();
        json!({
            "interface": id,
            "name": name.map(|(_, name)| name),
            "addresses": known.map(|known| &known.addresses[..]).unwrap_or_default(),
            "sessions": sessions,
        })
    };
    let sources: Vec<_> = sources(all).iter().map(source).collect();
    let warnings: Vec<_> = all.problems().iter().map(ToString::to_string).collect();
    json!({ "schema": "mirror.filter/1", "sources": sources, "warnings": warnings })
}

/// `mirror.filter-test/1`: what becomes of a packet; `None` is one that is not IP. Its number is that in a
/// capture file.
pub(super) fn judged(
    number: Option<u64>,
    direction: Direction,
    packet: Option<&Packet>,
    outcome: Option<&Outcome<'_>>,
) -> Value {
    let mut judged = json!({
        "schema": "mirror.filter-test/1",
        "packet": number,
        "direction": direction.name(),
        "length": packet.map(|packet| packet.length),
        "mirrored": matches!(outcome, Some(Outcome::Mirrored { .. })),
        "session": null,
        "rule": null,
        "vni": null,
        "mirrored_length": null,
        "reason": null,
    });
    match outcome {
        None => judged["reason"] = "not an IP packet".into(),
        Some(Outcome::Mirrored { session, rule: by, vni, length }) => {
            judged["session"] = session.id.clone().into();
            judged["rule"] = by.map_or_else(|| "amazon-dns".into(), rule);
            (judged["vni"], judged["mirrored_length"]) = ((*vni).into(), (*length).into());
        }
        Some(Outcome::Rejected { session, rule: by }) => {
            judged["session"] = session.id.clone().into();
            (judged["rule"], judged["reason"]) = (rule(by), "rejected".into());
        }
        Some(Outcome::Excluded(reason)) => judged["reason"] = excluded(*reason).into(),
        Some(_) => judged["reason"] = "no rule matches".into(),
    }
    judged
}

fn filter(filter: &Filter) -> Value {
    let rules = |direction| filter.rules(direction).iter().map(rule).collect::<Vec<_>>();
    json!({
        "filter": filter.id,
        "amazon_dns": filter.amazon_dns,
        "ingress": rules(Direction::Ingress),
        "egress": rules(Direction::Egress),
    })
}

/// What is absent is all.
fn rule(rule: &Rule) -> Value {
    let ports = |ports: &Option<RangeInclusive<u16>>| {
        ports.as_ref().map(|ports| json!({ "from": ports.start(), "to": ports.end() }))
    };
    json!({
        "number": rule.number,
        "action": rule.action.name(),
        "protocol": rule.protocol,
        "source": rule.source.to_string(),
        "destination": rule.destination.to_string(),
        "source_ports": ports(&rule.source_ports),
        "destination_ports": ports(&rule.destination_ports),
    })
}
