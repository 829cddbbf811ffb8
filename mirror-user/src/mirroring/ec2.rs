//! The JSON of the EC2 API, as `aws ec2 describe-traffic-mirror-targets`, `-filters`, `-sessions` and
//! `describe-network-interfaces` print it: `DescribeTrafficMirrorTargetsResult` and its like of the
//! [API reference](https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_Operations.html).

use std::{net::IpAddr, ops::RangeInclusive};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

use super::{
    Action, Filter, Mirroring, NetworkInterface, Problem, Rule, Session, Severity, Tags, Target, TargetKind,
};

const AMAZON_DNS: &str = "amazon-dns";

/// Why a set-up cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// A file is not JSON, or not of these shapes.
    #[error("{file}: {source}")]
    Json {
        /// Its name.
        file: String,
        /// Where, and what is wrong.
        source: serde_json::Error,
    },
    /// A file has none of these resources.
    #[error(
        "{file}: it has no TrafficMirrorTargets, TrafficMirrorFilters, TrafficMirrorSessions or \
        NetworkInterfaces, as `aws ec2 describe-traffic-mirror-sessions` prints, for one"
    )]
    Nothing {
        /// Its name.
        file: String,
    },
    /// A file has nothing that concerns flow logs.
    #[error(
        "{file}: it is neither what `aws ec2` prints for describe-network-interfaces, \
        describe-traffic-mirror-sessions, describe-subnets, describe-instances or describe-vpcs, nor \
        ip-ranges.json"
    )]
    NoMetadata {
        /// Its name.
        file: String,
    },
    /// It violates constraints.
    #[error("{}", lines(.0))]
    Problems(Vec<Problem>),
}

fn lines(problems: &[Problem]) -> String {
    problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n")
}

impl Mirroring {
    /// Reads what the `describe` calls print: files by their names, with one JSON document or several each.
    ///
    /// # Errors
    ///
    /// What is not of these shapes, or all that AWS would refuse. What is only doubtful is in
    /// [`problems`](Self::problems) afterwards.
    pub fn read<'a>(files: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self, ReadError> {
        let mut all = Self::default();
        let mut problems = Vec::new();
        for (file, text) in files {
            if !all.add(file, text, &mut problems)? {
                return Err(ReadError::Nothing { file: file.to_owned() });
            }
        }
        for filter in &mut all.filters {
            filter.ingress.sort_by_key(|rule| rule.number);
            filter.egress.sort_by_key(|rule| rule.number);
        }
        problems.extend(all.problems().into_iter().filter(|problem| problem.severity == Severity::Error));
        if problems.is_empty() { Ok(all) } else { Err(ReadError::Problems(problems)) }
    }

    /// Adds what a file has, without a look at the constraints among resources. Returns whether it has any.
    pub(crate) fn add(
        &mut self,
        file: &str,
        text: &str,
        problems: &mut Vec<Problem>,
    ) -> Result<bool, ReadError> {
        let mut has_any = false;
        for document in serde_json::Deserializer::from_str(text).into_iter::<Document>() {
            let document = document.map_err(|source| ReadError::Json { file: file.to_owned(), source })?;
            has_any |= document.has_any();
            document.add_to(self, problems);
        }
        Ok(has_any)
    }

    /// Writes it as one document of that kind: all of it can be expressed in JSON.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::to_value(Document::of(self)).unwrap_or_default()
    }
}

/// The results of one or more calls.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "PascalCase")]
struct Document {
    #[serde(skip_serializing_if = "Option::is_none")]
    traffic_mirror_targets: Option<Vec<JsonTarget>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    traffic_mirror_filters: Option<Vec<JsonFilter>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    traffic_mirror_sessions: Option<Vec<JsonSession>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    network_interfaces: Option<Vec<JsonInterface>>,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "PascalCase")]
struct JsonTarget {
    traffic_mirror_target_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    network_interface_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    network_load_balancer_arn: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gateway_load_balancer_endpoint_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    r#type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    owner_id: Option<String>,
    tags: Vec<JsonTag>,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "PascalCase")]
struct JsonFilter {
    traffic_mirror_filter_id: String,
    ingress_filter_rules: Vec<JsonRule>,
    egress_filter_rules: Vec<JsonRule>,
    network_services: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    tags: Vec<JsonTag>,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "PascalCase")]
