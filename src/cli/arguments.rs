//! Owns the command line: what may be written there, its help, and what was written.
//! Must never read the environment or a file: settings are only collected here, by key, and `config::source` judges them.

mod dlq;
mod send;

pub use self::{
    dlq::{DlqArguments, DlqVerb},
    send::{Address, Payload, SendArguments},
};

use std::{ffi::OsString, path::PathBuf};

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use crate::config::table::{self, Kind, Setting};

/// What the command line asks for.
#[derive(Debug)]
pub enum Invocation {
    /// Run the sidecar.
    Serve(SettingArguments),
    /// Run the sidecar on an embedded cluster.
    Dev(SettingArguments),
    /// Tell what is wrong with the settings.
    CheckConfig(SettingArguments),
    /// Send a record through a running sidecar.
    Send(SendArguments),
    /// Print, replay or discard dead letters.
    Dlq(DlqArguments),
}

/// The settings that stand on the command line.
#[derive(Debug, Clone, Default)]
pub struct SettingArguments {
    /// The file that `--config` names.
    pub config: Option<PathBuf>,
    /// The setting flags: key and text, in the table's order. No secret has a flag.
    pub settings: Vec<(&'static str, String)>,
}

/// A command line that ends at once: help, the version, or wrong usage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageExit {
    /// What to print.
    pub text: String,
    /// Whether it was asked for and goes to standard output; else it goes to standard error.
    pub asked_for: bool,
}

/// Describes the command line.
#[must_use]
pub fn command() -> Command {
    Command::new("producer-sidecar")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Runs beside an application and produces to Kafka for it, over gRPC")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(with_settings("serve", "Run the sidecar"))
        .subcommand(with_settings("dev", "Run the sidecar on an embedded cluster; nothing else is needed"))
        .subcommand(with_settings(
            "check-config",
            "Tell every problem of the settings, or print them with their origins",
        ))
        .subcommand(send::command())
        .subcommand(dlq::command())
}

/// Reads the command line, the program's name first.
///
/// # Errors
/// Help and the version as well as wrong usage end the program: the error says how.
pub fn parse(
    arguments: impl IntoIterator<Item = impl Into<OsString> + Clone>,
) -> Result<Invocation, UsageExit> {
    let matches = command().try_get_matches_from(arguments)?;
    match matches.subcommand() {
        Some(("serve", matches)) => Ok(Invocation::Serve(setting_arguments(matches))),
        Some(("dev", matches)) => Ok(Invocation::Dev(setting_arguments(matches))),
        Some(("check-config", matches)) => Ok(Invocation::CheckConfig(setting_arguments(matches))),
        Some(("send", matches)) => Ok(Invocation::Send(send::arguments(matches)?)),
        Some(("dlq", matches)) => Ok(Invocation::Dlq(dlq::arguments(matches)?)),
        Some(_) | None => Err(UsageExit::wrong(command().render_help().to_string())),
    }
}

fn with_settings(name: &'static str, about: &'static str) -> Command {
    let config = Arg::new("config")
        .long("config")
        .value_name("FILE")
        .value_parser(value_parser!(PathBuf))
        .help("The settings file, YAML [env: SIDECAR_CONFIG]");
    Command::new(name).about(about).arg(config).args(table::settings().iter().filter_map(flag))
}

/// Makes the flag of a setting; its text is judged with all other sources', so that every problem is told in one run.
fn flag(setting: &'static Setting) -> Option<Arg> {
    let long = setting.flag.as_deref()?;
    let mut help =
        format!("{} [takes: {}] [default: {}]", setting.doc, setting.takes(), setting.default_shown());
    if let Some(variable) = &setting.environment {
        help.push_str(&format!(" [env: {variable}]"));
    }
    let heading = match setting.section() {
        "kafka" => "Kafka settings",
        _ => "Sidecar settings",
    };
    let arg = Arg::new(setting.key)
        .long(long)
        .value_name(value_name(setting.kind))
        .help(help)
        .help_heading(heading)
        .hide_short_help(true)
        .allow_hyphen_values(false)
        .action(ArgAction::Set);
    Some(match setting.kind {
        Kind::Boolean => arg.num_args(0..=1).default_missing_value("true"),
        Kind::Text(_)
        | Kind::Secret
        | Kind::Brokers
        | Kind::Choice(_)
        | Kind::Number { .. }
        | Kind::Path
        | Kind::Listen
        | Kind::Socket
        | Kind::Partitioners
        | Kind::Destination
        | Kind::Destinations
        | Kind::Properties => arg,
    })
}

fn value_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Text(_) | Kind::Secret => "TEXT",
        Kind::Brokers => "HOST:PORT,...",
        Kind::Choice(_) => "NAME",
        Kind::Number { .. } => "NUMBER",
        Kind::Boolean => "BOOLEAN",
        Kind::Path => "PATH",
        Kind::Listen | Kind::Socket => "ADDRESS",
        Kind::Destination => "TOPIC",
        Kind::Partitioners | Kind::Destinations | Kind::Properties => "NAME=VALUE,...",
    }
}

fn setting_arguments(matches: &ArgMatches) -> SettingArguments {
    let said = table::settings().iter().filter_map(|setting| {
        // Settings without a flag are no arguments of the command.
        setting.flag.as_ref()?;
        let text = matches.get_one::<String>(setting.key)?;
        Some((setting.key, text.clone()))
    });
    SettingArguments { config: matches.get_one::<PathBuf>("config").cloned(), settings: said.collect() }
}

// === impl UsageExit ===

impl UsageExit {
    fn wrong(text: String) -> Self {
        Self { text, asked_for: false }
    }
}

impl From<clap::Error> for UsageExit {
    fn from(error: clap::Error) -> Self {
        let text = error.render().to_string();
        if error.use_stderr() {
            // clap itself would exit with 2, which here means records left behind.
            return Self::wrong(text);
        }
        Self { text, asked_for: true }
    }
}

#[cfg(test)]
mod tests;
