//! Which address of a target copies are sent to.
//!
//! A Network Load Balancer has an address in each of its zones, and AWS sends copies to that of the source's
//! zone. Those addresses are static, so nothing is asked of DNS.

use std::{collections::BTreeMap, net::SocketAddr};

use mirror_ebpf::wire::VXLAN_PORT;

use crate::mirroring::{Mirroring, NetworkInterface, Session, TargetKind};

/// An address of a target.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TargetAddress {
    /// With its UDP port.
    pub address: SocketAddr,
    /// The availability zone that it is in, by name or id.
    pub zone: Option<String>,
}

/// In no zone, or nobody knows in which.
impl From<SocketAddr> for TargetAddress {
    fn from(address: SocketAddr) -> Self {
        Self { address, zone: None }
    }
}

/// One to choose from.
struct Candidate<'a> {
    address: SocketAddr,
    /// Name and id of its zone, as far as they are known.
    zone: [Option<&'a str>; 2],
}

/// The address for a session: of those that are given for its target, else of those that the set-up knows,
/// the first in the zone of the source, else the first. Logs why if that is perhaps not the nearest.
pub(super) fn address_of(
    mirroring: &Mirroring,
    session: &Session,
    given: &BTreeMap<String, Vec<TargetAddress>>,
) -> Option<SocketAddr> {
    let (address, doubt) = choose(mirroring, session, given)?;
    if let Some(doubt) = doubt {
        tracing::warn!("{doubt}");
    }
    Some(address)
}

fn choose<'t>(
    mirroring: &'t Mirroring,
    session: &Session,
    given: &'t BTreeMap<String, Vec<TargetAddress>>,
) -> Option<(SocketAddr, Option<String>)> {
    let Session { id, target, interface, .. } = session;
    let candidates: Vec<_> = match given.get(target) {
        Some(given) => {
            let of =
                |it: &'t TargetAddress| Candidate { address: it.address, zone: [it.zone.as_deref(), None] };
            given.iter().map(of).collect()
        }
        None => known(mirroring, target),
    };
    let address = candidates.first()?.address;
    let [zone, zone_id] = mirroring.interface(interface).map_or([None; 2], zone_of);
    let is_near = |candidate: &&Candidate<'_>| {
        [zone, zone_id].into_iter().flatten().any(|own| candidate.zone.contains(&Some(own)))
    };
    if let Some(near) = candidates.iter().find(is_near) {
        return Some((near.address, None));
    }
    let have_zones = candidates.iter().any(|candidate| candidate.zone != [None; 2]);
    let doubt = match zone.or(zone_id) {
        Some(zone) => format!("{target} has no address in {zone}, the zone of {interface}"),
        None => format!("the zone of {interface} is not known, as the files have no AvailabilityZone of it"),
    };
    let is_doubtful = have_zones && (candidates.len() > 1 || zone.or(zone_id).is_some());
    let doubt = is_doubtful.then(|| format!("{id}: {doubt}; copies go to {address}, the first of {target}"));
    Some((address, doubt))
}

/// Addresses that the interfaces of the set-up have.
fn known<'m>(mirroring: &'m Mirroring, target: &str) -> Vec<Candidate<'m>> {
    let first =
        |interface: &NetworkInterface| Some(SocketAddr::new(*interface.addresses.first()?, VXLAN_PORT));
    match mirroring.target(target).map(|target| &target.kind) {
        Some(TargetKind::NetworkInterface(id)) => {
            let address = mirroring.interface(id).and_then(first);
            // Wherever it is, there is no other.
            address.map(|address| Candidate { address, zone: [None; 2] }).into_iter().collect()
        }
        Some(TargetKind::NetworkLoadBalancer(arn)) => {
            // https://repost.aws/knowledge-center/elb-find-load-balancer-IP
            let Some((_, name)) = arn.split_once(":loadbalancer/") else { return Vec::new() };
            let is_of = |interface: &&NetworkInterface| {
                let description = interface.description.as_deref().and_then(|it| it.strip_prefix("ELB "));
                description == Some(name)
            };
            let of = |it: &'m NetworkInterface| Some(Candidate { address: first(it)?, zone: zone_of(it) });
            mirroring.interfaces.iter().filter(is_of).filter_map(of).collect()
        }
        Some(TargetKind::GatewayLoadBalancerEndpoint(_)) | None => Vec::new(),
    }
}