struct JsonRule {
    #[serde(skip_serializing_if = "Option::is_none")]
    traffic_mirror_filter_rule_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    traffic_mirror_filter_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    traffic_direction: Option<String>,
    rule_number: i64,
    rule_action: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    protocol: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    destination_port_range: Option<JsonPorts>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source_port_range: Option<JsonPorts>,
    destination_cidr_block: String,
    source_cidr_block: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "PascalCase")]
struct JsonPorts {
    from_port: i64,
    to_port: i64,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "PascalCase")]
struct JsonSession {
    traffic_mirror_session_id: String,
    traffic_mirror_target_id: String,
    traffic_mirror_filter_id: String,
    network_interface_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    owner_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    packet_length: Option<i64>,
    session_number: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    virtual_network_id: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    tags: Vec<JsonTag>,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "PascalCase")]
struct JsonInterface {
    network_interface_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    availability_zone: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    availability_zone_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mac_address: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    owner_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    vpc_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subnet_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    outpost_arn: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    attachment: Option<JsonAttachment>,
    #[serde(skip_serializing_if = "Option::is_none")]
    interface_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    requester_managed: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    private_ip_addresses: Vec<JsonPrivateAddress>,
    ipv6_addresses: Vec<JsonV6Address>,
    ipv4_prefixes: Vec<JsonV4Prefix>,
    ipv6_prefixes: Vec<JsonV6Prefix>,
    tag_set: Vec<JsonTag>,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "PascalCase")]
struct JsonPrivateAddress {
    #[serde(skip_serializing_if = "Option::is_none")]
    primary: Option<bool>,
    private_ip_address: String,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "PascalCase")]
struct JsonAttachment {
    #[serde(skip_serializing_if = "Option::is_none")]
    instance_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    instance_owner_id: Option<String>,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "PascalCase")]
struct JsonV6Address {
    ipv6_address: String,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "PascalCase")]
struct JsonV4Prefix {
    ipv4_prefix: String,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "PascalCase")]
struct JsonV6Prefix {
    ipv6_prefix: String,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "PascalCase")]
struct JsonTag {
    key: String,
    value: String,
}

impl Document {
    fn has_any(&self) -> bool {
        let Self {
            traffic_mirror_targets,
            traffic_mirror_filters,
            traffic_mirror_sessions,
            network_interfaces,
        } = self;
        traffic_mirror_targets.is_some()
            || traffic_mirror_filters.is_some()
            || traffic_mirror_sessions.is_some()
            || network_interfaces.is_some()
    }

    /// What cannot be expressed is a problem, and left out.
    fn add_to(self, all: &mut Mirroring, problems: &mut Vec<Problem>) {
        let Self {
            traffic_mirror_targets,
            traffic_mirror_filters,
            traffic_mirror_sessions,
            network_interfaces,
        } = self;
        let mut add = Problems(problems);
        let targets = traffic_mirror_targets.into_iter().flatten();
        all.targets.extend(targets.filter_map(|target| add.checked(target.checked())));
        for filter in traffic_mirror_filters.into_iter().flatten() {
            all.filters.push(filter.checked(&mut add));
        }
        let sessions = traffic_mirror_sessions.into_iter().flatten();
        all.sessions.extend(sessions.filter_map(|session| add.checked(session.checked())));
        let interfaces = network_interfaces.into_iter().flatten();
        all.interfaces.extend(interfaces.filter_map(|interface| add.checked(interface.checked())));
    }

    fn of(all: &Mirroring) -> Self {
        let Mirroring { targets, filters, sessions, interfaces } = all;
        Self {
            traffic_mirror_targets: Some(targets.iter().map(JsonTarget::of).collect()),
            traffic_mirror_filters: Some(filters.iter().map(JsonFilter::of).collect()),
            traffic_mirror_sessions: Some(sessions.iter().map(JsonSession::of).collect()),
            network_interfaces: Some(interfaces.iter().map(JsonInterface::of).collect()),
        }
    }
}

/// Collects what is wrong.
struct Problems<'p>(&'p mut Vec<Problem>);

impl Problems<'_> {
    fn checked<T>(&mut self, checked: Result<T, Problem>) -> Option<T> {
        checked.map_err(|problem| self.0.push(problem)).ok()
    }
}

