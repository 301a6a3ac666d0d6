//! Where the service listens: not beyond loopback unless allowed, and on socket files that are nobody else's.

use std::{
    fs,
    os::unix::fs::{FileTypeExt as _, PermissionsExt as _},
    path::Path,
    process::Command,
};

use producer_sidecar::grpc::proto::GetInfoRequest;
use testkit::{Cluster, Sidecar, Signal, TestFolder, grpcurl, read_topic};

use super::{SERVICE, listening, ready};
use crate::{
    client::{BINARY, READY, connect, over_tls, run},
    commands::{to_end, without_brokers},
};

crate::tests!(
    other_machines_are_let_in_only_where_that_is_allowed,
    a_socket_file_serves_send_and_grpcurl,
    a_left_over_socket_file_is_replaced,
    a_live_socket_is_not_stolen,
    a_file_that_is_no_socket_stays,
);

fn port(sidecar_address: &str) -> &str {
    sidecar_address.rsplit_once(':').unwrap().1
}

fn other_machines_are_let_in_only_where_that_is_allowed() {
    for address in ["0.0.0.0:50051", "[::]:50051", "192.0.2.1:50051"] {
        let ended = to_end(without_brokers(&["serve"]).env("SIDECAR_LISTEN", address));
        assert_eq!(ended.code, Some(64), "{address}: {ended:?}");
        let told =
            ended.stderr.iter().any(|line| line.starts_with("listen ") && line.contains("allow_remote"));
        assert!(told, "{address}: {ended:?}");
    }
    let free = testkit::free_port();
    let builder = without_brokers(&["serve"])
        .env("SIDECAR_LISTEN", format!("0.0.0.0:{free}"))
        .env("SIDECAR_ALLOW_REMOTE", "true");
    let _sidecar = listening(builder);
    run(async { connect(&format!("127.0.0.1:{free}")).get_info(GetInfoRequest {}).await }).unwrap();
    // Loopback needs no permission, in either version of IP and by its name.
    let sidecar = listening(without_brokers(&["serve"]));
    let address = format!("localhost:{}", port(&sidecar.grpc_address()));
    run(async { connect(&address).get_info(GetInfoRequest {}).await }).unwrap();
}

/// Runs `send` over a socket file and returns its exit code.
fn send_over(socket: &Path, topic: &str, value: &str) -> Option<i32> {
    let address = format!("unix:{}", socket.display());
    let mut send = Command::new(BINARY);
    send.args(["send", "--address", &address, "--topic", topic, "--timeout", "20s", value]);
    send.output().unwrap().status.code()
}

/// A sidecar on a socket file, before the real cluster.
fn on_socket(socket: &Path) -> Sidecar {
    ready(over_tls().env("SIDECAR_LISTEN", format!("unix:{}", socket.display())))
}

fn get_info(socket: &Path) -> Option<i32> {
    let target = format!("unix://{}", socket.display());
    grpcurl(&["-plaintext", &target, &format!("{SERVICE}/GetInfo")]).exit
}

fn a_socket_file_serves_send_and_grpcurl() {
    let folder = TestFolder::new("socket");
    let socket = folder.path().join("sidecar.sock");
    let topic = Cluster::shared().create_topic("socket", 1, &[]);
    let sidecar = on_socket(&socket);
    let metadata = fs::metadata(&socket).unwrap();
    assert!(metadata.file_type().is_socket());
    assert_eq!(metadata.permissions().mode() & 0o777, 0o660);
    assert_eq!(send_over(&socket, &topic, "by send"), Some(0));
    let body = format!(r#"{{"record":{{"topic":"{topic}","value_text":"by grpcurl"}}}}"#);
    let target = format!("unix://{}", socket.display());
    let answer = grpcurl(&["-plaintext", "-d", &body, &target, &format!("{SERVICE}/Send")]);
    assert_eq!(answer.exit, Some(0), "{answer:?}");
    let values: Vec<_> =
        read_topic(Cluster::shared(), &topic).into_iter().map(|read| read.value.unwrap()).collect();
    assert_eq!(values, [b"by send".to_vec(), b"by grpcurl".to_vec()]);
    sidecar.signal(Signal::TERM);
    assert_eq!(sidecar.wait_exit(READY).code(), Some(0));
    assert!(!socket.exists(), "the socket file is removed at the end");
}

fn a_left_over_socket_file_is_replaced() {
    let folder = TestFolder::new("socket");
    let socket = folder.path().join("sidecar.sock");
    let killed = on_socket(&socket);
    killed.kill();
    assert!(socket.exists(), "who is killed cleans nothing up");
    let sidecar = on_socket(&socket);
    assert_eq!(get_info(&socket), Some(0));
    drop(sidecar);
}

fn a_live_socket_is_not_stolen() {
    let folder = TestFolder::new("socket");
    let socket = folder.path().join("sidecar.sock");
    let listen = format!("unix:{}", socket.display());
    let _first = listening(without_brokers(&["serve"]).env("SIDECAR_LISTEN", &listen));
    let second = to_end(without_brokers(&["serve"]).env("SIDECAR_LISTEN", &listen));
    assert_eq!(second.code, Some(1), "{second:?}");
    let last = second.stderr.last().unwrap();
    assert!(last.contains(&format!("cannot listen on {listen}")), "{last}");
    // The end of the second took nothing away from the first.
    assert_eq!(get_info(&socket), Some(0));
}

fn a_file_that_is_no_socket_stays() {
    let folder = TestFolder::new("socket");
    let file = folder.write("precious", "not a socket");
    let ended = to_end(without_brokers(&["serve"]).env("SIDECAR_LISTEN", format!("unix:{}", file.display())));
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "not a socket");
}
