//! One dead partition, or one loud caller, starves nobody: the others keep their throughput and their order.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use producer_sidecar::grpc::proto::{
    ErrorReason, Persisted, ProducerRecord, SendBatchRequest, record_result,
};
use testkit::{ApiKey, Cluster, read_topic};
use tokio::{
    sync::Semaphore,
    time::{interval, timeout},
};

use crate::{
    around::metric,
    client::{READY, run, text, through_proxies, with_header},
    streams::{error, exchange, frame, open},
};

crate::tests!(
    a_dead_leader_starves_no_other_partition,
    a_frozen_broker_starves_no_partition_that_is_elsewhere,
    a_loud_tenant_starves_no_other,
);

/// How many records the sidecar takes; the dead partition's caller has more in flight than that.
const QUEUE_RECORDS: usize = 2_000;
const DEAD_IN_FLIGHT: usize = 3_000;
const OTHERS_IN_FLIGHT: usize = 100;
/// How long throughput is measured, without the fault.
const MEASURED: Duration = Duration::from_secs(5);
/// What the others keep of it.
const KEPT: f64 = 0.8;

/// For how long the leader is dead; `FAIR_DEAD_SECONDS` makes it longer.
fn dead() -> Duration {
    let seconds = std::env::var("FAIR_DEAD_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(6))
}

/// Lets throughput be measured for that long.
async fn pass(period: Duration) {
    timeout(period, std::future::pending::<()>()).await.unwrap_err();
}

/// A caller with a stream into one partition, which keeps so many records in flight.
struct Caller {
    topic: String,
    partition: i32,
    in_flight: usize,
    answered: Arc<AtomicUsize>,
    is_over: Arc<AtomicBool>,
}

/// What a caller was told: the numbers of its records that are in Kafka, and how often the others' reasons came.
struct Told {
    written: Vec<usize>,
    refused: BTreeMap<ErrorReason, usize>,
}

impl Caller {
    async fn run(self, address: String) -> Told {
        let (frames, mut answers) = open(&address).await;
        let room = Arc::new(Semaphore::new(self.in_flight));
        let (room_taken, is_over) = (Arc::clone(&room), self.is_over);
        let sending = tokio::spawn(async move {
            let mut sent = 0_usize;
            while !is_over.load(Ordering::Relaxed) {
                room_taken.acquire().await.unwrap().forget();
                let value = text(&self.topic, &sent.to_string());
                let record = ProducerRecord { partition: Some(self.partition), ..value };
                let sequence = u64::try_from(sent).unwrap() + 1;
                let frame =
                    SendBatchRequest { sequence, records: vec![record], ..SendBatchRequest::default() };
                frames.send(frame).await.unwrap();
                sent += 1;
            }
        });
        let mut told = Told { written: Vec::new(), refused: BTreeMap::new() };
        let mut heard = 0;
        // Ends once the caller sends no more and all its frames are answered.
        while let Some(answer) = answers.message().await.unwrap() {
            match answer.results[0].result.as_ref().unwrap() {
                record_result::Result::Receipt(_) => {
                    told.written.push(heard);
                    self.answered.fetch_add(1, Ordering::Relaxed);
                }
                record_result::Result::Error(error) => {
                    *told.refused.entry(error.reason()).or_default() += 1;
                    pass(Duration::from_millis(1)).await;
                }
            }
            heard += 1;
            room.add_permits(1);
        }
        sending.await.unwrap();
        told
    }
}

/// Dead for the sidecar alone: the other leaders wait for no replica.
fn a_dead_leader_starves_no_other_partition() {
    starves_nobody(|_, _| {}, |cluster, node| cluster.proxy(node).black_hole());
}

/// The others have no replica on it, for which they would wait until it is out of the in-sync replicas.
fn a_frozen_broker_starves_no_partition_that_is_elsewhere() {
    let elsewhere = |cluster: &Cluster, topic: &str| {
        let node = cluster.leader(topic, 0);
        let (second, third) = (node % 3 + 1, (node + 1) % 3 + 1);
        cluster.assign(topic, &[(1, vec![second, third]), (2, vec![third, second])]);
    };
    starves_nobody(elsewhere, Cluster::freeze);
}

fn starves_nobody(place: fn(&Cluster, &str), fault: fn(&Cluster, i32)) {
    let cluster = Cluster::shared();
    cluster.spread_leaders();
    let topic = cluster.create_topic("fair", 3, &[]);
    place(cluster, &topic);
    let node = cluster.leader(&topic, 0);
    let sidecar = through_proxies().env("SIDECAR_QUEUE_RECORDS_MAX", QUEUE_RECORDS.to_string()).start();
    sidecar.wait_ready(READY);
    let is_over = Arc::new(AtomicBool::new(false));
    let told = run(async {
        let counted: Vec<Arc<AtomicUsize>> = (0..3).map(|_| Arc::default()).collect();
        let callers: Vec<_> = (0_i32..)
            .zip(&counted)
            .map(|(partition, answered)| {
                let in_flight = if partition == 0 { DEAD_IN_FLIGHT } else { OTHERS_IN_FLIGHT };
                let (answered, is_over) = (Arc::clone(answered), Arc::clone(&is_over));
                let caller = Caller { topic: topic.clone(), partition, in_flight, answered, is_over };
                tokio::spawn(caller.run(sidecar.grpc_address()))
            })
            .collect();
        let rates = async |period: Duration| {
            let before: Vec<_> = counted.iter().map(|counted| counted.load(Ordering::Relaxed)).collect();
            pass(period).await;
            let after = counted.iter().zip(before);
            let rate = |(counted, before): (&Arc<AtomicUsize>, usize)| {
                let count = u32::try_from(counted.load(Ordering::Relaxed) - before).unwrap();
                f64::from(count) / period.as_secs_f64()
            };
            after.map(rate).collect::<Vec<_>>()
        };
        pass(Duration::from_secs(1)).await;
        let healthy = rates(MEASURED).await;
        fault(cluster, node);
        // Its partition's caller fills what it may.
        pass(Duration::from_secs(1)).await;
        let during = rates(dead()).await;
        cluster.heal();
        is_over.store(true, Ordering::Relaxed);
        eprintln!("records a second before {healthy:.0?} and during {during:.0?}");
        for partition in [1, 2].into_iter().filter(|partition| cluster.leader(&topic, *partition) != node) {
            let (healthy, during) =
                (healthy[usize::try_from(partition).unwrap()], during[usize::try_from(partition).unwrap()]);
            assert!(during >= KEPT * healthy, "partition {partition}: {during} of {healthy}");
        }
        let mut told = Vec::new();
        for caller in callers {
            told.push(caller.await.unwrap());
        }
        told
    });
    let mut read: BTreeMap<i32, Vec<usize>> = BTreeMap::new();
    for record in read_topic(cluster, &topic) {
        let number = String::from_utf8(record.value.unwrap()).unwrap().parse().unwrap();
        read.entry(record.partition).or_default().push(number);
    }
    for (partition, Told { written, refused }) in (0..).zip(told) {
        eprintln!("partition {partition}: {} written, refused: {refused:?}", written.len());
        let read = read.remove(&partition).unwrap_or_default();
        assert!(
            read.is_sorted_by(|first, second| first < second),
            "partition {partition} is in order, each once"
        );
        assert!(written.iter().all(|number| read.binary_search(number).is_ok()), "what is told is there");
        // The dead one's caller asks for more than there is.
        assert_eq!(refused.contains_key(&ErrorReason::QueueFull), partition == 0, "{partition}: {refused:?}");
        assert_eq!(refused.len(), usize::from(partition == 0), "{partition}: {refused:?}");
    }
}

/// While nothing is acknowledged.
fn a_loud_tenant_starves_no_other() {
    const ROOM: usize = 600;
    const QUIET: usize = 50;
    let cluster = Cluster::shared();
    let topic = cluster.create_topic("tenants", 6, &[]);
    let sidecar = through_proxies().env("SIDECAR_QUEUE_RECORDS_MAX", ROOM.to_string()).start();
    sidecar.wait_ready(READY);
    let of = |tenant: &str, number: usize| {
        // Without a key a tenant's records go to one partition: they are spread, as those of many keys.
        let partition = Some(i32::try_from(number % 6).unwrap());
        ProducerRecord { partition, ..with_header(text(&topic, tenant), "tenant-id", tenant) }
    };
    let batch =
        |tenant: &str, count: usize| vec![frame(1, (0..count).map(|number| of(tenant, number)).collect())];
    // The topic is known.
    run(exchange(&sidecar.grpc_address(), batch("quiet", 1))).1.unwrap();
    cluster.proxies().for_each(|proxy| proxy.hold(ApiKey::Produce));
    let (loud, quiet) = run(async {
        let address = sidecar.grpc_address();
        let loud = tokio::spawn({
            let (address, frames) = (address.clone(), batch("loud", ROOM));
            async move { exchange(&address, frames).await }
        });
        let outstanding = async |count: usize| {
            let mut look = interval(Duration::from_millis(20));
            while metric(&sidecar, "producer_outstanding_records").unwrap() < u64::try_from(count).unwrap() {
                look.tick().await;
            }
        };
        // It has what a tenant may have: two thirds.
        timeout(READY, outstanding(ROOM / 2)).await.expect("the loud one is let in");
        let quiet = exchange(&address, batch("quiet", QUIET));
        let released = async {
            timeout(READY, outstanding(ROOM / 2 + QUIET)).await.expect("the quiet one is let in");
            cluster.heal();
        };
        let (quiet, ()) = tokio::join!(quiet, released);
        (loud.await.unwrap().0, quiet.0)
    });
    assert!(quiet[0].results.iter().all(|result| error(result).is_none()), "{quiet:?}");
    let refused: Vec<_> = loud[0].results.iter().filter_map(error).collect();
    assert!(refused.len() > ROOM / 4 && refused.len() < ROOM / 2, "{} of {ROOM}", refused.len());
    for error in refused {
        assert_eq!((error.reason(), error.persisted()), (ErrorReason::QueueFull, Persisted::No), "{error:?}");
        assert!(error.retry_after.is_some_and(|after| after.seconds > 0 || after.nanos > 0), "{error:?}");
    }
}