/// A number of a smaller type than JSON's.
fn number<T: TryFrom<i64>>(
    resource: &str,
    field: &'static str,
    value: i64,
    limit: &str,
) -> Result<T, Problem> {
    T::try_from(value).map_err(|_| Problem::error(resource, field, value, limit))
}

/// A block of addresses as the API stores it: without bits beyond the prefix.
pub(crate) fn cidr(resource: &str, field: &'static str, text: &str) -> Result<IpNet, Problem> {
    let limit = "a CIDR block such as 10.0.0.0/8 or 2001:db8::/32 is required";
    let parsed =
        text.parse::<IpNet>().map_err(|_| Problem::error(resource, field, format!("{text:?}"), limit))?;
    Ok(parsed.trunc())
}

fn tags(tags: Vec<JsonTag>) -> Tags {
    tags.into_iter().map(|JsonTag { key, value }| (key, value)).collect()
}

fn json_tags(tags: &Tags) -> Vec<JsonTag> {
    tags.iter().map(|(key, value)| JsonTag { key: key.clone(), value: value.clone() }).collect()
}

/// The id that names a resource in errors.
fn named(id: &str, field: &'static str) -> Result<(), Problem> {
    if id.is_empty() {
        return Err(Problem::error("a resource without an id", field, "\"\"", "it is required"));
    }
    Ok(())
}

impl JsonTarget {
    fn checked(self) -> Result<Target, Problem> {
        let Self {
            traffic_mirror_target_id: id,
            network_interface_id,
            network_load_balancer_arn,
            gateway_load_balancer_endpoint_id,
            r#type,
            description,
            owner_id: owner,
            tags: own_tags,
        } = self;
        named(&id, "TrafficMirrorTargetId")?;
        let kinds = [
            ("network-interface", network_interface_id.map(TargetKind::NetworkInterface)),
            ("network-load-balancer", network_load_balancer_arn.map(TargetKind::NetworkLoadBalancer)),
            (
                "gateway-load-balancer-endpoint",
                gateway_load_balancer_endpoint_id.map(TargetKind::GatewayLoadBalancerEndpoint),
            ),
        ];
        let mut kinds = kinds.into_iter().filter_map(|(name, kind)| Some((name, kind?)));
        let (Some((name, kind)), None) = (kinds.next(), kinds.next()) else {
            return Err(Problem::error(
                &id,
                "NetworkInterfaceId",
                "and the other two",
                "a target has one of NetworkInterfaceId, NetworkLoadBalancerArn and \
                GatewayLoadBalancerEndpointId",
            ));
        };
        if let Some(other) = r#type.filter(|other| other != name) {
            return Err(Problem::error(&id, "Type", other, format!("it is a {name}")));
        }
        Ok(Target { id, kind, description, owner, tags: tags(own_tags) })
    }

    fn of(target: &Target) -> Self {
        let Target { id, kind, description, owner, tags } = target;
        let mut json = Self {
            traffic_mirror_target_id: id.clone(),
            description: description.clone(),
            owner_id: owner.clone(),
            tags: json_tags(tags),
            ..Self::default()
        };
        let (name, field) = match kind {
            TargetKind::NetworkInterface(_) => ("network-interface", &mut json.network_interface_id),
            TargetKind::NetworkLoadBalancer(_) => {
                ("network-load-balancer", &mut json.network_load_balancer_arn)
            }
            TargetKind::GatewayLoadBalancerEndpoint(_) => {
                ("gateway-load-balancer-endpoint", &mut json.gateway_load_balancer_endpoint_id)
            }
        };
        *field = Some(kind.resource().to_owned());
        json.r#type = Some(name.to_owned());
        json
    }
}

impl JsonFilter {
    fn checked(self, problems: &mut Problems<'_>) -> Filter {
        let Self {
            traffic_mirror_filter_id: id,
            ingress_filter_rules,
            egress_filter_rules,
            network_services,
            description,
            tags: own_tags,
        } = self;
        problems.checked(named(&id, "TrafficMirrorFilterId"));
        for service in network_services.iter().filter(|service| *service != AMAZON_DNS) {
            let limit = "amazon-dns is the only one";
            problems.0.push(Problem::error(&id, "NetworkServices", service, limit));
        }
        let mut rules = |rules: Vec<JsonRule>, direction: &str| {
            let checked = rules.into_iter().filter_map(|rule| problems.checked(rule.checked(&id, direction)));
            checked.collect()
        };
        let (ingress, egress) =
            (rules(ingress_filter_rules, "ingress"), rules(egress_filter_rules, "egress"));
        let amazon_dns = network_services.iter().any(|service| service == AMAZON_DNS);
        Filter { id, description, ingress, egress, amazon_dns, tags: tags(own_tags) }
    }

