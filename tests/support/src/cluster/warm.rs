//! Makes fresh JVMs answer fast before the first test: the paths that tests time are run until they are compiled.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use super::{Cluster, USER};

const RECORDS: usize = 3000;
const BOUND: Duration = Duration::from_secs(60);

impl Cluster {
    /// Produces some thousand records over SASL_SSL and commits one transaction, on a topic that is removed again.
    pub(super) fn warm_up(&self) {
        // The first look for a coordinator makes Kafka's own topics.
        self.group_coordinator("warm-up");
        self.transaction_coordinator("warm-up");
        let topic = self.create_topic("warm-up", 6, &[]);
        let producer: BaseProducer = self.warm_config().create().expect("a producer can be made");
        for number in 0..RECORDS {
            produce(&producer, &topic, number);
        }
        producer.flush(BOUND).expect("the warm-up's records arrive");
        let mut config = self.warm_config();
        config.set("transactional.id", "warm-up");
        let producer: BaseProducer = config.create().expect("a producer can be made");
        producer.init_transactions(BOUND).expect("transactions can be used");
        producer.begin_transaction().expect("a transaction can begin");
        produce(&producer, &topic, 0);
        producer.commit_transaction(BOUND).expect("a transaction can be committed");
        drop(producer);
        self.delete_topic(&topic);
    }

    fn warm_config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", self.bootstrap_tls())
            .set("security.protocol", "SASL_SSL")
            .set("sasl.mechanism", "SCRAM-SHA-512")
            .set("sasl.username", USER)
            .set("sasl.password", self.password())
            .set("ssl.ca.location", self.ca_file().display().to_string())
            .set("enable.idempotence", "true")
            .set("linger.ms", "0")
            .set("batch.num.messages", "25")
            .set("message.timeout.ms", "60000");
        config
    }
}

fn produce(producer: &BaseProducer, topic: &str, number: usize) {
    let key = number.to_string();
    let value = [b'.'; 200];
    let mut record = BaseRecord::to(topic).key(&key).payload(&value[..]);
    while let Err((_, refused)) = producer.send(record) {
        producer.poll(Duration::from_millis(10));
        record = refused;
    }
    producer.poll(Duration::ZERO);
}
