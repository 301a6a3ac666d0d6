//! Owns the lanes at work: each takes the units that may start, runs them in one transaction, and tells how it ended.
//! Must never free a unit's keys before nothing of its transaction can happen any more.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

use super::{Forwarder, Waiting, outcome};
use crate::{
    failure::{Failure, Reason},
    kafka::{
        context::Delivered,
        lane::{Culprit, Ended, InProgress, Lane, LaneSettings, LaneState, Work, WorkOffsets},
        transaction::CallError,
    },
    offsets::{Committed, Decision, Group, Input, Membership, decide},
    pipeline::schedule::{Bounds, Number, Unit},
    record::Topic,
};

/// How often a unit is tried in a transaction that is aborted for no fault of its own.
const ATTEMPTS_MAX: u32 = 10;
/// The steps of a transaction that may each take as long as a lane may be stuck: offsets, deliveries, end.
const STEPS: u32 = 3;
/// The longest that committed offsets are asked for, in milliseconds.
const OFFSETS_MS_MAX: u64 = 30_000;

type Started = Unit<Option<Membership>, Waiting>;

/// What is left of a transaction whose lane was given up, until its id is initialised again.
struct Left {
    /// Units that nobody has been told about; whether they are committed is not known.
    unknown: Vec<Started>,
    /// Units that surely are not, and go again.
    retried: Vec<Started>,
    /// The numbers of those whose callers were told.
    told: Vec<Number>,
}

/// Where in the work each unit is.
struct Cargo {
    work: Arc<Work>,
    /// For each entry of the work's offsets, the units whose they are.
    of_offsets: Vec<Vec<usize>>,
    /// For each record, its unit and its place there.
    of_records: Vec<(usize, usize)>,
    units: usize,
}

/// Starts a lane and the task that feeds it.
///
/// # Errors
/// Where the thread cannot be started.
pub fn start(forwarder: &Arc<Forwarder>, place: usize, settings: LaneSettings) -> std::io::Result<()> {
    let lane = Lane::start(&name(place), settings.clone())?;
    let forwarder = Arc::clone(forwarder);
    tokio::spawn(async move {
        let mut lane = lane;
        let stopped = forwarder.stop.clone();
        tokio::select! {
            () = forwarder.feed(place, &mut lane, settings) => {}
            () = stopped.cancelled() => {}
        }
        forwarder.ended.lock().push(lane.end());
    });
    Ok(())
}

fn name(place: usize) -> String {
    format!("kafka-lane-{place}")
}

impl Forwarder {
    /// Feeds a lane until it is fenced or broken.
    async fn feed(&self, place: usize, lane: &mut Lane, settings: LaneSettings) {
        let mut state = lane.watch();
        while self.is_ready(place, &mut state).await {
            let units = self.next_units().await;
            let Some(units) = self.still_to_run(units).await else { continue };
            let cargo = Cargo::load(&units);
            let progress = lane.run(Arc::clone(&cargo.work));
            let Some(left) = self.finish(units, &cargo, progress).await else { continue };
            tracing::warn!(lane = place, "a transaction did not come back; a new producer takes its id over");
            // The old thread is left behind: no call of librdkafka can be ended from outside.
            match Lane::start(&name(place), settings.clone()) {
                Ok(new) => *lane = new,
                Err(error) => tracing::error!(lane = place, "there is no thread for a new lane: {error}"),
            }
            state = lane.watch();
            // Where it never gets ready the offsets tell all the same, as far as they are stable.
            self.is_ready(place, &mut state).await;
            let (retried, mut told) = self.resolve(left.unknown, None, &[]).await;
            told.extend(left.told);
            self.conclude(left.retried.into_iter().chain(retried).collect(), told, cargo.units / 2);
        }
    }

