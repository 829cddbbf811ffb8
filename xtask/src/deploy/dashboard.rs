//! The expressions of a Grafana dashboard as Prometheus gets them. The test `dashboards` includes this file.

use serde_json::Value;

/// A query of a panel.
#[derive(Debug)]
pub(crate) struct Expression {
    /// The title of its panel.
    pub(crate) panel: String,
    /// With Grafana's variables.
    pub(crate) written: String,
}

impl Expression {
    /// With a value for each variable: "All" for those of the dashboard, as Grafana writes it.
    pub(crate) fn substituted(&self) -> String {
        let mut text = self.written.replace("$__rate_interval", "1m").replace("$__range", "1h");
        while let Some((before, after)) = text.split_once('$') {
            let rest = after.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || c == '_');
            text = format!("{before}.*{rest}");
        }
        text
    }
}

/// All expressions of a dashboard, in the order of its panels.
pub(crate) fn expressions(dashboard: &Value) -> Vec<Expression> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let panels = list(&dashboard["panels"]);
    let of_panel = |panel: &Value| {
        let targets = list(&panel["targets"]).into_iter();
        let title = text(&panel["title"]);
        targets.map(move |target| Expression { panel: title.clone(), written: text(&target["expr"]) })
    };
    panels.iter().flat_map(of_panel).collect()
}
