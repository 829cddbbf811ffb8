use proptest::prelude::*;

use super::{testing::any_record, *};

const SYN: u8 = 0x02;
const ACK: u8 = 0x10;

/// AWS's table of examples: "Flow log records", `tcp-flags`.
#[test]
fn tcp_flags_are_those_that_aws_documents() {
    for (packets, expected) in [
        (&[SYN][..], 2),
        (&[SYN | ACK], 18),
        (&[0x01 | ACK], 1),
        (&[0x04 | ACK], 4),
        (&[SYN, 0x01 | ACK], 3),
        (&[SYN | ACK, 0x01 | ACK], 19),
        (&[ACK, 0x18, 0x20, 0x40, 0x80], 0),
    ] {
        let together = packets.iter().fold(0, |all, flags| all | logged_tcp_flags(*flags));
        assert_eq!(together, expected, "{packets:?}");
    }
}

#[test]
fn a_record_without_a_flow_has_ids_times_and_status_alone() {
    let mut interface = InterfaceFields::new();
    for field in [Field::AccountId, Field::InterfaceId, Field::VpcId, Field::Region] {
        interface.set(field, "x");
    }
    for status in [LogStatus::NoData, LogStatus::SkipData] {
        let mut record = Record::new(Arc::new(interface.clone()), status, 1, 2);
        record.action = Some(Action::Accept);
        record.packets = Some(7);
        let format = Format::of(Field::ALL).unwrap();
        let known = Field::ALL.into_iter().filter(|field| record.value(*field, &format) != Value::Missing);
        let names: Vec<_> = known.map(Field::name).collect();
        assert_eq!(names, ["version", "account-id", "interface-id", "start", "end", "log-status"]);
    }
}

#[test]
fn values_of_tags_are_percent_encoded() {
    let mut interface = InterfaceFields::new();
    for (value, expected) in [
        ("my-app", Some("my%2Dapp")),
        ("a b:/=", Some("a%20b%3A%2F%3D")),
        ("Größe", Some("Gr%C3%B6%C3%9Fe")),
        ("-", Some("%2D")),
        ("", None),
    ] {
        interface.set_tag(Field::InterfaceTag, value);
        assert_eq!(interface.get(Field::InterfaceTag), expected, "{value}");
    }
}

#[test]
fn a_value_cannot_divide_a_line() {
    let mut interface = InterfaceFields::new();
    interface.set(Field::VpcId, "vpc 1\nOK\u{7f}");
    assert_eq!(interface.get(Field::VpcId), Some("vpc%201%0AOK%7F"));
    interface.set(Field::VpcId, "-");
    assert_eq!(interface.get(Field::VpcId), None);
}

#[test]
fn a_count_that_int64_cannot_hold_is_its_maximum() {
    let mut record = Record::new(Arc::default(), LogStatus::Ok, 0, 0);
    record.bytes = Some(u64::MAX);
    assert_eq!(record.value(Field::Bytes, &Format::default()), Value::Number(i64::MAX));
}

#[test]
fn what_is_no_value_of_a_field_is_named() {
    let format: Format = "${srcport} ${action}".parse().unwrap();
    for (values, expected) in [
        (&["65536", "-"][..], "srcport cannot be \"65536\"; expected a port up to 65535, or -"),
        (&["-", "DROP"], "action cannot be \"DROP\"; expected ACCEPT or REJECT, or -"),
        (&["-"], "1 values where the format has 2 fields"),
        (&["-", "-", "1"], "3 values where the format has 2 fields"),
    ] {
        let error = Record::of_values(&format, values.iter().copied()).unwrap_err();
        assert_eq!(error.to_string(), expected);
    }
}

/// What a table of 128 k records, a row group of Parquet, takes in memory.
#[test]
fn a_record_is_small() {
    assert!(size_of::<Record>() <= 208, "{}", size_of::<Record>());
}

proptest! {
    #[test]
    fn the_values_of_a_record_make_the_same_record(record in any_record()) {
        let format = Format::of(Field::ALL).unwrap();
        let texts: Vec<_> = format
            .fields()
            .iter()
            .map(|field| match record.value(*field, &format) {
                Value::Missing => "-".to_owned(),
                Value::Number(number) => number.to_string(),
                Value::Address(address) => address.to_string(),
                Value::Text(text) => text.to_owned(),
            })
            .collect();
        prop_assert_eq!(Record::of_values(&format, texts.iter().map(String::as_str)), Ok(record));
    }
}
