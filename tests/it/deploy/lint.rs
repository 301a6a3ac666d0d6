//! What kube-linter asks of manifests by default, as far as it concerns what is here: the example does all of it, and what is
//! planted against it is found.

use serde_json::{Value, json};

use super::{
    example,
    manifest::{containers, list, named, of_kind, port, selects, template, text},
};

crate::tests!(the_example_has_nothing_to_complain_of, each_planted_fault_is_found);

/// Names kube-linter's checks that the documents do not pass.
fn complaints(documents: &[Value]) -> Vec<String> {
    let mut found = Vec::new();
    for workload in of_kind(documents, "Deployment") {
        let mut complain = |check: &str, holds: bool| {
            if !holds {
                found.push(check.to_owned());
            }
        };
        of_pod(documents, workload, &mut complain);
        for container in containers(workload) {
            of_container(workload, container, &mut complain);
        }
    }
    for service in of_kind(documents, "Service") {
        let selector = json!({"matchLabels": service["spec"]["selector"]});
        let behind: Vec<_> = of_kind(documents, "Deployment")
            .into_iter()
            .filter(|workload| selects(&selector, &template(workload)["metadata"]["labels"]))
            .collect();
        if behind.is_empty() {
            found.push("dangling-service".to_owned());
        }
        let ports = list(service, "/spec/ports");
        if behind
            .iter()
            .any(|workload| ports.iter().any(|open| port(workload, &open["targetPort"]).is_none()))
        {
            found.push("invalid-target-ports".to_owned());
        }
    }
    for budget in of_kind(documents, "PodDisruptionBudget") {
        if budget["spec"]["maxUnavailable"].as_u64() == Some(0) {
            found.push("pdb-max-unavailable".to_owned());
        }
        if text(budget, "/spec/unhealthyPodEvictionPolicy").is_empty() {
            found.push("pdb-unhealthy-pod-eviction-policy".to_owned());
        }
    }
    found
}

fn of_pod(documents: &[Value], workload: &Value, complain: &mut impl FnMut(&str, bool)) {
    let pod = &template(workload)["spec"];
    for host in ["hostNetwork", "hostPID", "hostIPC"] {
        complain("host-namespaces", pod[host] != true);
    }
    complain("sensitive-host-mounts", !list(pod, "/volumes").iter().any(|one| one.get("hostPath").is_some()));
    complain(
        "mismatching-selector",
        selects(&workload["spec"]["selector"], &template(workload)["metadata"]["labels"]),
    );
    let is_many = workload["spec"]["replicas"].as_u64().is_some_and(|replicas| replicas > 1);
    let affinity = &pod["affinity"]["podAntiAffinity"];
    complain("no-anti-affinity", !is_many || affinity.is_object());
    let account = text(pod, "/serviceAccountName");
    let accounts = of_kind(documents, "ServiceAccount");
    complain(
        "non-existent-service-account",
        accounts.iter().any(|one| text(one, "/metadata/name") == account),
    );
    complain("deprecated-service-account-field", pod.get("serviceAccount").is_none());
}

