//! Whole queries over a few records.

mod corpus;
mod records;

use proptest::prelude::*;

use self::records::{Record, run, run_with};
use super::{Execution, Limits, ParseErrorKind, Query, QueryError, Value, field_key};

/// The five queries of the AWS workshop on flow logs that name the 29 fields of `select-all-v5`.
pub(super) const WORKSHOP: [&str; 5] = {
    macro_rules! parsed {
        ($rest:literal) => {
            concat!(
                "fields @timestamp\n| parse @message ",
                "\"* * * * * * * * * * * * * * * * * * * * * * * * * * * * *\" ",
                "as account_id, action, az_id, bytes, dstaddr, dstport, end, flow_direction, instance_id, ",
                "interface_id, log_status, packets, pkt_dst_aws_service, pkt_dstaddr, pkt_src_aws_service, ",
                "pkt_srcaddr, protocol, region, srcaddr, srcport, start, sublocation_id, sublocation_type, ",
                "subnet_id, tcp_flags, traffic_path, type, version, vpc_id\n",
                $rest
            )
        };
    }
    [
        parsed!("| sort @timestamp desc\n| limit 20"),
        parsed!(
            "| stats sum(bytes) as Data_Transferred by srcaddr, dstaddr, flow_direction\n| sort by \
             Data_Transferred desc\n| limit 2"
        ),
        parsed!(
            "| stats sum(bytes) as Data_Transferred by instance_id\n| sort by Data_Transferred desc\n| \
             limit 5"
        ),
        parsed!(
            "| filter action = \"REJECT\" and protocol = 6 and dstport = 22\n| stats sum(bytes) as \
             SSH_Traffic_Volume by srcaddr\n| sort by SSH_Traffic_Volume desc\n| limit 2"
        ),
        parsed!(
            "| filter action=\"REJECT\" \n| stats count(action) as redjects by srcaddr \n| sort redjects desc"
        ),
    ]
};

#[test]
fn only_the_fields_that_matter_are_read() {
    let columns = |query: &str| Query::parse(query).unwrap().columns().to_vec();
    assert_eq!(columns(WORKSHOP[1]), ["@message"]);
    assert_eq!(columns(WORKSHOP[0]), ["@message", "@timestamp"]);
    assert_eq!(columns("fields @timestamp, srcAddr | stats sum(bytes) by srcaddr"), ["srcaddr", "bytes"]);
    assert_eq!(columns("stats count(*) by bin(1h)"), ["@timestamp"]);
    assert_eq!(
        columns("filter `pkt-srcaddr` = pktSrcAddr and pkt_srcaddr = 'x' | stats count(*)"),
        ["pkt-srcaddr"]
    );
    // The field is shadowed by what `parse` makes.
    assert_eq!(columns("parse @message '* *' as bytes, x | stats sum(bytes)"), ["@message"]);
    assert_eq!(columns("filter 1 = 1"), ["@timestamp", "@message"]);
    assert_eq!(columns("stats count(*)"), [""; 0]);
}

#[test]
fn spellings_of_a_field_have_one_key() {
    for name in ["pkt-srcaddr", "pkt_srcaddr", "pktSrcAddr", "PKTSRCADDR"] {
        assert_eq!(field_key(name), "pktsrcaddr");
    }
}

#[test]
fn a_parse_that_never_matches_is_noted() {
    let records = [Record::new("ACCEPT", "10.0.0.1", "40"), Record::new("REJECT", "10.0.0.1", "40")];
    let table = run("parse @message '* [*] *' as a, b, c | stats count(*) by b", &records);
    assert_eq!(table.rows, [vec![Value::Null, Value::Integer(2)]]);
    assert_eq!(table.notes.len(), 1, "{:?}", table.notes);
    assert!(table.notes[0].contains("\"* [*] *\" matched nothing in 2 records"), "{:?}", table.notes);
    assert!(run("parse @message '* *' as a, b | stats count(*) by b", &records).notes.is_empty());
}

#[test]
fn only_ten_thousand_rows_are_shown_unless_more_are_asked_for() {
    let records: Vec<_> = (0..10_001).map(Record::at).collect();
    let table = run("fields @timestamp", &records);
    assert_eq!((table.rows.len(), table.is_cut, table.notes.len()), (10_000, true, 1));
    assert_eq!(table.rows[0], [Value::Timestamp(10_000)]);
    assert_eq!(table.rows[9_999], [Value::Timestamp(1)]);
    let table = run("fields @timestamp | limit 10001", &records);
    assert_eq!((table.rows.len(), table.is_cut, table.notes.len()), (10_001, false, 0));
    let table = run("stats count(*) by @timestamp", &records);
    assert_eq!((table.rows.len(), table.is_cut), (10_000, true));
    assert_eq!(run("fields @timestamp | limit 0", &records).rows.len(), 0);
}

#[test]
fn of_a_sort_with_a_limit_only_so_many_rows_are_held() {
    let records: Vec<_> = (0..50_000).map(|number| Record::at(number * 7919 % 50_021)).collect();
    let table = run_with("sort @timestamp | limit 3", &records, 1 << 20).unwrap();
    let times: Vec<_> = table.rows.iter().map(|row| row[0].clone()).collect();
    assert_eq!(times, [0, 1, 2].map(Value::Timestamp));
    let all = run_with("sort @timestamp | limit 50000", &records, 1 << 20);
    assert!(matches!(all, Err(QueryError::Memory { what: "rows", limit: 1_048_576, .. })), "{all:?}");
}

