//! Resources in short, for tests.

use std::ops::RangeInclusive;

use super::{Action, Filter, NetworkInterface, Rule, Session, Target, TargetKind};

/// A target that is an interface.
pub(crate) fn target(id: &str, interface: &str) -> Target {
    let kind = TargetKind::NetworkInterface(interface.to_owned());
    Target { id: id.to_owned(), kind, description: None, owner: None, tags: Vec::new() }
}

/// A session of the source `eni-1` to the target `tmt-1` by the filter `tmf-1`.
pub(crate) fn session(id: &str, number: u16) -> Session {
    Session {
        id: id.to_owned(),
        target: "tmt-1".to_owned(),
        filter: "tmf-1".to_owned(),
        interface: "eni-1".to_owned(),
        number,
        packet_length: None,
        vni: None,
        owner: None,
        description: None,
        tags: Vec::new(),
    }
}

/// An interface of this one address.
pub(super) fn interface(id: &str, mac: [u8; 6], address: &str) -> NetworkInterface {
    NetworkInterface {
        id: id.to_owned(),
        mac: Some(mac),
        addresses: vec![address.parse().unwrap()],
        zone: None,
        zone_id: None,
        prefixes: Vec::new(),
        owner: None,
        vpc: None,
        subnet: None,
        outpost: None,
        instance: None,
        instance_owner: None,
        interface_type: None,
        requester_managed: false,
        description: None,
        tags: Vec::new(),
    }
}

/// A filter of these rules for each direction.
pub(crate) fn filter(id: &str, ingress: &[&str], egress: &[&str]) -> Filter {
    let rules = |texts: &[&str]| texts.iter().map(|text| rule(text)).collect();
    let (ingress, egress) = (rules(ingress), rules(egress));
    Filter { id: id.to_owned(), description: None, ingress, egress, amazon_dns: false, tags: Vec::new() }
}

/// Such as `10 accept tcp 0.0.0.0/0 10.0.0.0/8:80-90`.
pub(crate) fn rule(text: &str) -> Rule {
    let words: Vec<_> = text.split(' ').collect();
    let [number, action, protocol, source, destination] = words[..] else { panic!("{text}") };
    let end = |text: &str| -> (ipnet::IpNet, Option<RangeInclusive<u16>>) {
        let slash = text.find('/').unwrap();
        match text[slash..].split_once(':') {
            Some((prefix, ports)) => {
                let (from, to) = ports.split_once('-').unwrap();
                let block = format!("{}{prefix}", &text[..slash]);
                (block.parse().unwrap(), Some(from.parse().unwrap()..=to.parse().unwrap()))
            }
            None => (text.parse().unwrap(), None),
        }
    };
    let ((source, source_ports), (destination, destination_ports)) = (end(source), end(destination));
    Rule {
        id: None,
        number: number.parse().unwrap(),
        action: if action == "accept" { Action::Accept } else { Action::Reject },
        protocol: match protocol {
            "any" => None,
            "tcp" => Some(6),
            "udp" => Some(17),
            number => Some(number.parse().unwrap()),
        },
        source,
        destination,
        source_ports,
        destination_ports,
        description: None,
    }
}
