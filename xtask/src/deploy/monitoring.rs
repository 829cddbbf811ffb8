//! The Grafana dashboard and Prometheus' rules: their form, and what `promtool` says of them. That each
//! expression has a value, and each metric exists, is compared with a run by the test `dashboards`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

use super::dashboard::{Expression, expressions};
use crate::{host, process};

const DASHBOARD: &str = "deploy/grafana/mirror.json";
const RULES: &str = "deploy/prometheus/mirror.rules.yml";
const TESTS: &str = "deploy/prometheus/mirror.rules.test.yml";
const CONFIGURATION: &str = "deploy/prometheus/prometheus.yml";

/// Of Grafana 9, the oldest that the panels are meant for.
const LEAST_SCHEMA: u64 = 36;
/// Columns of Grafana's grid.
const COLUMNS: u64 = 24;
/// Panels that Grafana has without plugins.
const KINDS: [&str; 5] = ["row", "stat", "state-timeline", "table", "timeseries"];
/// Variables that Grafana defines itself.
const BUILT_IN: [&str; 2] = ["__rate_interval", "__range"];

/// Checks dashboard, rules, their unit tests, and the example of a configuration.
///
/// # Errors
/// If one is not well-formed, `promtool` is not there, or refuses something.
pub(super) fn check(root: &Path) -> Result<BTreeSet<PathBuf>> {
    let read =
        |file: &str| fs::read_to_string(root.join(file)).with_context(|| format!("cannot read {file}"));
    let dashboard: Value =
        serde_json::from_str(&read(DASHBOARD)?).with_context(|| format!("{DASHBOARD} is no JSON"))?;
    well_formed(&dashboard).context(DASHBOARD)?;
    each_alert_is_tested(&read(RULES)?, &read(TESTS)?)?;
    ensure!(
        host::program("promtool").is_some(),
        "promtool, of Prometheus, is not installed: run `cargo xtask setup test`"
    );
    let scratch = host::target_dir().join("deploy");
    fs::create_dir_all(&scratch).with_context(|| format!("cannot create {}", scratch.display()))?;
    let rules = scratch.join("dashboard.rules.json");
    fs::write(&rules, as_rules(&expressions(&dashboard)))
        .with_context(|| format!("cannot write {}", rules.display()))?;
    promtool(&["check", "rules"], &rules).context(DASHBOARD)?;
    promtool(&["check", "rules"], &root.join(RULES))?;
    promtool(&["test", "rules"], &root.join(TESTS))?;
    promtool(&["check", "config"], &root.join(CONFIGURATION))?;
    Ok([DASHBOARD, RULES, TESTS, CONFIGURATION].map(PathBuf::from).into())
}

fn promtool(what: &[&str], file: &Path) -> Result<()> {
    let mut command = Command::new("promtool");
    let output = command.args(what).arg(file).output().context("cannot start promtool")?;
    if !output.status.success() {
        let said = [output.stdout, output.stderr].concat();
        bail!("`{}` failed: {}", process::display(&command), String::from_utf8_lossy(&said).trim());
    }
    Ok(())
}

/// Expressions as recording rules, whose syntax `promtool` checks; JSON is YAML.
fn as_rules(expressions: &[Expression]) -> String {
    let rule = |(number, expression): (usize, &Expression)| {
        json!({ "record": format!("dashboard:{number}"), "expr": expression.substituted(),
            "labels": { "panel": expression.panel } })
    };
    let rules: Vec<_> = expressions.iter().enumerate().map(rule).collect();
    json!({ "groups": [{ "name": "dashboard", "rules": rules }] }).to_string()
}

