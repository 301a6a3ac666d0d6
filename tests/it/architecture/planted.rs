//! Owns texts that break the law, one breach each, and texts that look like it and do not.

use super::law::Rule;

/// A breach, and where the checker must find it.
#[derive(Debug)]
pub struct Planted {
    pub path: &'static str,
    pub text: &'static str,
    pub rule: Rule,
    pub line: usize,
}

const fn planted(path: &'static str, text: &'static str, rule: Rule, line: usize) -> Planted {
    Planted { path, text, rule, line }
}

pub const BREACHES: &[Planted] = &[
    // Upward: by a tree, a group, a rename, a glob, a path in code, in a type, through `super`, in a macro, in a test.
    planted("src/record.rs", "use crate::failure::Failure;", Rule::Upward, 1),
    planted(
        "src/kafka/topics.rs",
        "use crate::{\n    record::Topic,\n    pipeline::{self, send::Sender},\n};",
        Rule::Upward,
        3,
    ),
    planted("src/config.rs", "use crate::kafka as k;", Rule::Upward, 1),
    planted("src/failure.rs", "use crate::partition::*;", Rule::Upward, 1),
    planted(
        "src/pipeline/send.rs",
        "fn f() {\n    let _ = crate::grpc::status::status();\n}",
        Rule::Upward,
        2,
    ),
    planted("src/lifecycle.rs", "fn f(_: Option<crate::record::Topic>) {}", Rule::Upward, 1),
    planted("src/kafka/producer.rs", "use super::super::app::App;", Rule::Upward, 1),
    planted("src/kafka/producer.rs", "fn f() { super::super::cli::run() }", Rule::Upward, 1),
    planted("src/telemetry.rs", "fn f() {\n    println!(\"{}\", crate::kafka::X);\n}", Rule::Upward, 2),
    planted(
        "src/telemetry.rs",
        "macro_rules! m {\n    () => {\n        use $crate::{record, admin::Admin};\n    };\n}",
        Rule::Upward,
        3,
    ),
    planted("src/partition.rs", "mod tests {\n    use crate::config::Config;\n}", Rule::Upward, 2),
    planted("src/app.rs", "#[doc = concat!(crate::cli::X)]\nfn f() {}", Rule::Upward, 1),
    planted("src/grpc/server.rs", "#[derive(crate::app::Derive)]\nstruct S;", Rule::Upward, 1),
    planted("src/app.rs", "use producer_sidecar::cli::Exit;", Rule::Upward, 1),
    // Beside.
    planted("src/grpc/health.rs", "use crate::admin::Admin;", Rule::Beside, 1),
    planted("src/admin.rs", "fn f() -> crate::grpc::Service { todo!() }", Rule::Beside, 1),
    planted("src/partition.rs", "use crate::retry;", Rule::Beside, 1),
    // No place.
    planted("src/cache.rs", "//! Holds things.", Rule::Unplaced, 1),
    planted("src/pipeline.rs", "use crate::cache::Cache;", Rule::Unplaced, 1),
    // The sources of settings: named, through the module, through a glob.
    planted("src/pipeline/send.rs", "use crate::config::source::Environment;", Rule::SettingsSource, 1),
    planted(
        "src/kafka.rs",
        "use crate::config;\nfn f() { config::watch::follow() }",
        Rule::SettingsSource,
        2,
    ),
    planted("src/grpc.rs", "use crate::config::*;\nfn f() { source::load() }", Rule::SettingsSource, 2),
    planted("src/grpc.rs", "use crate::config as c;\nfn f() { c::source::load() }", Rule::SettingsSource, 2),
    // Tasks past their owner: by their path, by a name that is used.
    planted("src/app.rs", "fn f() {\n    tokio::spawn(async {});\n}", Rule::Spawn, 2),
    planted("src/grpc/stream.rs", "use tokio::task;\nfn f() { task::spawn(async {}); }", Rule::Spawn, 2),
    // Foreign crates.
    planted("src/app.rs", "use tonic::service::Routes;", Rule::Door, 1),
    planted("src/pipeline/send.rs", "fn f() -> tonic::Status { todo!() }", Rule::Door, 1),
    planted("src/pipeline/send.rs", "#[tonic::async_trait]\nimpl S {}", Rule::Door, 1),
    planted("src/record.rs", "#[derive(prost::Message)]\nstruct S;", Rule::Door, 1),
    planted("src/record.rs", "use prost_types::Value;", Rule::Door, 1),
    planted("src/cli/send.rs", "use tonic_types::StatusExt as _;", Rule::Door, 1),
    planted("src/cli/send.rs", "fn f() {\n    vec![::tonic::Code::Ok]\n}", Rule::Door, 2),
    planted("src/cli/send.rs", "use crate::grpc::proto::SendRequest;", Rule::Door, 1),
    planted("src/app.rs", "use crate::grpc;\nfn f(_: grpc::proto::Record) {}", Rule::Door, 2),
    planted("src/pipeline/held.rs", "use rdkafka::error::KafkaError;", Rule::Door, 1),
    planted("src/telemetry.rs", "extern crate rdkafka_sys as sys;", Rule::Door, 1),
    planted("src/grpc/server.rs", "use axum::Router;", Rule::Door, 1),
    planted("src/admin.rs", "use {std::io, prometheus_client::registry::Registry};", Rule::Door, 1),
    // The environment.
    planted("src/kafka.rs", "fn f() { std::env::var(\"HOME\"); }", Rule::Environment, 1),
    planted("src/config/table.rs", "use std::{env, fs};", Rule::Environment, 1),
    planted("src/cli/serve.rs", "use std::env;\nfn f() { env::vars(); }", Rule::Environment, 2),
    planted("src/main.rs", "fn main() { std::env::current_dir(); }", Rule::Environment, 1),
    // Unsafe code, lint exceptions, names.
    planted("src/kafka/producer.rs", "fn f() {\n    unsafe { g() }\n}", Rule::Unsafe, 2),
    planted("src/kafka.rs", "unsafe impl Send for S {}", Rule::Unsafe, 1),
    planted("src/kafka.rs", "macro_rules! m { () => { unsafe { g() } } }", Rule::Unsafe, 1),
    planted("tests/support/src/reader.rs", "fn f() { unsafe { g() } }", Rule::Unsafe, 1),
    planted("tests/it/membership.rs", "fn f() { unsafe { g() } }", Rule::Unsafe, 1),
    planted("src/record.rs", "#![allow(dead_code)]", Rule::Allow, 1),
    planted("src/record.rs", "fn f() {\n    #[allow(unused)]\n    let x = 1;\n}", Rule::Allow, 2),
    planted("src/record.rs", "#[cfg_attr(test, allow(unused))]\nfn f() {}", Rule::Allow, 1),
    planted("src/kafka/mod.rs", "", Rule::Name, 1),
    planted("src/pipeline/helpers.rs", "", Rule::Name, 1),
    planted("src/record/types.rs", "", Rule::Name, 1),
];

