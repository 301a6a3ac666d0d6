//! Owns the question for a topic's own settings.
//! Must never take a refusal for a setting that is not there.

use std::{collections::HashMap, ffi::CStr, time::Duration};

use rdkafka::{
    ClientContext,
    bindings::{
        rd_kafka_ConfigEntry_name, rd_kafka_ConfigEntry_value, rd_kafka_ConfigResource_configs,
        rd_kafka_ConfigResource_destroy, rd_kafka_ConfigResource_new, rd_kafka_ConfigResource_t,
        rd_kafka_DescribeConfigs, rd_kafka_DescribeConfigs_result_resources, rd_kafka_ResourceType_t,
        rd_kafka_admin_op_t, rd_kafka_event_DescribeConfigs_result, rd_kafka_event_t,
    },
    client::Client,
};

use super::{
    Owned,
    questions::{NOTHING, Question, only},
    raw, slice_or_empty, text,
};
use crate::kafka::code::ErrorCode;

type Settings = HashMap<&'static str, String>;

/// Asks for a topic's settings.
pub(super) fn ask<C: ClientContext>(
    client: &Client<C>,
    topic: &CStr,
    wait: Duration,
) -> Result<Question, ErrorCode> {
    // SAFETY: the resource is copied by the call, and destroyed by its `Owned`.
    unsafe {
        let kind = rd_kafka_ResourceType_t::RD_KAFKA_RESOURCE_TOPIC;
        let resource = rd_kafka_ConfigResource_new(kind, topic.as_ptr());
        let resource = Owned::new(resource, rd_kafka_ConfigResource_destroy).ok_or(NOTHING)?;
        let operation = rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBECONFIGS;
        Question::ask(client, operation, wait, |client, options, queue| {
            let mut resources = [resource.ptr()];
            rd_kafka_DescribeConfigs(client, resources.as_mut_ptr(), 1, options, queue);
        })
    }
}

/// Reads the answer, as far as it is asked for.
pub(super) fn read(event: &Owned<rd_kafka_event_t>, names: &[&'static str]) -> Result<Settings, ErrorCode> {
    // SAFETY: what is read of the event is read while it lives.
    unsafe {
        let result = rd_kafka_event_DescribeConfigs_result(event.ptr());
        if result.is_null() {
            return Err(NOTHING);
        }
        let mut count = 0;
        let found = rd_kafka_DescribeConfigs_result_resources(result, &raw mut count);
        settings_of(only(found, count)?, names)
    }
}

/// Finds settings in what was answered for a topic.
///
/// # Safety
/// The resource must be one of an event's that lives.
unsafe fn settings_of(
    resource: *const rd_kafka_ConfigResource_t,
    names: &[&'static str],
) -> Result<Settings, ErrorCode> {
    // SAFETY: the caller's promise; names and values are copied, or compared here.
    unsafe {
        ErrorCode::new(raw::rd_kafka_ConfigResource_error(resource)).ok()?;
        let mut count = 0;
        let entries = rd_kafka_ConfigResource_configs(resource, &raw mut count);
        let asked = |entry| {
            let own = rd_kafka_ConfigEntry_name(entry);
            let own = (!own.is_null()).then(|| CStr::from_ptr(own).to_bytes())?;
            let name = names.iter().find(|name| name.as_bytes() == own)?;
            Some((*name, text(rd_kafka_ConfigEntry_value(entry))))
        };
        Ok(slice_or_empty(entries, count).iter().filter_map(|entry| asked(*entry)).collect())
    }
}