    /// Follows the lane's state until it is ready; false where it never will be.
    async fn is_ready(&self, place: usize, state: &mut watch::Receiver<LaneState>) -> bool {
        loop {
            let now = state.borrow_and_update().clone();
            {
                let mut lanes = self.lanes.lock();
                if let Some(known) = lanes.get_mut(place) {
                    *known = now.clone();
                }
                let ready = lanes.iter().filter(|lane| **lane == LaneState::Ready).count();
                self.sender.metrics().lanes_ready(ready);
            }
            match &now {
                LaneState::Ready => return true,
                LaneState::Initialising(_) => {}
                LaneState::Fenced | LaneState::Broken(_) => {
                    tracing::error!(lane = place, state = ?now, "the lane has stopped");
                    if !self.lanes.lock().iter().any(is_hopeful) {
                        self.refuse_waiting(&outcome::of_state(&now).unwrap_or_else(outcome::fenced));
                    }
                    return false;
                }
            }
            if state.changed().await.is_err() {
                return false;
            }
        }
    }

    /// Waits for units that may start.
    async fn next_units(&self) -> Vec<Started> {
        let bounds = Bounds {
            units_max: self.settings.units_max,
            records_max: self.settings.records_max,
            bytes_max: self.settings.bytes_max,
        };
        loop {
            let (units, more) = {
                let mut schedule = self.schedule.lock();
                let units = schedule.start(&bounds);
                (units, schedule.waiting() > 0)
            };
            if !units.is_empty() {
                if more {
                    self.changed.notify_one();
                }
                return units;
            }
            self.changed.notified().await;
        }
    }

    /// Answers the units that need not or must not run; `None` where none is left.
    async fn still_to_run(&self, units: Vec<Started>) -> Option<Vec<Started>> {
        let mut left = Vec::with_capacity(units.len());
        // What the units before it in the same transaction will have committed.
        let mut ahead: HashMap<(String, Topic, i32), i64> = HashMap::new();
        for unit in units {
            let placed = Arc::clone(&unit.item.placed);
            if Instant::now() >= placed.deadline {
                let sentence = "the deadline passed before the unit's turn came; it was taken out";
                self.answer(unit, Err(Failure::new(Reason::DeadlineNotWritten, sentence)));
                continue;
            }
            match self.decide(&unit, &ahead).await {
                Ok(Decision::Run) => {
                    if let Some(group) = &placed.unit.group {
                        let inputs = placed.unit.inputs.iter();
                        ahead.extend(inputs.map(|input| {
                            ((group.id.clone(), input.topic.clone(), input.partition), input.next)
                        }));
                    }
                    left.push(unit);
                }
                Ok(Decision::AlreadyCommitted) => self.answer(unit, outcome::already_committed()),
                Ok(Decision::Mismatch { input, committed }) => {
                    self.answer(unit, Err(outcome::mismatch(&placed, input, committed)));
                }
                Err(failure) => self.answer(unit, Err(failure)),
            }
        }
        (!left.is_empty()).then_some(left)
    }

    async fn decide(
        &self,
        unit: &Started,
        ahead: &HashMap<(String, Topic, i32), i64>,
    ) -> Result<Decision, Failure> {
        let placed = &unit.item.placed;
        let inputs = &placed.unit.inputs;
        let (Some(group), false) = (&placed.unit.group, inputs.iter().any(|input| input.expected.is_none()))
        else {
            return Ok(Decision::Run);
        };
        let known: Option<Vec<_>> = {
            let known = self.known.lock();
            let of = |input: &Input| {
                let before = ahead.get(&(group.id.clone(), input.topic.clone(), input.partition));
                before
                    .map(|next| Committed::At(*next))
                    .or_else(|| known.committed(group, &input.topic, input.partition))
            };
            inputs.iter().map(of).collect()
        };
        let committed = match known {
            Some(known) => known,
            None => {
                self.read(group, inputs, placed.deadline.saturating_duration_since(Instant::now())).await?
            }
        };
        Ok(decide(inputs, &committed))
    }

    /// Asks Kafka for the committed offsets of a unit's inputs, on a thread where that may block.
    async fn read(&self, group: &Group, inputs: &[Input], wait: Duration) -> Result<Vec<Committed>, Failure> {
        let (committed, id) = (self.committed.clone(), group.id.clone());
        let partitions: Vec<_> = inputs.iter().map(|input| (input.topic.clone(), input.partition)).collect();
        let wait = wait.min(Duration::from_millis(OFFSETS_MS_MAX));
        let asked = tokio::task::spawn_blocking(move || {
            let partitions: Vec<_> =
                partitions.iter().map(|(topic, partition)| (topic, *partition)).collect();
            committed.read(&id, &partitions, wait)
        });
        asked.await.unwrap_or_else(|_| Err(super::lost()))
    }

