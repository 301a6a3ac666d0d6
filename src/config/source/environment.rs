//! Owns the process environment: which variables are settings, and which unknown ones are errors.
//! Must never hold on to a secret longer than it takes to load the settings.

use std::{
    ffi::{OsStr, OsString},
    fmt,
    path::PathBuf,
};

use super::{CONFIG_VARIABLE, Origin, Problem, Raw, Said, nearest, table};

/// The prefix under which unknown variables are errors.
const OURS: &str = "SIDECAR_";
/// Where Linux tells the host's name.
const HOST_NAME_FILE: &str = "/proc/sys/kernel/hostname";

/// A picture of the environment; `Debug` prints no value.
#[derive(Clone)]
pub struct Environment {
    variables: Vec<(OsString, OsString)>,
    host_name: Option<String>,
}

// === impl Environment ===

impl Environment {
    /// Takes the picture of this process: its variables and its host's name.
    #[must_use]
    pub fn of_process() -> Self {
        let mut environment = Self::of(std::env::vars_os());
        let host_name = std::fs::read_to_string(HOST_NAME_FILE).ok();
        let host_name = host_name.map(|text| text.trim().to_owned());
        environment.host_name = host_name.filter(|name| !name.is_empty()).or(environment.host_name);
        environment
    }

    /// Takes variables from anywhere; the host's name is then `HOSTNAME`.
    #[must_use]
    pub fn of<K: Into<OsString>, V: Into<OsString>>(variables: impl IntoIterator<Item = (K, V)>) -> Self {
        let pairs = variables.into_iter();
        let mut variables: Vec<_> = pairs
            .map(|(name, value)| (name.into(), value.into()))
            // An empty variable is how manifests and shells say that there is none.
            .filter(|(_, value): &(OsString, OsString)| !value.is_empty())
            .collect();
        variables.sort();
        let mut environment = Self { variables, host_name: None };
        let host_name = environment.get("HOSTNAME").and_then(OsStr::to_str);
        environment.host_name = host_name.map(ToOwned::to_owned);
        environment
    }

    pub(super) fn host_name(&self) -> Option<&str> {
        self.host_name.as_deref()
    }

    pub(super) fn config_path(&self) -> Option<PathBuf> {
        self.get(CONFIG_VARIABLE).map(PathBuf::from)
    }

    /// Returns the settings among the variables, in the table's order; unknown variables of ours are problems.
    pub(super) fn said(&self, problems: &mut Vec<Problem>) -> Vec<Said> {
        let mut said = Vec::new();
        for setting in table::settings() {
            let Some(name) = &setting.environment else {
                continue;
            };
            let Some(value) = self.get(name) else {
                continue;
            };
            let place = Origin::Environment(name.clone());
            match value.to_str() {
                Some(text) => said.push(Said { setting, raw: Raw::Text(text.to_owned()), place }),
                None => problems.push(Problem::new(
                    setting.key,
                    place,
                    "is not UTF-8",
                    format!("write {}", setting.takes()),
                )),
            }
        }
        let names = self.variables.iter().map(|(name, _)| name.to_string_lossy());
        problems.extend(names.filter_map(|name| unknown(&name)));
        said
    }

    fn get(&self, name: &str) -> Option<&OsStr> {
        let found = self.variables.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_os_str())
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Environment({} variables)", self.variables.len())
    }
}

fn unknown(name: &str) -> Option<Problem> {
    if !name.starts_with(OURS) || name == CONFIG_VARIABLE || is_service_link(name) {
        return None;
    }
    let known = || table::settings().iter().filter_map(|setting| setting.environment.as_deref());
    if known().any(|known| known == name) {
        return None;
    }
    let mend = match nearest::nearest(name, known()) {
        Some(near) => format!("did you mean {near}?"),
        None => "remove it; docs/configuration.md lists the variables".to_owned(),
    };
    let place = Origin::Environment(name.to_owned());
    Some(Problem::new(name, place, "is not a setting", mend))
}

/// Says whether Kubernetes adds such a variable for a service whose name begins with `sidecar`.
fn is_service_link(name: &str) -> bool {
    name.ends_with("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || name.ends_with("_PORT")
        || name.contains("_PORT_")
}
