//! Owns how manifests are looked into: one of a kind, its pod, the sidecar in it.

use serde_json::Value;

/// The name of the sidecar's container.
pub const SIDECAR: &str = "producer-sidecar";

/// The text at a pointer; empty where there is none.
pub fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The number at a pointer.
pub fn number(value: &Value, pointer: &str) -> u64 {
    value.pointer(pointer).and_then(Value::as_u64).unwrap_or_else(|| panic!("no number {pointer} in {value}"))
}

/// The list at a pointer; empty where there is none.
pub fn list<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value.pointer(pointer).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// All documents of a kind.
pub fn of_kind<'a>(documents: &'a [Value], kind: &str) -> Vec<&'a Value> {
    documents.iter().filter(|document| text(document, "/kind") == kind).collect()
}

/// The document of a kind and name.
pub fn named<'a>(documents: &'a [Value], kind: &str, name: &str) -> &'a Value {
    let found =
        of_kind(documents, kind).into_iter().find(|document| text(document, "/metadata/name") == name);
    found.unwrap_or_else(|| panic!("no {kind} {name}"))
}

/// The pod's template of a workload.
pub fn template(workload: &Value) -> &Value {
    &workload["spec"]["template"]
}

/// All containers of a workload's pods, those that start before the others first.
pub fn containers(workload: &Value) -> Vec<&Value> {
    let pod = &template(workload)["spec"];
    list(pod, "/initContainers").iter().chain(list(pod, "/containers")).collect()
}

/// The sidecar of a workload.
pub fn sidecar(workload: &Value) -> Option<&Value> {
    containers(workload).into_iter().find(|container| text(container, "/name") == SIDECAR)
}

/// Looks up what a port's name or number stands for in the containers of a workload.
pub fn port(workload: &Value, port: &Value) -> Option<u64> {
    let mut ports = containers(workload).into_iter().flat_map(|container| list(container, "/ports"));
    let found = ports.find(|declared| declared["name"] == *port || declared["containerPort"] == *port);
    found.and_then(|declared| declared["containerPort"].as_u64())
}

/// Whether labels have all that a selector's `matchLabels` asks for.
pub fn selects(selector: &Value, labels: &Value) -> bool {
    let asked = selector["matchLabels"].as_object();
    asked.is_some_and(|asked| asked.iter().all(|(name, value)| labels[name] == *value))
}

/// The environment of a container, its ConfigMaps included; the fields of the pod are made up.
pub fn environment(documents: &[Value], container: &Value) -> Vec<(String, String)> {
    let mut environment = Vec::new();
    for source in list(container, "/envFrom") {
        let map = named(documents, "ConfigMap", text(source, "/configMapRef/name"));
        for (name, value) in map["data"].as_object().unwrap() {
            environment.push((name.clone(), value.as_str().unwrap().to_owned()));
        }
    }
    for variable in list(container, "/env") {
        let name = text(variable, "/name");
        let mut value = match variable.get("valueFrom") {
            Some(_) => format!("the-{}", name.to_lowercase().replace('_', "-")),
            None => text(variable, "/value").to_owned(),
        };
        for (known, said) in &environment {
            value = value.replace(&format!("$({known})"), said);
        }
        environment.retain(|(known, _)| known != name);
        environment.push((name.to_owned(), value));
    }
    environment
}
