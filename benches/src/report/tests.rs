//! Reports: built, written, read again, compared.

use std::{collections::BTreeMap, fs, path::Path};

use super::{
    compare::{self, Verdict},
    schema::*,
    table, write,
};

fn spread(median: f64) -> Spread {
    // Without the digits that a reader of JSON may round.
    let short = |value: f64| (value * 1e3).round() / 1e3;
    Spread { median: short(median), q1: short(median * 0.97), q3: short(median * 1.02) }
}

fn rung(name: &str, frame_bytes: usize, vnis: u32, mpps: f64) -> Rung {
    Rung {
        rung: name.into(),
        frame_bytes,
        flows: 64,
        vnis,
        queues: 1,
        rx_ring: 4096,
        wait: "spin".into(),
        rounds: 15,
        mpps: spread(mpps),
        gbps: 3.75,
        offered: 150_000_000,
        lost: 1_234_567,
        lost_by: BTreeMap::from([("rx_ring_full".into(), 1_234_567), ("tx".into(), 0)]),
        ratio_to_touch: spread(mpps / 4.2),
        ratio_to_null: spread(mpps / 4.1),
        busy_ns_per_frame: 61.5,
        busy_ns_over_touch: spread(12.3),
        busy_ratio: 0.51,
        kernel_share: 0.98,
    }
}

fn latency(wait: &str, load: f64, base_ns: u64) -> Latency {
    let curve = [0.0, 50.0, 75.0, 90.0, 99.0, 99.9, 99.99, 99.999, 100.0];
    let curve = curve.into_iter().zip(0_u32..).map(|(p, step)| (p, base_ns * 3_u64.pow(step) / 2)).collect();
    Latency {
        wait: wait.into(),
        load,
        mpps: 2.5 * load,
        frames: 1_000_000,
        p50_ns: base_ns,
        p99_ns: base_ns * 40,
        p999_ns: base_ns * 120,
        max_ns: base_ns * 3281,
        curve,
        ..Latency::default()
    }
}

fn peer(name: &str, frame_bytes: usize, no_drop_mpps: f64, writes: bool) -> Peer {
    Peer {
        name: name.into(),
        version: "4.99.3".into(),
        settings: format!("{name} -i rx0 | wc"),
        frame_bytes,
        writes,
        offered: 10_000_000,
        received: 4_000_000,
        reported_lost: (!name.starts_with("netsniff")).then_some(6_000_000),
        received_mpps: 1.1,
        no_drop_mpps,
        cpu_s_per_mframe: 0.4,
    }
}

fn report() -> Report {
    let host = Host {
        cpu: "AMD EPYC 9R14".into(),
        cpus: 2,
        kernel: "6.18.5 x86_64".into(),
        os: "Debian GNU/Linux 12 (bookworm)".into(),
        driver: "veth".into(),
        mode: "native".into(),
        commit: "0123456789ab-dirty".into(),
        rustc: "rustc 1.95.0".into(),
    };
    let ladder = [
        ("xdp_drop", 6.1),
        ("bare", 4.9),
        ("touch", 4.2),
        ("program", 4.15),
        ("null", 4.1),
        ("counters", 4.05),
        ("pcap", 3.6),
    ];
    let rungs = [1, 1000].into_iter().flat_map(|vnis| {
        ladder.into_iter().flat_map(move |(name, mpps)| {
            [(114, 1.0), (512, 0.9), (1450, 0.7)].map(|(size, part)| rung(name, size, vnis, mpps * part))
        })
    });
    let latencies = [0.1, 0.5, 0.9].into_iter().flat_map(|load| {
        [("spin", 1_500), ("poll", 6_000), ("busy-poll", 3_000)].map(|(wait, ns)| latency(wait, load, ns))
    });
    let peers = [114, 1450].into_iter().flat_map(|size| {
        [
            peer("mirror", size, 3.4, false),
            peer("mirror-pcap", size, 2.9, true),
            peer("tcpdump-vxlan-pcap", size, 0.31, true),
            peer("dumpcap-pcap", size, 0.44, true),
            peer("netsniff-ng", size, 0.0, true),
            peer("suricata-af-packet", size, 0.52, false),
        ]
    });
    let goal = |what: &str, relation: &str, bound, measured, reached| Goal {
        what: what.into(),
        relation: relation.into(),
        bound,
        measured: spread(measured),
        reached,
    };
    Report {
        duration_s: 173.2,
        settings: BTreeMap::from([("rounds".into(), "15".into())]),
        rungs: rungs.collect(),
        sweep: vec![SweepPoint {
            rung: "touch".into(),
            rx_ring: 2048,
            umem_frames: 8192,
            ..SweepPoint::default()
        }],
        no_drop: vec![NoDrop {
            receiver: "pcap".into(),
            mpps: 2.9,
            generator_bound: true,
            ..NoDrop::default()
        }],
        soak: vec![Soak { receiver: "pcap".into(), load: 0.8, seconds: 60.0, lost: 3, ..Soak::default() }],
        neighbour: vec![Neighbour {
            receiver: "pcap".into(),
            priority: "default".into(),
            ..Neighbour::default()
        }],
        gaps: vec![Gaps {
            receiver: "counters".into(),
            lost: 1000,
            lost_by_cause: BTreeMap::from([("the host".into(), 980)]),
            ..Gaps::default()
        }],
        captures: vec![Capture { place: "disk".into(), files: "one file".into(), ..Capture::default() }],
        latency: latencies.collect(),
        peers: peers.collect(),
        micro: vec![Micro {
            name: "decap/ipv4/114".into(),
            unit: "instructions".into(),
            per_frame: Spread { median: 64.0, q1: 64.0, q3: 64.0 },
        }],
        goals: vec![
            goal("`counters` ÷ `touch`, 114 bytes", ">=", 0.95, 0.964, true),
            goal("`pcap` ÷ `touch`, 114 bytes", ">=", 0.85, 0.81, false),
        ],
        not_measured: vec!["instruction counts: valgrind is not installed".into()],
        ..Report::begin(true, host)
    }
}

