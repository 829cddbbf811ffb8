//! Any bytes as a flow log, plain or gzip: each line is a record with as many values as there are columns, or
//! is counted as none; what is a record of VPC flow logs is the same when it is written and read again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mirror_user::flow_log::{Record, TextReader, TextWriter};

fuzz_target!(|bytes: &[u8]| {
    let Ok(mut reader) = TextReader::new(bytes) else { return };
    let (columns, format) = (reader.columns().len(), reader.format());
    let mut records = Vec::new();
    while let Ok(Some(line)) = reader.line() {
        let values: Vec<_> = line.values().collect();
        assert_eq!(values.len(), columns);
        assert_eq!(values.join(" "), line.text());
        assert_eq!(line.value(columns), None);
        records.extend(format.as_ref().and_then(|format| Record::of_values(format, values).ok()));
    }
    assert!(reader.skipped().lines <= reader.line_number());
    let Some(format) = format else { return };
    let mut writer = TextWriter::new(Vec::new(), format.clone()).expect("a Vec takes it");
    records.iter().for_each(|record| writer.write(record).expect("a Vec takes it"));
    let written = writer.into_inner();
    let mut again = TextReader::new(&written[..]).expect("it has a header line");
    for record in &records {
        let line = again.line().expect("it is in memory").expect("there are as many");
        let read = Record::of_values(&format, line.values()).expect("they are its values");
        // What only a record of a flow has is not written of others.
        for field in format.fields() {
            assert_eq!(read.value(*field, &format), record.value(*field, &format));
        }
    }
});
