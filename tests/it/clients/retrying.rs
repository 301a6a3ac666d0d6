//! The example clients' own retries: a connection that breaks while a record is on its way costs neither the record nor a second
//! one, because its message id is known.

use std::{
    net::SocketAddr,
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use testkit::{ApiKey, Cluster, eventually};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    runtime::{Builder, Runtime},
    sync::watch,
};

use super::{CLIENTS, Client, check_printed, command, read_back};
use crate::{
    around::metric,
    client::{READY, through_proxies},
};

crate::tests!(a_clients_own_retry_writes_nothing_twice);

/// How long a client may take to its first record.
const STARTED: Duration = Duration::from_secs(30);
/// Less than the clients' deadlines, after which they send nothing again.
const AGAIN: Duration = Duration::from_secs(5);

/// Passes connections on to the sidecar, until it drops them.
struct Relay {
    address: SocketAddr,
    taken: Arc<AtomicUsize>,
    drops: watch::Sender<u32>,
    _runtime: Runtime,
}

impl Relay {
    fn start(to: String) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let (taken, drops) = (Arc::new(AtomicUsize::new(0)), watch::Sender::new(0));
        let (counted, dropping) = (Arc::clone(&taken), drops.clone());
        runtime.spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let (mut dropped, to) = (dropping.subscribe(), to.clone());
                counted.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(async move {
                    let Ok(mut sidecar) = TcpStream::connect(&to).await else { return };
                    tokio::select! {
                        _ = copy_bidirectional(&mut client, &mut sidecar) => {}
                        _ = dropped.changed() => {}
                    }
                });
            }
        });
        Self { address, taken, drops, _runtime: runtime }
    }

    fn drop_all(&self) {
        self.drops.send_modify(|drops| *drops += 1);
    }
}

fn a_clients_own_retry_writes_nothing_twice() {
    CLIENTS.iter().for_each(check);
}

fn check(client: &Client) {
    let language = client.language;
    let program = client.built().join(client.program);
    let topic = Cluster::shared().create_topic(language, 3, &[]);
    let sidecar = through_proxies().env("KAFKA_CLIENT_ID", &topic).start();
    sidecar.wait_ready(READY);
    let faults = Cluster::shared().faults_of(&topic);
    let relay = Relay::start(sidecar.grpc_address());
    faults.hold(ApiKey::Produce);
    let target = relay.address.to_string();
    let running = command(&program, &target, &topic).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let running = running.expect("the client starts");
    faults.wait_held(ApiKey::Produce, STARTED);
    let taken = relay.taken.load(Ordering::Relaxed);
    relay.drop_all();
    eventually(AGAIN, &format!("{language} sends it again"), || {
        let duplicates = metric(&sidecar, "producer_duplicates_total").unwrap_or(0);
        (duplicates > 0).then_some(())
    });
    assert!(relay.taken.load(Ordering::Relaxed) > taken, "over another connection");
    faults.release(ApiKey::Produce);
    let ended = running.wait_with_output().expect("the client runs");
    check_printed(language, &target, &topic, &ended);
    read_back(language, &topic);
}