    fn of(filter: &Filter) -> Self {
        let Filter { id, description, ingress, egress, amazon_dns, tags } = filter;
        let rules =
            |rules: &[Rule], direction| rules.iter().map(|rule| JsonRule::of(rule, id, direction)).collect();
        Self {
            traffic_mirror_filter_id: id.clone(),
            ingress_filter_rules: rules(ingress, "ingress"),
            egress_filter_rules: rules(egress, "egress"),
            network_services: amazon_dns.then(|| AMAZON_DNS.to_owned()).into_iter().collect(),
            description: description.clone(),
            tags: json_tags(tags),
        }
    }
}

impl JsonRule {
    fn checked(self, filter: &str, direction: &str) -> Result<Rule, Problem> {
        let Self {
            traffic_mirror_filter_rule_id: id,
            traffic_mirror_filter_id: of_filter,
            traffic_direction,
            rule_number,
            rule_action,
            protocol,
            destination_port_range,
            source_port_range,
            destination_cidr_block,
            source_cidr_block,
            description,
        } = self;
        let name = id.clone().unwrap_or_else(|| format!("{filter} rule {rule_number}"));
        if let Some(other) = of_filter.filter(|other| other != filter) {
            return Err(Problem::error(
                &name,
                "TrafficMirrorFilterId",
                other,
                format!("it is a rule of {filter}"),
            ));
        }
        if let Some(other) = traffic_direction.filter(|other| other != direction) {
            let limit = format!("it is among the rules for {direction}");
            return Err(Problem::error(&name, "TrafficDirection", other, limit));
        }
        let action = match rule_action.as_str() {
            "accept" => Action::Accept,
            "reject" => Action::Reject,
            other => return Err(Problem::error(&name, "RuleAction", other, "accept or reject")),
        };
        let protocol =
            protocol.map(|protocol| number(&name, "Protocol", protocol, "0 to 255")).transpose()?;
        let ports = |field, range: Option<JsonPorts>| -> Result<Option<RangeInclusive<u16>>, Problem> {
            let Some(JsonPorts { from_port, to_port }) = range else { return Ok(None) };
            let port = |port| number(&name, field, port, "ports are 0 to 65535");
            Ok(Some(port(from_port)?..=port(to_port)?))
        };
        Ok(Rule {
            number: number(&name, "RuleNumber", rule_number, "a rule's number is 1 to 32766")?,
            action,
            protocol,
            source: cidr(&name, "SourceCidrBlock", &source_cidr_block)?,
            destination: cidr(&name, "DestinationCidrBlock", &destination_cidr_block)?,
            source_ports: ports("SourcePortRange", source_port_range)?,
            destination_ports: ports("DestinationPortRange", destination_port_range)?,
            id,
            description,
        })
    }

    fn of(rule: &Rule, filter: &str, direction: &str) -> Self {
        let Rule {
            id,
            number,
            action,
            protocol,
            source,
            destination,
            source_ports,
            destination_ports,
            description,
        } = rule;
        let ports = |ports: &Option<RangeInclusive<u16>>| {
            ports
                .as_ref()
                .map(|ports| JsonPorts { from_port: (*ports.start()).into(), to_port: (*ports.end()).into() })
        };
        Self {
            traffic_mirror_filter_rule_id: id.clone(),
            traffic_mirror_filter_id: Some(filter.to_owned()),
            traffic_direction: Some(direction.to_owned()),
            rule_number: (*number).into(),
            rule_action: action.name().to_owned(),
            protocol: protocol.map(Into::into),
            destination_port_range: ports(destination_ports),
            source_port_range: ports(source_ports),
            destination_cidr_block: destination.to_string(),
            source_cidr_block: source.to_string(),
            description: description.clone(),
        }
    }
}