/// Test code that sleeps or leaves out, and the line where.
pub const IMPATIENCE: &[(&str, usize)] = &[
    ("fn f() { std::thread::sleep(SECOND); }", 1),
    ("async fn f() {\n    tokio::time::sleep(SECOND).await;\n}", 2),
    ("use tokio::time::sleep as rest;", 1),
    ("fn f() { later!(thread::sleep(SECOND)); }", 1),
    ("#[test]\n#[ignore]\nfn f() {}", 2),
    ("#[cfg_attr(slow, ignore = \"slow\")]\nfn f() {}", 1),
    ("fn f() { trial.with_ignored_flag(true); }", 1),
];

/// Test code that neither sleeps nor leaves out.
pub const PATIENT: &str = r#"
//! Waits without sleep(1), and with no #[ignore].
fn f() {
    eventually(BOUND, "no sleep", || ready());
    print("sleep(5) #[ignore]");
    let ignored = sleepless();
}
"#;

/// Lawful files: own modules, what stands to the right, and the names of what is forbidden in comments, texts and test code.
pub const LAWFUL: &[(&str, &str)] = &[
    ("src/main.rs", "fn main() -> ExitCode { producer_sidecar::cli::run(std::env::args_os()).into() }"),
    ("src/lib.rs", "//! [`grpc`] is a door.\npub mod grpc;\npub mod record;"),
    ("src/cli/serve.rs", "use crate::{app::App, config::source, lifecycle};\nuse super::Exit;"),
    ("src/app.rs", "use crate::{grpc::server, admin, kafka, config::{self, source::load, watch}};"),
    (
        "src/grpc/status.rs",
        "use super::proto::ErrorReason;\nuse tonic::{Code, Status};\nuse crate::{failure::Failure, pipeline};",
    ),
    (
        "src/grpc/proto.rs",
        "mod generated { tonic::include_proto!(\"x\"); }\n#[expect(clippy::allow_attributes, reason = \"r\")]\nmod m {}",
    ),
    ("src/tasks.rs", "use tokio::task::JoinHandle;\nfn f() { tokio::task::spawn(async {}); }"),
    ("src/app.rs", "fn f() {\n    tasks.spawn(\"a\", async {});\n    tokio::task::spawn_blocking(f);\n}"),
    ("src/kafka/ffi.rs", "use rdkafka::bindings::x;\nfn f() { unsafe { x() } }"),
    ("src/config/source/environment.rs", "fn f() { std::env::vars_os(); super::super::parse::parse(); }"),
    (
        "src/config/table/markdown.rs",
        "#[cfg(test)]\nmod tests {\n    fn f() { std::env::var_os(\"UPDATE_DOCS\"); }\n}",
    ),
    (
        "src/record.rs",
        "//! Never imports crate::grpc::proto, tonic::Status or std::env::var; `unsafe` and #[allow] are words here.\n\
         /// [`crate::failure::Failure`]\n\
         fn f() { let kafka = \"crate::kafka unsafe #[allow(x)]\"; g(kafka, env!(\"CARGO_PKG_VERSION\")); }",
    ),
];
