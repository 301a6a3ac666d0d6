//! The dashboard: JSON that Grafana can provision, whose every expression Prometheus can evaluate.

use std::collections::BTreeSet;

use serde_json::Value;
use testkit::TestFolder;

use super::{
    manifest::{list, number, text},
    promtool, read, succeeds,
};

crate::tests!(
    the_dashboard_can_be_provisioned_beside_others,
    panels_neither_overlap_nor_stick_out,
    prometheus_can_evaluate_every_expression,
);

/// Grafana's grid.
const COLUMNS: u64 = 24;

fn dashboard() -> Value {
    serde_json::from_str(&read("deploy/grafana/producer-sidecar.json")).unwrap()
}

/// The expressions of all panels and annotations, with their panels' titles, as Prometheus is asked them.
pub fn expressions() -> Vec<(String, String)> {
    let dashboard = dashboard();
    let panels = list(&dashboard, "/panels").iter();
    let targets = panels.flat_map(|panel| {
        list(panel, "/targets")
            .iter()
            .map(|target| (text(panel, "/title").to_owned(), text(target, "/expr").to_owned()))
    });
    let annotations = list(&dashboard, "/annotations/list").iter();
    let annotations = annotations.map(|one| (text(one, "/name").to_owned(), text(one, "/expr").to_owned()));
    let asked = targets.chain(annotations);
    asked.map(|(title, expression)| (title, expression.replace("$__rate_interval", "5m"))).collect()
}

/// The expressions by which variables find their values: the part that names a metric.
pub fn variables() -> Vec<(String, String)> {
    let dashboard = dashboard();
    let variables = list(&dashboard, "/templating/list").iter();
    let queries = variables.filter_map(|variable| {
        let (name, query) = (text(variable, "/name"), text(variable, "/query/query"));
        let asked = query.strip_prefix("label_values(")?.rsplit_once(',')?.0;
        Some((name.to_owned(), asked.to_owned()))
    });
    queries.collect()
}

fn the_dashboard_can_be_provisioned_beside_others() {
    let dashboard = dashboard();
    assert_eq!(text(&dashboard, "/uid"), "producer-sidecar");
    assert!(dashboard.get("id").is_none(), "an id belongs to one Grafana");
    let variables = list(&dashboard, "/templating/list");
    let source =
        variables.iter().find(|one| text(one, "/type") == "datasource").expect("the source can be chosen");
    assert_eq!((text(source, "/name"), text(source, "/query")), ("datasource", "prometheus"));
    let mut sources: Vec<_> = variables.iter().filter(|one| text(one, "/type") == "query").collect();
    let mut ids = BTreeSet::new();
    for panel in list(&dashboard, "/panels") {
        assert!(ids.insert(number(panel, "/id")), "{panel}");
        if text(panel, "/type") != "row" {
            assert!(!list(panel, "/targets").is_empty(), "{panel}");
            sources.push(panel);
            sources.extend(list(panel, "/targets"));
        }
    }
    for asked in sources {
        assert_eq!(text(asked, "/datasource/uid"), "${datasource}", "{asked}");
    }
    for variable in ["$job", "$instance", "$topic"] {
        assert!(variables.iter().any(|one| format!("${}", text(one, "/name")) == variable));
        assert!(
            expressions().iter().any(|(_, expression)| expression.contains(variable)),
            "{variable} is not used"
        );
    }
}

fn panels_neither_overlap_nor_stick_out() {
    let dashboard = dashboard();
    let mut taken = BTreeSet::new();
    for panel in list(&dashboard, "/panels") {
        let [x, y, w, h] = ["x", "y", "w", "h"].map(|side| number(panel, &format!("/gridPos/{side}")));
        assert!(x + w <= COLUMNS, "{panel}");
        for cell in (x..x + w).flat_map(|column| (y..y + h).map(move |line| (column, line))) {
            assert!(taken.insert(cell), "{} lies on another", text(panel, "/title"));
        }
    }
}

fn prometheus_can_evaluate_every_expression() {
    let expressions = expressions();
    assert!(expressions.len() > 20, "{expressions:?}");
    let rules = expressions.iter().enumerate().map(|(number, (_, expression))| {
        serde_json::json!({"record": format!("panel_{number}"), "expr": expression})
    });
    let file = serde_json::json!({"groups": [{"name": "dashboard", "rules": rules.collect::<Vec<_>>()}]});
    let folder = TestFolder::new("dashboard");
    folder.write("rules.yaml", &file.to_string());
    succeeds(&promtool(&["check", "rules", "rules.yaml"], folder.path()));
}
