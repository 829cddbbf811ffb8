use std::sync::Arc;

use allocation_counter::measure;
use proptest::prelude::*;

use super::*;
use crate::flow_log::{Field, Format, InterfaceFields, LogStatus, Record, record::testing::any_record};

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

const V2: &str = include_str!("../../../../tests/flow-logs/otel_vpc_v2.log");
const ECS: &str = include_str!("../../../../tests/flow-logs/otel_vpc_ecs.log");
const TRANSIT_GATEWAY: &str = include_str!("../../../../tests/flow-logs/otel_tgw_v6.log");

fn reader(text: &str) -> TextReader<&[u8]> {
    TextReader::new(text.as_bytes()).unwrap()
}

/// The values of a column in all lines, and what was skipped.
fn column<R: std::io::Read>(reader: &mut TextReader<R>, name: &str) -> (Vec<String>, Skipped) {
    let position = reader.position(name).unwrap();
    let mut values = Vec::new();
    while let Some(line) = reader.line().unwrap() {
        values.push(line.value(position).unwrap().to_owned());
    }
    (values, reader.skipped())
}

#[test]
fn a_log_of_aws_is_written_back_byte_for_byte() {
    let mut reader = reader(V2);
    let format = reader.format().unwrap();
    let mut records = Vec::new();
    while let Some(line) = reader.line().unwrap() {
        records.push(Record::of_values(&format, line.values()).unwrap());
    }
    assert_eq!(written(&format, &records), V2);
    assert_eq!((records.len(), reader.line_number(), reader.skipped()), (2, 3, Skipped::default()));
}

#[test]
fn fields_of_ecs_are_read() {
    let mut reader = reader(ECS);
    let format = reader.format().unwrap();
    let line = reader.line().unwrap().unwrap();
    assert_eq!(line.text(), ECS.lines().nth(1).unwrap());
    let record = Record::of_values(&format, line.values()).unwrap();
    assert_eq!(record.interface.get(Field::EcsServiceName), Some("my-service"));
    // It says version 5, but ECS fields are of version 7.
    let expected = ECS.replacen("\n5 ", "\n7 ", 1);
    assert_eq!(written(&format, &[record]), expected);
}

#[test]
fn columns_that_are_no_fields_keep_their_names() {
    let mut reader = reader(TRANSIT_GATEWAY);
    assert_eq!(reader.format(), None);
    assert_eq!(reader.columns()[6].name.as_ref(), "tgw-src-subnet-id");
    assert_eq!(reader.position("srcAddr"), Some(13));
    let names: Vec<_> = reader.columns().iter().map(|column| column.name.to_string()).collect();
    assert_eq!(names.join(" "), TRANSIT_GATEWAY.lines().next().unwrap());
    assert_eq!(column(&mut reader, "packets-lost-mtu-exceeded"), (vec!["3".to_owned()], Skipped::default()));
}

#[test]
fn lines_of_the_default_format_need_no_header_line() {
    let without = V2.split_once('\n').unwrap().1;
    let mut plain = reader(without);
    assert_eq!(plain.format(), Some(Format::default()));
    assert_eq!(column(&mut plain, "dstport").0, ["22", "3389"]);
    // As CloudWatch Logs exports them.
    let timed: String = without.lines().map(|line| format!("2014-12-13T23:20:10.000Z {line}\r\n")).collect();
    let mut timed = reader(&timed);
    assert_eq!(timed.line().unwrap().unwrap().text(), without.lines().next().unwrap());
    assert_eq!(column(&mut timed, "dstport").0, ["3389"]);
}

#[test]
fn lines_without_a_header_line_are_read_by_their_format() {
    let format: Format = "${srcaddr} ${bytes}".parse().unwrap();
    let text = "10.0.0.1 1\n\n10.0.0.2 2";
    let mut reader = TextReader::with_format(text.as_bytes(), &format).unwrap();
    assert_eq!(column(&mut reader, "bytes"), (vec!["1".to_owned(), "2".to_owned()], Skipped::default()));
}

#[test]
fn concatenated_gzip_files_are_read_as_one() {
    use std::io::Write as _;
    let packed = |text: &str| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    };
    let both = [packed(V2), packed(V2)].concat();
    let mut whole = TextReader::new(&both[..]).unwrap();
    let ports = ["22", "3389", "22", "3389"].map(str::to_owned).to_vec();
    assert_eq!(column(&mut whole, "dstport"), (ports, Skipped::default()));
    // Cut in the second member, behind the first one's two records.
    let mut cut = TextReader::new(&both[..both.len() - 20]).unwrap();
    let error = loop {
        match cut.line() {
            Ok(Some(_)) => {}
            Ok(None) => panic!("the end of a truncated file"),
            Err(error) => break error.to_string(),
        }
    };
    assert!(error.starts_with("line "), "{error}");
}

#[test]
fn bad_lines_are_counted_and_the_first_is_named() {
    let long = "x".repeat(MAX_LINE + 1);
    let text = format!("srcaddr bytes\n10.0.0.1 1\n10.0.0.2\n1 2 3\n{long}\n10.0.0.3 3\nx y z");
    let mut reader = reader(&text);
    let (values, skipped) = column(&mut reader, "bytes");
    assert_eq!(values, ["1", "3"]);
    assert_eq!(skipped, Skipped { lines: 4, first: Some(3) });
    let mut latin = TextReader::new(&b"srcaddr bytes\n\xe4 1\n10.0.0.1 2\n"[..]).unwrap();
    assert_eq!(column(&mut latin, "bytes"), (vec!["2".to_owned()], Skipped { lines: 1, first: Some(2) }));
}

#[test]
fn what_is_no_flow_log_is_refused_and_nothing_is_nothing() {
    for text in ["PK\u{3}\u{4}", "\n{\"a\": 1}", "3 1 2", "the quick brown fox", "10.0.0.1 5"] {
        let error = TextReader::new(text.as_bytes()).unwrap_err();
        assert!(matches!(error, TextError::NoHeader { .. }), "{text:?}: {error}");
    }
    for text in ["", "\n\n"] {
        let mut empty = reader(text);
        assert!(empty.columns().is_empty() && empty.line().unwrap().is_none());
    }
}

#[test]
fn a_line_is_read_without_an_allocation() {
    let text = format!("{V2}{}", V2.split_once('\n').unwrap().1.repeat(1000));
    let mut reader = reader(&text);
    reader.line().unwrap();
    let mut lines = 0;
    let allocated = measure(|| {
        while let Some(line) = reader.line().unwrap() {
            lines += line.values().count() / 14;
        }
    });
    assert_eq!((lines, allocated.count_total), (2001, 0));
}

proptest! {
    #[test]
    fn records_that_are_written_are_read_again(records in prop::collection::vec(any_record(), 1..8)) {
        let text = written(&Format::of(Field::ALL).unwrap(), &records);
        let mut reader = reader(&text);
        let format = reader.format().unwrap();
        let mut read = Vec::new();
        while let Some(line) = reader.line().unwrap() {
            read.push(Record::of_values(&format, line.values()).unwrap());
        }
        prop_assert_eq!((read, reader.skipped()), (records, Skipped::default()));
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let text = [b"srcaddr bytes\n", &bytes[..]].concat();
        for input in [&bytes, &text] {
            if let Ok(mut reader) = TextReader::new(&input[..]) {
                while let Ok(Some(line)) = reader.line() {
                    assert!(line.values().eq((0..line.values().count()).map_while(|at| line.value(at))));
                }
            }
        }
    }
}
