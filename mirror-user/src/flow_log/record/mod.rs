//! One record, as typed values.

mod interface;
mod read;

use std::{net::IpAddr, sync::Arc};

pub use interface::InterfaceFields;
pub use read::ValueError;

use super::{Field, Format};
use crate::mirroring::Direction;

/// One record: the packets of one flow in one window, or that there were none.
///
/// What is `None` is written as `-` in text, and in Parquet as null, if it is a number, or `-`.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Record {
    /// What all records of its interface have in common.
    pub interface: Arc<InterfaceFields>,
    /// Whether it is of a flow.
    pub status: LogStatus,
    /// `start`, in Unix seconds.
    pub start: Option<i64>,
    /// `end`, in Unix seconds.
    pub end: Option<i64>,
    /// `srcaddr`.
    pub source: Option<IpAddr>,
    /// `dstaddr`.
    pub destination: Option<IpAddr>,
    /// `pkt-srcaddr`.
    pub packet_source: Option<IpAddr>,
    /// `pkt-dstaddr`.
    pub packet_destination: Option<IpAddr>,
    /// `srcport`: 0 of a protocol without ports.
    pub source_port: Option<u16>,
    /// `dstport`: 0 of a protocol without ports.
    pub destination_port: Option<u16>,
    /// `protocol` (IANA "Protocol Numbers").
    pub protocol: Option<u8>,
    /// `packets`.
    pub packets: Option<u64>,
    /// `bytes`, from the IP header on.
    pub bytes: Option<u64>,
    /// `action`.
    pub action: Option<Action>,
    /// `tcp-flags`: the flags of all packets of the flow, of each as in [`logged_tcp_flags`].
    pub tcp_flags: Option<u8>,
    /// `type`.
    pub traffic_type: Option<TrafficType>,
    /// `flow-direction`.
    pub direction: Option<Direction>,
    /// `traffic-path`: 1 to 8.
    pub traffic_path: Option<u8>,
    /// `encryption-status`: 0 to 3.
    pub encryption_status: Option<u8>,
    /// `pkt-src-aws-service`.
    pub source_service: Option<Arc<str>>,
    /// `pkt-dst-aws-service`.
    pub destination_service: Option<Arc<str>>,
}

/// Whether a record is of a flow: the field `log-status`.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum LogStatus {
    /// Of a flow.
    Ok,
    /// There was no traffic in the window.
    NoData,
    /// Records of the window are missing.
    SkipData,
}

/// What became of the packets: the field `action`.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Action {
    /// They were allowed.
    Accept,
    /// They were rejected, by a security group or network ACL for one.
    Reject,
}

/// The field `type`.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum TrafficType {
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
    /// Elastic Fabric Adapter.
    Efa,
}

/// The value of a field.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Value<'r> {
    /// None: `-`.
    Missing,
    /// A number.
    Number(i64),
    /// An address.
    Address(IpAddr),
    /// A text, without blanks and control characters.
    Text(&'r str),
}

/// What `tcp-flags` counts of the flags of one packet: FIN, SYN and RST, and ACK only with SYN. Those of a
/// record are of all its packets together, so that SYN and FIN in one window are 3.
///
/// # Examples
///
/// ```
/// use mirror_user::flow_log::logged_tcp_flags;
///
/// // SYN-ACK, then PSH-ACK.
/// assert_eq!(logged_tcp_flags(0x12) | logged_tcp_flags(0x18), 18);
/// ```
#[must_use]
pub const fn logged_tcp_flags(flags: u8) -> u8 {
    const FIN_SYN_RST: u8 = 7;
    const SYN: u8 = 2;
    const ACK: u8 = 16;
    if flags & SYN == 0 { flags & FIN_SYN_RST } else { flags & (FIN_SYN_RST | ACK) }
}

impl Record {
    /// A record of a window, from `start` to `end` in Unix seconds, in which nothing is known of any flow.
    #[must_use]
    pub fn new(interface: Arc<InterfaceFields>, status: LogStatus, start: i64, end: i64) -> Self {
        Self { start: Some(start), end: Some(end), ..Self::of(interface, status) }
    }

