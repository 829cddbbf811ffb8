//! Queries as people write them, and what they come to.

use super::{
    super::Query,
    WORKSHOP,
    records::{Record, run},
};

/// Two sources, three destinations, two hours.
fn records() -> Vec<Record> {
    let record = Record::full;
    vec![
        record(1_795_842_000, "ACCEPT", "10.0.0.1", "10.0.1.9", "443", "5000", "i-0aa"),
        record(1_795_842_060, "REJECT", "198.51.100.7", "10.0.1.9", "22", "40", "i-0aa"),
        record(1_795_842_120, "REJECT", "198.51.100.7", "10.0.1.9", "22", "60", "i-0aa"),
        record(1_795_842_180, "ACCEPT", "10.0.0.1", "192.0.2.5", "80", "700", "i-0bb"),
        record(1_795_845_600, "REJECT", "203.0.113.9", "10.0.1.9", "22", "40", "i-0aa"),
        record(1_795_845_660, "ACCEPT", "10.0.0.1", "10.0.1.9", "443", "-", "-"),
    ]
}

/// Query, and the result as CSV.
const CORPUS: [(&str, &str); 47] = [
    (
        WORKSHOP[1],
        "srcaddr,dstaddr,flow_direction,Data_Transferred\n10.0.0.1,10.0.1.9,ingress,5000\n10.0.0.1,\
         192.0.2.5,ingress,700\n",
    ),
    // Of equal sums, and without one, `-` sorts before numbers, so last.
    (WORKSHOP[2], "instance_id,Data_Transferred\ni-0aa,5140\ni-0bb,700\n-,\n"),
    (WORKSHOP[3], "srcaddr,SSH_Traffic_Volume\n198.51.100.7,100\n203.0.113.9,40\n"),
    (WORKSHOP[4], "srcaddr,redjects\n198.51.100.7,2\n203.0.113.9,1\n"),
    // AWS's samples.
    ("filter isIpv4InSubnet(srcAddr, \"198.51.100.0/24\") | stats count(*)", "count(*)\n2\n"),
    ("filter not isIpv4InSubnet(dstAddr, '10.0.0.0/8') | fields dstAddr", "dstAddr\n192.0.2.5\n"),
    (
        "stats count(*) by bin(1h) as t | sort t",
        "t,count(*)\n2026-11-28 05:00:00.000,4\n2026-11-28 06:00:00.000,2\n",
    ),
    ("filter dstPort=\"80\" or dstPort=\"443\" | stats count(*) as n", "n\n3\n"),
    (
        "stats count() by bin (1min) | sort bin(1min) desc | limit 1",
        "bin (1min),count()\n2026-11-28 06:01:00.000,1\n",
    ),
    (
        "stats sum(bytes)/1000 as KB by srcAddr as a, dstAddr as b | sort KB desc | limit 1",
        "a,b,KB\n10.0.0.1,10.0.1.9,5\n",
    ),
    ("stats max(bytes) as p, min(bytes) as q, p - q as r", "p,q,r\n5000,40,4960\n"),
    (
        "stats pct(bytes, 95), pct(bytes, 50), median(bytes)",
        "\"pct(bytes, 95)\",\"pct(bytes, 50)\",median(bytes)\n5000,60,60\n",
    ),
    ("filter ispresent(bytes) and bytes != \"-\" | stats avg(bytes) as mean", "mean\n1168\n"),
    ("filter @message like /REJECT.*198/ | stats count(*) as n", "n\n2\n"),
    ("filter action like \"REJ\" | stats count(*) as n", "n\n3\n"),
    ("filter action not like /(?i)rej/ | stats count(*) as n", "n\n3\n"),
    ("filter srcAddr =~ /^10/ | stats count(*) as n", "n\n3\n"),
    ("filter dstPort in [80, \"443\"] | stats count(*) as n", "n\n3\n"),
    ("filter dstPort not in [80, 443] | stats count(*) as n", "n\n3\n"),
    (
        "# all\nSTATS COUNT(*) AS n BY action # by what\n| FILTER n > 0\n# done\n| SORT action ASC",
        "action,n\nACCEPT,3\nREJECT,3\n",
    ),
    ("stats count_distinct(srcAddr) as sources", "sources\n3\n"),
    (
        "stats sum(packets) as packetsTransferred by srcAddr, dstAddr | sort packetsTransferred desc | \
         limit 1",
        "srcAddr,dstAddr,packetsTransferred\n10.0.0.1,10.0.1.9,6\n",
    ),
    ("filter logStatus=\"SKIPDATA\" | stats count(*) by bin(1h) as t | sort t", "t,count(*)\n"),
    // Pipes and hashes in strings and regular expressions do not end anything.
    ("filter action like /ACC|nothing/ and \"a|b\" = 'a|b' and '#' != '|' | stats count(*) as n", "n\n3\n"),
    ("| fields srcAddr\n\n| sort srcAddr, dstPort desc\t\n| limit 2 ", "srcAddr\n10.0.0.1\n10.0.0.1\n"),
    // Descending: numbers first, then what is no number. Equal rows in the order of records.
    (
        "fields bytes, start | sort bytes desc | limit 3",
        "bytes,start\n5000,1795842000\n700,1795842180\n60,1795842120\n",
    ),
    (
        "fields bytes, start | sort bytes | limit 3",
        "bytes,start\n-,1795845660\n40,1795842060\n40,1795845600\n",
    ),
    // Without a sort the latest.
    ("fields @timestamp | limit 1", "@timestamp\n2026-11-28 06:01:00.000\n"),
    ("limit 2 | stats count(*) by action | sort action", "action,count(*)\nACCEPT,1\nREJECT,1\n"),
    (
        "dedup srcAddr | limit 2",
        "@timestamp,@message\n2026-11-28 06:01:00.000,123456789010 ACCEPT use1-az1 - 10.0.1.9 443 \
         1795845719 ingress - eni-0b OK 3 - 10.0.1.9 - 10.0.0.1 6 us-east-1 10.0.0.1 50123 1795845660 - - \
         subnet-0c 2 - IPv4 5 vpc-0d\n2026-11-28 06:00:00.000,123456789010 REJECT use1-az1 40 10.0.1.9 22 \
         1795845659 ingress i-0aa eni-0b OK 3 - 10.0.1.9 - 203.0.113.9 6 us-east-1 203.0.113.9 50123 \
         1795845600 - - subnet-0c 2 - IPv4 5 vpc-0d\n",
    ),
    (
        "fields srcAddr, start | sort start | dedup srcAddr",
        "srcAddr,start\n10.0.0.1,1795842000\n198.51.100.7,1795842060\n203.0.113.9,1795845600\n",
    ),
    // Nobody has the field: no duplicates.
    ("fields start | sort start desc | dedup nothing | limit 2", "start\n1795845660\n1795845600\n"),
    (
        "fields bytes * 8 as bits, bits / 3 as third | filter bits > 4000 | sort bits",
        "bits,third\n5600,1866.6667\n40000,13333.3333\n",
    ),
    ("display start | display srcAddr, 2 ^ 3 % 5 + 1 | limit 1", "srcAddr,2 ^ 3 % 5 + 1\n10.0.0.1,4\n"),
    (
        "parse \"* * * *\" as @a, @b, @c, rest | display @b, strlen(@c) as length | sort @b | limit 1",
        "@b,length\nACCEPT,8\n",
    ),
    (
        "parse @message \"use1-* * \" as az, size | fields size | filter az = 'az1' | sort size desc | \
         limit 1",
        "az,size\naz1,5000\n",
    ),
    (
        "parse @message /(?<from>\\d+\\.\\d+)\\.\\d+\\.\\d+ 50123/ | stats count(*) as n by from | sort n \
         desc, from",
        "from,n\n10.0,3\n198.51,2\n203.0,1\n",
    ),
    (
        "parse @message /(ACCEPT|REJECT)\\s(\\S+)/ as what, zone | stats count(*) as n by zone",
        "zone,n\nuse1-az1,6\n",
    ),
    (
        "stats count(*) as n by srcAddr, bin(1h) as t | stats max(n) as most, count(*) as hours by \
         srcAddr | sort srcAddr",
        "srcAddr,most,hours\n10.0.0.1,2,2\n198.51.100.7,2,1\n203.0.113.9,1,1\n",
    ),
    (
        "stats earliest(dstPort) as e, latest(srcPort) as l, sortsFirst(dstAddr) as f, sortsLast(dstAddr) \
         as z",
        "e,l,f,z\n443,50123,10.0.1.9,192.0.2.5\n",
    ),
    ("stats stddev(bytes) as s by action | filter action = 'REJECT' | display s", "s\n9.4281\n"),
    (
        "stats count(bytes), count(nothing), sum(nothing) by version",
        "version,count(bytes),count(nothing),sum(nothing)\n5,6,0,\n",
    ),
    // Missing values compare to nothing.
    ("filter nothing = 1 or nothing != 1 or not nothing = 1 | stats count(*)", "count(*)\n"),
    (
        "fields coalesce(nothing, action) as a, concat(a, '-', dstPort) as b, substr(b, 2, 3) as c | sort \
         b | limit 1",
        "a,b,c\nACCEPT,ACCEPT-80,CEP\n",
    ),
    (
        "fields datefloor(@timestamp, 1d) as d, dateceil(@timestamp, 1h) as u, tomillis(d) as m, \
         fromMillis(start * 1000) as s | limit 1",
        "d,u,m,s\n2026-11-28 00:00:00.000,2026-11-28 07:00:00.000,1795824000000,2026-11-28 06:01:00.000\n",
    ),
    ("filter toMillis(@timestamp) < now() * 1000 + 1e | limit 0", ""),
    ("stats sum(bytes) | filter `sum(bytes)` > 1 | sort sum(bytes)", "sum(bytes)\n5840\n"),
];

