//! Owns the way of a unit of ProcessAndForward: accepted, its turn awaited, committed once, answered truthfully.
//! Must never answer "not committed" for a unit whose commit was asked for and not answered, and never let a caller who goes
//! away leave a transaction open: transactions run on tasks of their own.

mod cargo;
mod counting;
mod ends;
mod gather;
mod known;
mod lanes;
mod outcome;
mod place;
mod seen;
mod stage;
mod turn;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    sync::{Notify, oneshot},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use self::{known::Known, stage::Stage};
use super::{
    budget::{End, Share},
    schedule::{Bounds, Claim, Demand, Key, Number, Schedule},
    send::Sender,
};
use crate::{
    config::{Config, Transactions},
    failure::{Failure, Reason},
    kafka::{
        committed::CommittedOffsets,
        lane::{LaneSettings, LaneState},
    },
    offsets::{Membership, Unit},
    record::Receipt,
    telemetry::spans::UnitSpans,
};

/// What a unit came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forwarded {
    /// Where the outputs lie, in their order; none where the unit was committed before.
    pub receipts: Vec<Receipt>,
    /// Whether an earlier call had committed the unit.
    pub already_committed: bool,
}

type Answer = Result<Forwarded, Failure>;

/// A unit whose outputs have their partitions.
#[derive(Debug)]
struct Placed {
    unit: Arc<Unit>,
    partitions: Vec<i32>,
    deadline: Instant,
    /// The outputs' parts of the budget.
    shares: Vec<Share>,
}

/// A unit on its way, and who is told.
#[derive(Debug)]
struct Waiting {
    placed: Arc<Placed>,
    answer: oneshot::Sender<Answer>,
    /// How many of its transactions count against it.
    attempts: u32,
    /// In how many transactions it was.
    tries: u32,
    stage: Arc<Stage>,
    spans: UnitSpans,
    /// Who counts its outputs once its outcome is known.
    sender: Arc<Sender>,
}

/// Runs units in transactions.
#[derive(Debug)]
pub struct Forwarder {
    sender: Arc<Sender>,
    settings: Transactions,
    schedule: Mutex<Schedule<Option<Membership>, Waiting>>,
    /// Told when a unit may start, or may again.
    changed: Notify,
    known: Mutex<Known>,
    committed: CommittedOffsets,
    lanes: Mutex<Vec<LaneState>>,
    brokers_wait: Duration,
    stop: CancellationToken,
    /// Told when what waits is refused, at a drain's end: also those whose groups have not answered, which no lane has.
    draining: CancellationToken,
    /// How many tasks have lanes that are not ended.
    feeding: AtomicUsize,
    /// The threads of lanes that were ended.
    ended: Mutex<Vec<JoinHandle<()>>>,
}

/// Notes a unit as failed that does not come to wait for its turn, whatever the reason: what follows it must not skip it.
struct Entering<'a> {
    forwarder: &'a Forwarder,
    unit: Arc<Unit>,
    /// Why it does not, as long as nothing else is known: its caller went away; none once it waits.
    left: Option<Reason>,
}

/// Takes a unit out if its caller goes away before it is in a transaction.
struct Caller<'a> {
    forwarder: &'a Forwarder,
    number: Number,
    placed: Arc<Placed>,
    stage: Arc<Stage>,
}

impl Forwarder {
    /// Starts the lanes, each with its id, and initialises those that an earlier process may have had; `settings_of` gives librdkafka's side of a lane by its place.
    ///
    /// # Errors
    /// Where a thread cannot be started.
    pub fn start(
        config: &Config,
        sender: Arc<Sender>,
        committed: CommittedOffsets,
        settings_of: impl Fn(usize) -> LaneSettings,
    ) -> std::io::Result<Arc<Self>> {
        let count = config.transactions.lanes;
        let forwarder = Arc::new(Self {
            sender,
            settings: config.transactions.clone(),
            schedule: Mutex::default(),
            changed: Notify::new(),
            known: Mutex::default(),
            committed,
            lanes: Mutex::new(vec![LaneState::Initialising(None); count]),
            brokers_wait: config.send.brokers_wait,
            stop: CancellationToken::new(),
            draining: CancellationToken::new(),
            feeding: AtomicUsize::new(0),
            ended: Mutex::default(),
        });
        for place in 0..count {
            lanes::start(&forwarder, place, settings_of(place))?;
        }
        let left = count..config.transactions.lanes_initialised;
        lanes::sweep(&forwarder, left.map(|place| (place, settings_of(place))).collect());
        Ok(forwarder)
    }