impl JsonSession {
    fn checked(self) -> Result<Session, Problem> {
        let Self {
            traffic_mirror_session_id: id,
            traffic_mirror_target_id: target,
            traffic_mirror_filter_id: filter,
            network_interface_id: interface,
            owner_id: owner,
            packet_length,
            session_number,
            virtual_network_id,
            description,
            tags: own_tags,
        } = self;
        named(&id, "TrafficMirrorSessionId")?;
        let length = |length| number(&id, "PacketLength", length, "a number of bytes");
        let vni = |vni| number(&id, "VirtualNetworkId", vni, "24 bits: at most 16777215");
        Ok(Session {
            number: number(&id, "SessionNumber", session_number, "a session's number is 1 to 32766")?,
            packet_length: packet_length.map(length).transpose()?,
            vni: virtual_network_id.map(vni).transpose()?,
            id,
            target,
            filter,
            interface,
            owner,
            description,
            tags: tags(own_tags),
        })
    }

    fn of(session: &Session) -> Self {
        let Session { id, target, filter, interface, number, packet_length, vni, owner, description, tags } =
            session;
        Self {
            traffic_mirror_session_id: id.clone(),
            traffic_mirror_target_id: target.clone(),
            traffic_mirror_filter_id: filter.clone(),
            network_interface_id: interface.clone(),
            owner_id: owner.clone(),
            packet_length: packet_length.map(Into::into),
            session_number: (*number).into(),
            virtual_network_id: vni.map(Into::into),
            description: description.clone(),
            tags: json_tags(tags),
        }
    }
}

impl JsonInterface {
    fn checked(self) -> Result<NetworkInterface, Problem> {
        let Self {
            network_interface_id: id,
            availability_zone: zone,
            availability_zone_id: zone_id,
            mac_address,
            owner_id: owner,
            vpc_id: vpc,
            subnet_id: subnet,
            outpost_arn: outpost,
            attachment,
            interface_type,
            requester_managed,
            description,
            mut private_ip_addresses,
            ipv6_addresses,
            ipv4_prefixes,
            ipv6_prefixes,
            tag_set,
        } = self;
        named(&id, "NetworkInterfaceId")?;
        let mac = mac_address.map(|text| {
            mac(&text).ok_or_else(|| Problem::error(&id, "MacAddress", &text, "such as 02:00:5e:10:00:01"))
        });
        private_ip_addresses.sort_by_key(|it| it.primary != Some(true));
        let v4 = private_ip_addresses.into_iter().map(|it| {
            let address = it.private_ip_address.parse().map(IpAddr::V4);
            address.map_err(|_| {
                Problem::error(&id, "PrivateIpAddress", &it.private_ip_address, "it is no IPv4 address")
            })
        });
        let v6 = ipv6_addresses.into_iter().map(|it| {
            let address = it.ipv6_address.parse().map(IpAddr::V6);
            address.map_err(|_| Problem::error(&id, "Ipv6Address", &it.ipv6_address, "it is no IPv6 address"))
        });
        let addresses = v4.chain(v6);
        let v4 = ipv4_prefixes.into_iter().map(|it| {
            let block = it.ipv4_prefix.parse().map(|block: Ipv4Net| IpNet::V4(block.trunc()));
            block.map_err(|_| Problem::error(&id, "Ipv4Prefix", &it.ipv4_prefix, "it is no IPv4 prefix"))
        });
        let v6 = ipv6_prefixes.into_iter().map(|it| {
            let block = it.ipv6_prefix.parse().map(|block: Ipv6Net| IpNet::V6(block.trunc()));
            block.map_err(|_| Problem::error(&id, "Ipv6Prefix", &it.ipv6_prefix, "it is no IPv6 prefix"))
        });
        let prefixes = v4.chain(v6);
        let JsonAttachment { instance_id: instance, instance_owner_id: instance_owner } =
            attachment.unwrap_or_default();
        Ok(NetworkInterface {
            mac: mac.transpose()?,
            addresses: addresses.collect::<Result<_, _>>()?,
            prefixes: prefixes.collect::<Result<_, _>>()?,
            zone,
            zone_id,
            id,
            owner,
            vpc,
            subnet,
            outpost,
            instance,
            instance_owner,
            interface_type,
            requester_managed: requester_managed.unwrap_or_default(),
            description,
            tags: tags(tag_set),
        })
    }