fn of_container(workload: &Value, container: &Value, complain: &mut impl FnMut(&str, bool)) {
    let security = &container["securityContext"];
    complain("run-as-non-root", security["runAsNonRoot"] == true && security["runAsUser"] != 0);
    complain("no-read-only-root-fs", security["readOnlyRootFilesystem"] == true);
    complain("privilege-escalation-container", security["allowPrivilegeEscalation"] == false);
    complain("privileged-container", security["privileged"] != true);
    let dropped = list(security, "/capabilities/drop");
    complain("drop-net-raw-capability", dropped.iter().any(|name| name == "ALL" || name == "NET_RAW"));
    complain("restricted-profile", text(security, "/seccompProfile/type") == "RuntimeDefault");
    for (resource, check) in [("cpu", "unset-cpu-requirements"), ("memory", "unset-memory-requirements")] {
        let of = |bound: &str| !text(container, &format!("/resources/{bound}/{resource}")).is_empty();
        complain(check, of("requests") && of("limits"));
    }
    let image = text(container, "/image");
    let tag = image.rsplit('/').next().and_then(|last| last.split_once(':')).map(|(_, tag)| tag);
    complain("latest-tag", tag.is_some_and(|tag| tag != "latest"));
    let variables = list(container, "/env");
    let named = |word: &str| variables.iter().any(|one| text(one, "/name").to_lowercase().ends_with(word));
    complain("env-var-secret", !named("secret") && !named("password") && !named("token"));
    complain(
        "read-secret-from-env-var",
        !variables.iter().any(|one| one["valueFrom"].get("secretKeyRef").is_some()),
    );
    let mut names: Vec<_> = variables.iter().map(|one| text(one, "/name")).collect();
    names.sort_unstable();
    complain("duplicate-env-var", names.windows(2).all(|pair| pair[0] != pair[1]));
    for (probe, check) in [
        ("livenessProbe", "liveness-port"),
        ("readinessProbe", "readiness-port"),
        ("startupProbe", "startup-port"),
    ] {
        let asked = container.pointer(&format!("/{probe}/httpGet/port"));
        complain(check, asked.is_none_or(|asked| port(workload, asked).is_some()));
    }
    let ports = list(container, "/ports");
    complain("ssh-port", ports.iter().all(|one| one["containerPort"] != 22));
}

fn the_example_has_nothing_to_complain_of() {
    let found = complaints(&example().1);
    assert!(found.is_empty(), "{found:?}");
}

fn each_planted_fault_is_found() {
    let documents = &example().1;
    named(documents, "Deployment", "orders-gateway");
    let sidecar = "/spec/template/spec/initContainers/0";
    let pod = "/spec/template/spec";
    let faults: [(&str, String, Value); 17] = [
        ("run-as-non-root", format!("{sidecar}/securityContext/runAsNonRoot"), json!(false)),
        ("no-read-only-root-fs", format!("{sidecar}/securityContext/readOnlyRootFilesystem"), json!(false)),
        (
            "privilege-escalation-container",
            format!("{sidecar}/securityContext/allowPrivilegeEscalation"),
            json!(true),
        ),
        ("drop-net-raw-capability", format!("{sidecar}/securityContext/capabilities/drop"), json!([])),
        ("restricted-profile", format!("{sidecar}/securityContext/seccompProfile/type"), json!("Unconfined")),
        ("unset-cpu-requirements", format!("{sidecar}/resources/requests"), json!({"memory": "1Mi"})),
        ("unset-memory-requirements", format!("{sidecar}/resources/limits"), json!({"cpu": "1"})),
        ("latest-tag", format!("{sidecar}/image"), json!("registry:5000/producer-sidecar")),
        ("env-var-secret", format!("{sidecar}/env/0/name"), json!("KAFKA_PASSWORD")),
        ("duplicate-env-var", format!("{sidecar}/env/0/name"), json!("POD_NAMESPACE")),
        ("liveness-port", format!("{sidecar}/livenessProbe/httpGet/port"), json!("metrics")),
        ("readiness-port", format!("{sidecar}/readinessProbe/httpGet/port"), json!(9465)),
        ("startup-port", format!("{sidecar}/startupProbe/httpGet/port"), json!(1)),
        ("no-anti-affinity", format!("{pod}/affinity"), json!(null)),
        ("mismatching-selector", "/spec/template/metadata/labels".to_owned(), json!({})),
        ("non-existent-service-account", format!("{pod}/serviceAccountName"), json!("nobody")),
        (
            "sensitive-host-mounts",
            format!("{pod}/volumes"),
            json!([{"name": "h", "hostPath": {"path": "/"}}]),
        ),
    ];
    for (check, pointer, value) in faults {
        let mut broken = documents.clone();
        let place = broken.iter_mut().find(|one| text(one, "/kind") == "Deployment");
        *place.unwrap().pointer_mut(&pointer).unwrap_or_else(|| panic!("{pointer}")) = value;
        let found = complaints(&broken);
        assert!(found.iter().any(|one| one == check), "{check} is not found: {found:?}");
    }
    let without: Vec<_> =
        documents.iter().filter(|one| text(one, "/kind") != "Deployment").cloned().collect();
    assert_eq!(complaints(&without), ["dangling-service"]);
}
