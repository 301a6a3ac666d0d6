//! The Compose file and what it mounts: each part is read by its own tool, and what one says of another is so.

use std::{collections::BTreeMap, fs, path::Path};

use serde_json::Value;
use testkit::{TestFolder, find_tool, run_tool};

use super::{
    check_config,
    manifest::{list, number, text},
    promtool, read, root, setting, succeeds, yaml_file,
};

crate::tests!(
    compose_accepts_the_file,
    nothing_is_reached_from_other_machines,
    the_sidecars_settings_are_accepted_and_it_has_time_to_stop,
    prometheus_accepts_its_settings_and_finds_the_sidecar,
    grafana_is_given_its_sources_and_the_dashboard,
    every_mounted_file_is_there,
);

/// The project as Compose understands it, by the library that Compose loads it with.
pub fn project() -> Value {
    let folder = root().join("deploy/compose");
    let loaded =
        run_tool(&find_tool("compose-go", "COMPOSE_GO"), &["-format", "json", "compose.yaml"], &folder, "");
    succeeds(&loaded);
    serde_json::from_str(&loaded.stdout).unwrap()
}

/// The services and their names.
fn services(project: &Value) -> BTreeMap<&str, &Value> {
    project["services"].as_object().unwrap().iter().map(|(name, service)| (name.as_str(), service)).collect()
}

/// A service's environment.
pub fn environment(project: &Value, service: &str) -> Vec<(String, String)> {
    let variables = project["services"][service]["environment"].as_object().unwrap();
    variables.iter().map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned())).collect()
}

/// What a service has mounted: where in the container, and what of the checkout.
fn mounts(service: &Value) -> Vec<(&str, &Path)> {
    let volumes = list(service, "/volumes").iter();
    volumes.map(|volume| (text(volume, "/target"), Path::new(text(volume, "/source")))).collect()
}

fn compose_accepts_the_file() {
    let project = project();
    let names: Vec<_> = services(&project).into_keys().collect();
    assert_eq!(names, ["grafana", "jaeger", "kafka", "prometheus", "sidecar", "topics"]);
    for (name, service) in services(&project) {
        let (_, tag) =
            text(service, "/image").rsplit_once(':').unwrap_or_else(|| panic!("{name} has no tag"));
        assert!(tag != "latest" && !tag.is_empty(), "{name}: {tag}");
    }
    assert_eq!(
        text(&project, "/services/sidecar/image"),
        concat!("producer-sidecar:", env!("CARGO_PKG_VERSION"))
    );
    assert_eq!(Path::new(text(&project, "/services/sidecar/build/context")), root());
    // It would say so if it were wrong.
    let folder = TestFolder::new("compose");
    folder.write("compose.yaml", &read("deploy/compose/compose.yaml").replace("depends_on", "depend_on"));
    let refused = run_tool(
        &find_tool("compose-go", "COMPOSE_GO"),
        &["-format", "json", "compose.yaml"],
        folder.path(),
        "",
    );
    assert_ne!(refused.exit, Some(0), "{refused:?}");
}

fn nothing_is_reached_from_other_machines() {
    let project = project();
    let mut published = Vec::new();
    for (name, service) in services(&project) {
        for port in list(service, "/ports") {
            assert_eq!(text(port, "/host_ip"), "127.0.0.1", "{name}: {port}");
            published.push(text(port, "/published").to_owned());
        }
    }
    let page = read("deploy/compose/README.md");
    for port in published {
        assert!(page.contains(&format!("127.0.0.1:{port}")), "the page does not name {port}");
    }
}

fn the_sidecars_settings_are_accepted_and_it_has_time_to_stop() {
    let project = project();
    let checked = check_config(&environment(&project, "sidecar"));
    assert_eq!(checked.code, Some(0), "{checked:?}");
    let drain_ms: u64 = setting(&checked, "drain_ms").parse().unwrap();
    let grace = text(&project, "/services/sidecar/stop_grace_period");
    let grace_s: u64 = grace.strip_suffix('s').unwrap().parse().unwrap();
    assert!(grace_s * 1000 >= drain_ms + 5_000, "{grace} for {drain_ms} ms");
    assert_eq!(text(&project, "/services/sidecar/user"), "65532:65532");
    assert_eq!(project["services"]["sidecar"]["read_only"], true);
    assert!(
        environment(&project, "sidecar").contains(&("KAFKA_BROKERS".to_owned(), "kafka:9092".to_owned()))
    );
}

fn prometheus_accepts_its_settings_and_finds_the_sidecar() {
    let project = project();
    // The container's folder as its mounts make it.
    let folder = TestFolder::new("prometheus");
    for (target, source) in mounts(&project["services"]["prometheus"]) {
        let path = folder.path().join(target.strip_prefix("/etc/prometheus/").unwrap());
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::copy(source, path).unwrap();
    }
    let checked = promtool(&["check", "config", "prometheus.yml"], folder.path());
    succeeds(&checked);
    let said = format!("{}{}", checked.stdout, checked.stderr);
    assert!(said.contains("1 rule files found"), "{said}");
    let settings = yaml_file("deploy/compose/prometheus.yaml");
    let target = text(&settings, "/scrape_configs/0/static_configs/0/targets/0").to_owned();
    let listens: Vec<_> = environment(&project, "sidecar");
    let admin = listens.iter().find(|(name, _)| name == "SIDECAR_ADMIN_LISTEN").unwrap();
    assert_eq!(target, admin.1.replace("0.0.0.0", "sidecar"));
}

fn grafana_is_given_its_sources_and_the_dashboard() {
    let project = project();
    let mounts = mounts(&project["services"]["grafana"]);
    let at = |target: &str| mounts.iter().find(|(known, _)| known.starts_with(target)).unwrap();
    let sources = yaml_file("deploy/compose/grafana/datasources.yaml");
    assert_eq!(
        at("/etc/grafana/provisioning/datasources/").1,
        root().join("deploy/compose/grafana/datasources.yaml")
    );
    assert_eq!(number(&sources, "/apiVersion"), 1);
    let services = services(&project);
    for source in list(&sources, "/datasources") {
        let host = text(source, "/url").strip_prefix("http://").unwrap().split(':').next().unwrap();
        assert!(services.contains_key(host), "{host} is no service");
        assert_eq!(text(source, "/type"), host);
    }
    let providers = yaml_file("deploy/compose/grafana/dashboards.yaml");
    assert_eq!(
        at("/etc/grafana/provisioning/dashboards/").1,
        root().join("deploy/compose/grafana/dashboards.yaml")
    );
    let folder = text(&providers, "/providers/0/options/path");
    let (target, source) = at(folder);
    assert_eq!(*source, root().join("deploy/grafana/producer-sidecar.json"));
    let home = environment(&project, "grafana");
    let home = home.iter().find(|(name, _)| name == "GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH").unwrap();
    assert_eq!(home.1, *target);
}

fn every_mounted_file_is_there() {
    let project = project();
    for (name, service) in services(&project) {
        for (target, source) in mounts(service) {
            assert!(source.is_file(), "{name}: {target} is to be {}", source.display());
        }
        for volume in list(service, "/volumes") {
            assert_eq!(volume["read_only"], true, "{name}: {volume}");
        }
    }
}
