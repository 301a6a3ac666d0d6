//! The component for kustomize and its example: valid for Kubernetes, and what the sidecar needs of a pod is there.

use std::fs;

use serde_json::{Value, json};
use testkit::{TestFolder, checkers, run_tool};

use super::{
    check_config, example, files, kustomize,
    manifest::{
        SIDECAR, containers, environment, list, named, number, of_kind, port, selects, sidecar, template,
        text,
    },
    root, rules, setting, succeeds, yaml,
};

crate::tests!(
    the_example_is_valid_for_kubernetes,
    the_sidecar_starts_before_the_application_and_is_probed_where_it_answers,
    the_sidecar_has_its_secrets_as_files_and_nothing_else,
    the_settings_of_the_example_are_accepted,
    the_grace_period_fits_the_drain,
    a_workload_keeps_what_it_has_and_may_stay_without,
    the_policy_lets_through_what_the_sidecar_needs,
    the_monitor_finds_the_sidecars_and_the_operator_gets_the_alerts,
);

/// The oldest version in which native sidecars are on by default, and the newest that the schemas know.
const VERSIONS: [&str; 2] = ["1.29.0", "1.37.0"];
/// What the schemas do not know: the Prometheus operator's own.
const OPERATORS: [&str; 2] = ["PodMonitor", "PrometheusRule"];
/// How long an application may take to stop by what the component's comment promises, in seconds.
const APPLICATION_S: u64 = 30;
/// What comes after the drain, in seconds: README.md.
const AFTER_DRAIN_S: u64 = 5;

fn gateway() -> &'static Value {
    named(&example().1, "Deployment", "orders-gateway")
}

fn the_sidecar() -> &'static Value {
    sidecar(gateway()).expect("the component adds the sidecar")
}

fn the_example_is_valid_for_kubernetes() {
    let (rendered, documents) = example();
    for version in VERSIONS {
        let arguments = ["-m", "kubernetes_validate", "--strict", "-k", version, "/dev/stdin"];
        let checked = run_tool(&checkers(), &arguments, root(), rendered);
        succeeds(&checked);
        let said = format!("{}{}", checked.stdout, checked.stderr);
        let passed = said.lines().filter(|line| line.contains(" passed for resource ")).count();
        let unknown: Vec<_> = said.lines().filter(|line| line.contains("Couldn't find schema")).collect();
        assert!(unknown.iter().all(|line| OPERATORS.iter().any(|kind| line.contains(kind))), "{unknown:?}");
        assert_eq!(passed + unknown.len(), documents.len(), "{said}");
        // It would say so if it were not.
        let broken = rendered.replace("restartPolicy: Always", "restartPolicies: Always");
        let refused = run_tool(&checkers(), &arguments, root(), &broken);
        assert_ne!(refused.exit, Some(0), "{refused:?}");
    }
}

fn the_sidecar_starts_before_the_application_and_is_probed_where_it_answers() {
    let pod = &template(gateway())["spec"];
    assert_eq!(text(pod, "/initContainers/0/name"), SIDECAR);
    let sidecar = the_sidecar();
    assert_eq!(text(sidecar, "/restartPolicy"), "Always");
    assert_eq!(sidecar.get("lifecycle"), None, "a preStop hook would run while the application still sends");
    assert_eq!(sidecar.get("command"), None);
    let admin =
        environment(&example().1, sidecar).into_iter().find(|(name, _)| name == "SIDECAR_ADMIN_LISTEN");
    for (probe, path) in
        [("startupProbe", "/startupz"), ("readinessProbe", "/readyz"), ("livenessProbe", "/livez")]
    {
        let probe = &sidecar[probe];
        assert_eq!(text(probe, "/httpGet/path"), path);
        let port = port(gateway(), &probe["httpGet"]["port"]).expect("a container declares the port");
        assert_eq!(admin.as_ref().unwrap().1, format!("0.0.0.0:{port}"));
        for bound in ["periodSeconds", "timeoutSeconds", "failureThreshold"] {
            assert!(number(probe, &format!("/{bound}")) > 0, "{path}: {bound}");
        }
    }
    let image = text(sidecar, "/image");
    assert_eq!(image, concat!("registry.example.com/producer-sidecar:", env!("CARGO_PKG_VERSION")));
    let component = &super::yaml_file("deploy/kubernetes/sidecar/sidecar.yaml");
    let component = super::manifest::sidecar(component).unwrap();
    assert_eq!(text(component, "/image"), concat!("producer-sidecar:", env!("CARGO_PKG_VERSION")));
}