#[test]
fn groups_end_at_the_limit_of_memory() {
    let records: Vec<_> = (0..50_000).map(Record::at).collect();
    let error = run_with("stats count(*) by @timestamp", &records, 1 << 20).unwrap_err();
    assert!(matches!(error, QueryError::Memory { what: "groups", .. }));
    assert!(error.to_string().contains("--sql"), "{error}");
    let values = run_with("stats pct(@timestamp, 50), count_distinct(@timestamp)", &records, 1 << 18);
    assert!(values.is_err());
    assert!(run_with("stats count(*), sum(@timestamp)", &records, 1 << 10).is_ok());
}

#[test]
fn a_record_of_another_width_is_refused() {
    let query = Query::parse("stats sum(bytes)").unwrap();
    let mut execution = Execution::new(&query, Limits::default());
    assert_eq!(execution.push(&[]), Err(QueryError::Columns { expected: 1, given: 0 }));
}

#[test]
fn rows_that_are_dropped_or_grouped_allocate_nothing() {
    let line = "123456789010 ACCEPT use1-az1 5040 10.0.1.5 443";
    let mut values = [Value::text(line), Value::Timestamp(1_000)];
    for query in [
        "parse @message '* * * * *' as account, action, az, bytes, rest | filter action = 'REJECT' | stats \
         count(*) by rest, @timestamp",
        "parse @message '* * * * *' as account, action, az, bytes, rest | stats sum(bytes), avg(bytes), \
         min(bytes), count_distinct(az) by rest, bin(1h)",
        "parse @message /(?<bytes>\\d+) (?<to>\\S+) 443/ | filter to like 'x' and bytes in [1, 2] and \
         @timestamp > 1",
        "fields @timestamp | sort @timestamp desc, @message | limit 1",
    ] {
        let query = Query::parse(query).unwrap();
        if query.columns()[0] != "@message" {
            values.swap(0, 1);
        }
        let mut execution = Execution::new(&query, Limits::default());
        for _ in 0..2_000 {
            execution.push(&values).unwrap();
        }
        let allocations = allocation_counter::measure(|| {
            for _ in 0..1_000 {
                execution.push(&values).unwrap();
            }
        });
        assert_eq!(allocations.count_total, 0, "{query}");
    }
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in "\\PC{0,80}") {
        let _ = Query::parse(&text);
    }

    #[test]
    fn no_words_of_the_language_make_it_panic(words in prop::collection::vec(word(), 0..24)) {
        let text = words.join(" ");
        match Query::parse(&text) {
            // What is understood prints as a query that is understood the same.
            Ok(query) => {
                let printed = query.to_string();
                let again = Query::parse(&printed);
                let again = again.map_err(|error| TestCaseError::fail(format!("{text}\n{error}")))?;
                prop_assert_eq!(again.to_string(), printed);
                prop_assert_eq!(again.columns(), query.columns());
            }
            Err(error) => {
                prop_assert!(error.span().end <= text.len() + 1);
                prop_assert!(!error.to_string().is_empty());
            }
        }
    }
}

fn word() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "fields",
        "filter",
        "parse",
        "stats",
        "sort",
        "limit",
        "dedup",
        "display",
        "|",
        "|",
        ",",
        "(",
        ")",
        "[",
        "]",
        "and",
        "or",
        "not",
        "like",
        "in",
        "as",
        "by",
        "desc",
        "asc",
        "=",
        "!=",
        "<",
        "+",
        "-",
        "*",
        "/",
        "^",
        "%",
        "bytes",
        "srcAddr",
        "@message",
        "@timestamp",
        "`a-b`",
        "x",
        "1",
        "2.50",
        "'a'",
        "\"q\\\"\"",
        "/a\\/b/",
        "/(?<n>.)/",
        "'* *'",
        "5m",
        "count(*)",
        "sum(bytes)",
        "bin(1h)",
        "abs(",
        "# c\n",
        "pct(x, 95)",
        "as x",
    ])
}

#[test]
fn words_that_mean_something_come_through() {
    // What the property above covers only if its words make queries at all.
    for text in [
        "stats count(*) by bin(1h) as x | sort x desc",
        "filter bytes not in [1, 'a'] and not x like /a\\/b/",
    ] {
        let printed = Query::parse(text).unwrap().to_string();
        assert_eq!(Query::parse(&printed).unwrap().to_string(), printed);
    }
}

#[test]
fn errors_show_the_place() {
    let error = Query::parse("fields @timestamp\n| filter bytes >> 3").unwrap_err();
    let lines = [
        "line 2, column 17: expected a field, a value or a function, found `>`",
        "  | filter bytes >> 3",
        "                  ^",
    ];
    assert_eq!(error.to_string(), lines.join("\n"));
    assert_eq!(error.span(), 34..35);
    assert!(matches!(error.kind(), ParseErrorKind::Unexpected { .. }));
}
