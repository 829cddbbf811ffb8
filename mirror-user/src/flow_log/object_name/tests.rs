use std::collections::BTreeSet;

use super::*;

/// 2022-08-31 12:55 UTC.
const START: i64 = 1_661_950_500;

fn contents(start: i64, sequence: u32) -> Contents<'static> {
    Contents { account: Some("111111111111"), region: Some("eu-west-3"), start, sequence }
}

fn names(layout: Layout, hourly: bool, file_type: FileType) -> ObjectNames {
    ObjectNames::new(layout, hourly, file_type, "host", "run")
}

#[test]
fn folders_are_those_of_aws() {
    let folder = |layout, hourly| names(layout, hourly, FileType::Text).folder(&contents(START, 0)).unwrap();
    assert_eq!(folder(Layout::Plain, false), "AWSLogs/111111111111/vpcflowlogs/eu-west-3/2022/08/31/");
    assert_eq!(folder(Layout::Plain, true), "AWSLogs/111111111111/vpcflowlogs/eu-west-3/2022/08/31/12/");
    let hive = "AWSLogs/aws-account-id=111111111111/aws-service=vpcflowlogs/aws-region=eu-west-3/\
        year=2022/month=08/day=31/";
    assert_eq!(folder(Layout::Hive, false), hive);
    assert_eq!(folder(Layout::Hive, true), format!("{hive}hour=12/"));
}

/// As `111111111111_vpcflowlogs_eu-west-3_fl-032a163fae170ae52_20220831T1255Z_2ad4bef5.log.parquet`.
#[test]
fn a_file_has_a_name_as_those_of_aws() {
    let name = names(Layout::Hive, true, FileType::Parquet).file(&contents(START, 0)).unwrap();
    let parts: Vec<_> = name.split('_').collect();
    let [account, service, region, flow_log, time, end] = parts[..] else { panic!("{name}") };
    assert_eq!([account, service, region], ["111111111111", "vpcflowlogs", "eu-west-3"]);
    assert_eq!((time, flow_log.len()), ("20220831T1255Z", "fl-032a163fae170ae52".len()));
    let hash = end.strip_suffix(".log.parquet").unwrap();
    assert!(hash.len() == 8 && u32::from_str_radix(hash, 16).is_ok(), "{hash}");
    let text = names(Layout::Plain, false, FileType::Text).file(&contents(START, 0)).unwrap();
    assert!(text.ends_with(".log.gz"));
}

#[test]
fn files_of_hosts_runs_windows_and_sequences_have_different_names() {
    let mut all = BTreeSet::new();
    for host in ["a", "b", "ab"] {
        for run in ["1", "2", "12"] {
            let names = ObjectNames::new(Layout::Plain, false, FileType::Text, host, run);
            for window in 0..5 {
                let of = |sequence| names.file(&contents(START + 60 * window, sequence)).unwrap();
                all.extend((0..1000).map(of));
            }
        }
    }
    assert_eq!(all.len(), 3 * 3 * 5 * 1000);
}

#[test]
fn what_could_leave_the_folder_is_no_name() {
    let names = names(Layout::Plain, false, FileType::Text);
    let unknown = Contents { account: None, region: None, ..contents(START, 0) };
    assert_eq!(names.folder(&unknown).unwrap(), "AWSLogs/unknown/vpcflowlogs/unknown/2022/08/31/");
    for account in ["", "../..", "1/2", "a=b", "é", "a_b"] {
        let contents = Contents { account: Some(account), ..contents(START, 0) };
        assert!(names.folder(&contents).is_err() && names.file(&contents).is_err(), "{account}");
    }
    let error = names.folder(&contents(i64::MAX, 0)).unwrap_err().to_string();
    assert_eq!(error, "no date is 9223372036854775807 seconds after 1970");
}