fn the_sidecar_has_its_secrets_as_files_and_nothing_else() {
    let sidecar = the_sidecar();
    let volumes = list(&template(gateway())["spec"], "/volumes");
    let volume = |name: &str| volumes.iter().find(|volume| text(volume, "/name") == name).unwrap();
    let mounts = list(sidecar, "/volumeMounts");
    for mount in mounts {
        assert_eq!(mount.get("subPath"), None, "a subPath never sees a change");
        assert_eq!(mount["readOnly"], true, "{mount}");
    }
    let at = |path: &str| mounts.iter().find(|mount| text(mount, "/mountPath") == path).unwrap();
    let secrets = volume(text(at("/run/secrets/producer-sidecar"), "/name"));
    // Read by another user than the files' owner.
    assert_eq!(
        (text(secrets, "/secret/secretName"), number(secrets, "/secret/defaultMode")),
        (SIDECAR, 0o444)
    );
    // Whoever has something mounted there is given no token.
    let token = volume(text(at("/var/run/secrets/kubernetes.io/serviceaccount"), "/name"));
    assert!(token.get("emptyDir").is_some(), "{token}");
    for other in containers(gateway()).into_iter().filter(|container| text(container, "/name") != SIDECAR) {
        assert!(!list(other, "/volumeMounts").iter().any(|mount| mount["name"] == secrets["name"]));
    }
    let variables = list(sidecar, "/env");
    assert!(!variables.iter().any(|variable| variable["valueFrom"].get("secretKeyRef").is_some()));
    let names = environment(&example().1, sidecar);
    for secret in ["KAFKA_USER", "KAFKA_PASSWORD", "KAFKA_KEY_PASSWORD"] {
        assert!(!names.iter().any(|(name, _)| name == secret), "{secret} is in the environment");
    }
}

fn the_settings_of_the_example_are_accepted() {
    let environment = environment(&example().1, the_sidecar());
    let checked = check_config(&environment);
    assert_eq!(checked.code, Some(0), "{checked:?}");
    assert_eq!(setting(&checked, "instance_id"), "the-pod-name");
    assert_eq!(setting(&checked, "allow_remote"), "false");
    for key in ["kafka.user_file", "kafka.password_file", "kafka.ca_file"] {
        assert_ne!(setting(&checked, key), "(unset)", "{key}");
    }
    // A change of the settings rolls the pods out anew, because the ConfigMap's name has a digest of its content.
    let name = text(the_sidecar(), "/envFrom/0/configMapRef/name");
    assert!(name.starts_with("producer-sidecar-"), "{name}");
}

fn the_grace_period_fits_the_drain() {
    let checked = check_config(&environment(&example().1, the_sidecar()));
    let drain_ms: u64 = setting(&checked, "drain_ms").parse().unwrap();
    let grace_s = number(template(gateway()), "/spec/terminationGracePeriodSeconds");
    let needed_s = APPLICATION_S + drain_ms.div_ceil(1000) + AFTER_DRAIN_S;
    assert!(grace_s >= needed_s, "{grace_s} s for {APPLICATION_S} s, {drain_ms} ms and {AFTER_DRAIN_S} s");
}

/// Lays the component beside a kustomization with these resources and builds it.
fn with_component(resources: &[Value]) -> Vec<Value> {
    let folder = TestFolder::new("kustomize");
    let component = folder.path().join("sidecar");
    fs::create_dir(&component).unwrap();
    for file in files("deploy/kubernetes/sidecar") {
        fs::copy(&file, component.join(file.file_name().unwrap())).unwrap();
    }
    let user = folder.path().join("user");
    fs::create_dir(&user).unwrap();
    let mut names = Vec::new();
    for (place, resource) in resources.iter().enumerate() {
        let name = format!("{place}.yaml");
        fs::write(user.join(&name), resource.to_string()).unwrap();
        names.push(name);
    }
    let kustomization = json!({"resources": names, "components": ["../sidecar"]});
    fs::write(user.join("kustomization.yaml"), kustomization.to_string()).unwrap();
    yaml(&kustomize(&user))
}

