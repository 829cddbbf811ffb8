//! What is below `deploy/` for Prometheus and Grafana agrees with the metrics of runs: each name exists, each
//! expression of the dashboard has a value, and each metric is shown. Needs root.

mod common;
#[path = "../../xtask/src/deploy/dashboard.rs"]
mod dashboard;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::Command,
    thread,
    time::Duration,
};

use common::{
    Cable,
    http::{Client, LOOPBACK},
    mirror::{Mirror, burst, burst_of, let_run, until},
};
use dashboard::{Expression, expressions};
use mirror_lab::Traffic;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

const DASHBOARD: &str = include_str!("../../deploy/grafana/mirror.json");
const RULES: &str = include_str!("../../deploy/prometheus/mirror.rules.yml");
const TESTS: &str = include_str!("../../deploy/prometheus/mirror.rules.test.yml");

/// Metrics that no run in a lab has, and why.
const NOT_IN_A_LAB: [(&str, &str); 1] =
    [("mirror_nic_allowance_exceeded_total", "only the driver of EC2's network cards has these counters")];
/// Metrics that the dashboard does not show, and why.
const NOT_SHOWN: [(&str, &str); 0] = [];
/// Labels whose values are all there from the start, as 0.
const CLOSED: [&str; 3] = ["verdict", "cause", "check"];

/// Samples of each series of a run, one a scrape.
type Samples = BTreeMap<String, Vec<Option<String>>>;

/// The scrapes of two runs, by instance.
struct Scrapes {
    runs: Vec<(&'static str, Samples)>,
    count: usize,
}

impl Scrapes {
    /// Of a run whose frames the kernel forwards, and of one with a capture and a group of targets, until
    /// after its end.
    fn take() -> Self {
        let cable = Cable::with_queues(2);
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path();
        let http = format!("--http {LOOPBACK}");
        let kernel = format!("{http} --forward veth:ids0 --forward-path kernel");
        let run = Mirror::ingest(&cable, path, &kernel);
        let first = scrapes(&cable, 3);
        run.end_by(Signal::SIGINT).expect_code(0);
        // The run waits for it, and answers with its last report meanwhile.
        let slow = path.join("slow");
        fs::write(&slow, "#!/bin/sh\nsleep 4\n").expect("written");
        fs::set_permissions(&slow, fs::Permissions::from_mode(0o755)).expect("executable");
        let group = "--forward tap:ids1 --forward tap:ids2 --forward-balance flow";
        let capture = format!("-B 1m -w out.pcapng -z {}", slow.display());
        let run = Mirror::ingest(&cable, path, &format!("{http} {capture} {group}"));
        // More than the buffer holds: series of losses begin with the first one.
        let writer = run.stop_thread("mirror-pcap");
        burst(&cable, 40_000);
        let_run(writer);
        let mut second = scrapes(&cable, 3);
        run.signal(Signal::SIGINT);
        let client = Client::on_loopback(&cable);
        let last = until("the residue is exported", || {
            let (_, text) = client.get("/metrics");
            text.contains("\nmirror_accounting_residue_frames ").then_some(text)
        });
        run.end().expect_code(0).expect_words(&["residue 0"]);
        second.push(last);
        let runs = vec![("kernel:9464", samples(&first)), ("user:9464", samples(&second))];
        Self { runs, count: second.len() }
    }

    /// Labels of each series, by metric.
    fn metrics(&self) -> BTreeMap<&str, Vec<BTreeMap<&str, &str>>> {
        let mut metrics: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for series in self.runs.iter().flat_map(|(_, samples)| samples.keys()) {
            let (metric, labels) = parsed(series);
            metrics.entry(metric).or_default().push(labels);
        }
        metrics
    }

    /// As the input of a unit test of Prometheus, as if it had scraped every 15 s.
    fn input_series(&self) -> Vec<Value> {
        let of_run = |(instance, samples): &(&str, Samples)| {
            let of = format!("job=\"mirror\",instance=\"{instance}\"");
            let one = |(series, samples): (&String, &Vec<Option<String>>)| {
                let series = match series.split_once('{') {
                    Some((metric, labels)) => format!("{metric}{{{of},{labels}"),
                    None => format!("{series}{{{of}}}"),
                };
                let values: Vec<_> = samples.iter().map(|sample| sample.as_deref().unwrap_or("_")).collect();
                json!({ "series": series, "values": values.join(" ") })
            };
            samples.iter().map(one).collect::<Vec<_>>()
        };
        self.runs.iter().flat_map(of_run).collect()
    }
}

/// So many scrapes of a run, with packets before each.
fn scrapes(cable: &Cable, count: usize) -> Vec<String> {
    let client = Client::on_loopback(cable);
    client.is_well();
    let one = |_| {
        burst_of(cable, Traffic { vnis: 3, cpus: vec![0, 1], ..Traffic::default() }, 2_000);
        // Reports are up to 2 s old.
        thread::sleep(Duration::from_secs(2));
        let (status, text) = client.get("/metrics");
        assert_eq!(status, 200, "{text}");
        text
    };
    (0..count).map(one).collect()
}

fn samples(scrapes: &[String]) -> Samples {
    let mut samples = Samples::new();
    for (at, text) in scrapes.iter().enumerate() {
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (series, value) = line.rsplit_once(' ').expect("a number");
            let row = samples.entry(series.to_owned()).or_insert_with(|| vec![None; scrapes.len()]);
            row[at] = Some(value.to_owned());
        }
    }
    samples
}

