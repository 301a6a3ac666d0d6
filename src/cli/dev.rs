//! Owns `dev`: the sidecar on an embedded cluster, with lines to paste and a line for each record that arrives.
//! Must never be mistaken for the real thing: it says that its records live in memory.

use std::io;

use super::{
    Exit,
    arguments::SettingArguments,
    serve::{Ended, Prepared, failed, run_until_signal, run_with},
    with_causes,
};
use crate::{
    app::App,
    config::{LogQueue, Purpose},
    kafka::embedded::{Arrival, Embedded},
    telemetry::output::Output,
};

/// The most characters of a key or value that a line shows.
const SHOWN_CHARACTERS_MAX: usize = 200;

/// Runs the sidecar on an embedded cluster until a signal.
#[must_use]
pub fn run(arguments: &SettingArguments) -> Exit {
    run_with(arguments, Purpose::Dev, async |prepared, signals| {
        let Prepared { loaded, traces } = prepared;
        let (embedded, printed) = match start(loaded.config.log.queue) {
            Ok(started) => started,
            Err(error) => {
                tracing::error!("the embedded cluster cannot be started: {}", with_causes(&*error));
                return Ended::at_start(Exit::Fault);
            }
        };
        let flush = loaded.config.log.flush;
        let servers = Some(embedded.bootstrap_servers());
        let ended = match App::build(&loaded.config, loaded.files, servers, &traces).await {
            Ok(app) => {
                let addresses = app.addresses();
                printed.push(greeting(&addresses.grpc, &addresses.admin).as_bytes());
                run_until_signal(app, traces, signals).await
            }
            Err(error) => Ended::at_start(failed(&error)),
        };
        drop(embedded);
        // Lines that are not read must not keep the process from its end.
        let _is_written: bool = printed.flush(flush);
        ended
    })
}

/// Starts the cluster, and the writer of what it tells: standard output may stay unread while records arrive.
fn start(queue: LogQueue) -> Result<(Embedded, Output), Box<dyn std::error::Error>> {
    let printed = Output::start("dev-printed", &io::stdout(), queue, |dropped| {
        if dropped > 0 {
            tracing::warn!(lines = dropped, "lines of records were dropped: standard output was not read");
        }
    })?;
    let mut embedded = Embedded::start()?;
    let arrivals = printed.clone();
    embedded.tell_arrivals(move |arrival| arrivals.push(format!("{}\n", line(&arrival)).as_bytes()))?;
    Ok((embedded, printed))
}

fn greeting(grpc: &str, admin: &str) -> String {
    // grpcurl wants three slashes after `unix:`.
    let target = grpc.strip_prefix("unix:").map_or_else(|| grpc.to_owned(), |path| format!("unix://{path}"));
    format!(
        r#"The sidecar runs on an embedded cluster: topics come into being when they are used, records live in memory,
and the timestamps of receipts are the embedded cluster's own.
gRPC on {grpc}, metrics and probes on http://{admin}. Try:

  grpcurl -plaintext -d '{{"record":{{"topic":"orders","key_text":"k","json":{{"a":1}}}}}}' {target} caas.producer.v1.ProducerService/Send
  grpcurl -plaintext -d '{{"record":{{"topic":"orders","value_text":"hello","headers":[{{"name":"tenant-id","value_text":"acme"}}]}}}}' {target} caas.producer.v1.ProducerService/Send
  grpcurl -plaintext {target} caas.producer.v1.ProducerService/GetInfo
  curl -s http://{admin}/readyz

Each record that arrives:
"#
    )
}

fn line(arrival: &Arrival) -> String {
    let Arrival { topic, partition, offset, key, value, headers } = arrival;
    let headers: Vec<_> =
        headers.iter().map(|(name, value)| format!("{name}={}", shown(value.as_deref()))).collect();
    format!(
        "{topic}[{partition}]@{offset} key={} value={} {}",
        shown(key.as_deref()),
        shown(value.as_deref()),
        headers.join(" ")
    )
}

/// Shows bytes on one line, cut; null is told apart from empty.
fn shown(bytes: Option<&[u8]>) -> String {
    let Some(bytes) = bytes else { return "null".to_owned() };
    let text = String::from_utf8_lossy(bytes);
    let mut shown: String = text.escape_debug().take(SHOWN_CHARACTERS_MAX).collect();
    if shown.chars().count() == SHOWN_CHARACTERS_MAX {
        shown.push_str("...");
    }
    format!("\"{shown}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_null_from_empty_and_stays_one_line() {
        let arrival = Arrival {
            topic: "orders".into(),
            partition: 1,
            offset: 7,
            key: None,
            value: Some(b"a\nb".to_vec()),
            headers: vec![("h".into(), Some(Vec::new())), ("n".into(), None)],
        };
        assert_eq!(line(&arrival), r#"orders[1]@7 key=null value="a\nb" h="" n=null"#);
    }

    #[test]
    fn the_lines_to_paste_name_the_address_that_is_served() {
        let text = greeting("unix:/run/sidecar.sock", "127.0.0.1:9464");
        assert!(text.contains(" unix:///run/sidecar.sock caas.producer.v1.ProducerService/Send"));
    }
}
