//! Traffic Mirroring: what mirrors which packets, and where to. Targets, filters with rules, sessions, and
//! the interfaces that they name; pure values, without I/O.
//!
//! [`Mirroring::read`] takes what `aws ec2 describe-traffic-mirror-{targets,filters,sessions}` and
//! `describe-network-interfaces` print, and checks it against the constraints of the
//! [EC2 API](https://docs.aws.amazon.com/vpc/latest/mirroring/traffic-mirroring-limits.html);
//! [`Mirroring::evaluate`] says of a packet which session mirrors it, and why. At the target,
//! [`SessionTable`] says of a mirrored packet which session it is of.

mod check;
mod ec2;
mod evaluate;
mod origins;
#[cfg(test)]
pub(crate) mod testing;
mod vni;

use std::{fmt, net::IpAddr, ops::RangeInclusive};

use ipnet::IpNet;

pub use check::{Problem, Severity};
pub use ec2::ReadError;
pub(crate) use ec2::cidr;
pub use evaluate::{Direction, Excluded, Outcome, Packet};
pub use origins::{KnownSession, SessionTable};

/// The most rules of a filter, both directions together.
pub const MAX_RULES: usize = 10;
/// The most sessions of a source.
pub const MAX_SESSIONS: usize = 3;
/// The most sources of a target that is an interface.
pub const MAX_SOURCES: usize = 10;
/// Numbers that a session may have.
pub const SESSION_NUMBERS: RangeInclusive<u16> = 1..=32766;
/// The largest VXLAN network identifier: 24 bits (RFC 7348 section 5).
pub const MAX_VNI: u32 = (1 << 24) - 1;

/// A whole set-up.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Mirroring {
    /// Where packets are sent.
    pub targets: Vec<Target>,
    /// Which packets.
    pub filters: Vec<Filter>,
    /// Of which interface, by which filter, to which target.
    pub sessions: Vec<Session>,
    /// What is known of the interfaces.
    pub interfaces: Vec<NetworkInterface>,
}

/// A traffic mirror target.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Target {
    /// Such as `tmt-0123456789abcdef0`.
    pub id: String,
    /// What it is.
    pub kind: TargetKind,
    /// For people.
    pub description: Option<String>,
    /// The account that it belongs to.
    pub owner: Option<String>,
    /// Keys with values.
    pub tags: Tags,
}

/// What a target is.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum TargetKind {
    /// An interface, by its id.
    NetworkInterface(String),
    /// A Network Load Balancer, by its ARN.
    NetworkLoadBalancer(String),
    /// An endpoint of a Gateway Load Balancer, by its id.
    GatewayLoadBalancerEndpoint(String),
}

/// Keys with values.
pub type Tags = Vec<(String, String)>;

/// A traffic mirror filter.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Filter {
    /// Such as `tmf-0123456789abcdef0`.
    pub id: String,
    /// For people.
    pub description: Option<String>,
    /// Rules for packets that the source receives, by ascending number.
    pub ingress: Vec<Rule>,
    /// Rules for packets that the source sends, by ascending number.
    pub egress: Vec<Rule>,
    /// Whether queries to Amazon's resolver are mirrored, too (`amazon-dns`).
    pub amazon_dns: bool,
    /// Keys with values.
    pub tags: Tags,
}

/// A rule of a filter.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Rule {
    /// Such as `tmfr-0123456789abcdef0`.
    pub id: Option<String>,
    /// Its place among the rules of its direction.
    pub number: u32,
    /// What becomes of packets that match.
    pub action: Action,
    /// The protocol's number (IANA); all without.
    pub protocol: Option<u8>,
    /// Where packets come from.
    pub source: IpNet,
    /// Where they go to.
    pub destination: IpNet,
    /// With TCP or UDP; all ports without.
    pub source_ports: Option<RangeInclusive<u16>>,
    /// With TCP or UDP; all ports without.
    pub destination_ports: Option<RangeInclusive<u16>>,
    /// For people.
    pub description: Option<String>,
}

/// What becomes of packets that match a rule.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Action {
    /// They are mirrored.
    Accept,
    /// They are not, nor by a later session.
    Reject,
}