/// The metric and the labels of a series; no value has a comma here.
fn parsed(series: &str) -> (&str, BTreeMap<&str, &str>) {
    let (metric, labels) = series.split_once('{').unwrap_or((series, "}"));
    let labels = labels.trim_end_matches('}').split(',').filter_map(|label| label.trim().split_once('='));
    (metric, labels.map(|(name, value)| (name, value.trim_matches('"'))).collect())
}

/// Names of our metrics in a text; recorded ones, with a level before them, are no such.
fn names(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':');
    words.filter(|word| word.starts_with("mirror_") || word.starts_with("process_")).collect()
}

/// What a run in a lab cannot have is left out.
fn is_in_a_lab(metric: &str) -> bool {
    NOT_IN_A_LAB.iter().all(|(other, _)| *other != metric)
}

/// The operands of `or`: each has a value, so that none hides what is wrong with another.
fn alternatives(expression: &str) -> impl Iterator<Item = &str> {
    expression.split(" or ")
}

/// Evaluates each expression, and returns what promtool says of those without a value.
fn without_a_value(scrapes: &Scrapes, expressions: &[String], directory: &Path) -> String {
    let last = format!("{}s", 15 * (scrapes.count - 1));
    let one = |expression: &String| {
        json!({ "expr": format!("count(({expression})) > bool 0"), "eval_time": last,
            "exp_samples": [{ "labels": "{}", "value": 1 }] })
    };
    let tests: Vec<_> = expressions.iter().map(one).collect();
    let file = directory.join("dashboard.test.json");
    // JSON is YAML.
    let test = json!({
        "rule_files": [], "evaluation_interval": "15s",
        "tests": [{ "interval": "15s", "input_series": scrapes.input_series(), "promql_expr_test": tests }],
    });
    fs::write(&file, test.to_string()).expect("written");
    let output = Command::new("promtool").args(["test", "rules"]).arg(&file).output().expect("promtool");
    if output.status.success() {
        return String::new();
    }
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

#[test]
fn promtool_finds_a_value_for_each_expression_and_each_metric_is_known_and_shown() {
    let scrapes = Scrapes::take();
    let metrics = scrapes.metrics();
    let dashboard: Value = serde_json::from_str(DASHBOARD).expect("JSON");
    let expressions = expressions(&dashboard);
    assert!(!expressions.is_empty());
    // Names.
    for (file, text) in [("the dashboard", DASHBOARD), ("the rules", RULES), ("their tests", TESTS)] {
        let unknown: Vec<_> = names(text).into_iter().filter(|name| !metrics.contains_key(name)).collect();
        let unknown: Vec<_> = unknown.into_iter().filter(|name| is_in_a_lab(name)).collect();
        assert_eq!(unknown, [""; 0], "in {file}, and in no scrape");
    }
    for (metric, why) in NOT_IN_A_LAB {
        assert!(!metrics.contains_key(metric), "{metric}: {why}?");
    }
    // What is shown.
    let shown: BTreeSet<_> = expressions.iter().flat_map(|expression| names(&expression.written)).collect();
    let left_out: BTreeSet<_> = NOT_SHOWN.iter().map(|(metric, _)| *metric).collect();
    let exported: BTreeSet<_> = metrics.keys().copied().collect();
    let missing: BTreeSet<_> = exported.difference(&shown).copied().collect();
    assert_eq!(missing, left_out, "on no panel");
    // Series of the unit tests of alerts.
    let series = TESTS.lines().filter_map(|line| line.trim().strip_prefix("- series: "));
    for series in series.filter(|series| !series.starts_with("up{")) {
        let (metric, mut labels) = parsed(series);
        assert!(labels.remove("job").is_some() && labels.remove("instance").is_some(), "{series}");
        if !is_in_a_lab(metric) {
            continue;
        }
        let real = &metrics[metric];
        let same = |one: &&BTreeMap<&str, &str>| one.keys().eq(labels.keys());
        assert!(real.iter().any(|one| same(&one)), "{series}: labels are {:?}", real.first());
        for (name, value) in &labels {
            let is_closed = CLOSED.contains(name) || (metric, *name) == ("mirror_xdp_frames_total", "reason");
            let is_real = real.iter().any(|one| one.get(name) == Some(value));
            assert!(!is_closed || is_real, "{series}: {name} is never {value}");
        }
    }
    // Values.
    let directory = tempfile::tempdir().expect("directory");
    let in_a_lab = |text: &String| names(text).iter().all(|name| is_in_a_lab(name));
    let all = expressions.iter().map(Expression::substituted);
    let all = all.flat_map(|text| alternatives(&text).map(str::to_owned).collect::<Vec<_>>());
    let evaluated: Vec<_> = all.filter(in_a_lab).collect();
    let said = without_a_value(&scrapes, &evaluated, directory.path());
    let is_named = |text: &str| said.contains(&text.replace('"', "\\\""));
    let failed = expressions.iter().filter(|one| alternatives(&one.substituted()).any(is_named));
    let failed: Vec<_> = failed.map(|expression| &expression.panel).collect();
    assert!(said.is_empty(), "without a value: {failed:?}\n{said}");
    // One that has none is noticed.
    let wrong = vec!["rate(mirror_frames_total{result=\"decapsulate\"}[1m])".to_owned()];
    assert!(without_a_value(&scrapes, &wrong, directory.path()).contains("decapsulate"));
    println!("{} metrics, {} expressions with a value", metrics.len(), evaluated.len());
}