    fn of(interface: &NetworkInterface) -> Self {
        let NetworkInterface {
            id,
            mac,
            addresses,
            prefixes,
            zone,
            zone_id,
            owner,
            vpc,
            subnet,
            outpost,
            instance,
            instance_owner,
            interface_type,
            requester_managed,
            description,
            tags,
        } = interface;
        let attachment =
            JsonAttachment { instance_id: instance.clone(), instance_owner_id: instance_owner.clone() };
        let is_attached = instance.is_some() || instance_owner.is_some();
        let mut json = Self {
            network_interface_id: id.clone(),
            availability_zone: zone.clone(),
            availability_zone_id: zone_id.clone(),
            mac_address: mac.map(|mac| mac.map(|byte| format!("{byte:02x}")).join(":")),
            owner_id: owner.clone(),
            vpc_id: vpc.clone(),
            subnet_id: subnet.clone(),
            outpost_arn: outpost.clone(),
            attachment: is_attached.then_some(attachment),
            interface_type: interface_type.clone(),
            requester_managed: Some(*requester_managed),
            description: description.clone(),
            tag_set: json_tags(tags),
            ..Self::default()
        };
        for address in addresses {
            let text = address.to_string();
            match address {
                IpAddr::V4(_) => {
                    let primary = Some(json.private_ip_addresses.is_empty());
                    json.private_ip_addresses.push(JsonPrivateAddress { primary, private_ip_address: text });
                }
                IpAddr::V6(_) => json.ipv6_addresses.push(JsonV6Address { ipv6_address: text }),
            }
        }
        for prefix in prefixes {
            let text = prefix.to_string();
            match prefix {
                IpNet::V4(_) => json.ipv4_prefixes.push(JsonV4Prefix { ipv4_prefix: text }),
                IpNet::V6(_) => json.ipv6_prefixes.push(JsonV6Prefix { ipv6_prefix: text }),
            }
        }
        json
    }
}

