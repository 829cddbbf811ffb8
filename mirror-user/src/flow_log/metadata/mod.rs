//! What is known of interfaces and addresses, from what AWS's command line prints.

mod documents;
mod interface;
mod services;

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

pub use interface::{KnownInterface, TagKeys};

use self::{documents::Documents, services::Services};
use crate::mirroring::{Mirroring, ReadError, SessionTable};

/// Fields that packets do not have: ids and places of interfaces, tags, services of AWS.
///
/// An origin's interface is that of the session which its VNI has, or else the one whose primary private IPv4
/// address is the outer source.
#[derive(Clone, Debug, Default)]
pub struct Metadata {
    interfaces: Vec<KnownInterface>,
    sessions: SessionTable,
    by_id: HashMap<String, usize>,
    /// `None` of addresses that several have, in different VPCs.
    by_address: HashMap<Ipv4Addr, Option<usize>>,
    services: Services,
}

impl Metadata {
    /// Reads files by their names, with one JSON document or several each. Of all that `aws ec2` prints,
    /// these are of use:
    ///
    /// | call | gives |
    /// |---|---|
    /// | `describe-network-interfaces` | most fields, among them `account-id`, `interface-id` and `vpc-id` |
    /// | `describe-traffic-mirror-sessions` | which VNI is of which interface |
    /// | `describe-subnets` | `az-id`, where the interface has none |
    /// | `describe-instances` | `instance-tag`, `asg-tag` |
    /// | `describe-vpcs` | `traffic-path` within a VPC |
    /// | [`ip-ranges.json`](https://ip-ranges.amazonaws.com/ip-ranges.json) | the two `…-aws-service` |
    ///
    /// # Errors
    ///
    /// If a file has none of this, or what it has is not of its shape.
    pub fn read<'a>(
        files: impl IntoIterator<Item = (&'a str, &'a str)>,
        tags: &TagKeys,
    ) -> Result<Self, ReadError> {
        let mut mirroring = Mirroring::default();
        let mut documents = Documents::default();
        let mut problems = Vec::new();
        for (file, text) in files {
            let in_mirroring = mirroring.add(file, text, &mut problems)?;
            let in_documents = documents.add(file, text, &mut problems)?;
            if !in_mirroring && !in_documents {
                return Err(ReadError::NoMetadata { file: file.to_owned() });
            }
        }
        if !problems.is_empty() {
            return Err(ReadError::Problems(problems));
        }
        let mut all =
            Self { sessions: mirroring.session_table(), services: documents.services(), ..Self::default() };
        for interface in &mirroring.interfaces {
            all.add(KnownInterface::of(interface, &documents, tags));
        }
        // Of a session's source the id is known at least.
        for session in &mirroring.sessions {
            all.add(KnownInterface::of_source(&session.interface, session.owner.as_deref()));
        }
        Ok(all)
    }

    /// Of an interface that is in several files, the first counts.
    fn add(&mut self, interface: KnownInterface) {
        if self.by_id.contains_key(&interface.id) {
            return;
        }
        let position = self.interfaces.len();
        self.by_id.insert(interface.id.clone(), position);
        if let Some(address) = interface.primary {
            let entry = self.by_address.entry(address);
            entry.and_modify(|known| *known = None).or_insert(Some(position));
        }
        self.interfaces.push(interface);
    }

    /// All interfaces that are known, which may have had no traffic.
    #[must_use]
    pub fn interfaces(&self) -> &[KnownInterface] {
        &self.interfaces
    }

    /// The interface whose packets have this VNI and outer source.
    #[must_use]
    pub fn interface_of(&self, vni: u32, source: IpAddr) -> Option<&KnownInterface> {
        let by_session = self.sessions.session_of(vni, source);
        let position = match (by_session, source.to_canonical()) {
            (Some(session), _) => self.by_id.get(&session.interface).copied(),
            (None, IpAddr::V4(address)) => self.by_address.get(&address).copied().flatten(),
            (None, IpAddr::V6(_)) => None,
        };
        self.interfaces.get(position?)
    }

    /// The service of AWS that a public address belongs to, such as `S3`: that of the longest prefix, and
    /// `AMAZON` where there is no other.
    #[must_use]
    pub fn service_of(&self, address: IpAddr) -> Option<&Arc<str>> {
        self.services.of(address)
    }
}

#[cfg(test)]
mod tests;