    fn of(interface: Arc<InterfaceFields>, status: LogStatus) -> Self {
        Self {
            interface,
            status,
            start: None,
            end: None,
            source: None,
            destination: None,
            packet_source: None,
            packet_destination: None,
            source_port: None,
            destination_port: None,
            protocol: None,
            packets: None,
            bytes: None,
            action: None,
            tcp_flags: None,
            traffic_type: None,
            direction: None,
            traffic_path: None,
            encryption_status: None,
            source_service: None,
            destination_service: None,
        }
    }

    /// The value of a field in records of a format.
    ///
    /// Records without a flow (NODATA, SKIPDATA) have values of `version`, `account-id`, `interface-id`,
    /// `start`, `end` and `log-status` alone, as AWS's have.
    #[must_use]
    pub fn value(&self, field: Field, format: &Format) -> Value<'_> {
        match field {
            Field::Version => Value::Number(format.version().into()),
            Field::LogStatus => Value::Text(self.status.name()),
            Field::Start => number(self.start),
            Field::End => number(self.end),
            Field::AccountId | Field::InterfaceId => self.interface.value(field),
            _ if self.status != LogStatus::Ok => Value::Missing,
            Field::SrcAddr => address(self.source),
            Field::DstAddr => address(self.destination),
            Field::PktSrcAddr => address(self.packet_source),
            Field::PktDstAddr => address(self.packet_destination),
            Field::SrcPort => number(self.source_port),
            Field::DstPort => number(self.destination_port),
            Field::Protocol => number(self.protocol),
            Field::Packets => count(self.packets),
            Field::Bytes => count(self.bytes),
            Field::Action => self.action.map_or(Value::Missing, |action| Value::Text(action.name())),
            Field::TcpFlags => number(self.tcp_flags),
            Field::Type => self.traffic_type.map_or(Value::Missing, |kind| Value::Text(kind.name())),
            Field::FlowDirection => match self.direction {
                Some(Direction::Ingress) => Value::Text(INGRESS),
                Some(Direction::Egress) => Value::Text(EGRESS),
                None => Value::Missing,
            },
            Field::TrafficPath => number(self.traffic_path),
            Field::EncryptionStatus => number(self.encryption_status),
            Field::PktSrcAwsService => text(self.source_service.as_deref()),
            Field::PktDstAwsService => text(self.destination_service.as_deref()),
            _ => self.interface.value(field),
        }
    }
}

const INGRESS: &str = "ingress";
const EGRESS: &str = "egress";

fn number(number: Option<impl Into<i64>>) -> Value<'static> {
    number.map_or(Value::Missing, |number| Value::Number(number.into()))
}

/// Beyond 2^63 - 1, which AWS's type cannot hold, that.
fn count(count: Option<u64>) -> Value<'static> {
    number(count.map(|count| i64::try_from(count).unwrap_or(i64::MAX)))
}

fn address(address: Option<IpAddr>) -> Value<'static> {
    address.map_or(Value::Missing, Value::Address)
}

fn text(text: Option<&str>) -> Value<'_> {
    text.map_or(Value::Missing, Value::Text)
}

impl LogStatus {
    const ALL: [Self; 3] = [Self::Ok, Self::NoData, Self::SkipData];

    /// As in records.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::NoData => "NODATA",
            Self::SkipData => "SKIPDATA",
        }
    }
}

impl Action {
    const ALL: [Self; 2] = [Self::Accept, Self::Reject];

    /// As in records.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Accept => "ACCEPT",
            Self::Reject => "REJECT",
        }
    }
}

impl TrafficType {
    const ALL: [Self; 3] = [Self::Ipv4, Self::Ipv6, Self::Efa];

    /// As in records.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ipv4 => "IPv4",
            Self::Ipv6 => "IPv6",
            Self::Efa => "EFA",
        }
    }
}

#[cfg(test)]
pub(super) mod testing;
#[cfg(test)]
mod tests;