fn mac(text: &str) -> Option<[u8; 6]> {
    let mut mac = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut mac {
        *byte =
            parts.next().filter(|part| part.len() == 2).and_then(|part| u8::from_str_radix(part, 16).ok())?;
    }
    parts.next().is_none().then_some(mac)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the AWS CLI prints them, each of a call of its own.
    const TARGETS: &str = r#"{
        "TrafficMirrorTargets": [
            {
                "TrafficMirrorTargetId": "tmt-0a", "NetworkInterfaceId": "eni-0d",
                "Type": "network-interface", "Description": "sensor", "OwnerId": "111122223333",
                "Tags": [{"Key": "Name", "Value": "ids"}]
            },
            {
                "TrafficMirrorTargetId": "tmt-0b", "Type": "network-load-balancer", "OwnerId": "111122223333",
                "NetworkLoadBalancerArn": "arn:aws:elasticloadbalancing:us-east-1:1:loadbalancer/net/a/b",
                "Tags": []
            },
            {
                "TrafficMirrorTargetId": "tmt-0c", "Type": "gateway-load-balancer-endpoint",
                "GatewayLoadBalancerEndpointId": "vpce-0e", "OwnerId": "111122223333", "Tags": []
            }
        ]
    }"#;
    const FILTERS: &str = r#"{
        "TrafficMirrorFilters": [{
            "TrafficMirrorFilterId": "tmf-0a",
            "IngressFilterRules": [
                {
                    "TrafficMirrorFilterRuleId": "tmfr-0b", "TrafficMirrorFilterId": "tmf-0a",
                    "TrafficDirection": "ingress", "RuleNumber": 200, "RuleAction": "accept", "Protocol": 6,
                    "DestinationPortRange": {"FromPort": 80, "ToPort": 443},
                    "DestinationCidrBlock": "10.0.0.0/16", "SourceCidrBlock": "0.0.0.0/0"
                },
                {
                    "TrafficMirrorFilterRuleId": "tmfr-0a", "TrafficDirection": "ingress", "RuleNumber": 100,
                    "RuleAction": "reject", "DestinationCidrBlock": "10.0.0.7/16",
                    "SourceCidrBlock": "0.0.0.0/0", "Description": "noise"
                }
            ],
            "EgressFilterRules": [],
            "NetworkServices": ["amazon-dns"],
            "Description": "web",
            "Tags": []
        }]
    }"#;
    const SESSIONS: &str = r#"{
        "TrafficMirrorSessions": [{
            "TrafficMirrorSessionId": "tms-0a", "TrafficMirrorTargetId": "tmt-0a",
            "TrafficMirrorFilterId": "tmf-0a", "NetworkInterfaceId": "eni-0a", "OwnerId": "111122223333",
            "PacketLength": 100, "SessionNumber": 1, "VirtualNetworkId": 12345, "Tags": []
        }]
    }"#;
    const INTERFACES: &str = r#"{
        "NetworkInterfaces": [{
            "Association": {"PublicIp": "203.0.113.9"},
            "AvailabilityZone": "us-east-1a", "AvailabilityZoneId": "use1-az2",
            "Description": "web", "MacAddress": "02:00:5e:10:00:0a", "NetworkInterfaceId": "eni-0a",
            "OwnerId": "111122223333", "PrivateIpAddress": "10.0.0.9",
            "PrivateIpAddresses": [
                {"Primary": false, "PrivateIpAddress": "10.0.0.10"},
                {"Primary": true, "PrivateIpAddress": "10.0.0.9"}
            ],
            "VpcId": "vpc-0a", "SubnetId": "subnet-0a", "InterfaceType": "interface",
            "RequesterManaged": false, "OutpostArn": "arn:aws:outposts:us-east-1:1:outpost/op-0a",
            "Attachment": {"InstanceId": "i-0a", "InstanceOwnerId": "111122223333", "DeviceIndex": 0},
            "Ipv6Addresses": [{"Ipv6Address": "2001:db8::9"}],
            "Ipv4Prefixes": [{"Ipv4Prefix": "10.0.1.0/28"}],
            "Status": "in-use", "TagSet": [{"Key": "Name", "Value": "web-1"}]
        }]
    }"#;

    fn whole() -> Mirroring {
        // One file with two documents, as `>>` makes it.
        let both = format!("{TARGETS}\n{FILTERS}");
        Mirroring::read([("a.json", both.as_str()), ("b.json", SESSIONS), ("c.json", INTERFACES)]).unwrap()
    }

    #[test]
    fn what_the_calls_print_is_read() {
        let all = whole();
        assert_eq!(all.problems(), []);
        let kinds: Vec<_> = all.targets.iter().map(|target| target.kind.resource()).collect();
        assert_eq!(kinds[0], "eni-0d");
        assert_eq!(kinds[2], "vpce-0e");
        assert_eq!(all.targets[0].tags, [("Name".to_owned(), "ids".to_owned())]);
        let filter = all.filter("tmf-0a").unwrap();
        assert!(filter.amazon_dns && filter.egress.is_empty());
        // By number, and the block as the API stores it.
        let rules: Vec<_> = filter.ingress.iter().map(Rule::to_string).collect();
        assert_eq!(
            rules,
            [
                "100 reject any protocol from 0.0.0.0/0 to 10.0.0.0/16",
                "200 accept tcp from 0.0.0.0/0 to 10.0.0.0/16 ports 80-443"
            ]
        );
        let session = &all.sessions[0];
        assert_eq!((session.number, session.packet_length, session.vni), (1, Some(100), Some(12345)));
        let interface = all.interface("eni-0a").unwrap();
        assert_eq!(interface.mac, Some([2, 0, 0x5e, 0x10, 0, 0xa]));
        let addresses: Vec<_> = interface.addresses.iter().map(IpAddr::to_string).collect();
        assert_eq!(addresses, ["10.0.0.9", "10.0.0.10", "2001:db8::9"]);
        let place = [&interface.vpc, &interface.subnet, &interface.instance, &interface.instance_owner];
        let expected = ["vpc-0a", "subnet-0a", "i-0a", "111122223333"].map(Some);
        assert_eq!(place.map(Option::as_deref), expected);
        let zone = [interface.zone.as_deref(), interface.zone_id.as_deref()];
        assert_eq!(zone, [Some("us-east-1a"), Some("use1-az2")]);
        assert_eq!(interface.prefixes[0].to_string(), "10.0.1.0/28");
    }

    #[test]
    fn what_is_written_is_read_as_it_was() {
        let all = whole();
        let text = all.to_json().to_string();
        assert_eq!(Mirroring::read([("d.json", text.as_str())]).unwrap(), all);
    }

    #[test]
    fn what_cannot_be_expressed_is_named_with_resource_and_field() {
        for (text, from, to, expected) in [
            (
                TARGETS,
                "\"eni-0d\"",
                "null",
                "tmt-0a: NetworkInterfaceId and the other two: a target has one of",
            ),
            (
                TARGETS,
                "\"Type\": \"network-interface\"",
                "\"Type\": \"x\"",
                "tmt-0a: Type x: it is a network-interface",
            ),
            (TARGETS, "tmt-0b", "", "a resource without an id: TrafficMirrorTargetId \"\": it is required"),
            (FILTERS, "\"amazon-dns\"", "\"ntp\"", "tmf-0a: NetworkServices ntp: amazon-dns is the only one"),
            (FILTERS, "\"accept\"", "\"pass\"", "tmfr-0b: RuleAction pass: accept or reject"),
            (FILTERS, "\"Protocol\": 6", "\"Protocol\": 256", "tmfr-0b: Protocol 256: 0 to 255"),
            (
                FILTERS,
                "\"ToPort\": 443",
                "\"ToPort\": 65536",
                "tmfr-0b: DestinationPortRange 65536: ports are 0 to",
            ),
            (
                FILTERS,
                "10.0.0.0/16",
                "10.0.0.0/33",
                "tmfr-0b: DestinationCidrBlock \"10.0.0.0/33\": a CIDR block",
            ),
            (
                FILTERS,
                "\"ingress\"",
                "\"egress\"",
                "tmfr-0b: TrafficDirection egress: it is among the rules for",
            ),
            (
                FILTERS,
                "\"TrafficMirrorFilterId\": \"tmf-0a\",\n                    \"Traf",
                "\"TrafficMirrorFilterId\": \"tmf-1\", \"Traf",
                "tmfr-0b: TrafficMirrorFilterId tmf-1: it is a rule of tmf-0a",
            ),
            (
                SESSIONS,
                "\"SessionNumber\": 1",
                "\"SessionNumber\": 65536",
                "tms-0a: SessionNumber 65536: a session's",
            ),
            (SESSIONS, "12345", "-1", "tms-0a: VirtualNetworkId -1: 24 bits: at most 16777215"),
            (SESSIONS, "100,", "-5,", "tms-0a: PacketLength -5: a number of bytes"),
            (INTERFACES, "02:00", "2:00", "eni-0a: MacAddress 2:00:5e:10:00:0a: such as 02:00:5e:10:00:01"),
            (INTERFACES, "2001:db8::9", "2001:db8", "eni-0a: Ipv6Address 2001:db8: it is no IPv6 address"),
        ] {
            let changed = text.replacen(from, to, 1);
            assert_ne!(changed, text, "{from}");
            let Err(ReadError::Problems(problems)) = Mirroring::read([("f.json", changed.as_str())]) else {
                panic!("{expected}: it is read");
            };
            let said: Vec<_> = problems.iter().map(Problem::to_string).collect();
            assert!(said[0].starts_with(expected), "{expected}: {said:#?}");
        }
    }

    #[test]
    fn a_file_that_is_something_else_is_named() {
        let error = Mirroring::read([("f.json", "{\"TrafficMirrorSessions\": 1}")]).unwrap_err().to_string();
        assert!(
            error.starts_with("f.json: invalid type: integer `1`, expected a sequence at line 1"),
            "{error}"
        );
        for text in ["", "{}", "{\"Vpcs\": []}"] {
            let error = Mirroring::read([("f.json", text)]).unwrap_err().to_string();
            assert!(error.starts_with("f.json: it has no TrafficMirrorTargets"), "{error}");
        }
        let error = Mirroring::read([("f.json", "Vpc")]).unwrap_err().to_string();
        assert!(error.starts_with("f.json: expected value at line 1 column 1"), "{error}");
    }

    #[test]
    fn all_errors_are_said_at_once() {
        let text = SESSIONS.replace("tmt-0a", "tmt-9").replace("tmf-0a", "tmf-9");
        let error = Mirroring::read([("f.json", text.as_str())]).unwrap_err().to_string();
        assert_eq!(error.lines().count(), 2, "{error}");
    }
}
