use std::sync::Arc;

use bytes::Bytes;
use parquet::{
    basic::{Compression, GzipLevel, ZstdLevel},
    data_type::{ByteArray, ByteArrayType, DoubleType, Int64Type},
    file::{
        metadata::{ParquetMetaDataReader, ParquetMetaDataWriter, RowGroupMetaData},
        properties::WriterProperties,
        writer::SerializedFileWriter,
    },
    schema::parser::parse_message_type,
};
use proptest::{option, prelude::*};

use super::*;

/// A file that AWS has written, or nearly.
const AWS: &[u8] = include_bytes!(
    "../../../tests/flow-logs/111111111111_vpcflowlogs_eu-west-3_fl-032a163fae170ae52_20220831T1255Z_2ad4bef5\
    .log.parquet"
);
const FASTPARQUET: &[u8] = include_bytes!("../../../tests/flow-logs/sekoia_test.parquet");

/// One column, as texts.
fn column(reader: &Reader, name: &str) -> Vec<Option<String>> {
    let mut all = Vec::new();
    let mut batches = reader.batches(&[reader.position(name).unwrap()]).unwrap();
    while let Some(batch) = batches.advance().unwrap() {
        match &batch[0] {
            Values::Int32(values) => all.extend(values.iter().map(|value| value.map(|it| it.to_string()))),
            Values::Int64(values) => all.extend(values.iter().map(|value| value.map(|it| it.to_string()))),
            Values::Text(texts) => all.extend(texts.iter().map(|text| text.map(str::to_owned))),
        }
    }
    all
}

fn all_columns(reader: &Reader) -> Vec<Vec<Option<String>>> {
    reader.columns().iter().map(|it| column(reader, &it.name)).collect()
}

#[test]
fn a_file_of_aws_is_read() {
    let reader = Reader::of_bytes(AWS.to_vec()).unwrap();
    let kinds: Vec<_> = reader.columns().iter().map(|it| (it.name.as_str(), it.kind.unwrap())).collect();
    use Kind::{Int32, Int64, Text};
    let expected = [
        ("version", Int32),
        ("account_id", Text),
        ("interface_id", Text),
        ("srcaddr", Text),
        ("dstaddr", Text),
        ("srcport", Int32),
        ("dstport", Int32),
        ("protocol", Int32),
        ("packets", Int64),
        ("bytes", Int64),
        ("start", Int64),
        ("end", Int64),
        ("action", Text),
        ("log_status", Text),
    ];
    assert_eq!(kinds, expected);
    assert_eq!(reader.rows(), 7);
    assert_eq!(column(&reader, "account_id"), vec![Some("111111111111".to_owned()); 7]);
    assert_eq!(column(&reader, "start"), vec![Some("1661950735".to_owned()); 7]);
}

#[test]
fn the_same_records_with_other_integers_are_the_same() {
    // It has one more at the end.
    let other = Reader::of_bytes(FASTPARQUET.to_vec()).unwrap();
    let reader = Reader::of_bytes(AWS.to_vec()).unwrap();
    assert_eq!(other.columns()[other.position("srcport").unwrap()].kind, Some(Kind::Int64));
    for it in reader.columns() {
        assert_eq!(column(&other, &it.name)[..7], column(&reader, &it.name), "{}", it.name);
    }
}

#[test]
fn files_of_several_row_groups_and_pages_are_read_whole() {
    let rows = MAX_GROUP + 3 * MAX_BATCH + 5;
    let columns = [Column::new("n", Kind::Int64), Column::new("t", Kind::Text)];
    let mut writer = Writer::new(Vec::new(), &columns, "test").unwrap();
    let number = |row: usize| i64::try_from(row).ok().filter(|row| row % 3 != 0);
    let fill = |column: usize, rows: std::ops::Range<usize>, values: &mut Values| {
        rows.for_each(|row| match (column, number(row)) {
            (0, number) => values.push_number(number),
            (_, Some(number)) => values.push_display(format_args!("text {number}")),
            (_, None) => values.push_text(None),
        });
    };
    writer.write_group(rows, fill).unwrap();
    let bytes = writer.finish().unwrap();
    let metadata = ParquetMetaDataReader::new().parse_and_finish(&Bytes::from(bytes.clone())).unwrap();
    let groups: Vec<_> = metadata.row_groups().iter().map(RowGroupMetaData::num_rows).collect();
    assert_eq!(groups, [MAX_GROUP, rows - MAX_GROUP].map(|rows| i64::try_from(rows).unwrap()));
    assert_eq!(metadata.file_metadata().created_by(), Some("test"));
    assert!(metadata.row_groups()[0].columns().iter().all(|it| it.statistics().is_some()));
    let reader = Reader::of_bytes(bytes).unwrap();
    assert_eq!(reader.rows(), rows as u64);
    let expected: Vec<_> = (0..rows).map(|row| number(row).map(|it| it.to_string())).collect();
    assert_eq!(column(&reader, "n"), expected);
    let expected: Vec<_> = (0..rows).map(|row| number(row).map(|it| format!("text {it}"))).collect();
    assert_eq!(column(&reader, "t"), expected);
}

