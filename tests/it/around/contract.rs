//! What a stranger finds without the proto file: reflection in both versions, GetInfo, and methods that are not there.

use producer_sidecar::grpc::proto::{Durability, GetInfoRequest};
use testkit::grpcurl;

use super::{SERVICE, channel, listening};
use crate::{
    client::{connect, run, shared_address},
    commands::without_brokers,
};

crate::tests!(
    grpcurl_lists_and_describes_the_service,
    both_versions_of_reflection_resolve_services_and_error_details,
    reflection_can_be_switched_off,
    get_info_tells_the_limits_in_force,
    a_method_that_is_not_there_is_unimplemented,
);

/// The types that an error's details hold.
const DETAILS: [&str; 3] = ["google.rpc.ErrorInfo", "google.rpc.RetryInfo", "google.rpc.BadRequest"];

fn grpcurl_lists_and_describes_the_service() {
    let address = shared_address();
    let described = |arguments: &[&str]| {
        let answer = grpcurl(&[&["-plaintext", address.as_str()], arguments].concat());
        assert_eq!(answer.exit, Some(0), "{arguments:?}: {answer:?}");
        answer.stdout
    };
    let listed = described(&["list"]);
    for service in [SERVICE, "grpc.health.v1.Health"] {
        assert!(listed.lines().any(|line| line == service), "{service} in {listed}");
    }
    let service = described(&["describe", SERVICE]);
    for method in ["rpc Send ", "rpc SendBatch ", "rpc ProcessAndForward ", "rpc GetInfo "] {
        assert!(service.contains(method), "{method} in {service}");
    }
    // Comments come along.
    assert!(service.contains("Sends one record and answers"), "{service}");
    assert!(described(&["describe", "caas.producer.v1.ErrorReason"]).contains("ERROR_REASON_QUEUE_FULL = 9"));
    for name in DETAILS {
        assert!(described(&["describe", name]).contains(&format!("{name} is a message")), "{name}");
    }
}

/// Asks one version of reflection for its services, and for the files of symbols.
macro_rules! reflection {
    ($version:ident, $channel:expr, $symbols:expr) => {{
        use tonic_reflection::pb::$version::{
            ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
            server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
        };
        let ask = |request| ServerReflectionRequest { host: String::new(), message_request: Some(request) };
        let symbols = $symbols.map(|name: &str| ask(MessageRequest::FileContainingSymbol(name.to_owned())));
        let requests = [ask(MessageRequest::ListServices(String::new()))].into_iter().chain(symbols);
        let requests = tokio_stream::iter(requests.collect::<Vec<_>>());
        let mut client = ServerReflectionClient::new($channel);
        let mut answers = client.server_reflection_info(requests).await.unwrap().into_inner();
        let (mut services, mut files) = (Vec::new(), 0);
        while let Some(answer) = answers.message().await.unwrap() {
            match answer.message_response.unwrap() {
                MessageResponse::ListServicesResponse(list) => {
                    services.extend(list.service.into_iter().map(|service| service.name));
                }
                MessageResponse::FileDescriptorResponse(found) => {
                    files += usize::from(!found.file_descriptor_proto.is_empty());
                }
                other => panic!("{other:?}"),
            }
        }
        (services, files)
    }};
}

fn both_versions_of_reflection_resolve_services_and_error_details() {
    run(async {
        let channel = channel(&shared_address());
        let v1 = reflection!(v1, channel.clone(), DETAILS.into_iter().chain([SERVICE]));
        let alpha = reflection!(v1alpha, channel, DETAILS.into_iter().chain([SERVICE]));
        for (services, files) in [v1, alpha] {
            assert!(services.iter().any(|name| name == SERVICE), "{services:?}");
            assert_eq!(files, 4, "a file for each symbol");
        }
    });
}

fn reflection_can_be_switched_off() {
    let sidecar = listening(without_brokers(&["serve"]).env("SIDECAR_REFLECTION", "false"));
    let answer = grpcurl(&["-plaintext", &sidecar.grpc_address(), "list"]);
    assert_ne!(answer.exit, Some(0), "{answer:?}");
    assert!(answer.stderr.contains("does not support the reflection API"), "{answer:?}");
    run(async { connect(&sidecar.grpc_address()).get_info(GetInfoRequest {}).await }).unwrap();
}

fn get_info_tells_the_limits_in_force() {
    let info = |address: &str| {
        run(async { connect(address).get_info(GetInfoRequest {}).await }).unwrap().into_inner()
    };
    let duration = |milliseconds: i64| prost_types::Duration {
        seconds: milliseconds / 1000,
        nanos: i32::try_from(milliseconds % 1000).unwrap() * 1_000_000,
    };
    let defaults = info(&shared_address());
    assert_eq!(defaults.version, env!("CARGO_PKG_VERSION"));
    assert_eq!(defaults.record_bytes_max, 1_000_000);
    assert_eq!(defaults.default_durability(), Durability::Replicated);
    assert_eq!(defaults.default_timeout, Some(duration(30_000)));
    assert_eq!(defaults.timeout_max, Some(duration(300_000)));
    assert!(!defaults.spool);
    let stream = (defaults.frame_records_max, defaults.frame_bytes_max, defaults.window_records);
    assert_eq!(stream, (1_000, 4_194_304, 10_000));
    let remembered = (defaults.message_ids_max, defaults.message_id_window);
    assert_eq!(remembered, (50_000, Some(duration(600_000))));

    let builder = without_brokers(&["serve", "--record-bytes-max", "2000"]);
    let builder = builder.env("SIDECAR_SEND_TIMEOUT_MS", "1500").env("SIDECAR_SEND_TIMEOUT_MS_MAX", "2500");
    let builder = builder.env("SIDECAR_FRAME_RECORDS_MAX", "7").env("SIDECAR_WINDOW_RECORDS", "70");
    let builder = builder.env("SIDECAR_DEDUPLICATION_MESSAGE_IDS_MAX", "0");
    let set = info(&listening(builder).grpc_address());
    assert_eq!(set.record_bytes_max, 2000);
    assert_eq!((set.message_ids_max, set.message_id_window), (0, None));
    assert_eq!((set.frame_records_max, set.window_records), (7, 70));
    assert_eq!((set.default_timeout, set.timeout_max), (Some(duration(1500)), Some(duration(2500))));
}

fn a_method_that_is_not_there_is_unimplemented() {
    let answer = grpcurl(&["-plaintext", &shared_address(), &format!("{SERVICE}/NoSuchMethod")]);
    assert_ne!(answer.exit, Some(0), "{answer:?}");
}
