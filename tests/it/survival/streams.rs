//! Owns the callers with a stream of frames, which is opened again wherever it ends.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use producer_sidecar::grpc::proto::{
    Persisted, RecordError, SendBatchRequest, SendBatchResponse, record_result::Result as RecordOutcome,
};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use testkit::history::{Outcome, Refusal as Told};
use tokio::{
    sync::mpsc,
    time::{Interval, MissedTickBehavior, interval},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::{
    drawn::{Drawn, Topics, deadline},
    ledger::{Begun, Ledger, letter, pass, told},
};
use crate::client::{Refusal, connect};

/// How often a frame is sent where nothing holds the caller up.
const PACE: Duration = Duration::from_millis(100);
/// Frames have fewer records than this.
const RECORDS: usize = 11;
/// How many frames a caller leaves unanswered, as the contract asks it to bound.
const UNANSWERED_MAX: usize = 30;
/// After how long a stream that could not be opened is opened again.
const AGAIN: Duration = Duration::from_millis(100);

/// A caller of SendBatch.
pub struct Streamer {
    pub number: usize,
    pub topics: Topics,
    /// Whether it sends again what failed.
    pub is_careful: bool,
    pub seed: u64,
}

/// What the caller keeps from one stream to the next.
struct Keeps {
    random: StdRng,
    pace: Interval,
    records: u64,
    /// What is to be sent again, and not before when.
    again: VecDeque<(Instant, Drawn)>,
}

impl Streamer {
    /// Streams until the run is over.
    pub async fn run(self, ledger: Arc<Ledger>) {
        let mut pace = interval(PACE);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let random = StdRng::seed_from_u64(self.seed);
        let mut keeps = Keeps { random, pace, records: 0, again: VecDeque::new() };
        while !ledger.is_over() {
            self.one_stream(&ledger, &mut keeps).await;
        }
    }

    async fn one_stream(&self, ledger: &Ledger, keeps: &mut Keeps) {
        let target = ledger.target();
        let (frames, outgoing) = mpsc::channel(UNANSWERED_MAX);
        let opened = connect(&target.address).send_batch(ReceiverStream::new(outgoing)).await;
        let Ok(opened) = opened else { return pass(AGAIN).await };
        let mut stream = Stream {
            caller: self,
            ledger,
            source: ledger.source(),
            life: target.life,
            position: 0,
            frames: Some(frames),
            answers: opened.into_inner(),
            unanswered: VecDeque::new(),
        };
        while stream.step(keeps).await {}
    }
}

/// One stream while it is open.
struct Stream<'a> {
    caller: &'a Streamer,
    ledger: &'a Ledger,
    source: usize,
    life: usize,
    position: u64,
    /// None once the caller sends no more.
    frames: Option<mpsc::Sender<SendBatchRequest>>,
    answers: Streaming<SendBatchResponse>,
    unanswered: VecDeque<Vec<Begun>>,
}

impl Stream<'_> {
    /// Sends a frame or hears an answer; false once the stream has ended.
    async fn step(&mut self, keeps: &mut Keeps) -> bool {
        if self.ledger.is_over() {
            self.frames = None;
        }
        let may_send = self.frames.is_some() && self.unanswered.len() < UNANSWERED_MAX;
        let heard = tokio::select! {
            heard = self.answers.message() => heard,
            _ = keeps.pace.tick(), if may_send => {
                self.send(keeps);
                return true;
            }
        };
        match heard {
            Ok(Some(answer)) => self.hear(answer, keeps),
            Ok(None) => assert!(self.unanswered.is_empty(), "a stream ends well once all is answered"),
            Err(status) => {
                let refusal = Refusal::of(&status);
                self.ledger.note_error(format!("{refusal:?}"));
                for begun in std::mem::take(&mut self.unanswered).into_iter().flatten() {
                    let pushback = refusal.pushback_ms.and_then(|pushback| u64::try_from(pushback).ok());
                    self.failed(begun, told(&refusal), pushback.map(Duration::from_millis), keeps);
                }
                return false;
            }
        }
        self.frames.is_some() || !self.unanswered.is_empty()
    }

    fn send(&mut self, keeps: &mut Keeps) {
        let Some(frames) = &self.frames else { return };
        let Ok(room) = frames.try_reserve() else { return };
        let count = keeps.random.random_range(1..RECORDS);
        let begun_ms = self.ledger.now_ms();
        let mut frame = Vec::new();
        for _ in 0..count {
            self.position += 1;
            let (source, position, life) = (self.source, self.position, self.life);
            let drawn = keeps.next(self.caller);
            frame.push(Begun { drawn, source, position, life, begun_ms });
        }
        room.send(SendBatchRequest {
            sequence: self.position,
            records: frame.iter().map(|begun| begun.drawn.record()).collect(),
            timeout: Some(deadline(&mut keeps.random).try_into().unwrap()),
            ..SendBatchRequest::default()
        });
        self.unanswered.push_back(frame);
    }

    fn hear(&mut self, answer: SendBatchResponse, keeps: &mut Keeps) {
        let frame = self.unanswered.pop_front().expect("an answer is of a frame");
        assert_eq!((answer.sequence, answer.results.len()), (frame[frame.len() - 1].position, frame.len()));
        for (begun, result) in frame.into_iter().zip(answer.results) {
            match result.result.expect("a result is set") {
                RecordOutcome::Receipt(receipt) => {
                    let (partition, duplicate) = (receipt.partition.unwrap(), receipt.duplicate);
                    let outcome = Outcome::Ok { partition, offset: receipt.offset, duplicate };
                    self.ledger.note(self.caller.number, &begun, outcome);
                }
                RecordOutcome::Error(error) => {
                    self.ledger.note_error(format!("{error:?}"));
                    let delay = error.retry_after.map(|delay| delay.try_into().unwrap());
                    self.failed(begun, told_of(&error), delay, keeps);
                }
            }
        }
    }

    fn failed(&self, mut begun: Begun, outcome: Outcome, delay: Option<Duration>, keeps: &mut Keeps) {
        let is_maybe = matches!(outcome, Outcome::Maybe(_));
        self.ledger.note(self.caller.number, &begun, outcome);
        let again = begun.drawn.again(delay, is_maybe).filter(|_| self.caller.is_careful);
        keeps.again.extend(again.map(|delay| (Instant::now() + delay, begun.drawn)));
    }
}

impl Keeps {
    /// What is to be sent again and has waited, or a new one.
    fn next(&mut self, caller: &Streamer) -> Drawn {
        if self.again.front().is_some_and(|(when, _)| *when <= Instant::now()) {
            return self.again.pop_front().unwrap().1;
        }
        self.records += 1;
        let name = format!("{}-{}", caller.number, self.records);
        Drawn::draw((caller.seed, self.records), &caller.topics, &name)
    }
}

fn told_of(error: &RecordError) -> Outcome {
    let reason = error.reason().as_str_name().trim_start_matches("ERROR_REASON_").to_owned();
    let told = Told { reason, letter: letter(|name| error.metadata.get(name).cloned()) };
    if error.persisted() == Persisted::No { Outcome::No(told) } else { Outcome::Maybe(told) }
}