/// A traffic mirror session.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Session {
    /// Such as `tms-0123456789abcdef0`.
    pub id: String,
    /// The target's id.
    pub target: String,
    /// The filter's id.
    pub filter: String,
    /// The source: the id of its interface.
    pub interface: String,
    /// Its place among the sessions of its source.
    pub number: u16,
    /// Bytes of each packet that are mirrored, from its Ethernet header on; all without.
    pub packet_length: Option<u32>,
    /// The VXLAN network identifier; without one it is [derived](Mirroring::vnis) from the id.
    pub vni: Option<u32>,
    /// The account that it belongs to.
    pub owner: Option<String>,
    /// For people.
    pub description: Option<String>,
    /// Keys with values.
    pub tags: Tags,
}

/// A network interface, as far as it is known.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct NetworkInterface {
    /// Such as `eni-0123456789abcdef0`.
    pub id: String,
    /// Its MAC address.
    pub mac: Option<[u8; 6]>,
    /// Its private addresses, the primary one first.
    pub addresses: Vec<IpAddr>,
    /// Prefixes that are delegated to it.
    pub prefixes: Vec<IpNet>,
    /// The availability zone that it is in, as its account calls it: `us-east-1a`.
    pub zone: Option<String>,
    /// The id of that zone, which is the same in all accounts: `use1-az1`.
    pub zone_id: Option<String>,
    /// The account that it belongs to.
    pub owner: Option<String>,
    /// Its VPC.
    pub vpc: Option<String>,
    /// Its subnet.
    pub subnet: Option<String>,
    /// The Outpost that it is on, by its ARN.
    pub outpost: Option<String>,
    /// The instance that it is attached to.
    pub instance: Option<String>,
    /// The account of that instance.
    pub instance_owner: Option<String>,
    /// What kind of interface it is: `interface` or `nat_gateway`, for two.
    pub interface_type: Option<String>,
    /// Whether a service of AWS manages it.
    pub requester_managed: bool,
    /// For people.
    pub description: Option<String>,
    /// Keys with values.
    pub tags: Tags,
}

impl Action {
    /// As in the EC2 API.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::Reject => "reject",
        }
    }
}

impl TargetKind {
    /// The id or ARN.
    #[must_use]
    pub fn resource(&self) -> &str {
        match self {
            Self::NetworkInterface(id)
            | Self::NetworkLoadBalancer(id)
            | Self::GatewayLoadBalancerEndpoint(id) => id,
        }
    }
}

impl Mirroring {
    /// A target, by its id.
    #[must_use]
    pub fn target(&self, id: &str) -> Option<&Target> {
        self.targets.iter().find(|target| target.id == id)
    }

    /// A filter, by its id.
    #[must_use]
    pub fn filter(&self, id: &str) -> Option<&Filter> {
        self.filters.iter().find(|filter| filter.id == id)
    }

    /// What is known of an interface, by its id.
    #[must_use]
    pub fn interface(&self, id: &str) -> Option<&NetworkInterface> {
        self.interfaces.iter().find(|interface| interface.id == id)
    }

    /// The sessions of a source, in the sequence in which they are evaluated: by number.
    #[must_use]
    pub fn sessions_of(&self, interface: &str) -> Vec<&Session> {
        let mut sessions: Vec<_> =
            self.sessions.iter().filter(|session| session.interface == interface).collect();
        sessions.sort_by_key(|session| session.number);
        sessions
    }
}

/// The number, the action, and what must match.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { number, action, protocol, source, destination, source_ports, destination_ports, .. } =
            self;
        write!(f, "{number} {}", action.name())?;
        match protocol {
            None => f.write_str(" any protocol")?,
            Some(6) => f.write_str(" tcp")?,
            Some(17) => f.write_str(" udp")?,
            Some(number) => write!(f, " protocol {number}")?,
        }
        let ports = |f: &mut fmt::Formatter<'_>, ports: &Option<RangeInclusive<u16>>| match ports {
            Some(ports) if ports.start() == ports.end() => write!(f, " port {}", ports.start()),
            Some(ports) => write!(f, " ports {}-{}", ports.start(), ports.end()),
            None => Ok(()),
        };
        write!(f, " from {source}")?;
        ports(f, source_ports)?;
        write!(f, " to {destination}")?;
        ports(f, destination_ports)
    }
}
