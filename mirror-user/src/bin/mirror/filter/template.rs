//! Resources of Traffic Mirroring in a template, as the document that the EC2 API would give of them.

use std::fmt;

use serde_json::{Map, Value, json};

/// A resource of a template.
#[derive(Debug)]
pub(super) struct Resource {
    pub(super) kind: Kind,
    /// Its name in the template, which others refer to.
    pub(super) name: String,
    /// By the names of the EC2 API; references are the names of what they refer to.
    pub(super) properties: Map<String, Value>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    Target,
    Filter,
    Rule,
    Session,
}

/// A value of a template that cannot be known from it.
#[derive(Debug)]
pub(super) struct NotLiteral {
    pub(super) resource: String,
    pub(super) property: String,
    /// What is there instead.
    pub(super) found: String,
}

impl fmt::Display for NotLiteral {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { resource, property, found } = self;
        write!(
            f,
            "{resource}: {property}: {found} is neither a literal nor the name of a resource or parameter"
        )
    }
}

/// Properties whose values are numbers, which templates may quote.
const NUMBERS: [&str; 7] =
    ["FromPort", "PacketLength", "Protocol", "RuleNumber", "SessionNumber", "ToPort", "VirtualNetworkId"];

/// What the `describe` calls would print, with names in place of ids.
pub(super) fn document(resources: Vec<Resource>) -> anyhow::Result<Value> {
    let (mut targets, mut filters, mut sessions) = (Vec::new(), Vec::new(), Vec::new());
    let mut rules = Vec::new();
    for Resource { kind, name, mut properties } in resources {
        properties.iter_mut().for_each(|(name, value)| unquote(name, value));
        let (id, of_kind) = match kind {
            Kind::Target => ("TrafficMirrorTargetId", &mut targets),
            Kind::Filter => ("TrafficMirrorFilterId", &mut filters),
            Kind::Rule => ("TrafficMirrorFilterRuleId", &mut rules),
            Kind::Session => ("TrafficMirrorSessionId", &mut sessions),
        };
        properties.insert(id.to_owned(), Value::String(name));
        of_kind.push(Value::Object(properties));
    }
    for rule in rules {
        let name = &rule["TrafficMirrorFilterRuleId"];
        let list = match rule["TrafficDirection"].as_str() {
            Some("ingress") => "IngressFilterRules",
            Some("egress") => "EgressFilterRules",
            _ => anyhow::bail!("{name}: TrafficDirection {}: ingress or egress", rule["TrafficDirection"]),
        };
        let of = &rule["TrafficMirrorFilterId"];
        let filter = filters.iter_mut().find(|filter| filter["TrafficMirrorFilterId"] == *of);
        let Some(filter) = filter else {
            anyhow::bail!("{name}: TrafficMirrorFilterId {of}: no template has this filter")
        };
        match &mut filter[list] {
            Value::Array(rules) => rules.push(rule),
            none => *none = json!([rule]),
        }
    }
    Ok(json!({
        "TrafficMirrorTargets": targets,
        "TrafficMirrorFilters": filters,
        "TrafficMirrorSessions": sessions,
    }))
}

/// Numbers in quotes are numbers; of all that is beneath, too.
fn unquote(name: &str, value: &mut Value) {
    match value {
        Value::String(text) if NUMBERS.contains(&name) => {
            if let Ok(number) = text.parse::<i64>() {
                *value = number.into();
            }
        }
        Value::Object(nested) => nested.iter_mut().for_each(|(name, value)| unquote(name, value)),
        _ => {}
    }
}
