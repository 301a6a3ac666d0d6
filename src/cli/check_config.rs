//! Owns `check-config`: every problem of the settings in one run, or the settings in force with their origins.
//! Must never connect to anything, and never print a secret.

use std::io::{self, Write};

use secrecy::ExposeSecret as _;

use super::arguments::SettingArguments;
use crate::{
    config::{
        Purpose,
        problem::{Problem, Problems},
        source::{self, Environment, Further, Inputs, Loaded},
    },
    kafka::producer,
    telemetry,
};

/// The exit codes of this command.
const CLEAN: u8 = 0;
const FAULT: u8 = 1;
const WRONG_SETTINGS: u8 = 64;

/// Checks the settings as `serve` would read them and returns the exit code.
///
/// Settings go to `output`, problems to `errors`. 0: all is well; 64: there are problems; 1: a writer failed.
pub fn run(
    arguments: &SettingArguments,
    environment: &Environment,
    output: &mut impl Write,
    errors: &mut impl Write,
) -> u8 {
    let (written, code) = match load(arguments, environment, Purpose::Serve) {
        Ok(loaded) => (print_settings(&loaded, output).and_then(|()| print_ignored(&loaded, errors)), CLEAN),
        Err(problems) => (print_problems(&problems, errors), WRONG_SETTINGS),
    };
    if written.is_ok() { code } else { FAULT }
}

/// Loads the settings and judges what the table leaves to others: the log filter, and librdkafka's own properties.
///
/// # Errors
/// Every problem of this run.
pub fn load(
    arguments: &SettingArguments,
    environment: &Environment,
    purpose: Purpose,
) -> Result<Loaded, Problems> {
    let inputs = Inputs { config: arguments.config.as_deref(), flags: &arguments.settings, environment };
    source::load_judged(inputs, purpose, judge)
}

fn judge(further: &Further<'_>) -> Vec<Problem> {
    let mut problems = Vec::new();
    if let Some((filter, place)) = &further.filter
        && let Err(error) = telemetry::filter(filter)
    {
        let mend = "write a level or directives such as `info,librdkafka=warn`";
        problems.push(Problem::new("log.filter", place.clone(), error.to_string(), mend));
    }
    if let Some((properties, place)) = &further.properties {
        for (name, value) in *properties {
            if let Err(error) = producer::check(&[(name.clone(), value.expose_secret().to_owned())]) {
                let mend = "see librdkafka's CONFIGURATION.md for the property and its range";
                let key = format!("kafka.properties.{name}");
                problems.push(Problem::new(key, place.clone(), error.to_string(), mend));
            }
        }
    }
    problems
}

fn print_settings(loaded: &Loaded, output: &mut impl Write) -> io::Result<()> {
    for ((key, origin), (_, shown)) in loaded.origins.iter().zip(&loaded.shown) {
        writeln!(output, "{key} = {shown}  ({origin})")?;
    }
    output.flush()
}

/// Prints what is wrong without ending the start.
fn print_ignored(loaded: &Loaded, errors: &mut impl Write) -> io::Result<()> {
    for problem in &loaded.ignored {
        writeln!(errors, "warning: {problem}")?;
    }
    errors.flush()
}

fn print_problems(problems: &Problems, errors: &mut impl Write) -> io::Result<()> {
    let count = problems.0.len();
    let noun = if count == 1 { "problem" } else { "problems" };
    writeln!(errors, "{problems}")?;
    writeln!(errors, "{count} {noun}")?;
    errors.flush()
}

#[cfg(test)]
mod tests;