    /// Awaits the end of a transaction and answers its units; returns what is left where the lane has to be given up.
    async fn finish(&self, units: Vec<Started>, cargo: &Cargo, progress: InProgress) -> Option<Left> {
        let bound = self.settings.stuck * STEPS;
        let Ok(ended) = timeout(bound, progress.ended).await else {
            return Some(Left { unknown: units, retried: Vec::new(), told: Vec::new() });
        };
        let (retried, told) = match ended {
            Ok(Ended::Committed(delivered)) => (Vec::new(), self.committed(units, &delivered)),
            Ok(Ended::Aborted(culprit, error)) => self.aborted(units, cargo, culprit, &error),
            Ok(Ended::Fenced(_)) => (Vec::new(), tell_all(units, &outcome::fenced())),
            Ok(Ended::Unknown(error, delivered)) => self.resolve(units, Some(&error), &delivered).await,
            // The lane ended before it took the transaction: another one may.
            Err(_) => (units, Vec::new()),
        };
        // Their keys stay taken until nothing of the transaction can happen any more.
        if timeout(bound, progress.settled).await.is_err() {
            return Some(Left { unknown: Vec::new(), retried, told });
        }
        self.conclude(retried, told, cargo.units / 2);
        None
    }

    /// Frees the keys of the units that were told, and lets the others wait for another transaction.
    fn conclude(&self, retried: Vec<Started>, told: Vec<Number>, company_max: usize) {
        {
            let mut schedule = self.schedule.lock();
            schedule.put_back(retried, company_max);
            told.into_iter().for_each(|number| schedule.end(number));
        }
        self.changed.notify_one();
    }

    /// Answers a unit that never was in a transaction.
    fn answer(&self, unit: Started, answer: super::Answer) {
        self.schedule.lock().end(unit.number);
        outcome::tell(unit.item, answer);
        self.changed.notify_one();
    }

    fn committed(&self, units: Vec<Started>, delivered: &[Delivered]) -> Vec<Number> {
        let mut told = Vec::with_capacity(units.len());
        let mut rest = delivered;
        for unit in units {
            let placed = Arc::clone(&unit.item.placed);
            if let Some(group) = &placed.unit.group {
                let mut known = self.known.lock();
                for input in &placed.unit.inputs {
                    known.note(group, &input.topic, input.partition, input.next);
                }
            }
            let (own, others) = rest.split_at(placed.unit.outputs.len().min(rest.len()));
            rest = others;
            told.push(unit.number);
            outcome::tell(unit.item, outcome::committed(&placed, own));
        }
        told
    }

    /// Answers the culprits of an aborted transaction; the others go again.
    fn aborted(
        &self,
        units: Vec<Started>,
        cargo: &Cargo,
        culprit: Culprit,
        error: &CallError,
    ) -> (Vec<Started>, Vec<Number>) {
        self.forget(&units);
        let only = units.len() == 1;
        let (mut retried, mut told) = (Vec::new(), Vec::new());
        for (place, mut unit) in units.into_iter().enumerate() {
            let placed = Arc::clone(&unit.item.placed);
            let failure = match culprit {
                Culprit::Offsets(entry)
                    if cargo.of_offsets.get(entry).is_some_and(|of| of.contains(&place)) =>
                {
                    Some(outcome::of_offsets(error))
                }
                Culprit::Record(record) => match cargo.of_records.get(record) {
                    Some((of, output)) if *of == place => Some(outcome::of_record(&placed, *output, error)),
                    Some(_) | None => None,
                },
                Culprit::Nobody if only => Some(outcome::of_nobody(error)),
                Culprit::Nobody | Culprit::Offsets(_) => None,
            };
            unit.item.attempts += 1;
            let spent = unit.item.attempts >= ATTEMPTS_MAX;
            match failure.or_else(|| spent.then(|| outcome::of_nobody(error))) {
                Some(failure) => {
                    told.push(unit.number);
                    outcome::tell(unit.item, Err(failure));
                }
                None => retried.push(unit),
            }
        }
        (retried, told)
    }

