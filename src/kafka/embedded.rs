//! Owns the embedded cluster behind `dev`: librdkafka's mock cluster, and a reader that tells each record that arrives.
//! Must never stand in for a real broker in a claim about delivery: it keeps records in memory and knows no ACLs.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use rdkafka::{
    ClientConfig, Message as _, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    error::KafkaResult,
    message::{BorrowedMessage, Headers as _},
    mocking::MockCluster,
    producer::DefaultProducerContext,
};

/// How often the reader looks for new topics, in milliseconds; also how long it takes to stop.
const LOOK_MS: u64 = 200;
/// How long a metadata request of the reader may take.
const METADATA_MS_MAX: u64 = 2_000;

/// An embedded cluster, until dropped.
pub struct Embedded {
    cluster: MockCluster<'static, DefaultProducerContext>,
    stop: Arc<AtomicBool>,
    reader: Option<JoinHandle<()>>,
}

/// A record as the reader found it in the embedded cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrival {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
    /// The key, if not null.
    pub key: Option<Vec<u8>>,
    /// The value, if no tombstone.
    pub value: Option<Vec<u8>>,
    /// Headers by name, in order.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Embedded {
    /// Starts a cluster of one broker.
    ///
    /// # Errors
    /// Where librdkafka cannot make one.
    pub fn start() -> KafkaResult<Self> {
        Ok(Self { cluster: MockCluster::new(1)?, stop: Arc::default(), reader: None })
    }

    /// Returns the cluster's host and port.
    #[must_use]
    pub fn bootstrap_servers(&self) -> String {
        self.cluster.bootstrap_servers()
    }

    /// Calls `tell` for each record that arrives from now on, on a thread of its own.
    ///
    /// # Errors
    /// Where the consumer or its thread cannot be made.
    pub fn tell_arrivals(
        &mut self,
        tell: impl Fn(Arrival) + Send + 'static,
    ) -> Result<(), Box<dyn std::error::Error>> {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", self.bootstrap_servers())
            .set("group.id", "dev-arrivals")
            .set("enable.auto.commit", "false")
            .set("allow.auto.create.topics", "false")
            .create()?;
        let stop = Arc::clone(&self.stop);
        let thread = thread::Builder::new().name("dev-arrivals".to_owned());
        self.reader = Some(thread.spawn(move || read_until(&stop, &consumer, tell))?);
        Ok(())
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(reader) = self.reader.take()
            && reader.join().is_err()
        {
            tracing::error!("the reader of the embedded cluster had panicked");
        }
    }
}

impl std::fmt::Debug for Embedded {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Embedded").finish_non_exhaustive()
    }
}

fn read_until(stop: &AtomicBool, consumer: &BaseConsumer, tell: impl Fn(Arrival)) {
    let mut assigned = HashSet::new();
    while !stop.load(Ordering::Acquire) {
        if let Err(error) = assign_new(consumer, &mut assigned) {
            tracing::debug!(%error, "the embedded cluster's topics could not be listed");
        }
        match consumer.poll(Duration::from_millis(LOOK_MS)) {
            Some(Ok(message)) => tell(arrival(&message)),
            Some(Err(error)) => tracing::debug!(%error, "the embedded cluster could not be read"),
            None => {}
        }
    }
}

/// Adds partitions that were not there before, from their beginning.
fn assign_new(consumer: &BaseConsumer, assigned: &mut HashSet<(String, i32)>) -> KafkaResult<()> {
    let metadata = consumer.fetch_metadata(None, Duration::from_millis(METADATA_MS_MAX))?;
    let mut new = TopicPartitionList::new();
    for topic in metadata.topics() {
        for partition in topic.partitions() {
            if assigned.insert((topic.name().to_owned(), partition.id())) {
                new.add_partition_offset(topic.name(), partition.id(), Offset::Beginning)?;
            }
        }
    }
    if new.count() == 0 { Ok(()) } else { consumer.incremental_assign(&new) }
}

fn arrival(message: &BorrowedMessage<'_>) -> Arrival {
    let headers = message.headers().into_iter().flat_map(|headers| headers.iter());
    Arrival {
        topic: message.topic().to_owned(),
        partition: message.partition(),
        offset: message.offset(),
        key: message.key().map(<[u8]>::to_vec),
        value: message.payload().map(<[u8]>::to_vec),
        headers: headers.map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec))).collect(),
    }
}
