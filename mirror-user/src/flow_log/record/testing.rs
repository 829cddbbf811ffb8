//! Records for tests.

use std::{net::IpAddr, sync::Arc};

use proptest::{option, prelude::*, sample::select};

use super::{Action, InterfaceFields, LogStatus, Record, TrafficType};
use crate::{flow_log::Field, mirroring::Direction};

/// Any record, with any of its values missing.
pub(in crate::flow_log) fn any_record() -> impl Strategy<Value = Record> {
    let times = (option::of(any::<i64>()), option::of(any::<i64>()));
    let address = || option::of(any::<IpAddr>());
    let addresses = (address(), address(), address(), address());
    let numbers = (option::of(any::<u16>()), option::of(any::<u16>()), option::of(0..i64::MAX as u64));
    let small = || option::of(any::<u8>());
    let smalls = (small(), small(), small(), small());
    let direction = option::of(select(vec![Direction::Ingress, Direction::Egress]));
    let names = (option::of(select(&Action::ALL[..])), option::of(select(&TrafficType::ALL[..])), direction);
    let service = || option::of(select(vec!["AMAZON", "S3", "EC2"]));
    let texts = (any_interface(), service(), service(), select(&LogStatus::ALL[..]));
    (times, addresses, numbers, smalls, names, texts).prop_map(
        |(times, addresses, numbers, smalls, names, (interface, from, to, status))| {
            let mut record = Record::of(Arc::new(interface), status);
            (record.start, record.end) = times;
            if status == LogStatus::Ok {
                (record.source, record.destination, record.packet_source, record.packet_destination) =
                    addresses;
                (record.source_port, record.destination_port, record.packets) = numbers;
                record.bytes = record.packets;
                (record.protocol, record.tcp_flags, record.traffic_path, record.encryption_status) = smalls;
                (record.action, record.traffic_type, record.direction) = names;
                record.source_service = from.map(Into::into);
                record.destination_service = to.map(Into::into);
            } else {
                let mut ids = InterfaceFields::new();
                for field in [Field::AccountId, Field::InterfaceId] {
                    ids.set(field, record.interface.get(field).unwrap_or_default());
                }
                record.interface = Arc::new(ids);
            }
            record
        },
    )
}

fn any_interface() -> impl Strategy<Value = InterfaceFields> {
    let field = select(vec![Field::AccountId, Field::InterfaceId, Field::VpcId, Field::InterfaceTag]);
    proptest::collection::vec((field, "\\PC{0,12}"), 0..4).prop_map(|values| {
        let mut interface = InterfaceFields::new();
        values.iter().for_each(|(field, value)| interface.set_tag(*field, value));
        interface
    })
}
