//! Owns the transactional producer of librdkafka, which rust-rdkafka cannot give an interceptor.
//! Must never outlive a pointer, panic in a callback, or decide what an error means.

use std::{
    ptr::{self, NonNull},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use rdkafka::bindings::*;

use super::{
    Event, NativeHeaders, Owned, c_text, called, events, intercepted::with_interceptor, metadata::answers,
    milliseconds, partitions, records, unsaid,
};
use crate::{
    kafka::{
        code::ErrorCode,
        transaction::{CallClass, CallError, GroupOffsets, Polled, Report},
    },
    offsets::{Group, Membership},
    record::Record,
};

/// How long the thread that reads reports during an abort waits for each.
const ABORT_POLL: Duration = Duration::from_millis(10);

/// A transactional producer; every call but [`Transactional::produce`] may block its thread.
pub struct Transactional {
    client: NonNull<rd_kafka_t>,
    queue: NonNull<rd_kafka_queue_t>,
    /// Lent to the interceptor until the client is destroyed.
    doubt: *const AtomicBool,
}

// SAFETY: librdkafka's handles may be used from any thread, by several at once, and the interceptor's flag is atomic.
unsafe impl Send for Transactional {}
// SAFETY: as above.
unsafe impl Sync for Transactional {}

impl Transactional {
    /// Starts a producer with these properties. `doubt` is set whenever a request of a transaction ended without the broker's
    /// answer: the broker may carry it out later, also in the next transaction.
    ///
    /// # Errors
    /// The name of the property that librdkafka refuses, or its own words on all of them.
    pub fn start(properties: &[(String, String)], doubt: &Arc<AtomicBool>) -> Result<Self, String> {
        let lent = Arc::into_raw(Arc::clone(doubt));
        // SAFETY: the flag stays lent until the client is destroyed.
        unsafe {
            let client = with_interceptor(properties, lent).inspect_err(|_| drop(Arc::from_raw(lent)))?;
            // Never null: it is the client's own.
            let queue = NonNull::new_unchecked(rd_kafka_queue_get_main(client.as_ptr()));
            rd_kafka_set_log_queue(client.as_ptr(), queue.as_ptr());
            Ok(Self { client, queue, doubt: lent })
        }
    }

    /// Asks any broker for the list of brokers and waits for the answer; returns whether one came.
    #[must_use]
    pub fn connect(&self, wait: Duration) -> bool {
        // SAFETY: the client lives.
        unsafe { answers(self.client.as_ptr(), wait) }
    }

    /// Initialises the transactional id: ends what an earlier producer left open, and fences it.
    ///
    /// # Errors
    /// Why not; where retriable, the same call may be made again.
    pub fn init(&self, wait: Duration) -> Result<(), CallError> {
        // SAFETY: the client lives; the error is ours.
        unsafe { called(rd_kafka_init_transactions(self.client.as_ptr(), milliseconds(wait))) }
    }

    /// Begins a transaction; asks no broker.
    ///
    /// # Errors
    /// Where the producer is in no state for it.
    pub fn begin(&self) -> Result<(), CallError> {
        // SAFETY: as above.
        unsafe { called(rd_kafka_begin_transaction(self.client.as_ptr())) }
    }

    /// Adds offsets of one group to the transaction; the group's coordinator fences a stale consumer here.
    ///
    /// # Errors
    /// Why not.
    pub fn send_offsets(&self, sent: &GroupOffsets<'_>, wait: Duration) -> Result<(), CallError> {
        let list = partitions(sent.offsets.iter().map(|offset| (offset.topic, offset.partition)))?;
        let metadata = metadata(sent.group)?;
        // SAFETY: the list has as many elements as offsets were given, in their order; librdkafka frees the texts with it. The
        // elements are reached by address: no reference is made to one.
        unsafe {
            let elements = (*list.ptr()).elems;
            for (place, offset) in sent.offsets.iter().enumerate() {
                let element = elements.add(place);
                (*element).offset = offset.next;
                if !offset.metadata.is_empty() {
                    let length = offset.metadata.len();
                    let copied = rd_kafka_mem_malloc(self.client.as_ptr(), length);
                    if copied.is_null() {
                        return Err(unsaid("no memory"));
                    }
                    ptr::copy_nonoverlapping(offset.metadata.as_ptr(), copied.cast(), length);
                    (*element).metadata = copied;
                    (*element).metadata_size = length;
                }
            }
            let wait = milliseconds(wait);
            let client = self.client.as_ptr();
            called(rd_kafka_send_offsets_to_transaction(client, list.ptr(), metadata.ptr(), wait))
        }
    }

    /// Hands a record over; its report carries the number. Never blocks.
    ///
    /// # Errors
    /// Why librdkafka does not take it; no report follows then.
    pub fn produce(&self, record: &Record, partition: i32, number: u64) -> Result<(), ErrorCode> {
        let headers = NativeHeaders::of(&record.headers);
        // SAFETY: the client is a producer and lives.
        let taken = unsafe { records::produce(self.client.as_ptr(), record, headers, partition, number) };
        taken.map_err(|(code, _headers)| code)
    }

    /// Returns the fatal error that the producer met, where it did.
    #[must_use]
    pub fn fatal_error(&self) -> Option<CallError> {
        // SAFETY: the client lives.
        let met = unsafe { events::fatal_error_of(self.client.as_ptr()) };
        met.map(|(code, sentence)| CallError { code, class: CallClass::Fatal, sentence })
    }

    /// Takes what has come off the producer's queue, waiting for the first.
    #[must_use]
    pub fn poll(&self, wait: Duration) -> Vec<Polled> {
        let mut polled = Vec::new();
        let told = |event: Event<'_>| match event {
            Event::Report(report) => {
                polled.push(Polled::Report(Report { number: report.number(), outcome: report.outcome() }));
            }
            Event::Error(code, sentence) => polled.push(Polled::Error(code, sentence)),
            Event::Log(level, facility, line) => polled.push(Polled::Log(level, facility, line)),
            Event::Statistics(_) | Event::Read(_) => {}
        };
        // SAFETY: the queue lives.
        unsafe { events::poll(self.queue.as_ptr(), wait, told) };
        polled
    }

    /// Commits the transaction, however long it takes: a bound would leave librdkafka's state and the broker's apart (rdkafka.h).
    ///
    /// # Errors
    /// Why not; also a fatal error may mean that it is committed.
    pub fn commit(&self) -> Result<(), CallError> {
        // SAFETY: as in `init`.
        unsafe { called(rd_kafka_commit_transaction(self.client.as_ptr(), -1)) }
    }

    /// Aborts the transaction, however long it takes; reports that come meanwhile are dropped.
    ///
    /// librdkafka waits until the reports of what it purges are read, so another thread reads them.
    ///
    /// # Errors
    /// Why not; the producer is then of no more use.
    pub fn abort(&self) -> Result<(), CallError> {
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            let reading = thread::Builder::new().name("kafka-abort".to_owned()).spawn_scoped(scope, || {
                while !is_over.load(Ordering::Acquire) {
                    drop(self.poll(ABORT_POLL));
                }
            });
            if reading.is_err() {
                return Err(unsaid("there is no thread to read reports"));
            }
            // SAFETY: as in `init`.
            let ended = unsafe { called(rd_kafka_abort_transaction(self.client.as_ptr(), -1)) };
            is_over.store(true, Ordering::Release);
            ended
        })
    }
}

