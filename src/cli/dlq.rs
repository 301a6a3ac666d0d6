//! Owns `dlq`: dead letters listed, replayed or discarded, for people.
//! Must never print a key, a value or a header's value but the tenant's.

use serde_json::json;

use super::{
    Exit,
    arguments::{DlqArguments, DlqVerb},
    complain, load, serve, tell,
};
use crate::{
    app::replay,
    config::Purpose,
    dead_letter::Letter,
    pipeline::replay::{Asked, Counted, Deed, Refused, Seen},
    record::Topic,
    telemetry::{self, traces::Traces},
};

/// Runs the command.
#[must_use]
pub fn run(arguments: &DlqArguments) -> Exit {
    let loaded = match load(&arguments.settings, Purpose::Serve) {
        Ok(loaded) => loaded,
        Err(exit) => return exit,
    };
    if let Err(error) = telemetry::begin(&loaded.config.log, &Traces::default()) {
        complain(&error.to_string());
        return Exit::Usage;
    }
    let topic = match Topic::parse(&arguments.topic) {
        Ok(topic) => topic,
        Err(error) => {
            complain(&format!("{:?} is no topic: it {error}", arguments.topic));
            return Exit::Usage;
        }
    };
    let deed = match arguments.verb {
        DlqVerb::List => Deed::Nothing,
        DlqVerb::Replay | DlqVerb::Discard if arguments.dry_run => Deed::Nothing,
        DlqVerb::Replay => Deed::Replay,
        DlqVerb::Discard => Deed::Discard,
    };
    let group = arguments.group.clone().unwrap_or_else(|| format!("producer-sidecar.dlq.{topic}"));
    let asked = Asked {
        topic: topic.clone(),
        group,
        destinations: loaded.config.dead_letters.destinations.clone(),
        filter: arguments.filter.clone(),
        deed,
        sends: arguments.verb == DlqVerb::Replay,
        may_double: arguments.may_double,
    };
    let run = match replay::build(&loaded.config, asked) {
        Ok(run) => run,
        Err(error) => return serve::failed(&error),
    };
    let ended = match arguments.verb {
        DlqVerb::List => run.go(|seen| list(&seen, arguments.all), |_, _| ()),
        DlqVerb::Replay | DlqVerb::Discard => {
            run.go(|_| (), |partition, counted| progress(&topic, partition, counted))
        }
    };
    match ended {
        Ok(counted) => {
            if arguments.verb != DlqVerb::List {
                tell(&summary(arguments, &counted));
            }
            if counted.refused > 0 { Exit::Undelivered } else { Exit::Clean }
        }
        Err(failure) => {
            complain(&failure.to_string());
            Exit::Fault
        }
    }
}

fn list(seen: &Seen<'_>, all: bool) {
    if seen.is_handled && !all {
        return;
    }
    let Letter {
        topic,
        reason,
        kafka_error,
        timestamp_ms,
        last_ms,
        tenant,
        may_be_written,
        cut,
        asked_partition: _,
    } = seen.letter;
    let line = json!({
        "partition": seen.partition,
        "offset": seen.offset,
        "topic": topic.as_str(),
        "reason": reason,
        "kafkaError": kafka_error,
        "timestampMs": timestamp_ms,
        "failedMs": last_ms,
        "tenant": tenant,
        "persisted": if *may_be_written { "MAYBE" } else { "NO" },
        "cut": cut,
        "misplaced": seen.is_misplaced,
        "keyBytes": seen.key_bytes,
        "valueBytes": seen.value_bytes,
        "done": seen.is_handled,
    });
    tell(&line.to_string());
}

fn progress(topic: &Topic, partition: i32, counted: &Counted) {
    complain(&format!("{topic}/{partition}: {} done so far", counted.done));
}

fn summary(arguments: &DlqArguments, counted: &Counted) -> String {
    let what = match (arguments.verb, arguments.dry_run) {
        (DlqVerb::Discard, true) => "would be discarded",
        (DlqVerb::Discard, false) => "discarded",
        (_, true) => "would be replayed",
        (_, false) => "replayed",
    };
    let Counted {
        done,
        before,
        others,
        misplaced,
        cut,
        may_be_written,
        without_topic,
        refused,
        first_refused,
        foreign,
    } = counted;
    let left = [
        (before, "dealt with before"),
        (others, "not asked for"),
        (
            misplaced,
            "of topics whose dead letters go elsewhere (dead_letters.topic and dead_letters.topics say where)",
        ),
        (cut, "cut, so that they cannot be sent"),
        (may_be_written, "perhaps in their topics already (--may-double sends them)"),
        (without_topic, "without their topic or partition"),
        (refused, "refused by their topics again"),
        (foreign, "no dead letters"),
    ];
    let left = left.iter().filter(|(count, _)| **count > 0).map(|(count, why)| format!("; {count} {why}"));
    let named: String = first_refused.iter().map(|refused| named(&arguments.topic, refused)).collect();
    let unnamed = refused - u64::try_from(first_refused.len()).unwrap_or(*refused);
    let more = if unnamed > 0 { format!("\nand {unnamed} more") } else { String::new() };
    format!("{done} {what}{}{named}{more}", left.collect::<String>())
}

/// Says on a line of its own which letter was refused, and why.
fn named(letters: &str, Refused { partition, offset, topic, reason, kafka_error }: &Refused) -> String {
    let kafka_error = kafka_error.as_ref().map_or_else(String::new, |name| format!(" ({name})"));
    format!("\n{letters}[{partition}]@{offset} refused by {topic}: {}{kafka_error}", reason.name())
}