fn workload(kind: &str, name: &str, labels: &Value) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name, "labels": labels},
        "spec": {
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}, "annotations": {"kept": "yes"}},
                "spec": {
                    "serviceAccountName": "own",
                    "initContainers": [{"name": "migrate", "image": "m:1"}],
                    "containers": [{"name": "app", "image": "a:1", "volumeMounts": [{"name": "own", "mountPath": "/own"}]}],
                    "volumes": [{"name": "own", "emptyDir": {}}],
                }
            }
        }
    })
}

fn a_workload_keeps_what_it_has_and_may_stay_without() {
    let documents = with_component(&[
        workload("Deployment", "with", &json!({})),
        workload("StatefulSet", "stateful", &json!({})),
        workload("Deployment", "without", &json!({"producer.caas/sidecar": "false"})),
        workload("DaemonSet", "daemon", &json!({})),
    ]);
    for (kind, name) in [("Deployment", "with"), ("StatefulSet", "stateful")] {
        let workload = named(&documents, kind, name);
        let names: Vec<_> = containers(workload).into_iter().map(|one| text(one, "/name")).collect();
        assert_eq!(
            names,
            [SIDECAR, "migrate", "app"],
            "{name}: it starts first, so that all others may send"
        );
        let template = template(workload);
        assert_eq!(text(template, "/metadata/annotations/kept"), "yes");
        assert_eq!(text(template, "/metadata/labels/app"), name);
        assert_eq!(text(template, "/spec/serviceAccountName"), "own");
        let volumes: Vec<_> = list(template, "/spec/volumes").iter().map(|one| text(one, "/name")).collect();
        assert!(volumes.contains(&"own") && volumes.len() == 3, "{volumes:?}");
        // The selector of a workload cannot be changed.
        assert_eq!(workload["spec"]["selector"], json!({"matchLabels": {"app": name}}));
    }
    for (kind, name) in [("Deployment", "without"), ("DaemonSet", "daemon")] {
        let workload = named(&documents, kind, name);
        assert_eq!(sidecar(workload), None, "{name}");
        assert_eq!(template(workload)["spec"].get("terminationGracePeriodSeconds"), None);
    }
}

fn the_policy_lets_through_what_the_sidecar_needs() {
    let documents = &example().1;
    let policy = named(documents, "NetworkPolicy", "producer-sidecar");
    assert!(selects(&policy["spec"]["podSelector"], &template(gateway())["metadata"]["labels"]));
    let ports = |direction: &str| {
        let rules = list(policy, &format!("/spec/{direction}")).iter();
        rules.flat_map(|rule| list(rule, "/ports").to_vec()).collect::<Vec<_>>()
    };
    let inward = ports("ingress");
    assert_eq!(inward.len(), 1, "{inward:?}");
    assert_eq!(port(gateway(), &inward[0]["port"]), Some(9464));
    let environment = environment(documents, the_sidecar());
    let value = |name: &str| environment.iter().find(|(known, _)| known == name).unwrap().1.clone();
    let mut needed: Vec<u64> = value("KAFKA_BROKERS").split(',').map(last_number).collect();
    needed.extend([last_number(&value("OTEL_EXPORTER_OTLP_ENDPOINT")), 53]);
    let outward = ports("egress");
    for port in needed {
        let lets_through = outward.iter().any(|open| {
            let first = number(open, "/port");
            (first..=open["endPort"].as_u64().unwrap_or(first)).contains(&port)
        });
        assert!(lets_through, "{port} is closed: {outward:?}");
    }
}

fn last_number(address: &str) -> u64 {
    address.rsplit(':').next().unwrap().parse().unwrap()
}

fn the_monitor_finds_the_sidecars_and_the_operator_gets_the_alerts() {
    let monitor = named(&example().1, "PodMonitor", "producer-sidecar");
    assert!(selects(&monitor["spec"]["selector"], &template(gateway())["metadata"]["labels"]));
    let endpoints = list(monitor, "/spec/podMetricsEndpoints");
    assert_eq!(endpoints.len(), 1);
    assert_eq!(port(gateway(), &endpoints[0]["port"]), Some(9464));
    assert_eq!(text(&endpoints[0], "/path"), "/metrics");
    let rule = of_kind(&example().1, "PrometheusRule")[0];
    assert_eq!(rule["spec"]["groups"], rules::groups(), "the operator's rules are those that are tested");
}
