//! Owns what is done with dead letters that somebody asks for: sent to their topics again, or dropped, each once.
//! Must never send one without noting in the same transaction that it was: whoever is killed in between runs the same again.
//! Nor note one that was not sent: a letter that its topic refuses again is left, and the others go without it.
//! Nor send one to a topic that has its dead letters elsewhere: anybody may write to this topic what looks like a letter.
//!
//! Which letters of a partition are dealt with stands in the group's committed offset and in the text beside it
//! (`dead_letter/handled.rs`), so that any choice of letters can be replayed, one after the other, and none twice.

mod batch;
mod counted;
mod ended;

use std::{
    collections::HashMap,
    thread,
    time::{Duration, Instant},
};

pub use self::counted::{Counted, Refused, Seen};
use self::{
    batch::{Batch, Entry, Sorted, sort_out},
    ended::{LOOK_MS, TRANSACTION_MS_MAX, ended, fenced, stopped, unknown},
};
use crate::{
    config::Partitioners,
    dead_letter::{Destinations, Filter, Handled, Letter},
    failure::{Failure, Reason},
    kafka::{
        classify,
        lane::{Culprit, Ended, Lane, LaneState, Work, WorkOffsets},
        letters::LettersReader,
    },
    offsets::{Group, Membership},
    record::{Record, TENANT_HEADER, Topic},
};

/// How long one question to Kafka may take.
const ANSWER_MS_MAX: u64 = 30_000;
/// How long the lane may take to end.
const END_MS_MAX: u64 = 5_000;

/// What is done with the letters that are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    /// They are sent to the topics that they were meant for.
    Replay,
    /// They are dropped: no later replay takes them.
    Discard,
    /// Nothing; they are counted.
    Nothing,
}

/// What is asked for.
#[derive(Debug, Clone)]
pub struct Asked {
    /// The topic of the dead letters.
    pub topic: Topic,
    /// Whose offsets say which are dealt with.
    pub group: String,
    /// Where the dead letters of topics go: none is sent to a topic that has them elsewhere.
    pub destinations: Destinations,
    /// Which letters.
    pub filter: Filter,
    /// What is done with them.
    pub deed: Deed,
    /// Whether they are to be sent: also where nothing is done, those are told apart that cannot be.
    pub sends: bool,
    /// Whether those are sent whose records may be in their topics already.
    pub may_double: bool,
}

/// One run through a topic of dead letters.
#[derive(Debug)]
pub struct Run {
    asked: Asked,
    reader: LettersReader,
    /// None where nothing is written.
    lane: Option<Lane>,
    partitioners: Partitioners,
    /// The partition counts of the topics that letters go to; none where there is no such topic.
    counts: HashMap<Topic, Option<u32>>,
    /// The topics that refuse whatever comes, and why.
    shut: HashMap<Topic, Failure>,
    counted: Counted,
}

/// What is to be done with a letter that is asked for.
#[derive(Debug)]
enum Taken {
    /// Its record goes to that partition.
    Sent(Record, i32),
    /// It is dealt with, and nothing is sent.
    Unsent,
    /// It stays as it is.
    Left,
}

impl Run {
    /// Prepares a run; `lane` carries an id that no other run over this topic has, and is none where nothing is to be done.
    #[must_use]
    pub fn new(asked: Asked, reader: LettersReader, lane: Option<Lane>, partitioners: Partitioners) -> Self {
        let (counts, shut, counted) = Default::default();
        Self { asked, reader, lane, partitioners, counts, shut, counted }
    }

