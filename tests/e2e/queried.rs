//! `mirror query`: questions to flow logs of AWS, in the language of CloudWatch Logs Insights.

use std::{
    fs,
    io::Write as _,
    path::PathBuf,
    process::{Command, Output, Stdio},
};

const MIRROR: &str = env!("CARGO_BIN_EXE_mirror");
/// A file that AWS wrote, of the default format.
const PARQUET: &str =
    "111111111111_vpcflowlogs_eu-west-3_fl-032a163fae170ae52_20220831T1255Z_2ad4bef5.log.parquet";

fn flow_logs(name: &str) -> String {
    let directory = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/flow-logs"));
    directory.join(name).display().to_string()
}

/// With a query on standard input, if the arguments say so.
fn mirror(arguments: &[&str], query: &str) -> Output {
    let mut command = Command::new(MIRROR);
    command.arg("query").args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("mirror runs");
    child.stdin.take().expect("piped").write_all(query.as_bytes()).expect("written");
    child.wait_with_output().expect("mirror ends")
}

#[track_caller]
fn says(arguments: &[&str], query: &str, expected: &str) {
    let output = mirror(arguments, query);
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!((&*said, output.status.code()), (expected, Some(0)), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
}

#[track_caller]
fn refuses(arguments: &[&str], code: i32, expected: &str) {
    let output = mirror(arguments, "");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains(expected), "{said}");
    assert_eq!((output.status.code(), &output.stdout[..]), (Some(code), &b""[..]), "{output:?}");
}

#[test]
fn queries_of_the_workshop_answer_from_a_file_of_aws() {
    let answers = [
        (
            "2.txt",
            "srcaddr,dstaddr,flow_direction,Data_Transferred\n\
             78.197.123.35,172.31.17.39,-,9120\n172.31.17.39,78.197.123.35,-,5272\n",
        ),
        ("3.txt", "instance_id,Data_Transferred\n-,14516\n"),
        // Nobody tried port 22.
        ("4.txt", "srcaddr,SSH_Traffic_Volume\n"),
        ("5.txt", "srcaddr,redjects\n64.62.197.99,1\n167.94.138.130,1\n124.234.182.240,1\n"),
    ];
    let query = |name: &str| fs::read_to_string(flow_logs(&format!("queries/{name}"))).expect("a query");
    let file = flow_logs(PARQUET);
    let arguments = ["--message", "select-all-v5", "--output", "csv", "-", &file];
    for (name, expected) in answers {
        says(&arguments, &query(name), expected);
    }
    let output = mirror(&arguments, &query("1.txt"));
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(said.lines().count(), 8, "{said}");
    let first = "2022-08-31 12:58:55.000,111111111111,REJECT,-,40,172.31.17.39,20547,1661950746,-,-,\
        eni-03ef80ddb18bc0997,OK,1,-,-,-,-,6,-,64.62.197.99,58938,1661950735,-,-,-,-,-,-,2,-";
    assert_eq!(said.lines().nth(1), Some(first));
}

#[test]
fn a_pattern_that_matches_nothing_is_said_with_its_remedy() {
    let output = mirror(
        &["-", &flow_logs(PARQUET)],
        &fs::read_to_string(flow_logs("queries/2.txt")).expect("a query"),
    );
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("matched nothing in 7 records") && said.contains("--message select-all-v5"),
        "{said}"
    );
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn text_gzip_and_parquet_of_a_directory_are_read_together() {
    let directory = tempfile::tempdir().expect("directory");
    let text = fs::read(flow_logs("otel_vpc_v2.log")).expect("a flow log");
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&text).expect("compressed");
    let within = directory.path().join("hour=05");
    fs::create_dir(&within).expect("a directory");
    fs::write(within.join("a.log.gz"), gzip.finish().expect("compressed")).expect("written");
    fs::write(within.join("b.log"), &text).expect("written");
    fs::copy(flow_logs(PARQUET), within.join("c.log.parquet")).expect("copied");
    // One that is being written, and one of others.
    fs::write(within.join(".d.log"), "").expect("written");
    fs::write(within.join("e.txt"), "no flow log").expect("written");
    let directory = directory.path().display().to_string();
    let query =
        "stats count(*) as records, sum(bytes) as total by version, action | sort records desc, action";
    let expected = "\
version  action  records  total
-------  ------  -------  -----
2        ACCEPT        6  22890
2        REJECT        5   8622
";
    let output = mirror(&[query, &directory], "");
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(said.split_whitespace().collect::<Vec<_>>(), expected.split_whitespace().collect::<Vec<_>>());
    let streams = "fields @logStream, @timestamp, @message | sort @timestamp | limit 1";
    says(
        &["-o", "json", streams, &directory],
        "",
        "{\"queryLanguage\":\"CWLI\",\"results\":[[\
         {\"field\":\"@logStream\",\"value\":\"eni-1235b8ca123456789-all\"},\
         {\"field\":\"@timestamp\",\"value\":\"2014-12-14 04:06:50.000\"},\
         {\"field\":\"@message\",\"value\":\"2 123456789010 eni-1235b8ca123456789 172.31.16.139 172.31.16.21 \
         20641 22 6 20 4249 1418530010 1418530070 ACCEPT OK\"}]],\
         \"statistics\":{\"recordsMatched\":11,\"recordsScanned\":11},\"status\":\"Complete\"}\n",
    );
}

#[test]
fn a_query_is_printed_as_sql_with_the_columns_of_aws() {
    let query = fs::read_to_string(flow_logs("queries/3.txt")).expect("a query");
    let output = mirror(&["--sql", "duckdb", "--table", "logs", "-"], &query);
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(said.contains("\"instance_id\"") && said.contains("logs") && said.contains("LIMIT 5"), "{said}");
}

#[test]
fn what_is_wrong_with_a_query_or_a_file_is_said_with_its_place() {
    let file = flow_logs(PARQUET);
    refuses(&["fields foo bar", &file], 2, "line 1, column 12");
    refuses(
        &["stats count(*) | anomaly", &file],
        2,
        "CloudWatch knows the command `anomaly`, this tool does not",
    );
    refuses(&["stats count(*)"], 2, "FILES");
    refuses(&["stats count(*)", "nowhere.log"], 1, "nowhere.log");
    refuses(&["stats count(*)", &flow_logs("README.md")], 1, "neither a header line nor a record");
    let directory = tempfile::tempdir().expect("directory");
    refuses(&["stats count(*)", &directory.path().display().to_string()], 2, "there is no flow log in it");
    let cut = directory.path().join("cut.parquet");
    fs::write(&cut, &fs::read(&file).expect("a flow log")[..3000]).expect("written");
    refuses(&["stats count(*)", &cut.display().to_string()], 1, "cut.parquet: cannot read Parquet");
    let lines = directory.path().join("lines.log");
    fs::write(&lines, "srcaddr bytes\n10.0.0.1 5\n10.0.0.1\n").expect("written");
    let output = mirror(&["stats sum(bytes)", &lines.display().to_string()], "");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("lines that are no records are left out: 1, the first of them line 3"), "{said}");
}
