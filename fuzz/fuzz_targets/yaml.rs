//! Settings files: any text is either settings or problems, each with its place, and never a panic.
#![no_main]

use std::{fs, path::PathBuf, sync::LazyLock};

use libfuzzer_sys::fuzz_target;
use producer_sidecar::config::{
    Purpose,
    source::{Environment, Inputs, load},
};

/// Secrets are not read in `dev`, so that no file is opened which the text names.
const PURPOSE: Purpose = Purpose::Dev;

static FILE: LazyLock<PathBuf> =
    LazyLock::new(|| std::env::temp_dir().join(format!("producer-sidecar-fuzz-{}.yaml", std::process::id())));

fuzz_target!(|input: &[u8]| {
    fs::write(&*FILE, input).expect("the file can be written");
    let environment = Environment::of([("HOSTNAME", "fuzz")]);
    let inputs = Inputs { config: Some(FILE.as_path()), flags: &[], environment: &environment };
    match load(inputs, PURPOSE) {
        Ok(loaded) => assert_eq!(loaded.origins.len(), loaded.shown.len()),
        Err(problems) => assert!(!problems.to_string().is_empty()),
    }
});
