//! Records from texts.

use std::{str::FromStr, sync::Arc};

use super::{Action, EGRESS, INGRESS, InterfaceFields, LogStatus, Record, TrafficType, interface::is_value};
use crate::{
    flow_log::{Field, Format},
    mirroring::Direction,
};

/// Why texts are not the values of a record.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ValueError {
    /// A value is none of its field.
    #[error("{field} cannot be {value:?}; expected {expected}, or -")]
    Value {
        /// The field.
        field: Field,
        /// As it is in the text.
        value: String,
        /// What it may be.
        expected: &'static str,
    },
    /// There are not as many values as fields.
    #[error("{values} values where the format has {fields} fields")]
    Count {
        /// How many values.
        values: usize,
        /// How many fields.
        fields: usize,
    },
}

impl Record {
    /// The record with these values, one of each field of a format in its sequence, `-` for none. The value
    /// of `version` is not kept: a format gives it. Without `log-status` in the format, it is OK.
    ///
    /// # Errors
    ///
    /// If a value is none of its field, or there are more or fewer.
    pub fn of_values<'v>(
        format: &Format,
        values: impl IntoIterator<Item = &'v str>,
    ) -> Result<Self, ValueError> {
        let mut interface = InterfaceFields::new();
        let mut record = Self::of(Arc::default(), LogStatus::Ok);
        let mut values = values.into_iter();
        let fields = format.fields();
        for (position, field) in fields.iter().enumerate() {
            let value = values.next().ok_or(ValueError::Count { values: position, fields: fields.len() })?;
            if is_value(value) && !record.set(*field, value)? {
                interface.set(*field, value);
            }
        }
        let more = values.count();
        if more > 0 {
            return Err(ValueError::Count { values: fields.len() + more, fields: fields.len() });
        }
        record.interface = Arc::new(interface);
        Ok(record)
    }

    /// Returns whether the field is one that records have themselves.
    fn set(&mut self, field: Field, value: &str) -> Result<bool, ValueError> {
        let refused = |expected| ValueError::Value { field, value: value.to_owned(), expected };
        match field {
            Field::Version => {
                parsed::<u8>(value).ok_or_else(|| refused("a small number"))?;
            }
            Field::LogStatus => {
                let status = named(LogStatus::ALL, LogStatus::name, value);
                self.status = status.ok_or_else(|| refused("OK, NODATA or SKIPDATA"))?;
            }
            Field::Start | Field::End => {
                let time = parsed(value).ok_or_else(|| refused("Unix seconds"))?;
                *if field == Field::Start { &mut self.start } else { &mut self.end } = Some(time);
            }
            Field::SrcAddr | Field::DstAddr | Field::PktSrcAddr | Field::PktDstAddr => {
                let address = match field {
                    Field::SrcAddr => &mut self.source,
                    Field::DstAddr => &mut self.destination,
                    Field::PktSrcAddr => &mut self.packet_source,
                    _ => &mut self.packet_destination,
                };
                *address = Some(parsed(value).ok_or_else(|| refused("an address"))?);
            }
            Field::SrcPort | Field::DstPort => {
                let port = parsed(value).ok_or_else(|| refused("a port up to 65535"))?;
                *if field == Field::SrcPort { &mut self.source_port } else { &mut self.destination_port } =
                    Some(port);
            }
            Field::Packets | Field::Bytes => {
                let count = parsed(value).ok_or_else(|| refused("a count"))?;
                *if field == Field::Packets { &mut self.packets } else { &mut self.bytes } = Some(count);
            }
            Field::Protocol | Field::TcpFlags | Field::TrafficPath | Field::EncryptionStatus => {
                let number = match field {
                    Field::Protocol => &mut self.protocol,
                    Field::TcpFlags => &mut self.tcp_flags,
                    Field::TrafficPath => &mut self.traffic_path,
                    _ => &mut self.encryption_status,
                };
                *number = Some(parsed(value).ok_or_else(|| refused("a number up to 255"))?);
            }
            Field::Action => {
                let action = named(Action::ALL, Action::name, value);
                self.action = Some(action.ok_or_else(|| refused("ACCEPT or REJECT"))?);
            }
            Field::Type => {
                let kind = named(TrafficType::ALL, TrafficType::name, value);
                self.traffic_type = Some(kind.ok_or_else(|| refused("IPv4, IPv6 or EFA"))?);
            }
            Field::FlowDirection => {
                self.direction = Some(match value {
                    INGRESS => Direction::Ingress,
                    EGRESS => Direction::Egress,
                    _ => return Err(refused("ingress or egress")),
                });
            }
            Field::PktSrcAwsService => self.source_service = Some(value.into()),
            Field::PktDstAwsService => self.destination_service = Some(value.into()),
            _ => return Ok(false),
        }
        Ok(true)
    }
}

fn parsed<T: FromStr>(value: &str) -> Option<T> {
    value.parse().ok()
}

fn named<T: Copy, const N: usize>(all: [T; N], name: impl Fn(T) -> &'static str, value: &str) -> Option<T> {
    all.into_iter().find(|one| name(*one) == value)
}
