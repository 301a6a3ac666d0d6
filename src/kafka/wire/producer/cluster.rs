//! The cluster: who leads what, and fresh producer ids, asked over connections that are open for records anyway.
//! Must never ask in a tight loop: a broker in trouble is not hammered.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use kafka_protocol::messages::{ApiKey, InitProducerIdRequest, MetadataRequest, MetadataResponse};
use tokio::{
    sync::oneshot,
    time::{Instant, sleep, sleep_until},
};

use super::{Core, Question, QuestionBody};
use crate::{
    kafka::{
        code::ErrorCode,
        wire::{
            batch::ProducerId,
            bootstrap::Bootstrap,
            connection::{Connection, ConnectionEvent},
            error::WireError,
            message::Response,
            metadata::{MetadataChange, ask_topics},
            partition::Cause,
        },
    },
    record::{Record, Topic},
};

/// How many producer ids are there before a partition needs one, at least.
pub(super) const SPARE_IDS_MIN: usize = 4;
/// How many are asked for at once.
const IDS_AT_ONCE: usize = 16;
/// The least time between two questions of the same kind.
const PAUSE: Duration = Duration::from_millis(20);
/// How often records whose time is over are looked for.
const EXPIRY: Duration = Duration::from_millis(50);

/// Asks what has to be asked, for as long as the producer lives.
pub(super) async fn run<T: AsRef<Record> + Send + 'static>(core: Arc<Core<T>>) {
    let wire = Arc::clone(&core.wire.read());
    let mut bootstrap = Bootstrap::new(&wire);
    let mut refresh_at = Instant::now();
    let mut expire_at = Instant::now() + EXPIRY;
    let mut is_asked = true;
    loop {
        if is_asked || Instant::now() >= refresh_at {
            is_asked = !ask(&core, &mut bootstrap).await;
            refresh_at = Instant::now() + wire.metadata_refresh;
            sleep(PAUSE).await;
        }
        tokio::select! {
            () = core.ask.notified() => is_asked = true,
            () = sleep_until(refresh_at.min(expire_at)), if !is_asked => {}
            () = sleep(PAUSE), if is_asked => {}
        }
        if Instant::now() >= expire_at {
            core.expire(std::time::Instant::now());
            expire_at = Instant::now() + EXPIRY;
        }
    }
}

/// Asks for leaders and producer ids; returns whether nothing is missing.
async fn ask<T: AsRef<Record> + Send + 'static>(core: &Arc<Core<T>>, bootstrap: &mut Bootstrap) -> bool {
    let topics: Vec<Topic> = core.logs.read().keys().cloned().collect();
    let Some(response) = metadata(core, bootstrap, topics.clone()).await else { return false };
    let change = core.view.write().update(response);
    let Ok(change) = change else { return false };
    follow(core, &topics, &change);
    producer_ids(core).await;
    let view = core.view.read();
    let has_leaders = |topic: &Topic| {
        let view = view.topic(topic);
        view.is_some_and(|view| view.partitions.iter().all(|partition| partition.leader.is_some()))
    };
    topics.iter().all(has_leaders) && core.ids.lock().waiting.is_empty()
}

/// Gives partitions their leaders.
fn follow<T: AsRef<Record> + Send + 'static>(core: &Arc<Core<T>>, topics: &[Topic], change: &MetadataChange) {
    for topic in &change.recreated {
        each(core, topic, |records, ended| records.renew(ended));
    }
    for (topic, code) in &change.failed {
        if matches!(*code, ErrorCode::UNKNOWN_TOPIC_OR_PART | ErrorCode::TOPIC_AUTHORIZATION_FAILED) {
            each(core, topic, |records, ended| records.refuse_waiting(Cause::Code(*code), ended));
        }
    }
    for topic in topics {
        core.follow_leaders(topic);
    }
}

