use std::sync::Arc;

use allocation_counter::measure;

use super::*;
use crate::flow_log::{Field, Format, InterfaceFields, LogStatus, Record};

fn interface() -> Arc<InterfaceFields> {
    let mut interface = InterfaceFields::new();
    interface.set(Field::AccountId, "123456789010");
    interface.set(Field::InterfaceId, "eni-11111111aaaaaaaaa");
    Arc::new(interface)
}

fn written(format: &Format, records: &[Record]) -> String {
    let mut writer = TextWriter::new(Vec::new(), format.clone()).unwrap();
    records.iter().for_each(|record| writer.write(record).unwrap());
    String::from_utf8(writer.into_inner()).unwrap()
}

/// Lines of AWS's examples: "Flow log record examples", no data and skipped records.
#[test]
fn records_without_a_flow_are_written_as_aws_does() {
    let of = |status| Record::new(interface(), status, 1_431_280_876, 1_431_280_934);
    let text = written(&Format::default(), &[of(LogStatus::NoData), of(LogStatus::SkipData)]);
    let lines: Vec<_> = text.lines().skip(1).collect();
    assert_eq!(
        lines,
        [
            "2 123456789010 eni-11111111aaaaaaaaa - - - - - - - 1431280876 1431280934 - NODATA",
            "2 123456789010 eni-11111111aaaaaaaaa - - - - - - - 1431280876 1431280934 - SKIPDATA",
        ]
    );
}

#[test]
fn a_record_is_written_without_an_allocation() {
    let mut record = Record::new(interface(), LogStatus::Ok, 1, 2);
    record.source = Some([10, 0, 0, 255].into());
    record.destination = "2001:db8::1".parse().ok();
    record.bytes = Some(u64::MAX);
    let mut writer = TextWriter::new(std::io::sink(), Format::select_all_v5()).unwrap();
    writer.write(&record).unwrap();
    let allocated = measure(|| (0..100).for_each(|_| writer.write(&record).unwrap()));
    assert_eq!(allocated.count_total, 0);
}