/// What Grafana would not report, or would only show as a panel without data.
fn well_formed(dashboard: &Value) -> Result<()> {
    ensure!(
        dashboard["id"].is_null() && dashboard["uid"].is_null(),
        "it has an id, or a uid: Grafana gives them"
    );
    let schema = dashboard["schemaVersion"].as_u64().unwrap_or_default();
    ensure!(schema >= LEAST_SCHEMA, "schemaVersion is {schema}, less than {LEAST_SCHEMA}");
    let variables = list(&dashboard["templating"]["list"]);
    let names: Vec<_> = variables.iter().map(|variable| text(&variable["name"])).collect();
    let is_source = |variable: &Value| variable["name"] == "datasource" && variable["type"] == "datasource";
    ensure!(variables.first().is_some_and(is_source), "the first variable is not the data source");
    let has_source =
        |value: &Value| value["datasource"] == json!({ "type": "prometheus", "uid": "${datasource}" });
    for variable in variables.iter().filter(|variable| !is_source(variable)) {
        ensure!(has_source(variable), "the variable {} is not of ${{datasource}}", variable["name"]);
        defined(text(&variable["definition"]), &names)?;
    }
    let panels = list(&dashboard["panels"]);
    ensure!(!panels.is_empty(), "it has no panels");
    let mut ids = BTreeSet::new();
    let mut places: Vec<(&str, [u64; 4])> = Vec::new();
    for panel in panels {
        let title = text(&panel["title"]);
        ensure!(!title.is_empty(), "a panel has no title: {panel}");
        let id = panel["id"].as_u64().with_context(|| format!("{title}: it has no id"))?;
        ensure!(ids.insert(id), "{title}: another panel has the id {id}");
        let place = placed(&panel["gridPos"]).with_context(|| format!("{title}: its place"))?;
        if let Some((other, _)) = places.iter().find(|(_, other)| overlap(*other, place)) {
            bail!("{title} overlaps {other}");
        }
        places.push((title, place));
        let kind = text(&panel["type"]);
        ensure!(KINDS.contains(&kind), "{title}: {kind:?} is no panel that each Grafana has");
        let targets = list(&panel["targets"]);
        ensure!(targets.is_empty() == (kind == "row"), "{title}: rows have no queries, all others have some");
        if kind == "row" {
            continue;
        }
        ensure!(!text(&panel["description"]).is_empty(), "{title}: it has no description");
        ensure!(has_source(panel), "{title}: it is not of ${{datasource}}");
        let mut references = BTreeSet::new();
        for target in targets {
            ensure!(has_source(target), "{title}: a query is not of ${{datasource}}");
            ensure!(references.insert(text(&target["refId"])), "{title}: two queries have one refId");
            defined(text(&target["expr"]), &names).with_context(|| title.to_owned())?;
        }
    }
    Ok(())
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Left, top, right and bottom.
fn placed(place: &Value) -> Result<[u64; 4]> {
    let number = |name: &str| place[name].as_u64().with_context(|| format!("{name} is no number"));
    let (left, top, width, height) = (number("x")?, number("y")?, number("w")?, number("h")?);
    ensure!(width > 0 && height > 0 && left + width <= COLUMNS, "{place} is not within {COLUMNS} columns");
    Ok([left, top, left + width, top + height])
}

fn overlap([left, top, right, bottom]: [u64; 4], other: [u64; 4]) -> bool {
    left < other[2] && other[0] < right && top < other[3] && other[1] < bottom
}

/// Each variable of an expression is one of the dashboard's, or Grafana's.
fn defined(expression: &str, names: &[&str]) -> Result<()> {
    ensure!(!expression.is_empty(), "a query is empty");
    for after in expression.split('$').skip(1) {
        let end = after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(after.len());
        let name = &after[..end];
        ensure!(
            names.contains(&name) || BUILT_IN.contains(&name),
            "there is no variable ${name}: {expression}"
        );
    }
    Ok(())
}

/// Each alert has a test in which it fires, and one in which it does not.
fn each_alert_is_tested(rules: &str, tests: &str) -> Result<()> {
    let after = |line: &'static str| move |text: &str| text.trim().strip_prefix(line).map(str::to_owned);
    let alerts: BTreeSet<_> = rules.lines().filter_map(after("- alert: ")).collect();
    ensure!(!alerts.is_empty(), "{RULES} has no alerts");
    let mut tested = [BTreeSet::new(), BTreeSet::new()];
    let mut alert = String::new();
    for line in tests.lines() {
        if let Some(name) = after("- alertname: ")(line) {
            alert = name;
        } else if let Some(expected) = after("exp_alerts:")(line) {
            tested[usize::from(expected.trim().is_empty())].insert(alert.clone());
        }
    }
    for (tested, what) in tested.iter().zip(["does not fire", "fires"]) {
        let missing: Vec<_> = alerts.difference(tested).map(String::as_str).collect();
        ensure!(missing.is_empty(), "{TESTS} has no test in which it {what}: {}", missing.join(", "));
        let unknown: Vec<_> = tested.difference(&alerts).map(String::as_str).collect();
        ensure!(unknown.is_empty(), "{TESTS} has tests of no alert: {}", unknown.join(", "));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dashboard() -> Value {
        serde_json::from_str(include_str!("../../../deploy/grafana/mirror.json")).unwrap()
    }

    #[test]
    fn the_dashboard_of_this_repository_is_well_formed() {
        well_formed(&dashboard()).unwrap();
    }

    #[test]
    fn faults_of_a_dashboard_are_named() {
        let faults: [(&str, Value, &str); 10] = [
            ("/id", json!(7), "a uid"),
            ("/schemaVersion", json!(16), "schemaVersion is 16"),
            ("/templating/list/0/type", json!("query"), "the data source"),
            (
                "/templating/list/1/datasource/uid",
                json!("PBFA97CFB590B2093"),
                "\"job\" is not of ${datasource}",
            ),
            ("/panels/2/id", json!(2), "another panel has the id 2"),
            ("/panels/2/gridPos/x", json!(0), "overlaps Instances"),
            ("/panels/2/gridPos/w", json!(25), "its place"),
            ("/panels/2/type", json!("grafana-worldmap-panel"), "no panel that each Grafana has"),
            ("/panels/2/targets/0/datasource/uid", json!("abc"), "not of ${datasource}"),
            ("/panels/2/targets/0/expr", json!("up{job=\"$jobs\"}"), "no variable $jobs"),
        ];
        for (place, value, words) in faults {
            let mut dashboard = dashboard();
            *dashboard.pointer_mut(place).unwrap() = value;
            let error = format!("{:#}", well_formed(&dashboard).unwrap_err());
            assert!(error.contains(words), "{place}: {error}");
        }
    }

    #[test]
    fn variables_are_substituted() {
        let expression = Expression {
            panel: String::new(),
            written: "rate(a{job=~\"$job\", b=~\"$b_1\"}[$__rate_interval])".into(),
        };
        assert_eq!(expression.substituted(), "rate(a{job=~\".*\", b=~\".*\"}[1m])");
    }

    #[test]
    fn the_page_about_health_and_metrics_has_every_alert_and_no_other() {
        let names = |text: &'static str, before: &str| -> BTreeSet<&str> {
            let after = text.split(before).skip(1);
            after.map(|rest| rest.split(['\n', '`']).next().unwrap_or_default()).collect()
        };
        let page = include_str!("../../../docs/health.md");
        let rules = include_str!("../../../deploy/prometheus/mirror.rules.yml");
        assert_eq!(names(page, "`Mirror"), names(rules, "- alert: Mirror"));
    }

    #[test]
    fn an_alert_that_is_not_tested_both_ways_is_named() {
        let rules = "  - alert: A\n  - alert: B\n";
        let silent = "- alertname: A\n  exp_alerts: []\n- alertname: B\n  exp_alerts: []\n";
        let loud = "- alertname: A\n  exp_alerts:\n    - x\n";
        let error = each_alert_is_tested(rules, &format!("{silent}{loud}")).unwrap_err().to_string();
        assert!(error.ends_with("in which it fires: B"), "{error}");
        let both = format!("{silent}{loud}- alertname: B\n  exp_alerts:\n");
        each_alert_is_tested(rules, &both).unwrap();
        let error =
            each_alert_is_tested(rules, &format!("{both}- alertname: C\n  exp_alerts: []\n")).unwrap_err();
        assert!(error.to_string().ends_with("tests of no alert: C"), "{error}");
    }
}
