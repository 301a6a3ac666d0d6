//! What the sidecar is deployed with is valid, by the tools that will read it, and fits the sidecar: its settings, probes,
//! metrics and time to stop.
//!
//! No container runs here. What Kubernetes does with the manifests is played with processes in `life`.

pub mod broker;
pub mod compose;
pub mod dashboard;
pub mod exported;
mod expressions;
pub mod kubernetes;
pub mod life;
pub mod lint;
mod manifest;
pub mod rules;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use serde_json::Value;
use testkit::{TestFolder, ToolOutput, checkers, find_tool, run_tool, try_find_tool};

use crate::{
    client::BINARY,
    commands::{Ended, to_end},
};

/// The root of the checkout.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Reads a file of the checkout.
fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Parses YAML, all documents of it.
fn yaml(text: &str) -> Vec<Value> {
    let program = "import sys, json, yaml; json.dump(list(yaml.safe_load_all(sys.stdin)), sys.stdout)";
    let parsed = run_tool(&checkers(), &["-c", program], root(), text);
    assert_eq!(parsed.exit, Some(0), "{}", parsed.stderr);
    serde_json::from_str(&parsed.stdout).unwrap()
}

/// Parses a YAML file of the checkout that holds one document.
fn yaml_file(path: &str) -> Value {
    let mut documents = yaml(&read(path));
    assert_eq!(documents.len(), 1, "{path}");
    documents.remove(0)
}

fn promtool(arguments: &[&str], folder: &Path) -> ToolOutput {
    run_tool(&find_tool("promtool", "PROMTOOL"), arguments, folder, "")
}

#[track_caller]
fn succeeds(output: &ToolOutput) {
    assert_eq!(output.exit, Some(0), "{}\n{}", output.stdout, output.stderr);
}

/// Builds a kustomization.
fn kustomize(folder: &Path) -> String {
    let (tool, verb) = match try_find_tool("kustomize", "KUSTOMIZE") {
        Some(kustomize) => (kustomize, "build"),
        None => (find_tool("kubectl", "KUBECTL"), "kustomize"),
    };
    let built = run_tool(&tool, &[verb, "."], folder, "");
    succeeds(&built);
    assert!(built.stderr.is_empty(), "{}", built.stderr);
    built.stdout
}

/// The example as kustomize builds it: its text and its documents.
fn example() -> &'static (String, Vec<Value>) {
    static EXAMPLE: OnceLock<(String, Vec<Value>)> = OnceLock::new();
    EXAMPLE.get_or_init(|| {
        let text = kustomize(&root().join("deploy/kubernetes/example"));
        let documents = yaml(&text);
        (text, documents)
    })
}

/// Has the sidecar check an environment as its container would have it. Paths below /run/secrets are looked for in a folder
/// that holds what the Secret would.
fn check_config(environment: &[(String, String)]) -> Ended {
    let secrets = TestFolder::new("secrets");
    for (file, content) in
        [("user", "u"), ("password", "p"), ("ca.pem", &testkit::certificates::generate().ca)]
    {
        secrets.write(file, content);
    }
    let mut command = testkit::Sidecar::builder(BINARY).arg("check-config");
    for (name, value) in environment {
        let here = secrets.path().display().to_string();
        command = command.env(name, value.replace("/run/secrets/producer-sidecar", &here));
    }
    to_end(command)
}

/// The value of a setting in what `check-config` prints.
fn setting(checked: &Ended, key: &str) -> String {
    let beginning = format!("{key} = ");
    let line = checked.stdout.iter().find_map(|line| line.strip_prefix(&beginning));
    let line = line.unwrap_or_else(|| panic!("{key} in {checked:?}"));
    line.split("  (").next().unwrap().to_owned()
}

/// All files of a folder of the checkout, folders within it included.
fn files(folder: &str) -> Vec<PathBuf> {
    let mut folders = vec![root().join(folder)];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    files.sort();
    files
}