#[test]
fn queries_come_to_what_they_say() {
    for (query, expected) in CORPUS {
        if expected.is_empty() {
            assert!(Query::parse(query).is_err(), "{query}");
        } else {
            assert_eq!(run(query, &records()).to_csv(), expected, "{query}");
        }
    }
}

#[test]
fn the_first_query_of_the_workshop_shows_the_fields_of_the_latest_records() {
    let table = run(WORKSHOP[0], &records());
    assert_eq!(table.columns.len(), 30);
    assert_eq!((table.columns[0].as_str(), table.columns[29].as_str()), ("@timestamp", "vpc_id"));
    assert_eq!(table.rows.len(), 6);
    let first: Vec<_> = table.rows[0].iter().map(ToString::to_string).collect();
    assert_eq!(
        first[..6],
        ["2026-11-28 06:01:00.000", "123456789010", "ACCEPT", "use1-az1", "-", "10.0.1.9"]
    );
    assert_eq!(first[29], "vpc-0d");
}

#[test]
fn every_query_prints_as_one_that_means_the_same() {
    for (query, expected) in CORPUS.into_iter().filter(|(_, expected)| !expected.is_empty()) {
        let printed = Query::parse(query).unwrap().to_string();
        let again = run(&printed, &records());
        let rows = |csv: &str| csv.split_once('\n').map(|(_, rows)| rows.to_owned());
        assert_eq!(rows(&again.to_csv()), rows(expected), "{query}\n{printed}");
        assert_eq!(Query::parse(&printed).unwrap().to_string(), printed, "{query}");
    }
}
