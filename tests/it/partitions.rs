//! Which partition a record lands in: by tenant, by key, evenly without either, and where the caller says.

use std::{collections::HashMap, time::Duration};

use producer_sidecar::grpc::proto::ProducerRecord;
use testkit::{Cluster, Sidecar, eventually, read_topic};
use tonic::Code;

use crate::client::{Client, READY, connect, keyed, over_tls, run, send, shared_address, text, with_header};

crate::tests!(
    a_thousand_tenants_land_where_node_puts_them,
    a_thousand_keys_land_where_node_puts_them,
    keyless_records_spread_evenly,
    the_callers_own_partition_wins_and_is_bounded,
    other_partitioners_can_be_chosen_per_topic,
);

const PARTITIONS: i32 = 6;

/// What Node's crypto answers for the source document's partitioner: the MD5 of the partitions of `tenant-0` to `tenant-999`
/// over six, joined by commas.
const TENANTS_BY_NODE: &str = "1b9e2e97721d9af794c3c9cf453160c3";
/// The same for `key-0` to `key-999`.
const KEYS_BY_NODE: &str = "d63221ee80eaff460fe033f84d0e05ba";

fn digest(partitions: &[i32]) -> String {
    use md5::Digest as _;
    let joined: Vec<_> = partitions.iter().map(ToString::to_string).collect();
    let digest = md5::Md5::digest(joined.join(","));
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Sends records and returns the partition of each, as the consumer finds it; values are numbers in the order given.
fn landed(topic: &str, records: Vec<ProducerRecord>) -> Vec<i32> {
    let count = records.len();
    run(async { send_all(&connect(&shared_address()), records).await });
    let mut found = vec![-1; count];
    for record in read_topic(Cluster::shared(), topic) {
        let number: usize = String::from_utf8(record.value.unwrap()).unwrap().parse().unwrap();
        found[number] = record.partition;
    }
    found
}

async fn send_all(client: &Client, records: Vec<ProducerRecord>) {
    const AT_ONCE: usize = 256;
    let mut sends = tokio::task::JoinSet::new();
    for record in records {
        if sends.len() >= AT_ONCE {
            sends.join_next().await.unwrap().unwrap();
        }
        let client = client.clone();
        sends.spawn(async move {
            send(&client, record).await.unwrap();
        });
    }
    while let Some(sent) = sends.join_next().await {
        sent.unwrap();
    }
}

fn a_thousand_tenants_land_where_node_puts_them() {
    let topic = Cluster::shared().create_topic("tenants", PARTITIONS, &[]);
    let record = |number: usize| {
        // The tenant wins over the key.
        let record = keyed(text(&topic, &number.to_string()), "same");
        with_header(record, "tenant-id", &format!("tenant-{number}"))
    };
    assert_eq!(digest(&landed(&topic, (0..1000).map(record).collect())), TENANTS_BY_NODE);
}

fn a_thousand_keys_land_where_node_puts_them() {
    let topic = Cluster::shared().create_topic("keys", PARTITIONS, &[]);
    let record = |number: usize| {
        // An empty tenant is none.
        let record = keyed(text(&topic, &number.to_string()), &format!("key-{number}"));
        with_header(record, "tenant-id", "")
    };
    assert_eq!(digest(&landed(&topic, (0..1000).map(record).collect())), KEYS_BY_NODE);
}

fn keyless_records_spread_evenly() {
    const COUNT: usize = 60_000;
    let topic = Cluster::shared().create_topic("keyless", PARTITIONS, &[]);
    // An empty key is none for the partitioner.
    let record = |number: usize| match number % 2 {
        0 => text(&topic, &number.to_string()),
        _ => keyed(text(&topic, &number.to_string()), ""),
    };
    let partitions = landed(&topic, (0..COUNT).map(record).collect());
    let mut counts = HashMap::new();
    for partition in partitions {
        *counts.entry(partition).or_insert(0_usize) += 1;
    }
    let even = COUNT / 6;
    assert_eq!(counts.len(), 6, "{counts:?}");
    for count in counts.values() {
        assert!(count.abs_diff(even) * 100 <= even * 5, "within 5 % of {even}: {counts:?}");
    }
}

fn the_callers_own_partition_wins_and_is_bounded() {
    let topic = Cluster::shared().create_topic("own", 3, &[]);
    let record = |partition| ProducerRecord {
        partition: Some(partition),
        ..with_header(keyed(text(&topic, "v"), "k"), "tenant-id", "t")
    };
    run(async {
        let client = connect(&shared_address());
        for partition in 0..3 {
            assert_eq!(send(&client, record(partition)).await.unwrap().partition, Some(partition));
        }
        for partition in [3, i32::MAX, -1, i32::MIN] {
            let refusal = send(&client, record(partition)).await.unwrap_err();
            refusal.expect(Code::InvalidArgument, "INVALID_RECORD", "NO");
            assert_eq!(refusal.violations, ["record.partition"]);
        }
    });
    // A partition that came into being after the count was cached is taken without waiting for the next refresh.
    Cluster::shared().add_partitions(&topic, 5);
    let taken = || run(async { send(&connect(&shared_address()), record(4)).await.ok() });
    assert_eq!(eventually(Duration::from_secs(5), "the count is fetched anew", taken).partition, Some(4));
}

fn other_partitioners_can_be_chosen_per_topic() {
    let java = Cluster::shared().create_topic("java", PARTITIONS, &[]);
    let crc = Cluster::shared().create_topic("crc", PARTITIONS, &[]);
    let sidecar: Sidecar = over_tls()
        .env("SIDECAR_PARTITIONER_TOPICS", format!("{java}=java-murmur2,{crc}=librdkafka-crc32"))
        .start();
    sidecar.wait_ready(READY);
    run(async {
        let client = connect(&sidecar.grpc_address());
        // Kafka's own UtilsTest: murmur2("foobar") = -790332482; CRC-32 of "123456789" = 0xcbf43926.
        let to_java = send(&client, keyed(text(&java, "v"), "foobar")).await.unwrap();
        assert_eq!(to_java.partition, Some((-790_332_482_i32 & i32::MAX) % PARTITIONS));
        let to_crc = send(&client, keyed(text(&crc, "v"), "123456789")).await.unwrap();
        assert_eq!(to_crc.partition, i32::try_from(0xcbf4_3926_u32 % 6).ok());
    });
}
