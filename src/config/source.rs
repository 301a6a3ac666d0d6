//! Owns where settings come from: the file, the environment, the flags, secret files, and which of them wins.
//! The only place of the program that reads the environment. Must never stop at the first problem, and never put a secret
//! into one. Only `cli` and `app` may use it.

mod environment;
mod file;
mod files;
mod nearest;
mod secrets;
mod tree;

pub use self::{
    environment::Environment,
    files::{Look, SecretFiles},
};

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use secrecy::SecretString;

use super::{
    Config, Purpose, assemble,
    parse::{Raw, parse},
    problem::{Origin, Problem, Problems},
    table::{self, Default, Kind, Setting},
    traces,
    values::{Value, Values},
};

/// The variable that names the settings file.
pub const CONFIG_VARIABLE: &str = "SIDECAR_CONFIG";

/// Everything that was said.
#[derive(Debug, Clone, Copy)]
pub struct Inputs<'a> {
    /// The file that `--config` names; it wins over `SIDECAR_CONFIG`.
    pub config: Option<&'a Path>,
    /// The flags: setting's key and text.
    pub flags: &'a [(&'static str, String)],
    /// The environment.
    pub environment: &'a Environment,
}

/// The settings in force.
#[derive(Debug)]
pub struct Loaded {
    /// The checked settings.
    pub config: Config,
    /// Where each comes from, in the table's order.
    pub origins: Vec<(&'static str, Origin)>,
    /// What each may be shown as, in the same order; secrets are `(set)`, what has no value is `(unset)`.
    pub shown: Vec<(&'static str, String)>,
    /// The files that hold secrets and certificates.
    pub files: Arc<SecretFiles>,
    /// OpenTelemetry's variables that cannot be used, and what holds in their place.
    pub ignored: Vec<Problem>,
}

/// A value with where it was said.
struct Said {
    setting: &'static Setting,
    raw: Raw,
    place: Origin,
}

/// What the table leaves to those who own the meaning: the log's filter and librdkafka's own properties.
#[derive(Debug)]
pub struct Further<'a> {
    /// The filter with its place, where one could be read.
    pub filter: Option<(&'a str, Origin)>,
    /// The librdkafka properties with the place of their map.
    pub properties: Option<(&'a BTreeMap<String, SecretString>, Origin)>,
}

/// Gathers, parses and checks the settings.
///
/// # Errors
/// Returns every problem of all sources at once.
pub fn load(inputs: Inputs<'_>, purpose: Purpose) -> Result<Loaded, Problems> {
    load_judged(inputs, purpose, |_| Vec::new())
}

/// Does as [`load`] does, and lets `judge` add problems of what is not the table's to know.
///
/// # Errors
/// Returns every problem of all sources, and the judge's, at once.
pub fn load_judged(
    inputs: Inputs<'_>,
    purpose: Purpose,
    judge: impl FnOnce(&Further<'_>) -> Vec<Problem>,
) -> Result<Loaded, Problems> {
    let mut problems = Vec::new();
    let mut values = Values::default();
    // From the weakest source to the strongest: a later value replaces an earlier one, and all are checked.
    let mut said = defaults(inputs.environment);
    if let Some(path) = config_path(&inputs) {
        said.extend(file::read(&path, &mut problems));
    }
    said.extend(inputs.environment.said(&mut problems));
    said.extend(flags(inputs.flags));
    for Said { setting, raw, place } in said {
        match parse(setting, raw, &place, &mut problems) {
            Some(value) => values.insert(setting.key, value, place),
            // What holds without it stays.
            None if place.is_opentelemetrys() => {}
            None => values.mark_broken(setting.key),
        }
    }
    let files = SecretFiles::of(&values, purpose);
    match purpose {
        Purpose::Serve => problems.extend(secrets::read(&mut values)),
        Purpose::Dev => {}
    }
    problems.extend(judge(&further(&values)));
    let ignored = ignored(&mut problems, &values);
    match assemble::assemble(&values, purpose) {
        Ok(config) if problems.is_empty() => Ok(loaded(config, &values, files, ignored)),
        Ok(_) => Err(Problems(problems)),
        Err(more) => {
            problems.extend(more);
            Err(Problems(problems))
        }
    }
}

fn further(values: &Values) -> Further<'_> {
    let filter = match values.get("log.filter") {
        Some(Value::Text(filter)) => Some((filter.as_str(), values.origin("log.filter"))),
        Some(_) | None => None,
    };
    let properties = match values.get("kafka.properties") {
        Some(Value::Properties(properties)) => Some((properties, values.origin("kafka.properties"))),
        Some(_) | None => None,
    };
    Further { filter, properties }
}

fn defaults(environment: &Environment) -> Vec<Said> {
    let default = |setting: &'static Setting| {
        let (text, place) = match &setting.default {
            Default::Value(text) => (text.clone(), Origin::Default),
            Default::HostName => (environment.host_name()?.to_owned(), Origin::HostName),
            Default::Unset => return None,
        };
        Some(Said { setting, raw: Raw::Text(text), place })
    };
    table::settings().iter().filter_map(default).collect()
}

fn config_path(inputs: &Inputs<'_>) -> Option<PathBuf> {
    inputs.config.map(Path::to_owned).or_else(|| inputs.environment.config_path())
}

fn flags(flags: &[(&'static str, String)]) -> Vec<Said> {
    let said = flags.iter().filter_map(|(key, text)| {
        let setting = table::find(key)?;
        Some(Said { setting, raw: Raw::Text(text.clone()), place: Origin::Flag(setting.flag.clone()?) })
    });
    said.collect()
}

/// Takes out what is wrong in OpenTelemetry's variables, and says what holds in their place.
fn ignored(problems: &mut Vec<Problem>, values: &Values) -> Vec<Problem> {
    let taken = problems.extract_if(.., |problem| problem.place.is_opentelemetrys());
    let instead = |Problem { key, place, wrong, .. }| {
        let mend = format!("it is ignored, and {key} is {}", shown(values, &key));
        Problem { key, place, wrong, mend }
    };
    taken.map(instead).chain(traces::ignored(values)).collect()
}

fn shown(values: &Values, key: &str) -> String {
    values.get(key).map_or_else(|| "(unset)".to_owned(), Value::shown)
}

fn loaded(config: Config, values: &Values, files: SecretFiles, ignored: Vec<Problem>) -> Loaded {
    let keys = || table::settings().iter().map(|setting| setting.key);
    Loaded {
        config,
        origins: keys().map(|key| (key, values.origin(key))).collect(),
        shown: keys().map(|key| (key, shown(values, key))).collect(),
        files: Arc::new(files),
        ignored,
    }
}

#[cfg(test)]
mod tests;
