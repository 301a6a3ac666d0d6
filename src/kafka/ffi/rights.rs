//! Owns the question what the principal may do with a topic (KIP-430).
//! Must never take silence for a no: brokers that do not tell leave it open.

use std::{ffi::CStr, time::Duration};

use rdkafka::{
    ClientContext,
    bindings::{
        rd_kafka_AclOperation_t, rd_kafka_AdminOptions_set_include_authorized_operations,
        rd_kafka_DescribeTopics, rd_kafka_DescribeTopics_result_topics, rd_kafka_TopicCollection_destroy,
        rd_kafka_TopicCollection_of_topic_names, rd_kafka_TopicDescription_authorized_operations,
        rd_kafka_TopicDescription_error, rd_kafka_TopicDescription_t, rd_kafka_admin_op_t,
        rd_kafka_event_DescribeTopics_result, rd_kafka_event_t,
    },
    client::Client,
};

use super::{
    Owned, called,
    questions::{NOTHING, Question, only},
    raw, slice_or_empty,
};
use crate::kafka::code::ErrorCode;

/// Asks what the principal may do with a topic.
pub(super) fn ask<C: ClientContext>(
    client: &Client<C>,
    topic: &CStr,
    wait: Duration,
) -> Result<Question, ErrorCode> {
    // SAFETY: the names are copied by the call, and what is made here is destroyed by its `Owned`.
    unsafe {
        let mut names = [topic.as_ptr()];
        let topics = rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), names.len());
        let topics = Owned::new(topics, rd_kafka_TopicCollection_destroy).ok_or(NOTHING)?;
        let operation = rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS;
        let mut with_rights = Ok(());
        let question = Question::ask(client, operation, wait, |client, options, queue| {
            with_rights = called(rd_kafka_AdminOptions_set_include_authorized_operations(options, 1));
            rd_kafka_DescribeTopics(client, topics.ptr(), options, queue);
        })?;
        with_rights.map_err(|error| error.code)?;
        Ok(question)
    }
}

/// Reads from the answer whether it may write; none where the brokers do not tell.
pub(super) fn read(event: &Owned<rd_kafka_event_t>) -> Result<Option<bool>, ErrorCode> {
    // SAFETY: what is read of the event is read while it lives.
    unsafe {
        let result = rd_kafka_event_DescribeTopics_result(event.ptr());
        if result.is_null() {
            return Err(NOTHING);
        }
        let mut count = 0;
        let found = rd_kafka_DescribeTopics_result_topics(result, &raw mut count);
        writing_of(only(found, count)?)
    }
}

/// Finds the right to write in what was answered for a topic.
///
/// # Safety
/// The description must be one of an event's that lives.
unsafe fn writing_of(description: *const rd_kafka_TopicDescription_t) -> Result<Option<bool>, ErrorCode> {
    // SAFETY: the caller's promise; the operations are compared here.
    unsafe {
        let error = rd_kafka_TopicDescription_error(description);
        if !error.is_null() {
            ErrorCode::new(raw::rd_kafka_error_code(error)).ok()?;
        }
        let mut count = 0;
        let operations = rd_kafka_TopicDescription_authorized_operations(description, &raw mut count);
        // Whoever may describe a topic has that right at least: none at all is no answer.
        // librdkafka makes them of the bits that it knows (`rd_kafka_AuthorizedOperations_parse`): the enum has them all.
        let operations = slice_or_empty(operations, count);
        if operations.is_empty() {
            return Ok(None);
        }
        Ok(Some(operations.contains(&rd_kafka_AclOperation_t::RD_KAFKA_ACL_OPERATION_WRITE)))
    }
}
