//! Mirror targets, filters and sessions as templates declare them: in the ranges of the EC2 API, some of
//! which cfn-lint does not know, and the same in both variants of a template. With defaults in place of
//! variables.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use serde_json::{Map, Value, json};

use super::{read, schema};

/// The MTU of targets in the user data, the most that ENA takes for XDP in one buffer.
const MTU: u64 = 3498;
/// Bytes of the outer IP packet before the mirrored frame: IPv4, UDP, VXLAN.
const VXLAN: u64 = 20 + 8 + 8;
/// The same behind a Gateway Load Balancer: IPv4, UDP, GENEVE with three options, and the above.
const GENEVE: u64 = 20 + 8 + 40 + VXLAN;
/// The least `PacketLength`, for IPv4.
const LEAST_PACKET_LENGTH: u64 = 35;
/// Rules of one filter.
const MOST_RULES: usize = 10;

/// The fields of the workshop's flow log, in the order of its queries.
const FLOW_LOG: [&str; 29] = [
    "account-id",
    "action",
    "az-id",
    "bytes",
    "dstaddr",
    "dstport",
    "end",
    "flow-direction",
    "instance-id",
    "interface-id",
    "log-status",
    "packets",
    "pkt-dst-aws-service",
    "pkt-dstaddr",
    "pkt-src-aws-service",
    "pkt-srcaddr",
    "protocol",
    "region",
    "srcaddr",
    "srcport",
    "start",
    "sublocation-id",
    "sublocation-type",
    "subnet-id",
    "tcp-flags",
    "traffic-path",
    "type",
    "version",
    "vpc-id",
];