fn written(report: &Report, directory: &Path) -> String {
    write(report, None, directory).unwrap();
    fs::read_to_string(directory.join("report.md")).unwrap()
}

#[test]
fn a_report_reads_back_as_it_was_written() {
    let directory = tempfile::tempdir().unwrap();
    write(&report(), None, directory.path()).unwrap();
    let read = compare::load(&directory.path().join("report.json")).unwrap();
    assert_eq!(read, report_begun_at(&read.started));
}

/// Two reports made a second apart differ in that.
fn report_begun_at(started: &str) -> Report {
    Report { started: started.into(), ..report() }
}

#[test]
fn the_keys_of_the_schema_are_the_ones_that_others_read() {
    let json = serde_json::to_value(report()).unwrap();
    assert_eq!(json["schema"], "mirror.bench/1");
    let has = |value: &serde_json::Value, keys: &[&str]| {
        for key in keys {
            assert!(value.get(key).is_some(), "{key} is not in {value}");
        }
    };
    has(&json, &["host", "rungs", "peers", "latency", "micro"]);
    has(&json["host"], &["cpu", "kernel", "driver", "mode", "commit"]);
    let rung = &json["rungs"][0];
    has(rung, &["rung", "frame_bytes", "flows", "vnis", "queues", "mpps", "gbps", "lost"]);
    has(rung, &["ratio_to_touch", "busy_ns_per_frame"]);
    has(&rung["mpps"], &["median", "q1", "q3"]);
    has(&json["peers"][0], &["name", "settings", "offered", "received", "no_drop_mpps", "cpu_s_per_mframe"]);
}

#[test]
fn a_report_without_the_newer_fields_still_reads() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("old.json");
    let old = serde_json::json!({
        "schema": "mirror.bench/1", "started": "2026-01-02T03:04:05Z", "duration_s": 1.0, "quick": false,
        "host": serde_json::to_value(report().host).unwrap(), "settings": {},
        "rungs": [{"rung": "touch", "frame_bytes": 114, "flows": 64, "vnis": 1, "queues": 1,
            "mpps": {"median": 4.0, "q1": 3.9, "q3": 4.1}, "gbps": 3.6, "lost": 0,
            "ratio_to_touch": {"median": 1.0, "q1": 1.0, "q3": 1.0}, "busy_ns_per_frame": 50.0}],
        "peers": [{"name": "tcpdump-vxlan", "settings": "", "offered": 2, "received": 1, "no_drop_mpps": 0.3,
            "cpu_s_per_mframe": 1.0}],
        "latency": [], "micro": [], "a_field_of_the_future": 1,
    });
    fs::write(&path, old.to_string()).unwrap();
    assert_eq!(compare::load(&path).unwrap().rungs[0].rung, "touch");
}

#[test]
fn a_file_that_cannot_be_compared_is_refused_with_the_reason() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("old.json");
    let error = || format!("{:#}", compare::load(&path).unwrap_err());
    assert!(error().contains("old.json: cannot be read: No such file"), "{}", error());
    let cases = [
        ("{", "not a report.json of these benchmarks"),
        ("{\"schema\": \"mirror.report/1\"}", "is mirror.report/1; only mirror.bench/1 can be compared"),
        ("{\"schema\": \"mirror.bench/1\"}", "is a damaged mirror.bench/1: missing field"),
    ];
    for (text, reason) in cases {
        fs::write(&path, text).unwrap();
        assert!(error().contains(reason), "{}", error());
    }
}

#[test]
fn terminal_and_markdown_list_missed_goals_and_missing_measurements() {
    let directory = tempfile::tempdir().unwrap();
    let mut report = report();
    report.parts = vec![
        PartRun { part: "lab".into(), incomplete: None },
        PartRun {
            part: "peers".into(),
            incomplete: Some("exit status: 1\nno lab\n\nStack backtrace:".into()),
        },
    ];
    for text in [table::render(&report, None), written(&report, directory.path())] {
        assert!(text.contains("NOT REACHED") && text.contains("reached"), "{text}");
        assert!(text.contains("valgrind is not installed"), "{text}");
        assert!(text.contains("peers: INCOMPLETE: exit status: 1 no lab\n"), "{text}");
        assert!(text.contains("quick run"), "{text}");
        assert!(text.contains("≥ 2.900"), "{text}");
    }
}

