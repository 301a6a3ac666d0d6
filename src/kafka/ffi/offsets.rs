//! Owns the question for a group's committed offsets, which rust-rdkafka does not wrap.
//! Must never take an error for "nothing committed".

use std::{ffi::CStr, slice, time::Duration};

use rdkafka::{
    bindings::{
        rd_kafka_AdminOptions_destroy, rd_kafka_AdminOptions_new, rd_kafka_AdminOptions_set_request_timeout,
        rd_kafka_AdminOptions_set_require_stable_offsets, rd_kafka_ListConsumerGroupOffsets,
        rd_kafka_ListConsumerGroupOffsets_destroy, rd_kafka_ListConsumerGroupOffsets_new,
        rd_kafka_ListConsumerGroupOffsets_result_groups, rd_kafka_admin_op_t, rd_kafka_error_code,
        rd_kafka_event_ListConsumerGroupOffsets_result, rd_kafka_event_destroy, rd_kafka_event_error,
        rd_kafka_group_result_error, rd_kafka_group_result_partitions, rd_kafka_queue_destroy,
        rd_kafka_queue_new, rd_kafka_queue_poll, rd_kafka_topic_partition_t,
    },
    consumer::{BaseConsumer, Consumer as _},
    error::RDKafkaErrorCode,
};

use super::{Owned, WORDS_BYTES, c_text, called, milliseconds, partitions};
use crate::record::Topic;

/// The longest that librdkafka may be given for a question (rdkafka.h). One that runs out of time while its coordinator is looked
/// for leaves a lookup behind which uses freed memory later: `rd_kafka_coord_req_fsm` never looks at its own time-out, and
/// `rd_kafka_admin_coord_request` then both fails and frees (rdkafka_coord.c, rdkafka_admin.c; issues 3663 and 4605).
const QUESTION_MAX: Duration = Duration::from_secs(3600);

/// Asks the group's coordinator for committed offsets, none of them of a transaction that is still open; blocks.
///
/// The answers are in the order of the partitions; -1001 (`OFFSET_INVALID`) is "nothing committed". Where the wait is over, the
/// question goes on inside the consumer, which has to be dropped within the hour.
///
/// # Errors
/// Why nothing is known of the group; the same of a single partition.
pub fn committed_offsets(
    consumer: &BaseConsumer,
    group: &str,
    asked: &[(&Topic, i32)],
    wait: Duration,
) -> Result<Vec<Result<i64, RDKafkaErrorCode>>, RDKafkaErrorCode> {
    let list = partitions(asked.iter().copied()).map_err(|error| error.code)?;
    let group = c_text(group).map_err(|error| error.code)?;
    let client = consumer.client().native_ptr();
    let nothing = RDKafkaErrorCode::InvalidArgument;
    let mut words = [0; WORDS_BYTES];
    // SAFETY: everything made here is destroyed by its `Owned`; what is read of the event is read before it goes.
    unsafe {
        let request = rd_kafka_ListConsumerGroupOffsets_new(group.as_ptr(), list.ptr());
        let request = Owned::new(request, rd_kafka_ListConsumerGroupOffsets_destroy).ok_or(nothing)?;
        let kind = rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_LISTCONSUMERGROUPOFFSETS;
        let options = Owned::new(rd_kafka_AdminOptions_new(client, kind), rd_kafka_AdminOptions_destroy);
        let options = options.ok_or(nothing)?;
        let question = milliseconds(QUESTION_MAX);
        rd_kafka_AdminOptions_set_request_timeout(options.ptr(), question, words.as_mut_ptr(), WORDS_BYTES);
        called(rd_kafka_AdminOptions_set_require_stable_offsets(options.ptr(), 1))
            .map_err(|error| error.code)?;
        let queue = Owned::new(rd_kafka_queue_new(client), rd_kafka_queue_destroy).ok_or(nothing)?;
        let mut requests = [request.ptr()];
        rd_kafka_ListConsumerGroupOffsets(client, requests.as_mut_ptr(), 1, options.ptr(), queue.ptr());
        let event = Owned::new(rd_kafka_queue_poll(queue.ptr(), milliseconds(wait)), rd_kafka_event_destroy);
        let event = event.ok_or(RDKafkaErrorCode::OperationTimedOut)?;
        let failed = RDKafkaErrorCode::from(rd_kafka_event_error(event.ptr()));
        let mut count = 0;
        let result = rd_kafka_event_ListConsumerGroupOffsets_result(event.ptr());
        if failed != RDKafkaErrorCode::NoError || result.is_null() {
            return Err(failed);
        }
        let groups = rd_kafka_ListConsumerGroupOffsets_result_groups(result, &raw mut count);
        let Some(found) = slice::from_raw_parts(groups, count).first() else { return Err(nothing) };
        let error = rd_kafka_group_result_error(*found);
        if !error.is_null() {
            return Err(rd_kafka_error_code(error).into());
        }
        let found = rd_kafka_group_result_partitions(*found);
        let found = slice::from_raw_parts((*found).elems, usize::try_from((*found).cnt).unwrap_or(0));
        let of = |topic: &Topic, partition: i32| {
            let same = |element: &&rd_kafka_topic_partition_t| {
                element.partition == partition
                    && CStr::from_ptr(element.topic).to_bytes() == topic.as_str().as_bytes()
            };
            let element = found.iter().find(same).ok_or(RDKafkaErrorCode::UnknownPartition)?;
            let code = RDKafkaErrorCode::from(element.err);
            if code == RDKafkaErrorCode::NoError { Ok(element.offset) } else { Err(code) }
        };
        Ok(asked.iter().map(|(topic, partition)| of(topic, *partition)).collect())
    }
}