    /// Runs a unit in a transaction and waits for its end until the deadline.
    ///
    /// Dropping the future takes the unit out where it still waits; else its transaction goes on without the caller.
    ///
    /// # Errors
    /// A failure that says whether the unit may be committed.
    pub async fn forward(&self, unit: Unit, spans: UnitSpans, deadline: Instant) -> Answer {
        let entering =
            Entering { forwarder: self, unit: Arc::new(unit), left: Some(Reason::CancelledByCaller) };
        let (caller, mut answered) = match self.enter(&entering.unit, spans, deadline).await {
            Ok(entered) => entered,
            Err(failure) => return Err(entering.refused(failure)),
        };
        entering.done();
        self.changed.notify_one();
        let lanes_by = (Instant::now() + self.brokers_wait).min(deadline);
        tokio::select! {
            biased;
            answer = &mut answered => return answer.unwrap_or_else(|_| Err(self.without_answer())),
            () = sleep_until(lanes_by) => {}
        }
        if let Some(failure) = self.without_lanes().filter(|failure| caller.withdraw(failure.reason())) {
            return Err(failure);
        }
        tokio::select! {
            biased;
            answer = &mut answered => return answer.unwrap_or_else(|_| Err(self.without_answer())),
            () = sleep_until(deadline) => {}
        }
        if caller.withdraw(Reason::DeadlineNotWritten) {
            let sentence = "the deadline passed before the unit's turn came; it was taken out";
            return Err(Failure::new(Reason::DeadlineNotWritten, sentence));
        }
        // The answer may have come between the deadline and the attempt to take the unit out. Else the end of the transaction
        // counts, whatever it will be.
        answered.try_recv().unwrap_or_else(|_| {
            let sentence = "the deadline passed while the transaction was open; send the same unit again to learn its end";
            Err(Failure::new(Reason::CommitUnknown, sentence))
        })
    }

    /// Takes a unit in to wait for its turn.
    async fn enter(
        &self,
        unit: &Arc<Unit>,
        spans: UnitSpans,
        deadline: Instant,
    ) -> Result<(Caller<'_>, oneshot::Receiver<Answer>), Failure> {
        if let Some(failure) = self.without_hope() {
            return Err(failure);
        }
        let placed = Arc::new(self.place(unit, deadline).await?);
        let (answer, answered) = oneshot::channel();
        let stage = Arc::<Stage>::default();
        let waiting = Waiting {
            placed: Arc::clone(&placed),
            answer,
            attempts: 0,
            tries: 0,
            stage: Arc::clone(&stage),
            spans,
            sender: Arc::clone(&self.sender),
        };
        let number = self.push(waiting)?;
        placed.shares.iter().for_each(Share::accepted);
        Ok((Caller { forwarder: self, number, placed, stage }, answered))
    }

    /// Answers for a unit that was dropped without an answer: at a stop its transaction may still be open.
    fn without_answer(&self) -> Failure {
        if !self.stop.is_cancelled() {
            return lost();
        }
        let sentence =
            "the sidecar stopped while the transaction was open; send the same unit again to learn its end";
        Failure::new(Reason::CommitUnknown, sentence)
    }

    /// Waits until no transaction is in progress, whoever asked for it, at most until the deadline.
    pub async fn finished_by(&self, deadline: Instant) {
        const STEP_MS: u64 = 5;
        while self.schedule.lock().started() > 0 && Instant::now() < deadline {
            sleep_until((Instant::now() + Duration::from_millis(STEP_MS)).min(deadline)).await;
        }
    }

    /// Ends the lanes and waits for their threads, at most until the deadline: librdkafka's must not outlive the process's
    /// other parts.
    pub async fn stop_by(&self, deadline: Instant) {
        const STEP_MS: u64 = 5;
        self.stop.cancel();
        let all_ended = || {
            self.feeding.load(Ordering::Acquire) == 0 && self.ended.lock().iter().all(JoinHandle::is_finished)
        };
        while !all_ended() && Instant::now() < deadline {
            sleep_until((Instant::now() + Duration::from_millis(STEP_MS)).min(deadline)).await;
        }
    }

    /// Refuses the units that wait, at a drain's end.
    pub fn end_waiting(&self) {
        self.draining.cancel();
        self.refuse_waiting(&outcome::stopped());
    }

