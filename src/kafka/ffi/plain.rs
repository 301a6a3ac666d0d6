//! Owns the making and the giving up of the plain producer, on rust-rdkafka's client alone: its producer polls by itself.
//! Must never leave a client without the events that its queue is polled for.

use rdkafka::{
    ClientConfig, ClientContext,
    bindings::{
        RD_KAFKA_EVENT_DR, RD_KAFKA_EVENT_ERROR, RD_KAFKA_EVENT_STATS, RD_KAFKA_PURGE_F_INFLIGHT,
        RD_KAFKA_PURGE_F_QUEUE, rd_kafka_conf_set_events, rd_kafka_outq_len,
    },
    client::Client,
    error::KafkaResult,
    types::RDKafkaType,
};

use super::{raw, verified};

/// Makes a producer, whose events are to be polled.
///
/// # Errors
/// As of rust-rdkafka.
pub fn producer<C: ClientContext>(config: &ClientConfig, context: C) -> KafkaResult<Client<C>> {
    let native = config.create_native_config()?;
    // SAFETY: the configuration lives through the calls.
    unsafe {
        let events = RD_KAFKA_EVENT_DR | RD_KAFKA_EVENT_STATS | RD_KAFKA_EVENT_ERROR;
        rd_kafka_conf_set_events(native.ptr(), events);
        verified::say_why(native.ptr());
    }
    Client::new(config, native, RDKafkaType::RD_KAFKA_PRODUCER, context)
}

/// Gives up every record that a producer still has; reports follow.
pub fn purge<C: ClientContext>(client: &Client<C>) {
    // SAFETY: the client lives through the call.
    unsafe { raw::rd_kafka_purge(client.native_ptr(), RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT) };
}

/// Returns how many records and other messages of a producer's have not come back yet.
pub fn unreported<C: ClientContext>(client: &Client<C>) -> usize {
    // SAFETY: the client lives through the call.
    usize::try_from(unsafe { rd_kafka_outq_len(client.native_ptr()) }).unwrap_or(0)
}
