//! Health while brokers are away and while the sidecar drains. Breaks the cluster's proxies, and heals them.

use testkit::{ApiKey, Cluster, Signal, eventually, read_topic};
use tonic::Code;
use tonic_health::pb::health_check_response::ServingStatus::{NotServing, Serving};

use super::{SERVICE, channel, check, metric, next, ready, wait_metric, watch};
use crate::client::{READY, connect, run, send, text, through_proxies};

crate::tests!(
    an_outage_is_told_by_kafka_alone,
    what_waits_in_an_outage_is_counted,
    a_drain_is_told_while_calls_go_on,
);

fn an_outage_is_told_by_kafka_alone() {
    let cluster = Cluster::shared();
    let sidecar = ready(through_proxies());
    run(async {
        let channel = channel(&sidecar.grpc_address());
        let (mut kafka, mut whole) = (watch(&channel, "kafka").await, watch(&channel, "").await);
        assert_eq!((next(&mut kafka).await, next(&mut whole).await), (Serving, Serving));
        assert_eq!(metric(&sidecar, "kafka_producer_connected"), Some(1));
        for proxy in cluster.proxies() {
            proxy.cut();
        }
        assert_eq!(next(&mut kafka).await, NotServing);
        for name in ["", SERVICE, "liveness"] {
            assert_eq!(check(&channel, name).await, Ok(Serving), "{name:?}");
        }
        wait_metric(&sidecar, "kafka_producer_connected", 0, READY);
        let (status, body) = sidecar.http_get("/readyz");
        assert_eq!(status, 200, "an outage makes no pod unready: {body}");
        assert!(body.starts_with("ready: no broker can be reached"), "{body}");
        cluster.heal();
        assert_eq!(next(&mut kafka).await, Serving);
        wait_metric(&sidecar, "kafka_producer_connected", 1, READY);
        // Whoever watches the whole was told nothing: the sidecar served all along.
        let told = tokio::time::timeout(std::time::Duration::from_millis(100), whole.message()).await;
        assert!(told.is_err(), "{told:?}");
    });
}

fn what_waits_in_an_outage_is_counted() {
    let cluster = Cluster::shared();
    let topic = cluster.create_topic("waiting", 1, &[]);
    let sidecar = ready(through_proxies().env("SIDECAR_BROKERS_WAIT_MS", "30000"));
    run(async {
        let client = connect(&sidecar.grpc_address());
        send(&client, text(&topic, "before")).await.unwrap();
        assert_eq!(metric(&sidecar, "producer_waiting_records"), Some(0));
        for proxy in cluster.proxies() {
            proxy.cut();
        }
        wait_metric(&sidecar, "kafka_producer_connected", 0, READY);
        let waiting: Vec<_> = (0..3)
            .map(|_| {
                let (client, record) = (client.clone(), text(&topic, "waits"));
                tokio::spawn(async move { send(&client, record).await })
            })
            .collect();
        wait_metric(&sidecar, "producer_waiting_records", 3, READY);
        assert_eq!(metric(&sidecar, "producer_outstanding_records"), Some(3));
        eventually(READY, "the oldest has waited for a second", || {
            let metrics = sidecar.http_get("/metrics").1;
            let age =
                metrics.lines().find_map(|line| line.strip_prefix("producer_waiting_oldest_age_seconds "));
            age.and_then(|age| age.parse::<f64>().ok()).filter(|age| *age >= 1.0)
        });
        cluster.heal();
        for sent in waiting {
            sent.await.unwrap().unwrap();
        }
    });
    let metrics = sidecar.http_get("/metrics").1;
    assert!(metrics.contains("\nproducer_waiting_oldest_age_seconds 0.0\n"), "{metrics}");
    assert_eq!(metric(&sidecar, "producer_waiting_records"), Some(0));
    // They were handed over once each.
    assert_eq!(metric(&sidecar, "producer_retries_total"), Some(0));
}

fn a_drain_is_told_while_calls_go_on() {
    let cluster = Cluster::shared();
    let topic = cluster.create_topic("drained", 1, &[]);
    let sidecar = ready(through_proxies());
    run(async {
        let client = connect(&sidecar.grpc_address());
        let channel = channel(&sidecar.grpc_address());
        send(&client, text(&topic, "before")).await.unwrap();
        let mut watched = Vec::new();
        for name in ["", SERVICE] {
            let mut stream = watch(&channel, name).await;
            assert_eq!(next(&mut stream).await, Serving, "{name:?}");
            watched.push(stream);
        }
        for proxy in cluster.proxies() {
            proxy.hold(ApiKey::Produce);
        }
        let (held_client, held_record) = (client.clone(), text(&topic, "held"));
        let held = tokio::spawn(async move { send(&held_client, held_record).await });
        eventually(READY, "the record is on its way", || {
            cluster.proxies().any(|proxy| proxy.holding(ApiKey::Produce) > 0).then_some(())
        });
        sidecar.signal(Signal::TERM);
        for stream in &mut watched {
            assert_eq!(next(stream).await, NotServing);
        }
        assert_eq!(check(&channel, "liveness").await, Ok(Serving));
        assert_eq!(sidecar.http_get("/readyz"), (503, "not ready: draining\n".to_owned()));
        assert_eq!((sidecar.http_get("/livez").0, sidecar.http_get("/startupz").0), (200, 200));
        let late = send(&client, text(&topic, "late")).await.unwrap_err();
        late.expect(Code::Unavailable, "DRAINING", "NO");
        assert!(!held.is_finished(), "the held call is still in progress");
        for proxy in cluster.proxies() {
            proxy.release();
        }
        held.await.unwrap().unwrap();
    });
    assert_eq!(sidecar.wait_exit(READY).code(), Some(0), "{:?}", sidecar.stderr());
    cluster.heal();
    let values: Vec<_> = read_topic(cluster, &topic).into_iter().map(|read| read.value.unwrap()).collect();
    assert_eq!(values, [b"before".to_vec(), b"held".to_vec()]);
}
