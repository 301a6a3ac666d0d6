//! Owns the question for a group's committed offsets, which rust-rdkafka does not wrap.
//! Must never take an error for "nothing committed".

use std::{ffi::CStr, time::Duration};

use rdkafka::{
    bindings::{
        rd_kafka_AdminOptions_destroy, rd_kafka_AdminOptions_new, rd_kafka_AdminOptions_set_request_timeout,
        rd_kafka_AdminOptions_set_require_stable_offsets, rd_kafka_ListConsumerGroupOffsets,
        rd_kafka_ListConsumerGroupOffsets_destroy, rd_kafka_ListConsumerGroupOffsets_new,
        rd_kafka_ListConsumerGroupOffsets_result_groups, rd_kafka_admin_op_t,
        rd_kafka_event_ListConsumerGroupOffsets_result, rd_kafka_event_destroy, rd_kafka_group_result_error,
        rd_kafka_group_result_partitions, rd_kafka_queue_destroy, rd_kafka_queue_new, rd_kafka_queue_poll,
        rd_kafka_topic_partition_list_t, rd_kafka_topic_partition_t,
    },
    consumer::{BaseConsumer, Consumer as _, ConsumerContext},
};

use super::{Owned, WORDS_BYTES, c_text, called, code_at, milliseconds, partitions, raw, slice_or_empty};
use crate::{kafka::code::ErrorCode, record::Topic};

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
) -> Result<Vec<Result<i64, ErrorCode>>, ErrorCode> {
    let list = partitions(asked.iter().copied()).map_err(|error| error.code)?;
    let group = c_text(group).map_err(|error| error.code)?;
    let client = consumer.client().native_ptr();
    let nothing = ErrorCode::LOCAL_INVALID_ARG;
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
        let event = event.ok_or(ErrorCode::LOCAL_TIMED_OUT)?;
        ErrorCode::new(raw::rd_kafka_event_error(event.ptr())).ok()?;
        let mut count = 0;
        let result = rd_kafka_event_ListConsumerGroupOffsets_result(event.ptr());
        if result.is_null() {
            return Err(nothing);
        }
        let groups = rd_kafka_ListConsumerGroupOffsets_result_groups(result, &raw mut count);
        let Some(found) = slice_or_empty(groups, count).first() else { return Err(nothing) };
        let error = rd_kafka_group_result_error(*found);
        if !error.is_null() {
            return Err(failed(ErrorCode::new(raw::rd_kafka_error_code(error))));
        }
        let found = rd_kafka_group_result_partitions(*found);
        if found.is_null() {
            return Err(nothing);
        }
        let of = |topic: &Topic, partition: i32| {
            let element = element_of(found, topic, partition).ok_or(ErrorCode::LOCAL_UNKNOWN_PARTITION)?;
            code_at(&raw const (*element).err).ok()?;
            Ok((&raw const (*element).offset).read())
        };
        Ok(asked.iter().map(|(topic, partition)| of(topic, *partition)).collect())
    }
}

/// Keeps an error one, also if it says that there is none.
const fn failed(code: ErrorCode) -> ErrorCode {
    if code.is_error() { code } else { ErrorCode::UNKNOWN }
}

/// What a group has committed for a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommittedOffset {
    /// The offset; none if nothing is committed.
    pub offset: Option<i64>,
    /// The text beside it.
    pub text: String,
}

/// Asks what the consumer's own group has committed, with the texts, none of it of a transaction that is still open; blocks.
///
/// # Errors
/// Why nothing is known of the group, or of one of the partitions.
pub fn committed_with_text<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    asked: &[(&Topic, i32)],
    wait: Duration,
) -> Result<Vec<CommittedOffset>, ErrorCode> {
    let list = partitions(asked.iter().copied()).map_err(|error| error.code)?;
    let client = consumer.client().native_ptr();
    // SAFETY: the consumer lives through the call, which fills the list, and the list is ours.
    unsafe {
        ErrorCode::new(raw::rd_kafka_committed(client, list.ptr(), milliseconds(wait))).ok()?;
        let of = |topic: &Topic, partition: i32| {
            let element =
                element_of(list.ptr(), topic, partition).ok_or(ErrorCode::LOCAL_UNKNOWN_PARTITION)?;
            code_at(&raw const (*element).err).ok()?;
            let offset = (&raw const (*element).offset).read();
            let (text, bytes) = ((*element).metadata.cast::<u8>(), (*element).metadata_size);
            let text = String::from_utf8_lossy(slice_or_empty(text, bytes)).into_owned();
            Ok(CommittedOffset { offset: Some(offset).filter(|offset| *offset >= 0), text })
        };
        asked.iter().map(|(topic, partition)| of(topic, *partition)).collect()
    }
}

/// Finds a partition in a list, by address: an element may hold a code that its type lacks.
///
/// # Safety
/// The list must live, for as long as the element is used.
unsafe fn element_of(
    list: *const rd_kafka_topic_partition_list_t,
    topic: &Topic,
    partition: i32,
) -> Option<*const rd_kafka_topic_partition_t> {
    // SAFETY: the caller's promise; there are as many elements as are counted, each with a topic.
    unsafe {
        let (elements, count) = ((*list).elems.cast_const(), usize::try_from((*list).cnt).unwrap_or(0));
        if elements.is_null() {
            return None;
        }
        (0..count).map(|place| elements.add(place)).find(|element| {
            let (found, of) =
                ((&raw const (**element).topic).read(), (&raw const (**element).partition).read());
            of == partition
                && !found.is_null()
                && CStr::from_ptr(found).to_bytes() == topic.as_str().as_bytes()
        })
    }
}