impl Drop for Transactional {
    fn drop(&mut self) {
        // SAFETY: both are ours, the queue goes first, and after the client nobody uses the flag.
        unsafe {
            rd_kafka_queue_destroy(self.queue.as_ptr());
            rd_kafka_destroy(self.client.as_ptr());
            drop(Arc::from_raw(self.doubt));
        }
    }
}

/// Makes librdkafka's form of a group and the consumer that commits for it.
fn metadata(group: &Group) -> Result<Owned<rd_kafka_consumer_group_metadata_t>, CallError> {
    let id = c_text(&group.id)?;
    let mut made = ptr::null_mut();
    // SAFETY: all texts and bytes live through the calls, which copy them; what is made is ours.
    unsafe {
        match &group.membership {
            Membership::Member { generation, member_id, instance_id } => {
                let member = c_text(member_id)?;
                let instance = instance_id.as_deref().map(c_text).transpose()?;
                let instance = instance.as_ref().map_or(ptr::null(), |instance| instance.as_ptr());
                let (id, member) = (id.as_ptr(), member.as_ptr());
                made = rd_kafka_consumer_group_metadata_new_with_genid(id, *generation, member, instance);
            }
            Membership::Librdkafka(bytes) => {
                let content = bytes.as_ptr().cast();
                called(rd_kafka_consumer_group_metadata_read(&raw mut made, content, bytes.len()))?;
            }
            Membership::Manual => made = rd_kafka_consumer_group_metadata_new(id.as_ptr()),
        }
    }
    let metadata = Owned::new(made, rd_kafka_consumer_group_metadata_destroy);
    metadata.ok_or_else(|| unsaid("the group's metadata cannot be read"))
}
