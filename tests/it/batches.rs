//! How many records go in one request, and how long it waits for them.

use std::time::{Duration, Instant};

use testkit::{ApiKey, Cluster, read_topic};

use crate::{
    client::{READY, run, text, through_proxies},
    streams::{error, exchange, frame},
};

crate::tests!(a_batch_has_no_more_records_than_its_setting_says_and_a_full_one_does_not_wait);

const RECORDS: usize = 200;
const BATCH: usize = 20;
/// So long that to wait it out for each batch would show.
const LINGER: Duration = Duration::from_secs(1);

/// Sends one frame of records for one partition; returns how many requests they took, and how long.
fn requests(batch_records: usize) -> (usize, Duration) {
    let cluster = Cluster::shared();
    let topic = cluster.create_topic("batches", 1, &[]);
    let sidecar = through_proxies()
        .env("KAFKA_CLIENT_ID", &topic)
        .env("SIDECAR_KAFKA_BATCH_RECORDS", batch_records.to_string())
        .env("SIDECAR_KAFKA_LINGER_MS", LINGER.as_millis().to_string())
        .start();
    sidecar.wait_ready(READY);
    let faults = cluster.faults_of(&topic);
    faults.note_arrivals(ApiKey::Produce);
    let values: Vec<_> = (0..RECORDS).map(|number| number.to_string()).collect();
    let records = values.iter().map(|value| text(&topic, value)).collect();
    let begun = Instant::now();
    let (answers, end) = run(exchange(&sidecar.grpc_address(), vec![frame(0, records)]));
    let took = begun.elapsed();
    end.unwrap();
    assert!(answers[0].results.iter().all(|result| error(result).is_none()));
    let read: Vec<_> = read_topic(cluster, &topic).into_iter().map(|record| record.value.unwrap()).collect();
    assert!(read.iter().zip(&values).all(|(read, value)| read == value.as_bytes()));
    assert_eq!(read.len(), RECORDS);
    (faults.arrivals(ApiKey::Produce).len(), took)
}

fn a_batch_has_no_more_records_than_its_setting_says_and_a_full_one_does_not_wait() {
    let (small, took) = requests(BATCH);
    let (large, _) = requests(RECORDS);
    assert!(small >= RECORDS / BATCH && large < RECORDS / BATCH, "{small} and {large} requests");
    assert!(took < LINGER * 5, "{small} requests in {took:?}");
}
