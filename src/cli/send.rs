//! Owns `send`: one record through a running sidecar, for people.
//! Must never talk to Kafka; it is a client like any other.

use std::{
    io::{self, Read as _},
    time::Duration,
};

use super::{
    Exit,
    arguments::{Address, Payload, SendArguments},
    complain, runtime, tell,
};
use crate::grpc::client::{self, Message, Target};

/// The most bytes that are read from standard input; the sidecar's own limit is lower.
const INPUT_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// How long the sidecar is waited for where no time-out is given, in milliseconds.
const TIMEOUT_MS_DEFAULT: u64 = 30_000;

/// Sends the record and says where it went, or why not.
#[must_use]
pub fn run(arguments: SendArguments) -> Exit {
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(exit) => return exit,
    };
    let target = match &arguments.address {
        Address::Tcp(address) => Target::Tcp(address.clone()),
        Address::Unix(path) => Target::Unix(path.clone()),
    };
    let timeout = arguments.timeout.unwrap_or(Duration::from_millis(TIMEOUT_MS_DEFAULT));
    let message = match message(arguments) {
        Ok(message) => message,
        Err(error) => {
            complain(&format!("standard input cannot be read: {error}"));
            return Exit::Fault;
        }
    };
    match runtime.block_on(client::send(target, message, timeout)) {
        Ok(receipt) => {
            tell(&receipt);
            Exit::Clean
        }
        Err(refused) => {
            complain(&refused);
            Exit::Fault
        }
    }
}

fn message(arguments: SendArguments) -> io::Result<Message> {
    let value = match arguments.payload {
        Payload::Text(text) => Some(text.into_bytes()),
        Payload::Tombstone => None,
        Payload::StandardInput => {
            let mut input = Vec::new();
            io::stdin().lock().take(INPUT_BYTES_MAX).read_to_end(&mut input)?;
            Some(input)
        }
    };
    Ok(Message {
        topic: arguments.topic,
        key: arguments.key,
        value,
        headers: arguments.headers,
        message_id: arguments.message_id,
    })
}
