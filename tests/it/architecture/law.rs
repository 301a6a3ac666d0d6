//! Owns the law itself, as data, and its judgement over a file.

use std::fmt;

use super::{
    files::Source,
    references::Reference,
    tokens::{identifiers, in_attributes},
};

/// The modules from left to right: each may import what stands to its right, never what stands to its left or beside it.
const LAYERS: &[&[&str]] = &[
    &["main"],
    &["cli"],
    &["app"],
    &["grpc", "admin"],
    &["pipeline"],
    &["kafka"],
    &["connections"],
    &["telemetry"],
    &["config"],
    &["retry", "dead_letter", "partition", "offsets"],
    &["failure"],
    &["record"],
    &["lifecycle", "clock"],
    &["tasks"],
];

/// Where settings come from: nobody else may ask there.
const SETTINGS_SOURCES: &[&[&str]] = &[&["crate", "config", "source"], &["crate", "config", "watch"]];
/// Who may.
const SETTINGS_READERS: &[&str] = &["cli", "app", "config"];

/// The only file that starts tasks: elsewhere a panic would be noticed by nobody.
const TASKS: &str = "src/tasks.rs";
/// What starts a task of its own.
const SPAWNS: &[&[&str]] = &[&["tokio", "spawn"], &["tokio", "task", "spawn"], &["tokio", "task", "JoinSet"]];

/// The generated code, which belongs to the same door as the crates that it stands on.
const GENERATED: &[&str] = &["crate", "grpc", "proto"];

/// The foreign crates that have one door; an underscore at the end stands for any ending.
const DOORS: &[(&str, &str)] = &[
    ("tonic", "grpc"),
    ("tonic_", "grpc"),
    ("prost", "grpc"),
    ("prost_", "grpc"),
    ("rdkafka", "kafka"),
    ("rdkafka_", "kafka"),
    ("kafka_protocol", "kafka"),
    ("openssl", "kafka"),
    ("openssl_sys", "kafka"),
    ("tokio_openssl", "kafka"),
    ("axum", "admin"),
    ("axum_", "admin"),
    ("prometheus_client", "telemetry"),
    ("opentelemetry", "telemetry"),
    ("opentelemetry_", "telemetry"),
    ("tracing_opentelemetry", "telemetry"),
];

/// The only module with unsafe code: this file, and those below the folder of its name.
const UNSAFE_MODULE: &str = "src/kafka/ffi";
/// The only files of the tests with unsafe code: rust-rdkafka neither writes down a consumer's membership, which consumers in
/// real groups have to send, nor makes a producer meet a fatal error, nor has a mock cluster answer with any code, nor takes a
/// header's name that is no text.
const UNSAFE_TEST_FILES: &[&str] = &[
    "tests/support/src/membership.rs",
    "tests/support/src/misnamed.rs",
    "tests/support/src/fatal.rs",
    "tests/support/src/mock.rs",
];

/// The most lines of a file: a reader holds one in the head.
pub const FILE_LINES_MAX: usize = 400;
/// Names that do not say what is inside.
const EMPTY_NAMES: &[&str] =
    &["mod", "util", "utils", "common", "helper", "helpers", "types", "manager", "managers"];

/// What only waits for time to pass.
const SLEEPS: &[&str] = &["sleep", "sleep_ms", "sleep_until", "park_timeout"];
/// What leaves a test out.
const SKIPS: &[&str] = &["ignore"];

/// One rule of the law.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// A module imports what stands to its left.
    Upward,
    /// A module imports what stands beside it.
    Beside,
    /// A module that the law does not know.
    Unplaced,
    /// The sources of settings are asked by somebody who may not.
    SettingsSource,
    /// A foreign crate, or generated code, outside of its door.
    Door,
    /// The process environment is read outside of `config::source`.
    Environment,
    /// A task is started past its owner.
    Spawn,
    /// Unsafe code outside of its file.
    Unsafe,
    /// A lint exception without a reason.
    Allow,
    /// A file is too long.
    Length,
    /// A file's name says nothing.
    Name,
    /// A test sleeps.
    Sleep,
    /// A test is left out.
    Skip,
}

/// One breach of the law.
#[derive(Debug)]
pub struct Breach {
    pub rule: Rule,
    pub line: usize,
    place: String,
    what: String,
}

impl fmt::Display for Breach {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rule, line, place, what } = self;
        write!(formatter, "{place}:{line}: {rule:?}: {what}")
    }
}

/// Judges a file under `src`.
pub fn breaches(source: &Source) -> Vec<Breach> {
    let mut breaches = shape(source);
    for reference in source.references() {
        let judged = imports(source, &reference).or_else(|| door(source, &reference));
        let judged = judged.or_else(|| environment(source, &reference)).or_else(|| spawn(source, &reference));
        breaches.extend(judged.map(|rule| breach(source, rule, reference.line, reference.path.join("::"))));
    }
    if source.top().is_some_and(|top| rank(top).is_none()) {
        breaches.push(breach(source, Rule::Unplaced, 1, "the law has no place for this module".to_owned()));
    }
    breaches.extend(unsafety(source));
    breaches.extend(named(source, Rule::Allow, in_attributes(&source.tokens, |name| name == "allow")));
    breaches
}

