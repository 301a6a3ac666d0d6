//! Owns the question for a topic's own settings, which rust-rdkafka asks through clients of its own alone.
//! Must never take a refusal for a setting that is not there.

use std::{collections::HashMap, ffi::CStr, slice, time::Duration};

use rdkafka::{
    ClientContext,
    bindings::{
        rd_kafka_AdminOptions_destroy, rd_kafka_AdminOptions_new, rd_kafka_AdminOptions_set_request_timeout,
        rd_kafka_ConfigEntry_name, rd_kafka_ConfigEntry_value, rd_kafka_ConfigResource_configs,
        rd_kafka_ConfigResource_destroy, rd_kafka_ConfigResource_error, rd_kafka_ConfigResource_new,
        rd_kafka_ConfigResource_t, rd_kafka_DescribeConfigs, rd_kafka_DescribeConfigs_result_resources,
        rd_kafka_ResourceType_t, rd_kafka_admin_op_t, rd_kafka_event_DescribeConfigs_result,
        rd_kafka_event_destroy, rd_kafka_event_error, rd_kafka_queue_destroy, rd_kafka_queue_new,
        rd_kafka_queue_poll,
    },
    client::Client,
    error::RDKafkaErrorCode,
};

use super::{Owned, WORDS_BYTES, c_text, milliseconds, text};
use crate::record::Topic;

/// Asks for settings of a topic, as they are in force; blocks for up to `wait`. Those that the brokers do not know are left out.
///
/// # Errors
/// Why nothing is known; `TopicAuthorizationFailed` where the principal may not describe the topic's configuration.
pub fn topic_settings<C: ClientContext>(
    client: &Client<C>,
    topic: &Topic,
    names: &[&'static str],
    wait: Duration,
) -> Result<HashMap<&'static str, String>, RDKafkaErrorCode> {
    let topic = c_text(topic.as_str()).map_err(|error| error.code)?;
    let client = client.native_ptr();
    let nothing = RDKafkaErrorCode::InvalidArgument;
    let mut words = [0; WORDS_BYTES];
    // SAFETY: the client lives through the call, everything made here is destroyed by its `Owned`, and what is read of the event
    // is read before it goes. A late answer finds its queue closed, and librdkafka drops it.
    unsafe {
        let kind = rd_kafka_ResourceType_t::RD_KAFKA_RESOURCE_TOPIC;
        let resource = rd_kafka_ConfigResource_new(kind, topic.as_ptr());
        let resource = Owned::new(resource, rd_kafka_ConfigResource_destroy).ok_or(nothing)?;
        let operation = rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBECONFIGS;
        let options = rd_kafka_AdminOptions_new(client, operation);
        let options = Owned::new(options, rd_kafka_AdminOptions_destroy).ok_or(nothing)?;
        let (milliseconds, length) = (milliseconds(wait), WORDS_BYTES);
        rd_kafka_AdminOptions_set_request_timeout(options.ptr(), milliseconds, words.as_mut_ptr(), length);
        let queue = Owned::new(rd_kafka_queue_new(client), rd_kafka_queue_destroy).ok_or(nothing)?;
        let mut resources = [resource.ptr()];
        rd_kafka_DescribeConfigs(client, resources.as_mut_ptr(), 1, options.ptr(), queue.ptr());
        let event = Owned::new(rd_kafka_queue_poll(queue.ptr(), milliseconds), rd_kafka_event_destroy);
        let event = event.ok_or(RDKafkaErrorCode::OperationTimedOut)?;
        let failed = RDKafkaErrorCode::from(rd_kafka_event_error(event.ptr()));
        if failed != RDKafkaErrorCode::NoError {
            return Err(failed);
        }
        let result = rd_kafka_event_DescribeConfigs_result(event.ptr());
        if result.is_null() {
            return Err(nothing);
        }
        let mut count = 0;
        let found = rd_kafka_DescribeConfigs_result_resources(result, &raw mut count);
        match (found.is_null(), count) {
            (false, 1) => settings_of(*found, names),
            (true, _) | (false, _) => Err(nothing),
        }
    }
}

/// Finds settings in what was answered for a topic.
///
/// # Safety
/// The resource must be one of an event's that lives.
unsafe fn settings_of(
    resource: *const rd_kafka_ConfigResource_t,
    names: &[&'static str],
) -> Result<HashMap<&'static str, String>, RDKafkaErrorCode> {
    // SAFETY: the caller's promise; names and values are copied, or compared here.
    unsafe {
        let refused = RDKafkaErrorCode::from(rd_kafka_ConfigResource_error(resource));
        if refused != RDKafkaErrorCode::NoError {
            return Err(refused);
        }
        let mut count = 0;
        let entries = rd_kafka_ConfigResource_configs(resource, &raw mut count);
        if entries.is_null() {
            return Ok(HashMap::new());
        }
        let asked = |entry| {
            let own = rd_kafka_ConfigEntry_name(entry);
            let own = (!own.is_null()).then(|| CStr::from_ptr(own).to_bytes())?;
            let name = names.iter().find(|name| name.as_bytes() == own)?;
            Some((*name, text(rd_kafka_ConfigEntry_value(entry))))
        };
        Ok(slice::from_raw_parts(entries, count).iter().filter_map(|entry| asked(*entry)).collect())
    }
}
