//! JSON that concerns flow logs alone.

use std::{collections::HashMap, sync::Arc};

use ipnet::IpNet;
use serde::Deserialize;

use super::services::Services;
use crate::mirroring::{Problem, ReadError, Tags, cidr};

/// What files have, by ids.
#[derive(Debug, Default)]
pub(super) struct Documents {
    pub(super) subnets: HashMap<String, Subnet>,
    /// Tags of instances.
    pub(super) instances: HashMap<String, Tags>,
    /// Blocks of VPCs.
    pub(super) vpcs: HashMap<String, Arc<[IpNet]>>,
    prefixes: Vec<(IpNet, String)>,
}

/// The results of calls, and `ip-ranges.json`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Document {
    subnets: Option<Vec<Subnet>>,
    reservations: Option<Vec<Reservation>>,
    vpcs: Option<Vec<Vpc>>,
    #[serde(rename = "prefixes")]
    prefixes: Option<Vec<Prefix>>,
    #[serde(rename = "ipv6_prefixes")]
    ipv6_prefixes: Option<Vec<Prefix>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct Subnet {
    #[serde(rename = "SubnetId")]
    id: String,
    #[serde(rename = "AvailabilityZone")]
    pub(super) zone: Option<String>,
    #[serde(rename = "AvailabilityZoneId")]
    pub(super) zone_id: Option<String>,
    #[serde(rename = "OutpostArn")]
    pub(super) outpost: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Reservation {
    instances: Vec<Instance>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Instance {
    instance_id: String,
    tags: Vec<Tag>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Tag {
    key: String,
    value: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Vpc {
    vpc_id: String,
    cidr_block: Option<String>,
    cidr_block_association_set: Vec<Block>,
    ipv6_cidr_block_association_set: Vec<Block>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Block {
    #[serde(alias = "Ipv6CidrBlock")]
    cidr_block: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Prefix {
    #[serde(alias = "ipv6_prefix")]
    ip_prefix: String,
    service: String,
}

impl Documents {
    /// Returns whether the file has any of this.
    pub(super) fn add(
        &mut self,
        file: &str,
        text: &str,
        problems: &mut Vec<Problem>,
    ) -> Result<bool, ReadError> {
        let mut has_any = false;
        for document in serde_json::Deserializer::from_str(text).into_iter::<Document>() {
            let document = document.map_err(|source| ReadError::Json { file: file.to_owned(), source })?;
            let Document { subnets, reservations, vpcs, prefixes, ipv6_prefixes } = document;
            has_any |= subnets.is_some() || reservations.is_some() || vpcs.is_some() || prefixes.is_some();
            let subnets = subnets.into_iter().flatten();
            self.subnets.extend(subnets.map(|subnet| (subnet.id.clone(), subnet)));
            for instance in reservations.into_iter().flatten().flat_map(|it| it.instances) {
                let tags = instance.tags.into_iter().map(|Tag { key, value }| (key, value));
                self.instances.insert(instance.instance_id, tags.collect());
            }
            let mut block = |resource: &str, field: &'static str, text: &str| {
                cidr(resource, field, text).map_err(|problem| problems.push(problem)).ok()
            };
            for vpc in vpcs.into_iter().flatten() {
                let others = vpc.cidr_block_association_set.into_iter();
                let others = others.chain(vpc.ipv6_cidr_block_association_set).map(|it| it.cidr_block);
                let blocks = vpc.cidr_block.into_iter().chain(others);
                let blocks = blocks.filter_map(|text| block(&vpc.vpc_id, "CidrBlock", &text));
                self.vpcs.insert(vpc.vpc_id.clone(), blocks.collect());
            }
            for prefix in prefixes.into_iter().chain(ipv6_prefixes).flatten() {
                let block = block("ip-ranges.json", "ip_prefix", &prefix.ip_prefix);
                self.prefixes.extend(block.map(|block| (block, prefix.service)));
            }
        }
        Ok(has_any)
    }

    pub(super) fn services(&mut self) -> Services {
        Services::of_prefixes(self.prefixes.drain(..))
    }
}
