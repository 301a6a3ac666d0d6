//! The law of the source code, checked on its syntax: who may import whom, which door a foreign crate comes in by, how long
//! a file may be. The checker itself is checked with planted breaches.

mod files;
mod law;
mod planted;
mod references;
mod tokens;

use std::{collections::BTreeSet, path::Path};

use self::{
    files::{Source, sources},
    law::{Breach, breaches},
};

crate::tests!(
    the_sources_keep_the_law,
    the_tests_neither_sleep_nor_skip,
    no_test_file_is_forgotten,
    the_harness_does_not_know_the_sidecar,
    the_checker_finds_planted_breaches,
    the_checker_lets_the_lawful_pass,
);

fn none(breaches: &[Breach]) {
    let lines: Vec<_> = breaches.iter().map(ToString::to_string).collect();
    assert!(lines.is_empty(), "{} breaches of the law:\n{}", lines.len(), lines.join("\n"));
}

fn the_sources_keep_the_law() {
    let sources = sources("src");
    // Every module that the law names is there: a law about nothing would always be kept.
    let modules: BTreeSet<_> =
        sources.iter().filter_map(|source| source.top().map(ToOwned::to_owned)).collect();
    for name in
        ["cli", "app", "grpc", "admin", "pipeline", "kafka", "telemetry", "config", "failure", "record"]
    {
        assert!(modules.contains(name), "src/{name}.rs is not there: {modules:?}");
    }
    none(&sources.iter().flat_map(breaches).collect::<Vec<_>>());
}

fn the_tests_neither_sleep_nor_skip() {
    let sources: Vec<_> = ["tests/it", "tests/support/src"].into_iter().flat_map(self::sources).collect();
    none(&sources.iter().flat_map(law::shape).collect::<Vec<_>>());
    none(&sources.iter().flat_map(law::unsafety).collect::<Vec<_>>());
    let tests = sources.iter().filter(|source| source.path.starts_with("tests/it"));
    none(&tests.flat_map(law::patience).collect::<Vec<_>>());
}

fn no_test_file_is_forgotten() {
    let sources = sources("tests/it");
    let main = sources.iter().find(|source| source.path == Path::new("tests/it/main.rs")).unwrap();
    let mut known = BTreeSet::from([main.path.clone()]);
    let mut unread = vec![main];
    while let Some(source) = unread.pop() {
        let children = source.children();
        unread.extend(sources.iter().filter(|other| children.contains(&other.path)));
        known.extend(children);
    }
    let present: BTreeSet<_> = sources.iter().map(|source| source.path.clone()).collect();
    assert_eq!(present, known, "files that are there, against those that main.rs reaches");

    // A module whose tests no list names would compile and never run.
    let listed: BTreeSet<_> = sources.iter().flat_map(Source::test_lists).collect();
    let with_tests = sources.iter().filter(|source| source.declares_tests());
    for source in with_tests {
        assert!(listed.contains(&source.module), "no list names the tests of {}", source.path.display());
    }
}

fn the_harness_does_not_know_the_sidecar() {
    let manifest = files::read("tests/support/Cargo.toml");
    for line in manifest.lines().map(str::trim).filter(|line| !line.starts_with(['#'])) {
        let depends = line.starts_with("producer-sidecar")
            || line.contains("package = \"producer-sidecar\"")
            || line.contains("path = \"../..\"");
        assert!(!depends, "tests/support depends on the sidecar: {line}");
    }
    for source in sources("tests/support/src") {
        let names = tokens::identifiers(&source.tokens, |name| name == "producer_sidecar");
        assert!(names.is_empty(), "{} names the sidecar's crate: {names:?}", source.path.display());
    }
}

fn the_checker_finds_planted_breaches() {
    for planted in planted::BREACHES {
        let source = Source::parse(planted.path, planted.text);
        let found: Vec<_> = breaches(&source).into_iter().map(|breach| (breach.rule, breach.line)).collect();
        assert!(found.contains(&(planted.rule, planted.line)), "{planted:?}: {found:?}");
    }
    for (text, line) in planted::IMPATIENCE {
        let found = law::patience(&Source::parse("tests/it/planted.rs", text));
        assert!(found.iter().any(|breach| breach.line == *line), "{text}: {found:?}");
    }
    let long = "// a line\n".repeat(law::FILE_LINES_MAX + 1);
    let found = breaches(&Source::parse("src/record.rs", &long));
    assert_eq!(found.first().map(|breach| breach.rule), Some(law::Rule::Length), "{found:?}");
}

fn the_checker_lets_the_lawful_pass() {
    for (path, text) in planted::LAWFUL {
        none(&breaches(&Source::parse(path, text)));
    }
    none(&law::patience(&Source::parse("tests/it/planted.rs", planted::PATIENT)));
    none(&law::unsafety(&Source::parse("tests/support/src/membership.rs", "fn f() { unsafe { g() } }")));
    none(&breaches(&Source::parse("src/record.rs", &"// a line\n".repeat(law::FILE_LINES_MAX))));
}