fn each<T: AsRef<Record> + Send + 'static>(
    core: &Arc<Core<T>>,
    topic: &Topic,
    act: impl Fn(&mut super::Partition<T>, &mut Vec<super::Ended<T>>),
) {
    let logs: Vec<_> = core.logs.read().get(topic).into_iter().flatten().cloned().collect();
    for log in logs {
        let mut ended = Vec::new();
        act(&mut log.state.lock().records, &mut ended);
        core.ended(&log, ended);
    }
}

/// Asks a broker that is in use, or else any that lets us in.
async fn metadata<T: AsRef<Record> + Send + 'static>(
    core: &Arc<Core<T>>,
    bootstrap: &mut Bootstrap,
    topics: Vec<Topic>,
) -> Option<MetadataResponse> {
    if let Some(Ok(response)) = question(core, QuestionBody::Topics(topics.clone())).await {
        return response.decode::<MetadataRequest>().ok();
    }
    let wire = Arc::clone(&core.wire.read());
    let known: Vec<_> = core.view.read().brokers().values().map(|node| node.address.clone()).collect();
    let (broker, mut connection) = match bootstrap.round(&wire, &known).await {
        Ok(found) => found,
        Err(error) => {
            tracing::warn!(%error, "no broker can be reached");
            return None;
        }
    };
    let response = call(&mut connection, &topics, wire.allow_auto_topic_creation).await.ok()?;
    // The connection is kept, if it is one to an address that the cluster itself names.
    let node = response.brokers.iter().find(|node| {
        node.host.as_str() == broker.host && u16::try_from(node.port).is_ok_and(|port| port == broker.port)
    });
    if let Some(node) = node {
        core.broker(node.node_id.0, Some(connection));
    }
    Some(response)
}

async fn call(
    connection: &mut Connection,
    topics: &[Topic],
    creates: bool,
) -> Result<MetadataResponse, WireError> {
    let mut request = connection.request(ApiKey::Metadata)?;
    request.encode(&ask_topics(topics, creates))?;
    connection.send(request)?;
    loop {
        if let ConnectionEvent::Response(response) = connection.next().await? {
            return response.decode::<MetadataRequest>();
        }
    }
}

/// Asks a broker that has a task; none if there is none, or if it has no connection and gets none.
async fn question<T: AsRef<Record> + Send + 'static>(
    core: &Arc<Core<T>>,
    body: QuestionBody,
) -> Option<Result<Response, WireError>> {
    let brokers: Vec<_> = core.brokers.lock().values().cloned().collect();
    let place = rand::random_range(0..brokers.len().max(1));
    let (answer, answered) = oneshot::channel();
    brokers.get(place)?.questions.send(Question { body, answer }).await.ok()?;
    answered.await.ok()
}

/// Fetches producer ids until enough are there, and has those that wait go on.
async fn producer_ids<T: AsRef<Record> + Send + 'static>(core: &Arc<Core<T>>) {
    let missing = {
        let ids = core.ids.lock();
        if ids.spare.len() >= SPARE_IDS_MIN && ids.waiting.is_empty() {
            return;
        }
        IDS_AT_ONCE.max(ids.waiting.len() + SPARE_IDS_MIN)
    };
    let asked = (0..missing).map(|_| question(core, QuestionBody::ProducerId));
    let fresh: Vec<_> = join_all(asked).await.into_iter().filter_map(fresh).collect();
    let waiting = {
        let mut ids = core.ids.lock();
        ids.spare.extend(fresh);
        let served = ids.waiting.len().min(ids.spare.len());
        ids.waiting.drain(..served).collect::<Vec<_>>()
    };
    for log in waiting {
        let mut state = log.state.lock();
        log.schedule(&mut state);
    }
}

fn fresh(answer: Option<Result<Response, WireError>>) -> Option<ProducerId> {
    let response = answer?.ok()?.decode::<InitProducerIdRequest>().ok()?;
    let is_fresh = response.error_code == 0 && response.producer_id.0 >= 0;
    is_fresh.then_some(ProducerId { id: response.producer_id.0, epoch: response.producer_epoch })
}
