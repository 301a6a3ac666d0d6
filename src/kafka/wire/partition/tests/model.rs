//! Plays a partition against a model of brokers that lose, delay, repeat and refuse, and reads the log: what must hold whatever
//! happens, for seeds that are fixed.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

use super::*;

/// `WIRE_SEEDS` plays others, for as long as one likes.
const SEEDS: u64 = 400;
const STEPS: usize = 400;
const TIME: Duration = Duration::from_millis(400);
/// How many batches of a producer id a broker remembers (`ProducerStateEntry.NUM_BATCHES_TO_RETAIN`).
const REMEMBERED: usize = 5;
/// A batch with more records than this is too large.
const RECORDS_MAX: usize = 6;
/// Each item that this divides is refused for what it is.
const BAD: u64 = 23;
const LIMITS: BatchLimits = BatchLimits { records_max: 9, bytes_max: 1_000, in_flight_max: 5 };

/// A request on its way to a broker, or held up in one.
#[derive(Clone)]
struct Request {
    number: u64,
    producer: i64,
    sequence: i32,
    items: Vec<u64>,
}

/// What a broker knows of a producer id: its batches, by their first sequence and size, and where they are in the log.
#[derive(Default)]
struct Known {
    batches: VecDeque<(i32, usize, usize)>,
}

/// The log of the partition, wherever its leader is.
#[derive(Default)]
struct Log {
    items: Vec<u64>,
    producers: HashMap<i64, Known>,
}

struct Run {
    bench: Bench,
    random: StdRng,
    log: Log,
    connection: u64,
    on_wire: VecDeque<Request>,
    /// What lost connections had, and a broker may still carry out.
    late: Vec<Request>,
    next_item: u64,
    next_id: i64,
    waiting: BTreeMap<Place, u64>,
    ends: BTreeMap<u64, End>,
    withdrawn: BTreeSet<u64>,
}

// === impl Log ===

impl Log {
    /// Carries a request out as a leader does; returns the code, the offset and the places at fault.
    fn append(&mut self, request: &Request, names_records: bool) -> (i32, Option<i64>, Vec<i32>) {
        if request.items.len() > RECORDS_MAX {
            return (10, None, Vec::new());
        }
        let bad = (0..).zip(&request.items).filter(|(_, item)| **item % BAD == BAD - 1);
        let bad: Vec<i32> = bad.map(|(place, _)| place).collect();
        if !bad.is_empty() {
            return (87, None, if names_records { bad } else { Vec::new() });
        }
        let offset = |offset: usize| Some(i64::try_from(offset).unwrap());
        if let Some(known) = self.producers.get(&request.producer) {
            let same = known
                .batches
                .iter()
                .find(|(first, count, _)| (*first, *count) == (request.sequence, request.items.len()));
            if let Some((_, _, at)) = same {
                return (0, offset(*at), Vec::new());
            }
            let expected = known.batches.back().map_or(0, |(first, count, _)| behind(*first, *count));
            if request.sequence != expected {
                return (45, None, Vec::new());
            }
        }
        let at = self.items.len();
        self.items.extend(&request.items);
        let known = self.producers.entry(request.producer).or_default();
        known.batches.push_back((request.sequence, request.items.len(), at));
        if known.batches.len() > REMEMBERED {
            known.batches.pop_front();
        }
        (0, offset(at), Vec::new())
    }
}

// === impl Run ===

impl Run {
    fn new(seed: u64) -> Self {
        Self {
            bench: Bench { partition: Partition::default(), ended: Vec::new(), now: Instant::now() },
            random: StdRng::seed_from_u64(seed),
            log: Log::default(),
            connection: 1,
            on_wire: VecDeque::new(),
            late: Vec::new(),
            next_item: 0,
            next_id: 1,
            waiting: BTreeMap::new(),
            ends: BTreeMap::new(),
            withdrawn: BTreeSet::new(),
        }
    }

    fn step(&mut self) {
        match self.random.random_range(0..100) {
            0..30 => self.push(),
            30..33 => self.withdraw(),
            33..60 => self.send(),
            60..85 => self.answer(true),
            85..88 => self.lose_connection(),
            88..92 => self.carry_out_late(),
            92..93 => self.forget(),
            93..94 => self.take_back(),
            _ => self.wait(),
        }
        self.note();
    }

    fn push(&mut self) {
        let (item, by) = (self.next_item, self.bench.now + TIME);
        self.next_item += 1;
        let place = self.bench.partition.push(item, 10, by);
        self.waiting.insert(place, item);
    }

    fn withdraw(&mut self) {
        let nth = self.random.random_range(0..self.waiting.len().max(1));
        let Some((place, item)) = self.waiting.iter().nth(nth).map(|(place, item)| (*place, *item)) else {
            return;
        };
        if let Some(taken) = self.bench.partition.withdraw(place) {
            assert_eq!(taken, item);
            assert!(!self.ends.contains_key(&item) && self.withdrawn.insert(item));
        }
        self.waiting.remove(&place);
    }

    fn send(&mut self) {
        if self.bench.partition.needs_producer_id() {
            self.bench.partition.use_producer_id(ProducerId { id: self.next_id, epoch: 0 });
            self.next_id += 1;
        }
        let next = self.bench.partition.next(self.connection, (self.bench.now, &LIMITS), seal);
        let Some(Outgoing { number, bytes }) = next else { return };
        let (producer, rest) = bytes.split_first_chunk().unwrap();
        let (sequence, items) = rest.split_first_chunk().unwrap();
        let items = items.chunks(8).map(|item| u64::from_be_bytes(item.try_into().unwrap())).collect();
        self.on_wire.push_back(Request {
            number,
            producer: i64::from_be_bytes(*producer),
            sequence: i32::from_be_bytes(*sequence),
            items,
        });
    }