/// What one template declares.
#[derive(Debug, Default, PartialEq, Eq)]
struct Objects {
    targets: BTreeSet<String>,
    filters: BTreeSet<Filter>,
    sessions: BTreeSet<Session>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Filter {
    services: String,
    rules: BTreeSet<Rule>,
}

/// Direction and number first: rules are sorted by them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Rule {
    direction: String,
    number: u64,
    action: String,
    protocol: Option<u64>,
    source: String,
    destination: String,
    ports: [String; 2],
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Session {
    number: u64,
    vni: Option<u64>,
    packet_length: Option<u64>,
    /// One, or one of several by a parameter.
    filters: BTreeSet<Filter>,
}

/// A resource in the form of Terraform, with its name.
struct Resource {
    kind: String,
    name: String,
    body: Value,
}

/// # Errors
/// If a value is out of range, or two variants differ.
pub(super) fn check(root: &Path) -> Result<BTreeSet<PathBuf>> {
    let terraform = read::below(root, "deploy/terraform", "tf")?;
    let cloudformation = read::below(root, "deploy/cloudformation", "yaml")?;
    let mut problems = Vec::new();
    for (path, template) in &cloudformation {
        let resources = of_cloudformation(template);
        let folder = Path::new("deploy/terraform").join(path.file_stem().unwrap_or_default());
        let declared = objects(&resources, &path.display().to_string(), &mut problems);
        let Some(twin) = terraform.get(&folder.join("main.tf")) else {
            problems.push(format!("{} has no Terraform variant", path.display()));
            continue;
        };
        let variables = terraform.get(&folder.join("variables.tf"));
        let other = objects(&of_terraform(twin, variables), &folder.display().to_string(), &mut problems);
        if declared != other {
            problems.push(format!(
                "{} and {} declare different mirror objects:\n{declared:#?}\n{other:#?}",
                path.display(),
                folder.display()
            ));
        }
    }
    for (path, document) in terraform.iter().filter(|(path, _)| path.ends_with("main.tf")) {
        let resources = of_terraform(document, terraform.get(&path.with_file_name("variables.tf")));
        objects(&resources, &path.display().to_string(), &mut problems);
    }
    problems.sort();
    problems.dedup();
    ensure!(problems.is_empty(), "{}", problems.join("\n"));
    Ok(terraform.into_keys().chain(cloudformation.into_keys()).collect())
}

/// The resources of a template, those of `Fn::ForEach` too, named as Terraform names them.
fn of_cloudformation(template: &Value) -> Vec<Resource> {
    let defaults: BTreeMap<_, _> = template["Parameters"]
        .as_object()
        .into_iter()
        .flatten()
        .filter_map(|(name, parameter)| Some((name.as_str(), parameter.get("Default")?)))
        .collect();
    let resolve = |value: &Value| {
        let name = value.get("Ref").and_then(Value::as_str)?;
        defaults.get(name).map(|default| (*default).clone())
    };
    let mut found = Vec::new();
    let mut add = |resources: &Map<String, Value>| {
        for (name, resource) in resources {
            let Some(kind) = resource["Type"].as_str().and_then(|kind| kind.strip_prefix("AWS::EC2::"))
            else {
                continue;
            };
            let kind = format!("aws_ec2{}", snake(kind)).replace("aws_ec2_flow_log", "aws_flow_log");
            let body = snaked(&resource["Properties"], &resolve);
            found.push(Resource { kind, name: format!("\"Ref\":\"{name}\""), body });
        }
    };
    let all = template["Resources"].as_object();
    all.into_iter().for_each(&mut add);
    for (_, each) in all.into_iter().flatten().filter(|(name, _)| name.starts_with("Fn::ForEach::")) {
        each.get(2).and_then(Value::as_object).into_iter().for_each(&mut add);
    }
    found
}

fn of_terraform(document: &Value, variables: Option<&Value>) -> Vec<Resource> {
    let defaults: BTreeMap<_, _> = [document]
        .into_iter()
        .chain(variables)
        .flat_map(schema::variables)
        .filter_map(|(name, body)| Some((format!("${{var.{name}}}"), body.get("default")?)))
        .collect();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    document["resource"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|resource| {
            let mut body = resource["body"].clone();
            for value in body.as_object_mut().into_iter().flatten().map(|(_, value)| value) {
                if let Some(default) = value.as_str().and_then(|text| defaults.get(text)) {
                    *value = (*default).clone();
                }
            }
            let kind = text(&resource["kind"]);
            let name = format!("{kind}.{}.id", text(&resource["name"]));
            Resource { kind, name, body }
        })
        .collect()
}

/// `SourceCidrBlock` as `_source_cidr_block`.
fn snake(name: &str) -> String {
    name.chars().fold(String::new(), |mut snake, c| {
        if c.is_ascii_uppercase() {
            snake.push('_');
        }
        snake.push(c.to_ascii_lowercase());
        snake
    })
}

/// The names of the first two levels, and parameters by their defaults.
fn snaked(body: &Value, resolve: &dyn Fn(&Value) -> Option<Value>) -> Value {
    let names = body.as_object().into_iter().flatten();
    names
        .map(|(name, value)| {
            let name = snake(name).trim_start_matches('_').to_owned();
            let value = resolve(value).unwrap_or_else(|| value.clone());
            let value = if name.ends_with("port_range") { json!([snaked(&value, resolve)]) } else { value };
            (name, value)
        })
        .collect::<Map<_, _>>()
        .into()
}

/// What the resources declare; what is out of range goes to `problems`.
fn objects(resources: &[Resource], path: &str, problems: &mut Vec<String>) -> Objects {
    let of = |kind: &'static str| resources.iter().filter(move |resource| resource.kind == kind);
    let mut objects = Objects::default();
    let mut overhead = VXLAN;
    for target in of("aws_ec2_traffic_mirror_target") {
        let kinds =
            ["network_interface_id", "network_load_balancer_arn", "gateway_load_balancer_endpoint_id"];
        let kind = kinds.into_iter().filter(|kind| target.body.get(kind).is_some());
        objects.targets.insert(kind.clone().collect::<Vec<_>>().join(" and "));
        if kind.clone().any(|kind| kind == kinds[2]) {
            overhead = GENEVE;
        }
        if kind.count() != 1 {
            problems.push(format!("{path}: {}: a target is one of {}", target.name, kinds.join(", ")));
        }
    }
    let mut filters = BTreeMap::new();
    for filter in of("aws_ec2_traffic_mirror_filter") {
        let rules = of("aws_ec2_traffic_mirror_filter_rule")
            .filter(|rule| refers(&rule.body["traffic_mirror_filter_id"], filter));
        let rules: Vec<_> = rules.map(|one| rule(one, path, problems)).collect();
        let numbers: BTreeSet<_> = rules.iter().map(|rule| (&rule.direction, rule.number)).collect();
        if numbers.len() < rules.len() || rules.len() > MOST_RULES || rules.is_empty() {
            problems.push(format!(
                "{path}: {}: one to {MOST_RULES} rules, with numbers of their own in each direction",
                filter.name
            ));
        }
        let services = filter.body.get("network_services").map(Value::to_string).unwrap_or_default();
        filters
            .insert(filter.name.as_str(), (filter, Filter { services, rules: rules.into_iter().collect() }));
    }
    objects.filters = filters.values().map(|(_, filter)| filter.clone()).collect();
    for session in of("aws_ec2_traffic_mirror_session") {
        let number = |key| number(&session.body, key, path, problems);
        let [index, vni, packet_length] =
            ["session_number", "virtual_network_id", "packet_length"].map(number);
        let most = MTU - overhead;
        for (what, value, range) in [
            ("session number", index, 1..=32766),
            ("VNI", vni, 0..=(1 << 24) - 1),
            ("packet length", packet_length, LEAST_PACKET_LENGTH..=most),
        ] {
            if let Some(value) = value.filter(|value| !range.contains(value)) {
                let (least, most) = range.into_inner();
                problems.push(format!("{path}: {what} {value} is not from {least} to {most}"));
            }
        }
        let wanted = &session.body["traffic_mirror_filter_id"];
        let filters = filters.values().filter(|(filter, _)| refers(wanted, filter));
        objects.sessions.insert(Session {
            number: index.unwrap_or_default(),
            vni,
            packet_length,
            filters: filters.map(|(_, filter)| filter.clone()).collect(),
        });
    }
    if objects.targets.is_empty() != objects.sessions.is_empty() {
        problems.push(format!("{path}: targets without sessions, or sessions without targets"));
    }
    for log in of("aws_flow_log") {
        if fields(log.body["log_format"].as_str().unwrap_or_default()) != FLOW_LOG {
            problems.push(format!("{path}: the flow log has not the fields of the workshop's queries"));
        }
    }
    objects
}

fn refers(value: &Value, to: &Resource) -> bool {
    value.to_string().contains(&to.name)
}

fn rule(resource: &Resource, path: &str, problems: &mut Vec<String>) -> Rule {
    let body = &resource.body;
    let text = |key: &str| body[key].as_str().unwrap_or_default().to_owned();
    let mut number = |key| number(body, key, path, problems);
    let (index, protocol) = (number("rule_number").unwrap_or_default(), number("protocol"));
    let ports = ["source_port_range", "destination_port_range"].map(|key| {
        let range = &body[key][0];
        if range.is_null() {
            String::new()
        } else {
            format!("{} to {}", range["from_port"], range["to_port"])
        }
    });
    if ports.iter().any(|ports| !ports.is_empty()) && !matches!(protocol, Some(6 | 17)) {
        problems.push(format!("{path}: {}: only TCP and UDP have ports", resource.name));
    }
    if !(1..=32766).contains(&index) {
        problems.push(format!("{path}: rule number {index} is not from 1 to 32766"));
    }
    Rule {
        direction: text("traffic_direction"),
        number: index,
        action: text("rule_action"),
        protocol,
        source: text("source_cidr_block"),
        destination: text("destination_cidr_block"),
        ports,
    }
}

/// A number, or the text of one; what is there and is neither is a problem.
fn number(body: &Value, key: &str, path: &str, problems: &mut Vec<String>) -> Option<u64> {
    let value = body.get(key)?;
    let number = value.as_u64().or_else(|| value.as_str()?.parse().ok());
    if number.is_none() {
        problems.push(format!("{path}: {key} is {value}, not a number"));
    }
    number
}

/// The names in `${account-id} ${action} …`.
fn fields(format: &str) -> Vec<&str> {
    format.split("${").filter_map(|part| part.split_once('}')).map(|(name, _)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(session_number: u64, packet_length: u64) -> Value {
        json!({
            "Parameters": {"Length": {"Default": packet_length}},
            "Resources": {
                "Target": {"Type": "AWS::EC2::TrafficMirrorTarget",
                    "Properties": {"GatewayLoadBalancerEndpointId": "vpce-1"}},
                "Filter": {"Type": "AWS::EC2::TrafficMirrorFilter", "Properties": {}},
                "Rule": {"Type": "AWS::EC2::TrafficMirrorFilterRule", "Properties": {
                    "TrafficMirrorFilterId": {"Ref": "Filter"}, "TrafficDirection": "ingress",
                    "RuleNumber": 1, "RuleAction": "accept", "Protocol": 6,
                    "SourceCidrBlock": "0.0.0.0/0", "DestinationCidrBlock": "0.0.0.0/0",
                    "DestinationPortRange": {"FromPort": 22, "ToPort": 22}}},
                "Fn::ForEach::Sessions": ["Id", {"Ref": "Ids"}, {"Session&{Id}": {
                    "Type": "AWS::EC2::TrafficMirrorSession", "Properties": {
                    "TrafficMirrorFilterId": {"Ref": "Filter"}, "SessionNumber": session_number,
                    "PacketLength": {"Ref": "Length"}}}}],
            }
        })
    }

    fn problems(template: &Value) -> Vec<String> {
        let mut problems = Vec::new();
        objects(&of_cloudformation(template), "it", &mut problems);
        problems
    }

    #[test]
    fn ranges_that_cfn_lint_does_not_know_are_held() {
        assert!(problems(&template(32766, 3394)).is_empty());
        assert_eq!(problems(&template(40000, 3394)), ["it: session number 40000 is not from 1 to 32766"]);
        assert_eq!(problems(&template(1, 3395)), ["it: packet length 3395 is not from 35 to 3394"]);
        assert_eq!(problems(&template(1, 34)), ["it: packet length 34 is not from 35 to 3394"]);
    }

    #[test]
    fn both_languages_are_read_into_the_same_objects() {
        let terraform = json!({
            "variable": [{"length": {"default": 3394, "__is_block__": true}}],
            "resource": [
                {"kind": "aws_ec2_traffic_mirror_target", "name": "t",
                    "body": {"gateway_load_balancer_endpoint_id": "vpce-1"}},
                {"kind": "aws_ec2_traffic_mirror_filter", "name": "f", "body": {}},
                {"kind": "aws_ec2_traffic_mirror_filter_rule", "name": "r", "body": {
                    "traffic_mirror_filter_id": "${aws_ec2_traffic_mirror_filter.f.id}",
                    "traffic_direction": "ingress", "rule_number": 1, "rule_action": "accept", "protocol": 6,
                    "source_cidr_block": "0.0.0.0/0", "destination_cidr_block": "0.0.0.0/0",
                    "destination_port_range": [{"from_port": 22, "to_port": 22}]}},
                {"kind": "aws_ec2_traffic_mirror_session", "name": "s", "body": {
                    "traffic_mirror_filter_id": "${aws_ec2_traffic_mirror_filter.f.id}",
                    "session_number": 7, "packet_length": "${var.length}"}},
            ]
        });
        let mut problems = Vec::new();
        let ours = objects(&of_terraform(&terraform, None), "terraform", &mut problems);
        let theirs = |template| objects(&of_cloudformation(&template), "cloudformation", &mut Vec::new());
        assert_eq!(ours, theirs(template(7, 3394)));
        assert_ne!(ours, theirs(template(8, 3394)));
        assert!(problems.is_empty(), "{problems:?}");
    }

    #[test]
    fn ports_need_a_protocol_that_has_some() {
        let mut template = template(1, 100);
        template["Resources"]["Rule"]["Properties"]["Protocol"] = json!(1);
        assert_eq!(problems(&template), ["it: \"Ref\":\"Rule\": only TCP and UDP have ports"]);
    }
}