/// A required text column, as other writers have them.
fn other_writer(compression: Compression, texts: &[&[u8]]) -> Vec<u8> {
    let schema = Arc::new(parse_message_type("message m { required binary t; }").unwrap());
    let properties = Arc::new(WriterProperties::builder().set_compression(compression).build());
    let mut writer = SerializedFileWriter::new(Vec::new(), schema, properties).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    let texts: Vec<_> = texts.iter().map(|text| ByteArray::from(text.to_vec())).collect();
    column.typed::<ByteArrayType>().write_batch(&texts, None, None).unwrap();
    column.close().unwrap();
    group.close().unwrap();
    writer.into_inner().unwrap()
}

#[test]
fn the_usual_codecs_are_read() {
    for codec in [
        Compression::UNCOMPRESSED,
        Compression::SNAPPY,
        Compression::GZIP(GzipLevel::default()),
        Compression::ZSTD(ZstdLevel::default()),
    ] {
        let reader = Reader::of_bytes(other_writer(codec, &[b"a", b"", "ä".as_bytes()])).unwrap();
        let expected = ["a", "", "ä"].map(|text| Some(text.to_owned()));
        assert_eq!(column(&reader, "t"), expected, "{codec}");
    }
}

#[test]
fn other_codecs_are_refused_by_name() {
    let mut bytes = other_writer(Compression::SNAPPY, &[b"a"]);
    let metadata = ParquetMetaDataReader::new().parse_and_finish(&Bytes::from(bytes.clone())).unwrap();
    for (codec, name) in
        [(Compression::LZ4, "LZ4"), (Compression::LZ4_RAW, "LZ4_RAW"), (Compression::LZO, "LZO")]
    {
        let group = metadata.row_groups()[0].clone();
        let chunk = group.columns()[0].clone().into_builder().set_compression(codec).build().unwrap();
        let group = group.into_builder().set_column_metadata(vec![chunk]).build().unwrap();
        let changed = metadata.clone().into_builder().set_row_groups(vec![group]).build();
        ParquetMetaDataWriter::new(&mut bytes, &changed).finish().unwrap();
        let reader = Reader::of_bytes(bytes.clone()).unwrap();
        let error = reader.batches(&[0]).unwrap_err().to_string();
        assert!(error.starts_with(&format!("column t is compressed by {name}, which is not")), "{error}");
    }
}

#[test]
fn what_is_not_utf_8_is_an_error() {
    // Valid together, but each text begins or ends within a letter.
    for texts in [&[&b"\xff"[..]][..], &[b"\xc3", b"\xa4"]] {
        let reader = Reader::of_bytes(other_writer(Compression::SNAPPY, texts)).unwrap();
        let error = reader.batches(&[0]).unwrap().advance().unwrap_err();
        assert_eq!(error.to_string(), "column t is not UTF-8");
    }
}