    /// Has the leader carry out the first request, or refuse it, and answer.
    fn answer(&mut self, has_faults: bool) {
        let Some(request) = self.on_wire.pop_front() else { return };
        let fault = if has_faults { self.random.random_range(0..20) } else { 20 };
        let (mut code, offset, refused) = match fault {
            0 => (19, None, Vec::new()),
            1 => (3, None, Vec::new()),
            // A former leader refuses, or steps down after the append.
            2 => (NOT_LEADER, None, Vec::new()),
            _ => self.log.append(&request, self.random.random()),
        };
        if code == 0 && (3..6).contains(&fault) {
            code = [NOT_LEADER, TIMED_OUT, 20][usize::try_from(fault).unwrap() - 3];
        }
        let base_offset = offset.filter(|_| code == 0);
        let answer = Answer { code: ErrorCode::new(code), base_offset, append_ms: None, refused: &refused };
        self.bench.partition.answered(request.number, &answer, self.bench.now, &mut self.bench.ended);
    }

    /// Loses the connection: each request of it was carried out, is held up, or never arrived.
    fn lose_connection(&mut self) {
        self.connection += 1;
        let mut arrives = true;
        for request in std::mem::take(&mut self.on_wire) {
            let number = request.number;
            match self.random.random_range(0..4) {
                0 if arrives => drop(self.log.append(&request, true)),
                1 if arrives => {
                    // What is behind it on its connection is held up with it.
                    self.late.push(request);
                    arrives = false;
                }
                2 if !arrives => self.late.push(request),
                _ => arrives = false,
            }
            self.bench.lose(&Outgoing { number, bytes: Bytes::new() });
        }
    }

    fn carry_out_late(&mut self) {
        if !self.late.is_empty() {
            let request = self.late.remove(0);
            drop(self.log.append(&request, true));
        }
    }

    /// Has brokers forget producer ids that were idle.
    fn forget(&mut self) {
        if self.on_wire.is_empty() && self.late.is_empty() {
            self.bench.now += KNOWN_FOR;
            self.expire();
            self.log.producers.clear();
        }
    }

    /// The connection could not write the newest request.
    fn take_back(&mut self) {
        if let Some(request) = self.on_wire.pop_back() {
            self.bench.partition.unsent(request.number, &mut self.bench.ended);
        }
    }

    fn wait(&mut self) {
        self.bench.now += Duration::from_millis(self.random.random_range(0..30));
        self.expire();
    }

    fn expire(&mut self) {
        self.bench.partition.expire(self.bench.now, &mut self.bench.ended);
    }

    fn note(&mut self) {
        for (item, end) in self.bench.ends() {
            assert!(!self.withdrawn.contains(&item), "{item} was taken out");
            assert_eq!(self.ends.insert(item, end), None, "{item} ends once");
        }
    }

    /// Without further faults all records end.
    fn finish(&mut self) {
        self.bench.now += Duration::from_millis(1);
        for _ in 0..10 * STEPS {
            self.send();
            self.answer(false);
            self.note();
        }
        while !self.late.is_empty() {
            self.carry_out_late();
        }
        assert!(self.bench.partition.is_empty());
        let ended = self.ends.len() + self.withdrawn.len();
        assert_eq!(u64::try_from(ended).unwrap(), self.next_item, "each record ends");
    }

    fn check(&self) {
        let mut places = HashMap::new();
        for (offset, item) in self.log.items.iter().enumerate() {
            assert_eq!(places.insert(*item, offset), None, "{item} is in the log twice");
        }
        let mut last = None;
        for item in 0..self.next_item {
            let place = places.get(&item).copied();
            match self.ends.get(&item) {
                None | Some(End::NotWritten(_)) => assert_eq!(place, None, "{item} is not written"),
                Some(End::InDoubt(_)) => {}
                Some(End::Written { offset, .. }) => {
                    let place = place.unwrap_or_else(|| panic!("{item} is written"));
                    assert!(offset.is_none_or(|offset| usize::try_from(offset).unwrap() == place));
                    assert!(last < Some(place), "{item} passed an earlier one");
                    last = Some(place);
                }
            }
        }
    }
}

#[test]
fn whatever_happens_each_record_ends_once_truly_and_in_order() {
    let (mut written, mut in_doubt, mut not) = (0, 0, 0);
    let given = std::env::var("WIRE_SEEDS").ok().and_then(|text| text.parse().ok());
    for seed in 0..given.unwrap_or(SEEDS) {
        let played = std::panic::catch_unwind(|| {
            let mut run = Run::new(seed);
            for _ in 0..STEPS {
                run.step();
            }
            run.finish();
            run.check();
            run.ends
        });
        let Ok(ends) = played else { panic!("seed {seed}") };
        for end in ends.values() {
            match end {
                End::Written { .. } => written += 1,
                End::InDoubt(_) => in_doubt += 1,
                End::NotWritten(_) => not += 1,
            }
        }
    }
    // Else it proves little.
    assert!(written > 10_000 && in_doubt > 100 && not > 500, "{written} {in_doubt} {not}");
}