#[test]
fn plots_have_units_a_legend_and_the_host() {
    let directory = tempfile::tempdir().unwrap();
    let markdown = written(&report(), directory.path());
    let wanted: [(&str, &[&str]); 3] = [
        ("throughput.svg", &["million frames a second", "1450 bytes", "counters", "1,000 VNIs"]),
        ("latency.svg", &["99.9%", "busy-poll", "µs", "at 50 % of the no-drop rate"]),
        ("peers.svg", &["million frames a second", "tcpdump-vxlan-pcap", "lost some at every rate"]),
    ];
    for (file, texts) in wanted {
        let svg = fs::read_to_string(directory.path().join(file)).unwrap();
        assert!(svg.starts_with("<svg") && svg.contains("AMD EPYC 9R14") && svg.contains("quick run"));
        for text in texts {
            assert!(svg.contains(text), "{file} lacks {text}");
        }
        assert!(markdown.contains(&format!("({file})")), "{file} is not shown");
    }
}

#[test]
fn a_run_of_one_part_removes_the_plots_of_others() {
    let directory = tempfile::tempdir().unwrap();
    written(&report(), directory.path());
    let peers = Report { rungs: Vec::new(), latency: Vec::new(), ..report() };
    let markdown = written(&peers, directory.path());
    let mut files: Vec<_> =
        fs::read_dir(directory.path()).unwrap().map(|file| file.unwrap().file_name()).collect();
    files.sort();
    assert_eq!(files, ["peers.svg", "report.json", "report.md"]);
    assert!(!markdown.contains("## Ladder") && !markdown.contains("latency.svg"), "{markdown}");
}

#[test]
fn a_change_is_beyond_the_noise_where_the_quartile_ranges_do_not_overlap() {
    let old = report();
    let mut new = report();
    // A range of 97 % to 102 % around each.
    new.rungs[0].mpps = spread(old.rungs[0].mpps.median * 1.03);
    new.rungs[1].mpps = spread(old.rungs[1].mpps.median * 1.10);
    new.rungs[2].mpps = spread(old.rungs[2].mpps.median * 0.90);
    new.micro[0].per_frame = Spread { median: 60.0, q1: 60.0, q3: 60.0 };
    let comparison = compare::compare(&old, &new);
    let verdict = |what: &str| {
        comparison.changes.iter().find(|change| change.what == what).map(|change| change.verdict)
    };
    let rung = |bytes: u32| {
        format!("xdp_drop (spin), RX ring of 4096, {bytes} bytes, 64 flows, 1 VNI, 1 queue: Mpps")
    };
    assert_eq!(verdict(&rung(114)), Some(Verdict::WithinNoise));
    assert_eq!(verdict(&rung(512)), Some(Verdict::Better));
    assert_eq!(verdict(&rung(1450)), Some(Verdict::Worse));
    assert_eq!(verdict("decap/ipv4/114: instructions"), Some(Verdict::Better));
    assert_eq!(verdict("dumpcap-pcap, 114 bytes: no-drop Mpps"), Some(Verdict::Unknown));
    assert!(comparison.warnings.is_empty() && comparison.unmatched.is_empty());

    let text = table::render(&new, Some(&comparison));
    assert!(
        text.contains("+10.0 %") && text.contains("-10.0 %") && text.contains("2 better, 1 worse"),
        "{text}"
    );
}

#[test]
fn figures_of_one_report_only_and_differences_of_the_hosts_are_listed() {
    let mut old = report();
    let mut new = report();
    old.host.kernel = "6.1.0 x86_64".into();
    old.quick = false;
    old.settings.insert("rounds".into(), "5".into());
    old.rungs.remove(0);
    new.peers.clear();
    new.micro[0].name = "decap/ipv6/114".into();
    let comparison = compare::compare(&old, &new);
    assert_eq!(
        comparison.warnings,
        [
            "kernel: 6.1.0 x86_64 before, 6.18.5 x86_64 now",
            "kind of run: full before, quick now",
            "rounds: 5 before, 15 now"
        ]
    );
    assert!(comparison.unmatched.contains(&"peers: only in the old report".to_owned()));
    assert!(
        comparison.unmatched.contains(&"decap/ipv6/114: instructions: only in the new report".to_owned())
    );
    assert!(
        comparison.unmatched.contains(&"decap/ipv4/114: instructions: only in the old report".to_owned())
    );
    assert!(
        comparison
            .unmatched
            .iter()
            .any(|line| line.starts_with("xdp_drop (spin), RX ring of 4096, 114")
                && line.contains("new report"))
    );
}