fn zone_of(interface: &NetworkInterface) -> [Option<&str>; 2] {
    [interface.zone.as_deref(), interface.zone_id.as_deref()]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A source in us-east-1b, whose id is use1-az4; one of unknown zone; a target that is a balancer with
    /// interfaces in two zones, and another one with a name that begins alike.
    const SET_UP: &str = r#"{
        "TrafficMirrorTargets": [
            {"TrafficMirrorTargetId": "tmt-1", "NetworkInterfaceId": "eni-3"},
            {"TrafficMirrorTargetId": "tmt-2",
             "NetworkLoadBalancerArn": "arn:aws:elasticloadbalancing:us-east-1:1:loadbalancer/net/fleet/50"}
        ],
        "TrafficMirrorFilters": [{"TrafficMirrorFilterId": "tmf-1"}],
        "TrafficMirrorSessions": [
            {"TrafficMirrorSessionId": "tms-1", "TrafficMirrorTargetId": "tmt-1",
             "TrafficMirrorFilterId": "tmf-1", "NetworkInterfaceId": "eni-1", "SessionNumber": 1},
            {"TrafficMirrorSessionId": "tms-2", "TrafficMirrorTargetId": "tmt-2",
             "TrafficMirrorFilterId": "tmf-1", "NetworkInterfaceId": "eni-1", "SessionNumber": 2},
            {"TrafficMirrorSessionId": "tms-3", "TrafficMirrorTargetId": "tmt-2",
             "TrafficMirrorFilterId": "tmf-1", "NetworkInterfaceId": "eni-2", "SessionNumber": 1}
        ],
        "NetworkInterfaces": [
            {"NetworkInterfaceId": "eni-1",
             "AvailabilityZone": "us-east-1b", "AvailabilityZoneId": "use1-az4"},
            {"NetworkInterfaceId": "eni-2"},
            {"NetworkInterfaceId": "eni-3", "AvailabilityZone": "us-east-1a",
             "PrivateIpAddresses": [{"PrivateIpAddress": "10.0.0.3"}]},
            {"NetworkInterfaceId": "eni-4", "Description": "ELB net/fleet/501",
             "AvailabilityZone": "us-east-1b", "PrivateIpAddresses": [{"PrivateIpAddress": "10.0.2.4"}]},
            {"NetworkInterfaceId": "eni-5", "Description": "ELB net/fleet/50",
             "AvailabilityZone": "us-east-1a", "PrivateIpAddresses": [{"PrivateIpAddress": "10.0.1.5"}]},
            {"NetworkInterfaceId": "eni-6", "Description": "ELB net/fleet/50",
             "AvailabilityZone": "us-east-1b", "PrivateIpAddresses": [{"PrivateIpAddress": "10.0.2.6"}]}
        ]
    }"#;

    const NOT_KNOWN: &str =
        "tms-3: the zone of eni-2 is not known, as the files have no AvailabilityZone of it";

    /// What is given for its target decides where copies of a session go, and whether that is doubtful.
    #[track_caller]
    fn assert_sent_to(session: &str, given: &[(&str, Option<&str>)], address: &str, doubt: Option<&str>) {
        let mirroring = Mirroring::read([("f.json", SET_UP)]).unwrap();
        let session = mirroring.sessions.iter().find(|it| it.id == session).unwrap();
        let mut targets = BTreeMap::new();
        if !given.is_empty() {
            let of = |(address, zone): &(&str, Option<&str>)| TargetAddress {
                zone: zone.map(str::to_owned),
                ..SocketAddr::new(address.parse().unwrap(), 8472).into()
            };
            targets.insert(session.target.clone(), given.iter().map(of).collect());
        }
        let doubt =
            doubt.map(|doubt| format!("{doubt}; copies go to {address}, the first of {}", session.target));
        let chosen = choose(&mirroring, session, &targets);
        assert_eq!(chosen, Some((address.parse().unwrap(), doubt)));
    }

    #[test]
    fn of_addresses_that_are_given_the_one_in_the_zone_of_the_source_is_taken_or_the_first() {
        let far = ("10.0.1.5", Some("us-east-1a"));
        let [by_name, by_id] = ["us-east-1b", "use1-az4"].map(|zone| ("10.0.2.6", Some(zone)));
        assert_sent_to("tms-2", &[far, by_name], "10.0.2.6:8472", None);
        assert_sent_to("tms-2", &[far, by_id], "10.0.2.6:8472", None);
        let none_near = Some("tms-2: tmt-2 has no address in us-east-1b, the zone of eni-1");
        assert_sent_to("tms-2", &[far, ("10.0.3.7", Some("us-east-1c"))], "10.0.1.5:8472", none_near);
        assert_sent_to("tms-2", &[far], "10.0.1.5:8472", none_near);
        assert_sent_to("tms-2", &[("10.0.3.7", None), far], "10.0.3.7:8472", none_near);
        // Without zones nothing is doubtful.
        assert_sent_to("tms-2", &[("10.0.3.7", None), ("10.0.2.6", None)], "10.0.3.7:8472", None);
        assert_sent_to("tms-3", &[far, by_name], "10.0.1.5:8472", Some(NOT_KNOWN));
        assert_sent_to("tms-3", &[far], "10.0.1.5:8472", None);
        // What is given goes before what is known.
        assert_sent_to("tms-1", &[("10.0.3.7", None)], "10.0.3.7:8472", None);
    }

    #[test]
    fn a_load_balancer_has_the_addresses_of_its_interfaces_and_an_interface_its_own() {
        assert_sent_to("tms-1", &[], "10.0.0.3:4789", None);
        assert_sent_to("tms-2", &[], "10.0.2.6:4789", None);
        assert_sent_to("tms-3", &[], "10.0.1.5:4789", Some(NOT_KNOWN));
        let mut mirroring = Mirroring::read([("f.json", SET_UP)]).unwrap();
        mirroring.interfaces.truncate(2);
        for session in &mirroring.sessions {
            assert_eq!(address_of(&mirroring, session, &BTreeMap::new()), None, "{}", session.id);
        }
    }
}
