//! Owns how a wrong setting is told: which one, where it stands, what is wrong and how to mend it.
//! Must never hold a secret's value: whoever makes a problem leaves it out.

use std::fmt;

/// Where a value comes from, or where a problem stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A place in the settings file.
    File {
        /// The path as it was given.
        path: String,
        /// Line and column, both from 1; unset where the file as a whole is meant.
        at: Option<(usize, usize)>,
    },
    /// The environment variable of that name.
    Environment(String),
    /// The flag of that name, without its dashes.
    Flag(String),
    /// The built-in default.
    Default,
    /// The machine's host name, the default of `instance_id`.
    HostName,
    /// No place: nothing was said.
    Nowhere,
}

/// One wrong setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The setting's key, or the unknown name as it was written.
    pub key: String,
    /// Where it stands.
    pub place: Origin,
    /// What is wrong; quotes the value unless it is or may be a secret.
    pub wrong: String,
    /// What to do about it.
    pub mend: String,
}

/// Every problem of one run, in the order in which they were found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

// === impl Origin ===

impl Origin {
    /// Returns whether it is one of OpenTelemetry's variables, which a pod sets for its application: what is wrong there is
    /// ignored and told, and must not end the start.
    #[must_use]
    pub fn is_opentelemetrys(&self) -> bool {
        matches!(self, Self::Environment(name) if name.starts_with("OTEL_"))
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, at: Some((line, column)) } => write!(formatter, "{path}:{line}:{column}"),
            Self::File { path, at: None } => formatter.write_str(path),
            Self::Environment(name) => write!(formatter, "environment {name}"),
            Self::Flag(name) => write!(formatter, "--{name}"),
            Self::Default => formatter.write_str("default"),
            Self::HostName => formatter.write_str("host name"),
            Self::Nowhere => formatter.write_str("nowhere"),
        }
    }
}

// === impl Problem ===

impl Problem {
    /// Makes a problem.
    #[must_use]
    pub fn new(
        key: impl Into<String>,
        place: Origin,
        wrong: impl Into<String>,
        mend: impl Into<String>,
    ) -> Self {
        Self { key: key.into(), place, wrong: wrong.into(), mend: mend.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, place, wrong, mend } = self;
        write!(formatter, "{key} ({place}): {wrong}; {mend}")
    }
}

// === impl Problems ===

impl fmt::Display for Problems {
    /// Prints one line for each problem.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                formatter.write_str("\n")?;
            }
            problem.fmt(formatter)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}