/// Judges whether unsafe code stands where it may.
pub fn unsafety(source: &Source) -> Vec<Breach> {
    let may = source.path.with_extension("").as_os_str() == UNSAFE_MODULE
        || source.path.starts_with(UNSAFE_MODULE)
        || UNSAFE_TEST_FILES.iter().any(|file| source.path.as_os_str() == *file);
    let found = || named(source, Rule::Unsafe, identifiers(&source.tokens, |name| name == "unsafe"));
    if may { Vec::new() } else { found().collect() }
}

/// Judges a file's length and name.
pub fn shape(source: &Source) -> Vec<Breach> {
    let mut breaches = Vec::new();
    let lines = source.text.lines().count();
    if lines > FILE_LINES_MAX {
        let what = format!("{lines} lines, the most are {FILE_LINES_MAX}");
        breaches.push(breach(source, Rule::Length, lines, what));
    }
    let name = source.path.file_stem().unwrap_or_default().to_string_lossy();
    if EMPTY_NAMES.contains(&&*name) {
        breaches.push(breach(source, Rule::Name, 1, name.into_owned()));
    }
    breaches
}

/// Judges whether a test file waits for a condition, and leaves nothing out.
pub fn patience(source: &Source) -> Vec<Breach> {
    let sleeps = identifiers(&source.tokens, |name| SLEEPS.contains(&name));
    let ignores = in_attributes(&source.tokens, |name| SKIPS.contains(&name));
    let flags = identifiers(&source.tokens, |name| name == "with_ignored_flag");
    let sleeps = named(source, Rule::Sleep, sleeps);
    sleeps.chain(named(source, Rule::Skip, ignores)).chain(named(source, Rule::Skip, flags)).collect()
}

fn imports(source: &Source, reference: &Reference) -> Option<Rule> {
    let ["crate", to, ..] = parts(reference)[..] else { return None };
    let from = source.top().unwrap_or("main");
    if starts_with_any(reference, SETTINGS_SOURCES) && !SETTINGS_READERS.contains(&from) {
        return Some(Rule::SettingsSource);
    }
    if from == to {
        return None;
    }
    match (rank(from), rank(to)) {
        (_, None) => Some(Rule::Unplaced),
        (Some(from), Some(to)) if to < from => Some(Rule::Upward),
        (Some(from), Some(to)) if to == from => Some(Rule::Beside),
        // The file as a whole is judged where its own module has no place.
        (Some(_) | None, Some(_)) => None,
    }
}

fn door(source: &Source, reference: &Reference) -> Option<Rule> {
    let first = parts(reference)[0];
    let is = |name: &str| first == name || (name.ends_with('_') && first.starts_with(name));
    let owner = DOORS.iter().find(|(name, _)| is(name)).map(|(_, owner)| *owner);
    let owner = owner.or_else(|| starts_with_any(reference, &[GENERATED]).then_some("grpc"));
    owner.filter(|owner| source.top() != Some(*owner)).map(|_| Rule::Door)
}

fn environment(source: &Source, reference: &Reference) -> Option<Rule> {
    let ["std", "env", rest @ ..] = &parts(reference)[..] else { return None };
    let module: Vec<_> = source.module.iter().map(String::as_str).collect();
    let allowed = match &module[..] {
        ["config", "source", ..] => true,
        // The command line's words are no setting yet.
        [] | ["cli", ..] => rest.first() == Some(&"args_os"),
        _ => false,
    };
    // What is not shipped reads no setting.
    (!allowed && !reference.in_test).then_some(Rule::Environment)
}

fn spawn(source: &Source, reference: &Reference) -> Option<Rule> {
    let is_owner = source.path.as_os_str() == TASKS;
    let is_spawn = starts_with_any(reference, SPAWNS);
    (is_spawn && !is_owner && !reference.in_test).then_some(Rule::Spawn)
}

fn rank(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

fn parts(reference: &Reference) -> Vec<&str> {
    reference.path.iter().map(String::as_str).collect()
}

fn starts_with_any(reference: &Reference, prefixes: &[&[&str]]) -> bool {
    prefixes.iter().any(|prefix| parts(reference).starts_with(prefix))
}

fn named(source: &Source, rule: Rule, found: Vec<(String, usize)>) -> impl Iterator<Item = Breach> {
    found.into_iter().map(move |(name, line)| breach(source, rule, line, name))
}

fn breach(source: &Source, rule: Rule, line: usize, what: String) -> Breach {
    Breach { rule, line, place: source.path.display().to_string(), what }
}
