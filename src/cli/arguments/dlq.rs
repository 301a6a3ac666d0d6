//! Owns the arguments of `dlq`.
//! Must never decide which letters they mean: `dead_letter` does.

use clap::{Arg, ArgAction, ArgMatches, Command};

use super::{SettingArguments, UsageExit, setting_arguments, with_settings};
use crate::{dead_letter::Filter, grpc::time::milliseconds};

/// What is to be done with dead letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DlqVerb {
    /// Print them.
    List,
    /// Send them to their topics again.
    Replay,
    /// Drop them.
    Discard,
}

/// What `dlq` is asked for.
#[derive(Debug)]
pub struct DlqArguments {
    /// What to do.
    pub verb: DlqVerb,
    /// The topic of the dead letters, not yet checked.
    pub topic: String,
    /// Whose offsets say which are dealt with; one for each topic where unset.
    pub group: Option<String>,
    /// Which letters.
    pub filter: Filter,
    /// Whether nothing is to be changed.
    pub dry_run: bool,
    /// Whether those are printed too that were dealt with.
    pub all: bool,
    /// Whether those are sent whose records may be in their topics already.
    pub may_double: bool,
    /// How to reach Kafka.
    pub settings: SettingArguments,
}

pub(super) fn command() -> Command {
    let dry_run = || flag("dry-run", "Change nothing, and say how many letters there are");
    Command::new("dlq")
        .about("Print, replay or discard dead letters")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(
            verb("list", "Print dead letters, a line of JSON each; never keys or values")
                .arg(flag("all", "Also those that were replayed or discarded")),
        )
        .subcommand(
            verb("replay", "Send dead letters to the topics that they were meant for, each once")
                .arg(dry_run())
                .arg(flag(
                    "may-double",
                    "Also those whose records may be in their topics already (persisted MAYBE)",
                )),
        )
        .subcommand(verb("discard", "Drop dead letters: no later replay takes them").arg(dry_run()))
}

fn verb(name: &'static str, about: &'static str) -> Command {
    let long = |name: &'static str, value: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name(value).help(help)
    };
    with_settings(name, about)
        .arg(Arg::new("topic").value_name("TOPIC").required(true).help("The topic of the dead letters"))
        .arg(long(
            "group",
            "GROUP",
            "The group whose offsets say which are dealt with [default: producer-sidecar.dlq.TOPIC]",
        ))
        .arg(
            long(
                "reason",
                "REASON",
                "Only those with this reason, such as RECORD_TOO_LARGE; may be repeated",
            )
            .action(ArgAction::Append),
        )
        .arg(
            long("tenant", "TENANT", "Only those of this tenant (tenant-id); may be repeated")
                .action(ArgAction::Append),
        )
        .arg(
            long("since", "TIME", "Only those that failed then or later, such as 2026-11-24T10:00:00Z")
                .value_parser(time),
        )
        .arg(long("until", "TIME", "Only those that failed before").value_parser(time))
}

fn flag(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).help(help).action(ArgAction::SetTrue)
}

pub(super) fn arguments(matches: &ArgMatches) -> Result<DlqArguments, UsageExit> {
    let wrong = || UsageExit::wrong(command().render_help().to_string());
    let (name, matches) = matches.subcommand().ok_or_else(wrong)?;
    let verb = match name {
        "list" => DlqVerb::List,
        "replay" => DlqVerb::Replay,
        "discard" => DlqVerb::Discard,
        _ => return Err(wrong()),
    };
    let texts = |name: &str| matches.get_many::<String>(name).into_iter().flatten().cloned().collect();
    let is_set = |name: &str| matches.try_get_one::<bool>(name).ok().flatten().is_some_and(|set| *set);
    let filter = Filter {
        reasons: texts("reason"),
        tenants: texts("tenant"),
        since_ms: matches.get_one("since").copied(),
        until_ms: matches.get_one("until").copied(),
    };
    Ok(DlqArguments {
        verb,
        topic: matches.get_one::<String>("topic").cloned().ok_or_else(wrong)?,
        group: matches.get_one::<String>("group").cloned(),
        filter,
        dry_run: is_set("dry-run"),
        all: is_set("all"),
        may_double: is_set("may-double"),
        settings: setting_arguments(matches),
    })
}

fn time(text: &str) -> Result<i64, String> {
    milliseconds(text).ok_or_else(|| "write a time such as 2026-11-24T10:00:00Z (RFC 3339)".to_owned())
}
