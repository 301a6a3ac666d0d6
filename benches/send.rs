//! Send, side by side: the sidecar, a bare tonic echo, and librdkafka in this process, in turns within one run.
//!
//! The sidecar does what the echo and librdkafka do one after the other, so its limit is the series of both:
//! 1 / (1 / echo + 1 / direct). All three move the same records with as many in flight; the echo and the sidecar are
//! processes of their own behind the same client. Medians of the rounds are printed; the ratio is what is to be compared.

#![expect(
    clippy::expect_used,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a benchmark that cannot run has nothing to say, and counts are small"
)]

mod calls;
mod direct;
mod settings;
mod workload;

use std::{
    collections::HashMap,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use producer_sidecar::grpc::proto::{
    GetInfoRequest, GetInfoResponse, ProcessAndForwardRequest, ProcessAndForwardResponse, Receipt,
    SendBatchRequest, SendBatchResponse, SendRequest, SendResponse,
    producer_service_client::ProducerServiceClient,
    producer_service_server::{ProducerService, ProducerServiceServer},
};
use testkit::{Cluster, Sidecar, free_port};
use tokio::sync::oneshot;
use tonic::{Request, Response, Status, Streaming, transport::Channel};

use self::{
    calls::client,
    direct::{Direct, PARTITIONS},
};

const CALLERS: [usize; 3] = [1, 16, 256];
const ROUNDS: usize = 5;
const ROUND_MS: u64 = 3_000;
const WARM_UP_MS: u64 = 1_500;

fn main() {
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() == Some("echo") {
        let address = arguments.next().expect("echo takes an address");
        return runtime().block_on(echo(&address));
    }
    let cluster = Cluster::shared();
    let topic = cluster.create_topic("bench", PARTITIONS, &[]);
    let sidecar = Sidecar::for_cluster(env!("CARGO_BIN_EXE_producer-sidecar"), cluster).arg("serve").start();
    sidecar.wait_ready(Duration::from_secs(15));
    let (mut echo, echo_address) = start_echo();
    let rates = runtime().block_on(measure(&topic, &sidecar.grpc_address(), &echo_address));
    drop(echo.kill().and_then(|()| echo.wait()));
    drop(sidecar);
    Cluster::shutdown_shared();
    report(&rates);
}

type Rates = HashMap<(usize, &'static str), Vec<f64>>;

async fn measure(topic: &str, sidecar: &str, echo: &str) -> Rates {
    let direct = Arc::new(direct::producer(Cluster::shared(), |delivered, told: oneshot::Sender<bool>| {
        // The caller waits for as long as the record is on its way.
        told.send(delivered).unwrap_or(());
    }));
    let sides = [
        Side { name: "echo", way: Way::Grpc(client(echo)) },
        Side { name: "direct", way: Way::Direct(direct) },
        Side { name: "sidecar", way: Way::Grpc(client(sidecar)) },
    ];
    for side in &sides {
        side.rate(topic, 64, Duration::from_millis(WARM_UP_MS)).await;
    }
    let mut rates = Rates::new();
    for _ in 0..ROUNDS {
        for callers in CALLERS {
            for side in &sides {
                let rate = side.rate(topic, callers, Duration::from_millis(ROUND_MS)).await;
                rates.entry((callers, side.name)).or_default().push(rate);
            }
        }
    }
    rates
}

fn report(rates: &Rates) {
    println!(
        "Records per second, medians of {ROUNDS} rounds of {ROUND_MS} ms; records of 100 bytes with key and headers."
    );
    println!("| callers | echo | direct | series limit | sidecar | sidecar / limit |");
    println!("|---|---|---|---|---|---|");
    for callers in CALLERS {
        let of = |name| rates.get(&(callers, name)).cloned().unwrap_or_default();
        let (echo, direct, sidecar) = (of("echo"), of("direct"), of("sidecar"));
        let limit = |round: usize| 1.0 / (1.0 / echo[round] + 1.0 / direct[round]);
        let limits: Vec<_> = (0..ROUNDS).map(limit).collect();
        let ratios: Vec<_> = (0..ROUNDS).map(|round| sidecar[round] / limits[round]).collect();
        println!(
            "| {callers} | {:.0} | {:.0} | {:.0} | {:.0} | {:.2} |",
            median(echo),
            median(direct),
            median(limits),
            median(sidecar),
            median(ratios)
        );
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime can be made")
}

// === the sides ===

struct Side {
    name: &'static str,
    way: Way,
}

#[derive(Clone)]
enum Way {
    Grpc(ProducerServiceClient<Channel>),
    Direct(Arc<Direct<oneshot::Sender<bool>>>),
}

impl Side {
    async fn rate(&self, topic: &str, callers: usize, time: Duration) -> f64 {
        let (way, topic) = (self.way.clone(), topic.to_owned());
        calls::rate(callers, time, move |key| {
            let (way, topic) = (way.clone(), topic.clone());
            async move { way.send(&topic, &key).await }
        })
        .await
    }
}

impl Way {
    async fn send(&self, topic: &str, key: &str) {
        match self {
            Self::Grpc(client) => {
                calls::send(client.clone(), topic, key).await;
            }
            Self::Direct(producer) => {
                let (told, report) = oneshot::channel();
                direct::produce(producer, topic, key, told);
                assert!(report.await.expect("a report comes"), "every record is delivered");
            }
        }
    }
}

// === the echo ===

fn start_echo() -> (Child, String) {
    let address = format!("127.0.0.1:{}", free_port());
    let program = std::env::current_exe().expect("this program has a path");
    let echo = Command::new(program).args(["echo", &address]).stdin(Stdio::null()).spawn();
    let echo = echo.expect("the echo starts");
    testkit::eventually(Duration::from_secs(5), "the echo listens", || {
        std::net::TcpStream::connect(&address).ok()
    });
    (echo, address)
}

async fn echo(address: &str) {
    let address = address.parse().expect("the address is one");
    let server = tonic::transport::Server::builder().add_service(ProducerServiceServer::new(Echo));
    server.serve(address).await.expect("the echo serves");
}

struct Echo;

#[tonic::async_trait]
impl ProducerService for Echo {
    type SendBatchStream = tokio_stream::Empty<Result<SendBatchResponse, Status>>;

    async fn send(&self, request: Request<SendRequest>) -> Result<Response<SendResponse>, Status> {
        let topic = request.into_inner().record.unwrap_or_default().topic;
        let receipt = Receipt { topic, partition: Some(1), offset: Some(1), ..Receipt::default() };
        Ok(Response::new(SendResponse { receipt: Some(receipt) }))
    }

    async fn send_batch(
        &self,
        _: Request<Streaming<SendBatchRequest>>,
    ) -> Result<Response<Self::SendBatchStream>, Status> {
        Ok(Response::new(tokio_stream::empty()))
    }

    async fn process_and_forward(
        &self,
        _: Request<ProcessAndForwardRequest>,
    ) -> Result<Response<ProcessAndForwardResponse>, Status> {
        Ok(Response::new(ProcessAndForwardResponse::default()))
    }

    async fn get_info(&self, _: Request<GetInfoRequest>) -> Result<Response<GetInfoResponse>, Status> {
        Ok(Response::new(GetInfoResponse::default()))
    }
}
