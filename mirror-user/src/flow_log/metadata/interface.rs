//! What is known of one interface.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use ipnet::IpNet;

use super::documents::Documents;
use crate::{
    flow_log::{Field, InterfaceFields},
    mirroring::{Direction, NetworkInterface, Tags},
};

/// The tag of which an instance of an Auto Scaling group has the name of the group.
const GROUP: &str = "aws:autoscaling:groupName";

/// `traffic-path` of packets to another resource in the same VPC.
const SAME_VPC: u8 = 1;

/// Which tags the fields for tags have, by their keys: `TagFieldSpecifications` of AWS.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct TagKeys {
    /// `interface-tag` and `interface-tag-2`.
    pub interface: [Option<String>; 2],
    /// `instance-tag` and `instance-tag-2`.
    pub instance: [Option<String>; 2],
    /// `asg-tag` and `asg-tag-2`: of tags that the group has passed on to its instance.
    pub auto_scaling_group: [Option<String>; 2],
}

/// What is known of an interface.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct KnownInterface {
    /// Such as `eni-0123456789abcdef0`.
    pub id: String,
    /// Its MAC address, which tells in which direction a packet went.
    pub mac: Option<[u8; 6]>,
    /// Its primary private IPv4 address, from which it mirrors.
    pub primary: Option<Ipv4Addr>,
    /// Fields of its records.
    pub fields: Arc<InterfaceFields>,
    /// Blocks of its VPC.
    blocks: Arc<[IpNet]>,
}

impl KnownInterface {
    /// An interface of which only this is known.
    pub(super) fn of_source(id: &str, owner: Option<&str>) -> Self {
        let mut fields = InterfaceFields::new();
        fields.set(Field::InterfaceId, id);
        fields.set(Field::AccountId, owner.unwrap_or_default());
        Self { id: id.to_owned(), mac: None, primary: None, fields: Arc::new(fields), blocks: Arc::default() }
    }

    pub(super) fn of(interface: &NetworkInterface, documents: &Documents, keys: &TagKeys) -> Self {
        let mut fields = InterfaceFields::new();
        let mut set = |field, value: Option<&str>| fields.set(field, value.unwrap_or_default());
        set(Field::InterfaceId, Some(&interface.id));
        set(Field::AccountId, interface.owner.as_deref());
        set(Field::VpcId, interface.vpc.as_deref());
        set(Field::SubnetId, interface.subnet.as_deref());
        set(Field::InterfaceType, interface.interface_type.as_deref());
        let subnet = interface.subnet.as_ref().and_then(|id| documents.subnets.get(id));
        let zone = interface.zone.as_deref().or_else(|| subnet?.zone.as_deref());
        let zone_id = interface.zone_id.as_deref().or_else(|| subnet?.zone_id.as_deref());
        let outpost = interface.outpost.as_deref().or_else(|| subnet?.outpost.as_deref());
        set(Field::AzId, zone_id);
        let (region, rest) = zone.map(parts_of_zone).unzip();
        set(Field::Region, region);
        let sublocation = match (outpost, rest) {
            (Some(arn), _) => Some(("outpost", arn.rsplit('/').next())),
            (None, Some(rest)) if rest.starts_with("-wl") => Some(("wavelength", zone_id)),
            (None, Some(rest)) if rest.starts_with('-') => Some(("localzone", zone_id)),
            _ => None,
        };
        if let Some((kind, id)) = sublocation {
            set(Field::SublocationType, Some(kind));
            set(Field::SublocationId, id);
        }
        set_tags(&mut fields, [Field::InterfaceTag, Field::InterfaceTag2], &interface.tags, &keys.interface);
        // AWS does not name instances that are not the account's own.
        let is_own = !interface.requester_managed
            && (interface.instance_owner.is_none() || interface.instance_owner == interface.owner);
        if let Some(instance) = interface.instance.as_ref().filter(|_| is_own) {
            fields.set(Field::InstanceId, instance);
            if let Some(tags) = documents.instances.get(instance) {
                set_tags(&mut fields, [Field::InstanceTag, Field::InstanceTag2], tags, &keys.instance);
                if tags.iter().any(|(key, _)| key == GROUP) {
                    set_tags(&mut fields, [Field::AsgTag, Field::AsgTag2], tags, &keys.auto_scaling_group);
                }
            }
        }
        let primary = interface.addresses.iter().find_map(|address| match address {
            IpAddr::V4(address) => Some(*address),
            IpAddr::V6(_) => None,
        });
        let blocks = interface.vpc.as_ref().and_then(|id| documents.vpcs.get(id));
        Self {
            id: interface.id.clone(),
            mac: interface.mac,
            primary,
            fields: Arc::new(fields),
            blocks: blocks.cloned().unwrap_or_default(),
        }
    }

    /// `traffic-path` of packets to a destination, as far as it does not depend on route tables: 1 of packets
    /// sent to an address of the interface's own VPC.
    #[must_use]
    pub fn traffic_path(&self, direction: Direction, destination: IpAddr) -> Option<u8> {
        let is_within =
            direction == Direction::Egress && self.blocks.iter().any(|block| block.contains(&destination));
        is_within.then_some(SAME_VPC)
    }
}

fn set_tags(fields: &mut InterfaceFields, of: [Field; 2], tags: &Tags, keys: &[Option<String>; 2]) {
    for (field, wanted) in of.into_iter().zip(keys) {
        let tag = wanted.as_ref().and_then(|wanted| tags.iter().find(|(key, _)| key == wanted));
        if let Some((_, value)) = tag {
            fields.set_tag(field, value);
        }
    }
}

/// The region of a zone, and the rest of its name: `us-west-2` and `a`, or `-lax-1a` of a local zone.
fn parts_of_zone(zone: &str) -> (&str, &str) {
    let digits = zone.find(|letter: char| letter.is_ascii_digit()).unwrap_or(zone.len());
    let end = zone.get(digits..).unwrap_or_default().find(|letter: char| !letter.is_ascii_digit());
    zone.split_at(end.map_or(zone.len(), |end| digits + end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_region_is_the_beginning_of_the_zone() {
        for (zone, expected) in [
            ("us-east-1a", ("us-east-1", "a")),
            ("us-gov-west-1b", ("us-gov-west-1", "b")),
            ("us-west-2-lax-1a", ("us-west-2", "-lax-1a")),
            ("us-east-1-wl1-bos-wlz-1", ("us-east-1", "-wl1-bos-wlz-1")),
            ("", ("", "")),
            ("é", ("é", "")),
        ] {
            assert_eq!(parts_of_zone(zone), expected);
        }
    }
}