    /// Goes through all partitions up to their ends; `seen` hears of each letter that is asked for, `progress` of each
    /// transaction. Blocks.
    ///
    /// # Errors
    /// Why it could not go on; what was done until then is noted, and the same run goes on from there.
    pub fn go(
        mut self,
        seen: impl Fn(Seen<'_>),
        progress: impl Fn(i32, &Counted),
    ) -> Result<Counted, Failure> {
        let through = self.through(&seen, &progress);
        // The process must not end under the feet of Kafka's client.
        if let Some(thread) = self.lane.take().map(Lane::end) {
            let by = Instant::now() + Duration::from_millis(END_MS_MAX);
            while !thread.is_finished() && Instant::now() < by {
                thread::sleep(Duration::from_millis(LOOK_MS));
            }
        }
        through.map(|()| self.counted)
    }

    fn through(
        &mut self,
        seen: &impl Fn(Seen<'_>),
        progress: &impl Fn(i32, &Counted),
    ) -> Result<(), Failure> {
        // What an earlier run left open is ended by this, and only then are its offsets what they will be.
        self.initialised()?;
        let wait = Duration::from_millis(ANSWER_MS_MAX);
        let partitions = self.reader.partition_count(&self.asked.topic, wait)?;
        let noted = self.reader.noted(partitions, wait)?;
        for (partition, noted) in (0..).zip(noted) {
            let handled = Handled::read(noted.offset.unwrap_or_default(), &noted.text);
            // A list shows those too that were dealt with.
            let from = noted.offset.filter(|_| self.asked.deed != Deed::Nothing);
            self.reader.go_to(partition, from)?;
            self.partition(partition, handled, (seen, progress))?;
        }
        Ok(())
    }

    fn partition(
        &mut self,
        partition: i32,
        mut handled: Handled,
        (seen, progress): (&impl Fn(Seen<'_>), &impl Fn(i32, &Counted)),
    ) -> Result<(), Failure> {
        let mut batch = Batch::default();
        // Offsets without a record, such as those of markers, count to the record behind them.
        let mut next = handled.first_open();
        while let Some((offset, record)) = self.reader.next(Duration::from_millis(ANSWER_MS_MAX))? {
            let gap = next..offset + 1;
            next = offset + 1;
            let (bytes, is_handled) = (record.bytes(), handled.has(offset));
            let Some(letter) = self.asked_for(&record) else { continue };
            seen(Seen {
                partition,
                offset,
                letter: &letter,
                is_misplaced: self.is_misplaced(&letter),
                key_bytes: record.key.as_ref().map(bytes::Bytes::len),
                value_bytes: record.value.as_ref().map(bytes::Bytes::len),
                is_handled,
            });
            if is_handled {
                self.counted.before += 1;
                continue;
            }
            let outgoing = match self.outgoing(&letter, record)? {
                Taken::Sent(record, to) => Some((record, to)),
                Taken::Unsent => None,
                Taken::Left => continue,
            };
            batch.add(Entry { offset, offsets: gap, outgoing }, bytes);
            if batch.is_full() {
                self.commit(partition, batch.take(), &mut handled)?;
                progress(partition, &self.counted);
            }
        }
        let rest = batch.take();
        if !rest.is_empty() {
            self.commit(partition, rest, &mut handled)?;
            progress(partition, &self.counted);
        }
        Ok(())
    }

    /// Reads a letter; none where it is no letter, or not asked for.
    fn asked_for(&mut self, record: &Record) -> Option<Letter> {
        let letter = Letter::of(record, TENANT_HEADER);
        match &letter {
            None => self.counted.foreign += 1,
            Some(letter) if !self.asked.filter.takes(letter) => self.counted.others += 1,
            Some(_) => return letter,
        }
        None
    }

    /// Tells whether a letter lies elsewhere than the settings have the dead letters of its topic.
    fn is_misplaced(&self, letter: &Letter) -> bool {
        !self.asked.destinations.go_to(&self.asked.topic, &letter.topic)
    }

    /// Says what is to be sent of a letter; one that cannot or should not be sent is counted.
    fn outgoing(&mut self, letter: &Letter, record: Record) -> Result<Taken, Failure> {
        if !self.asked.sends {
            return Ok(Taken::Unsent);
        }
        if self.is_misplaced(letter) {
            self.counted.misplaced += 1;
            return Ok(Taken::Left);
        }
        if letter.cut.is_some() {
            self.counted.cut += 1;
            return Ok(Taken::Left);
        }
        if letter.may_be_written && !self.asked.may_double {
            self.counted.may_be_written += 1;
            return Ok(Taken::Left);
        }
        let record = letter.revive(record);
        let Some(partition) = self.partition_of(&record)? else {
            self.counted.without_topic += 1;
            return Ok(Taken::Left);
        };
        Ok(Taken::Sent(record, partition))
    }

    /// Chooses the partition of a record; none where its topic is not there, or lacks the partition that was asked for.
    fn partition_of(&mut self, record: &Record) -> Result<Option<i32>, Failure> {
        let count = match self.counts.get(&record.topic) {
            Some(count) => *count,
            None => {
                let asked = self.reader.partition_count(&record.topic, Duration::from_millis(ANSWER_MS_MAX));
                let count = match asked {
                    Ok(count) => Some(count),
                    Err(failure)
                        if matches!(failure.reason(), Reason::TopicNotFound | Reason::NotAuthorized) =>
                    {
                        None
                    }
                    Err(failure) => return Err(failure),
                };
                self.counts.insert(record.topic.clone(), count);
                count
            }
        };
        let Some(count) = count else { return Ok(None) };
        if let Some(asked) = record.partition {
            return Ok(Some(asked).filter(|asked| u32::try_from(*asked).is_ok_and(|asked| asked < count)));
        }
        let partitioner = self.partitioners.topics.get(&record.topic).copied();
        let tenant = record.header(TENANT_HEADER).flatten().map(|tenant| &**tenant);
        let chosen = partitioner.unwrap_or(self.partitioners.default);
        let chosen = chosen.choose(tenant, record.key.as_deref(), count, rand::random());
        Ok(i32::try_from(chosen).ok())
    }

    /// Commits letters, and that they are dealt with; those that their topics refuse are left, and the others go on.
    fn commit(&mut self, partition: i32, entries: Vec<Entry>, handled: &mut Handled) -> Result<(), Failure> {
        let mut waiting = vec![entries];
        while let Some(entries) = waiting.pop() {
            let entries = self.without_shut(partition, entries);
            if entries.is_empty() {
                continue;
            }
            let with_these = batch::with(handled, &entries);
            match self.transact(partition, &entries, &with_these)? {
                None => {
                    *handled = with_these;
                    self.counted.done += u64::try_from(entries.len()).unwrap_or(u64::MAX);
                }
                Some((culprit, failure)) => {
                    let Sorted { refused, again } = sort_out(entries, culprit);
                    if let Some(entry) = refused {
                        self.refuse(partition, entry, &failure);
                    }
                    waiting.extend(again.into_iter().rev());
                }
            }
        }
        Ok(())
    }

    /// Takes out the letters of topics that were found to refuse whatever comes.
    fn without_shut(&mut self, partition: i32, mut entries: Vec<Entry>) -> Vec<Entry> {
        let Self { shut, counted, .. } = self;
        entries.retain(|entry| {
            let topic = entry.outgoing.as_ref().map(|(record, _)| &record.topic);
            let Some((topic, failure)) = topic.and_then(|topic| shut.get_key_value(topic)) else {
                return true;
            };
            counted.refuse((partition, entry.offset), topic.clone(), failure);
            false
        });
        entries
    }

    fn refuse(&mut self, partition: i32, entry: Entry, failure: &Failure) {
        let Some((record, _)) = entry.outgoing else { return };
        self.counted.refuse((partition, entry.offset), record.topic.clone(), failure);
        if matches!(failure.reason(), Reason::TopicNotFound | Reason::NotAuthorized) {
            self.shut.insert(record.topic, failure.clone());
        }
    }

    /// Runs one transaction; returns who it was refused for, and why, where a topic refused what was sent.
    fn transact(
        &self,
        partition: i32,
        entries: &[Entry],
        handled: &Handled,
    ) -> Result<Option<(Culprit, Failure)>, Failure> {
        let Some(lane) = self.lane.as_ref().filter(|_| self.asked.deed != Deed::Nothing) else {
            return Ok(None);
        };
        let Some(text) = handled.text() else {
            let sentence = "the letters that are left lie too scattered between those that are done; deal with the first ones before";
            return Err(Failure::new(Reason::RecordRejected, sentence)
                .topic(&self.asked.topic)
                .partition(partition));
        };
        let offsets = vec![(self.asked.topic.clone(), partition, handled.first_open(), text)];
        let group = Group { id: self.asked.group.clone(), membership: Membership::Manual };
        let records: Vec<_> = entries.iter().filter_map(|entry| entry.outgoing.clone()).collect();
        let sends = !records.is_empty();
        let work = Work { offsets: vec![WorkOffsets { group, offsets }], records };
        match ended(lane, work)? {
            Ended::Committed(_) => Ok(None),
            Ended::Aborted(culprit, error) => {
                let failure = classify::aborted(error.code, "nothing of this batch was replayed");
                let of_topic = classify::is_of_topic(error.code)
                    || matches!(failure.reason(), Reason::RecordTooLarge | Reason::RecordRejected);
                match culprit {
                    Culprit::Record(_) | Culprit::Suspect(_) | Culprit::Nobody if sends && of_topic => {
                        Ok(Some((culprit, failure)))
                    }
                    Culprit::Record(_) | Culprit::Suspect(_) | Culprit::Nobody | Culprit::Offsets(_) => {
                        Err(failure)
                    }
                }
            }
            Ended::Fenced(_) => Err(fenced()),
            Ended::Unknown(_) => Err(unknown()),
        }
    }

    fn initialised(&self) -> Result<(), Failure> {
        let Some(lane) = &self.lane else { return Ok(()) };
        let state = lane.watch();
        let by = Instant::now() + Duration::from_millis(TRANSACTION_MS_MAX);
        loop {
            let now = state.borrow().clone();
            match now {
                LaneState::Ready => return Ok(()),
                LaneState::Fenced | LaneState::Broken(_) => return Err(stopped(lane)),
                LaneState::Initialising(error) if Instant::now() >= by => {
                    let sentence = error.map_or_else(String::new, |error| format!(": {error}"));
                    let sentence = format!("no transaction can be begun{sentence}");
                    return Err(Failure::new(Reason::BrokersUnavailable, sentence));
                }
                LaneState::Initialising(_) => thread::sleep(Duration::from_millis(LOOK_MS)),
            }
        }
    }
}