    /// Refuses the units that wait for their turn.
    fn refuse_waiting(&self, failure: &Failure) {
        let bounds = Bounds { units_max: 1, records_max: 0, bytes_max: 0 };
        let mut schedule = self.schedule.lock();
        loop {
            let started = schedule.start(&bounds);
            if started.is_empty() {
                return;
            }
            for unit in started {
                schedule.end(unit.number);
                // Else its caller was told, and has counted it.
                if unit.item.stage.enter() {
                    outcome::tell(unit.item, Err(failure.clone()));
                }
            }
        }
    }

    fn push(&self, waiting: Waiting) -> Result<Number, Failure> {
        let unit = &waiting.placed.unit;
        let mut claims = BTreeMap::new();
        if let Some(group) = &unit.group {
            let id: Arc<str> = group.id.as_str().into();
            for input in &unit.inputs {
                let key =
                    Key { group: Arc::clone(&id), topic: input.topic.clone(), partition: input.partition };
                claims.insert(key, Claim { expected: input.expected, next: input.next });
            }
        }
        let demand = Demand {
            membership: unit.group.as_ref().map(|group| group.membership.clone()),
            claims,
            records: unit.outputs.len(),
            bytes: unit.outputs.iter().map(crate::record::Record::bytes).sum(),
        };
        let mut schedule = self.schedule.lock();
        if schedule.waiting() + schedule.started() >= self.settings.waiting_max {
            let sentence = format!("{} units wait or run already", self.settings.waiting_max);
            return Err(Failure::new(Reason::QueueFull, sentence));
        }
        Ok(schedule.push(demand, waiting))
    }

    /// Says why no lane ever will take a unit, where none will.
    fn without_hope(&self) -> Option<Failure> {
        let lanes = self.lanes.lock();
        // All but a fenced one are tried again.
        if lanes.iter().any(|state| *state != LaneState::Fenced) {
            None
        } else {
            lanes.iter().find_map(outcome::of_state)
        }
    }

    /// Says why no lane can take a unit now, where none can.
    fn without_lanes(&self) -> Option<Failure> {
        let lanes = self.lanes.lock();
        if lanes.contains(&LaneState::Ready) {
            return None;
        }
        lanes.iter().find_map(outcome::of_state).or_else(|| {
            let sentence = "no transactional producer is ready yet";
            Some(Failure::new(Reason::BrokersUnavailable, sentence))
        })
    }
}

impl Placed {
    /// Notes how its outputs end, for the count of a stop.
    fn end(&self, end: End) {
        self.shares.iter().for_each(|share| share.ends(end));
    }

    /// Returns the group whose committed offsets the unit is compared with: where all of its inputs say what they expect.
    fn compared_group(&self) -> Option<&str> {
        let inputs = &self.unit.inputs;
        let says_all = !inputs.is_empty() && inputs.iter().all(|input| input.expected.is_some());
        self.unit.group.as_ref().filter(|_| says_all).map(|group| group.id.as_str())
    }
}

impl Caller<'_> {
    /// Takes the unit out and counts it as ended so; false if it is in a transaction, or answered.
    fn withdraw(&self, reason: Reason) -> bool {
        // Else its lane takes it out, at the latest when it would run.
        if !self.stage.give_up() {
            return false;
        }
        drop(self.forwarder.schedule.lock().withdraw(self.number));
        self.placed.end(End::Refused);
        self.forwarder.known.lock().note_failed(&self.placed.unit);
        counting::failed(&self.forwarder.sender, &self.placed.unit, reason);
        self.forwarder.changed.notify_one();
        true
    }
}

impl Entering<'_> {
    fn done(mut self) {
        self.left = None;
    }

    fn refused(mut self, failure: Failure) -> Failure {
        self.left = Some(failure.reason());
        failure
    }
}

impl Drop for Entering<'_> {
    fn drop(&mut self) {
        if let Some(reason) = self.left {
            self.forwarder.known.lock().note_failed(&self.unit);
            counting::failed(&self.forwarder.sender, &self.unit, reason);
        }
    }
}

impl Drop for Caller<'_> {
    fn drop(&mut self) {
        if self.withdraw(Reason::CancelledByCaller) {
            tracing::debug!("the caller went away; its unit was withdrawn");
        }
    }
}

fn lost() -> Failure {
    Failure::new(Reason::Internal, "the unit's outcome was lost")
}