    /// Finds out by the committed offsets whether a transaction was committed, of which nothing can happen any more: all of its
    /// units were, or none.
    async fn resolve(
        &self,
        units: Vec<Started>,
        error: Option<&CallError>,
        delivered: &[Delivered],
    ) -> (Vec<Started>, Vec<Number>) {
        self.forget(&units);
        let mut found = None;
        for unit in &units {
            let inputs = &unit.item.placed.unit.inputs;
            let Some(group) = unit.item.placed.unit.group.as_ref() else { continue };
            if inputs.iter().any(|input| input.expected.is_none()) {
                continue;
            }
            let read = self.read(group, inputs, Duration::from_millis(OFFSETS_MS_MAX)).await;
            found = read.ok().map(|committed| decide(inputs, &committed));
            if matches!(found, Some(Decision::Run | Decision::AlreadyCommitted)) {
                break;
            }
        }
        match (found, delivered.is_empty()) {
            (Some(Decision::Run), _) => (units, Vec::new()),
            (Some(Decision::AlreadyCommitted), false) => (Vec::new(), self.committed(units, delivered)),
            (Some(Decision::AlreadyCommitted), true) => {
                let told = units.iter().map(|unit| unit.number).collect();
                units.into_iter().for_each(|unit| outcome::tell(unit.item, outcome::already_committed()));
                (Vec::new(), told)
            }
            (Some(Decision::Mismatch { .. }) | None, _) => {
                let failure = error.map_or_else(outcome::unanswered, outcome::unknown);
                (Vec::new(), tell_all(units, &failure))
            }
        }
    }

    fn forget(&self, units: &[Started]) {
        let mut known = self.known.lock();
        for group in units.iter().filter_map(|unit| unit.item.placed.unit.group.as_ref()) {
            known.forget(&group.id);
        }
    }
}

impl Cargo {
    /// Makes one transaction's work of units: one entry for each group and consumer, in it each partition once, with the offset
    /// of the last unit that names it.
    fn load(units: &[Started]) -> Self {
        let mut offsets: Vec<WorkOffsets> = Vec::new();
        let mut of_offsets: Vec<Vec<usize>> = Vec::new();
        let (mut records, mut of_records) = (Vec::new(), Vec::new());
        for (place, unit) in units.iter().enumerate() {
            let placed = &unit.item.placed;
            if let Some(group) = &placed.unit.group {
                let found = offsets.iter().position(|entry| entry.group == *group);
                let entry = found.unwrap_or_else(|| {
                    offsets.push(WorkOffsets { group: group.clone(), offsets: Vec::new() });
                    of_offsets.push(Vec::new());
                    offsets.len() - 1
                });
                of_offsets[entry].push(place);
                for input in &placed.unit.inputs {
                    let of_entry = &mut offsets[entry].offsets;
                    of_entry.retain(|(topic, partition, ..)| {
                        (topic, *partition) != (&input.topic, input.partition)
                    });
                    of_entry.push((input.topic.clone(), input.partition, input.next, input.metadata.clone()));
                }
            }
            for (output, record) in placed.unit.outputs.iter().enumerate() {
                records.push((record.clone(), placed.partitions.get(output).copied().unwrap_or(0)));
                of_records.push((place, output));
            }
        }
        Self { work: Arc::new(Work { offsets, records }), of_offsets, of_records, units: units.len() }
    }
}

fn tell_all(units: Vec<Started>, failure: &Failure) -> Vec<Number> {
    let told = units.iter().map(|unit| unit.number).collect();
    units.into_iter().for_each(|unit| outcome::tell(unit.item, Err(failure.clone())));
    told
}

const fn is_hopeful(state: &LaneState) -> bool {
    matches!(state, LaneState::Ready | LaneState::Initialising(_))
}
