//! What `grpc.health.v1` and the probes say where nothing is broken, and before Kafka was ever there.

use tonic::Code;
use tonic_health::pb::health_check_response::ServingStatus::{NotServing, Serving};

use super::{SERVICE, channel, check, listening, next, watch};
use crate::{
    client::{run, shared_address, with_shared},
    commands::without_brokers,
};

crate::tests!(
    every_name_serves_once_kafka_is_there,
    before_kafka_only_liveness_serves,
    the_probes_give_their_reasons,
    a_watch_begins_with_the_status_of_now,
);

fn every_name_serves_once_kafka_is_there() {
    run(async {
        let channel = channel(&shared_address());
        for name in ["", SERVICE, "kafka", "liveness"] {
            assert_eq!(check(&channel, name).await, Ok(Serving), "{name:?}");
        }
        for name in ["nobody", "caas.producer.v1", "Kafka"] {
            assert_eq!(check(&channel, name).await, Err(Code::NotFound), "{name:?}");
        }
    });
}

fn before_kafka_only_liveness_serves() {
    let sidecar = listening(without_brokers(&["serve"]));
    run(async {
        let channel = channel(&sidecar.grpc_address());
        for name in ["", SERVICE, "kafka"] {
            assert_eq!(check(&channel, name).await, Ok(NotServing), "{name:?}");
        }
        assert_eq!(check(&channel, "liveness").await, Ok(Serving));
    });
    let (status, body) = sidecar.http_get("/readyz");
    assert_eq!(status, 503);
    assert!(body.starts_with("not ready: no broker "), "{body}");
    assert_eq!(sidecar.http_get("/livez").0, 200);
    assert_eq!(sidecar.http_get("/startupz").0, 200);
}

fn the_probes_give_their_reasons() {
    with_shared(|sidecar| {
        for (path, body) in
            [("/startupz", "started\n"), ("/livez", "alive\n"), ("/readyz", "ready: connected to Kafka\n")]
        {
            assert_eq!(sidecar.http_get(path), (200, body.to_owned()), "{path}");
        }
        for path in ["/", "/metric", "/readyz/", "/metrics/x", "/debug"] {
            assert_eq!(sidecar.http_get(path).0, 404, "{path}");
        }
    });
}

fn a_watch_begins_with_the_status_of_now() {
    let sidecar = listening(without_brokers(&["serve"]));
    run(async {
        let (kafka_there, none) = (channel(&shared_address()), channel(&sidecar.grpc_address()));
        assert_eq!(next(&mut watch(&kafka_there, "").await).await, Serving);
        assert_eq!(next(&mut watch(&none, "").await).await, NotServing);
        assert_eq!(next(&mut watch(&none, "liveness").await).await, Serving);
    });
}
