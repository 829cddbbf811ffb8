use std::sync::Arc;

use allocation_counter::measure;
use proptest::prelude::*;

use super::*;
use crate::flow_log::{Field, InterfaceFields, LogStatus, record::testing::any_record};

fn read(bytes: Vec<u8>) -> Vec<Record> {
    let reader = Reader::of_bytes(bytes).unwrap();
    let fields = reader.columns().iter().map(|column| Field::named(&column.name).unwrap());
    let format = Format::of(fields).unwrap();
    let positions: Vec<_> = (0..reader.columns().len()).collect();
    let mut batches = reader.batches(&positions).unwrap();
    let mut records = Vec::new();
    while let Some(batch) = batches.advance().unwrap() {
        let texts: Vec<Vec<_>> = batch
            .iter()
            .map(|values| match values {
                Values::Int32(values) => values.iter().map(|it| it.map(|it| it.to_string())).collect(),
                Values::Int64(values) => values.iter().map(|it| it.map(|it| it.to_string())).collect(),
                Values::Text(texts) => texts.iter().map(|it| it.map(str::to_owned)).collect(),
            })
            .collect();
        for row in 0..texts[0].len() {
            let values = texts.iter().map(|column| column[row].as_deref().unwrap_or("-"));
            records.push(Record::of_values(&format, values).unwrap());
        }
    }
    records
}

#[test]
fn a_missing_number_is_null_and_a_missing_text_is_a_hyphen() {
    let mut interface = InterfaceFields::new();
    interface.set(Field::AccountId, "012345678901");
    let record = Record::new(Arc::new(interface), LogStatus::NoData, 60, 119);
    let mut writer = ParquetWriter::new(Vec::new(), Format::default()).unwrap();
    writer.write([record]).unwrap();
    let reader = Reader::of_bytes(writer.finish().unwrap()).unwrap();
    let positions = ["account_id", "srcaddr", "srcport", "bytes", "log_status", "version"];
    let positions = positions.map(|name| reader.position(name).unwrap());
    let mut batches = reader.batches(&positions).unwrap();
    let [account, address, port, bytes, status, version] = batches.advance().unwrap().unwrap() else {
        panic!("not six columns");
    };
    let text = |values: &Values| match values {
        Values::Text(texts) => texts.get(0).map(str::to_owned),
        _ => panic!("{values:?}"),
    };
    assert_eq!(text(account).as_deref(), Some("012345678901"));
    assert_eq!(text(address).as_deref(), Some("-"));
    assert_eq!(text(status).as_deref(), Some("NODATA"));
    assert_eq!(port, &Values::Int32(vec![None]));
    assert_eq!(bytes, &Values::Int64(vec![None]));
    assert_eq!(version, &Values::Int32(vec![Some(2)]));
}

/// Pages and chunks of 4096 records are allocated, records are not.
#[test]
fn records_are_written_without_an_allocation_each() {
    let records: Vec<_> = (0..40_000_u32)
        .map(|number| {
            let mut record = Record::new(Arc::default(), LogStatus::Ok, 60, 119);
            record.source = Some(std::net::Ipv4Addr::from_bits(number % 251).into());
            record
        })
        .collect();
    let mut writer = ParquetWriter::new(std::io::sink(), Format::select_all_v5()).unwrap();
    let allocated = measure(|| {
        writer.write(records.iter().cloned()).unwrap();
        writer.write_group().unwrap();
    });
    assert!(allocated.count_total < 40_000 / 4, "{allocated:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn records_that_are_written_are_read_again(records in prop::collection::vec(any_record(), 1..20)) {
        let mut writer = ParquetWriter::new(Vec::new(), Format::of(Field::ALL).unwrap()).unwrap();
        writer.write(records.iter().cloned()).unwrap();
        prop_assert_eq!(read(writer.finish().unwrap()), records);
    }
}
