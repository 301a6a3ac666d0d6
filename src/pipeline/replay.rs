//! Owns what is done with dead letters that somebody asks for: sent to their topics again, or dropped, each once.
//! Must never send one without noting in the same transaction that it was: whoever is killed in between runs the same again.
//!
//! Which letters of a partition are dealt with stands in the group's committed offset and in the text beside it
//! (`dead_letter/handled.rs`), so that any choice of letters can be replayed, one after the other, and none twice.

use std::{
    collections::HashMap,
    thread,
    time::{Duration, Instant},
};

use crate::{
    config::Partitioners,
    dead_letter::{Filter, Handled, Letter},
    failure::{Failure, Reason},
    kafka::{
        classify,
        lane::{Ended, Lane, LaneState, Work, WorkOffsets},
        letters::LettersReader,
    },
    offsets::{Group, Membership},
    record::{Record, TENANT_HEADER, Topic},
};

/// How long one question to Kafka may take.
const ANSWER_MS_MAX: u64 = 30_000;
/// How long the transactional id may take to be initialised, and a transaction to end.
const TRANSACTION_MS_MAX: u64 = 120_000;
/// The pause between looks at a transaction in progress.
const LOOK_MS: u64 = 2;
/// What bounds a transaction, in letters and in bytes of them.
const LETTERS_MAX: usize = 500;
const BYTES_MAX: usize = 4 * 1024 * 1024;

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
    /// Which letters.
    pub filter: Filter,
    /// What is done with them.
    pub deed: Deed,
    /// Whether they are to be sent: also where nothing is done, those are told apart that cannot be.
    pub sends: bool,
    /// Whether those are sent whose records may be in their topics already.
    pub may_double: bool,
}

/// How many letters there were, and what became of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counted {
    /// Those that were asked for and could be dealt with.
    pub done: u64,
    /// Those that an earlier run dealt with.
    pub before: u64,
    /// Those that were not asked for.
    pub others: u64,
    /// Those that were asked for and cannot be sent: parts of them are missing.
    pub cut: u64,
    /// Those that were asked for, and whose records may be in their topics already.
    pub may_be_written: u64,
    /// Those that were asked for, and whose topics do not take them.
    pub without_topic: u64,
    /// Records that are no dead letters.
    pub foreign: u64,
}

/// A letter that was come across and asked for.
#[derive(Debug)]
pub struct Seen<'a> {
    /// Where it lies.
    pub partition: i32,
    /// Where it lies there.
    pub offset: i64,
    /// What it says of itself.
    pub letter: &'a Letter,
    /// The bytes of its key; none where it has none.
    pub key_bytes: Option<usize>,
    /// The bytes of its value; none where it has none.
    pub value_bytes: Option<usize>,
    /// Whether it was dealt with before.
    pub is_handled: bool,
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
    counted: Counted,
}

/// What is to be committed together.
#[derive(Debug, Default)]
struct Batch {
    records: Vec<(Record, i32)>,
    letters: usize,
    bytes: usize,
}

impl Run {
    /// Prepares a run; `lane` carries an id that no other run over this topic has, and is none where nothing is to be done.
    #[must_use]
    pub fn new(asked: Asked, reader: LettersReader, lane: Option<Lane>, partitioners: Partitioners) -> Self {
        Self { asked, reader, lane, partitioners, counts: HashMap::new(), counted: Counted::default() }
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
            self.partition(partition, handled, (&seen, &progress))?;
        }
        Ok(self.counted)
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
                key_bytes: record.key.as_ref().map(bytes::Bytes::len),
                value_bytes: record.value.as_ref().map(bytes::Bytes::len),
                is_handled,
            });
            if is_handled {
                self.counted.before += 1;
                continue;
            }
            if !self.takes(&letter, record, &mut batch)? {
                continue;
            }
            handled.add(gap.start, gap.end);
            batch.letters += 1;
            batch.bytes += bytes;
            if batch.letters >= LETTERS_MAX || batch.bytes >= BYTES_MAX {
                self.commit(partition, &mut batch, &handled)?;
                progress(partition, &self.counted);
            }
        }
        if batch.letters > 0 {
            self.commit(partition, &mut batch, &handled)?;
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

    /// Puts what is to be sent of a letter into the batch, and tells whether it is dealt with.
    fn takes(&mut self, letter: &Letter, record: Record, batch: &mut Batch) -> Result<bool, Failure> {
        if !self.asked.sends {
            return Ok(true);
        }
        if letter.cut.is_some() {
            self.counted.cut += 1;
            return Ok(false);
        }
        if letter.may_be_written && !self.asked.may_double {
            self.counted.may_be_written += 1;
            return Ok(false);
        }
        let record = letter.revive(record);
        let Some(partition) = self.partition_of(&record)? else {
            self.counted.without_topic += 1;
            return Ok(false);
        };
        batch.records.push((record, partition));
        Ok(true)
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

    /// Commits a batch, and that its letters are dealt with.
    fn commit(&mut self, partition: i32, batch: &mut Batch, handled: &Handled) -> Result<(), Failure> {
        let Batch { records, letters, bytes: _ } = std::mem::take(batch);
        let done = u64::try_from(letters).unwrap_or(u64::MAX);
        let Some(lane) = self.lane.as_ref().filter(|_| self.asked.deed != Deed::Nothing) else {
            self.counted.done += done;
            return Ok(());
        };
        let Some(text) = handled.text() else {
            let sentence = "the letters that are left lie too scattered between those that are done; deal with the first ones before";
            return Err(Failure::new(Reason::RecordRejected, sentence)
                .topic(&self.asked.topic)
                .partition(partition));
        };
        let offsets = vec![(self.asked.topic.clone(), partition, handled.first_open(), text)];
        let group = Group { id: self.asked.group.clone(), membership: Membership::Manual };
        let work = Work { offsets: vec![WorkOffsets { group, offsets }], records };
        let mut progress = lane.run(work.into());
        let by = Instant::now() + Duration::from_millis(TRANSACTION_MS_MAX);
        let ended = loop {
            match progress.ended.try_recv() {
                Ok(ended) => break ended,
                Err(tokio::sync::oneshot::error::TryRecvError::Closed) => return Err(stopped(lane)),
                Err(tokio::sync::oneshot::error::TryRecvError::Empty) if Instant::now() >= by => {
                    return Err(unknown());
                }
                Err(tokio::sync::oneshot::error::TryRecvError::Empty) => {
                    thread::sleep(Duration::from_millis(LOOK_MS));
                }
            }
        };
        match ended {
            Ended::Committed(_) => {
                self.counted.done += done;
                Ok(())
            }
            Ended::Aborted(_, error) => {
                Err(classify::aborted(error.code, "nothing of this batch was replayed"))
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

fn stopped(lane: &Lane) -> Failure {
    match &*lane.watch().borrow() {
        LaneState::Broken(words) => Failure::new(Reason::Internal, words.clone()),
        LaneState::Fenced | LaneState::Ready | LaneState::Initialising(_) => fenced(),
    }
}

fn fenced() -> Failure {
    Failure::new(Reason::ProducerFenced, "another run over the same topic has begun")
}

fn unknown() -> Failure {
    let sentence =
        "whether the last batch was replayed is not known; the same run knows, and goes on from there";
    Failure::new(Reason::CommitUnknown, sentence)
}