#[test]
fn columns_that_cannot_be_read_do_not_keep_others_from_being_read() {
    let message = "message m { optional group g { optional double d; } required int64 n; }";
    let schema = Arc::new(parse_message_type(message).unwrap());
    let mut writer = SerializedFileWriter::new(Vec::new(), schema, Arc::default()).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let mut column_writer = group.next_column().unwrap().unwrap();
    column_writer.typed::<DoubleType>().write_batch(&[1.0], Some(&[2, 0]), None).unwrap();
    column_writer.close().unwrap();
    let mut column_writer = group.next_column().unwrap().unwrap();
    column_writer.typed::<Int64Type>().write_batch(&[7, 8], None, None).unwrap();
    column_writer.close().unwrap();
    group.close().unwrap();
    let reader = Reader::of_bytes(writer.into_inner().unwrap()).unwrap();
    let error = reader.batches(&[0]).unwrap_err().to_string();
    assert!(error.starts_with("column g.d is a nested or repeated DOUBLE; only INT32"), "{error}");
    assert_eq!(column(&reader, "n"), ["7", "8"].map(|text| Some(text.to_owned())));
    let error = reader.batches(&[2]).unwrap_err().to_string();
    assert_eq!(error, "there is no column 2: the file has 2 columns");
}

#[test]
fn a_row_without_its_value_is_refused() {
    let columns = [Column::new("n", Kind::Int32), Column::new("m", Kind::Int32)];
    let mut writer = Writer::new(Vec::new(), &columns, "test").unwrap();
    let fill = |column, _, values: &mut Values| {
        (0..2 - column).for_each(|_| values.push_number(Some(1)));
    };
    let error = writer.write_group(2, fill).unwrap_err().to_string();
    assert_eq!(error, "column m has 1 values of its type for 2 rows");
}

#[test]
fn what_is_no_parquet_is_an_error() {
    for bytes in [&b""[..], b"PAR1", b"PAR1PAR1", b"PAR1\xff\xff\xff\x7fPAR1", b"version account-id\n2 1\n"] {
        assert!(matches!(Reader::of_bytes(bytes.to_vec()), Err(Error::Read(_))), "{bytes:?}");
    }
}

/// Every byte of a file replaced, and every truncation: an error or other values, and never a panic.
#[test]
fn damaged_files_are_errors() {
    let try_all = |bytes: Vec<u8>| {
        let Ok(reader) = Reader::of_bytes(bytes) else { return };
        for position in 0..reader.columns().len() {
            if let Ok(mut batches) = reader.batches(&[position]) {
                while let Ok(Some(_)) = batches.advance() {}
                assert!(matches!(batches.advance(), Ok(None)));
            }
        }
    };
    let small = other_writer(Compression::SNAPPY, &[b"a", b"bc", b"a"]);
    for length in 0..small.len() {
        try_all(small[..length].to_vec());
    }
    for file in [&small, AWS, FASTPARQUET] {
        // All of the small file, and of the others a sample.
        for position in (0..file.len()).step_by(1 + file.len() / 2000) {
            for value in [0, 0x7f, 0xff, file[position] ^ 1] {
                let mut bytes = file.to_vec();
                bytes[position] = value;
                try_all(bytes);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_written_is_read_again(
        rows in prop::collection::vec(
            (option::of(any::<i32>()), option::of(any::<i64>()), option::of("\\PC{0,20}")),
            0..200,
        ),
        groups in 1..4_usize,
    ) {
        let columns = [
            Column::new("a", Kind::Int32),
            Column::new("b", Kind::Int64),
            Column::new("c", Kind::Text),
        ];
        let mut writer = Writer::new(Vec::new(), &columns, "test").unwrap();
        for _ in 0..groups {
            let fill = |column: usize, range: std::ops::Range<usize>, values: &mut Values| {
                for (a, b, c) in &rows[range] {
                    match column {
                        0 => values.push_number(a.map(Into::into)),
                        1 => values.push_number(*b),
                        _ => values.push_text(c.as_deref()),
                    }
                }
            };
            writer.write_group(rows.len(), fill).unwrap();
        }
        let reader = Reader::of_bytes(writer.finish().unwrap()).unwrap();
        prop_assert_eq!(reader.columns(), &columns[..]);
        let rows: Vec<_> = (0..groups).flat_map(|_| &rows).collect();
        let expected: Vec<Vec<_>> = vec![
            rows.iter().map(|row| row.0.map(|it| it.to_string())).collect(),
            rows.iter().map(|row| row.1.map(|it| it.to_string())).collect(),
            rows.iter().map(|row| row.2.clone()).collect(),
        ];
        prop_assert_eq!(all_columns(&reader), expected);
    }
}
