use std::time::{Duration, Instant};

use super::*;

mod model;

const ID: ProducerId = ProducerId { id: 1, epoch: 0 };
const NOT_LEADER: i32 = 6;
const TIMED_OUT: i32 = 7;
const LIMITS: BatchLimits = BatchLimits { records_max: 2, bytes_max: 1_000, in_flight_max: 5 };

/// A partition whose items are numbers, with a connection and a clock.
struct Bench {
    partition: Partition<u64>,
    ended: Vec<Ended<u64>>,
    now: Instant,
}

fn answer(code: i32) -> Answer<'static> {
    Answer { code: ErrorCode::new(code), base_offset: Some(100), append_ms: None, refused: &[] }
}

/// Seals items so that a batch tells its producer id, its sequence and its items.
fn seal(items: &mut dyn Iterator<Item = &u64>, producer: ProducerId, sequence: i32) -> Bytes {
    let mut bytes = producer.id.to_be_bytes().to_vec();
    bytes.extend(sequence.to_be_bytes());
    items.for_each(|item| bytes.extend(item.to_be_bytes()));
    bytes.into()
}

fn sealed(producer: ProducerId, sequence: i32, items: &[u64]) -> Bytes {
    seal(&mut items.iter(), producer, sequence)
}

impl Bench {
    /// Begins with so many records, and a producer id.
    fn with(records: u64) -> Self {
        let now = Instant::now();
        let mut bench = Self { partition: Partition::default(), ended: Vec::new(), now };
        for item in 0..records {
            bench.push(item);
        }
        bench.partition.use_producer_id(ID);
        bench
    }

    fn push(&mut self, item: u64) -> Place {
        self.partition.push(item, 10, self.now + Duration::from_secs(60))
    }

    fn next(&mut self) -> Option<Outgoing> {
        self.next_on(1)
    }

    fn next_on(&mut self, connection: u64) -> Option<Outgoing> {
        self.partition.next(connection, (self.now, &LIMITS), seal)
    }

    fn answer(&mut self, batch: &Outgoing, code: i32) {
        self.partition.answered(batch.number, &answer(code), self.now, &mut self.ended);
    }

    fn lose(&mut self, batch: &Outgoing) {
        self.partition.lost(batch.number, &mut self.ended);
    }

    /// Sends what there is and has it acknowledged, so that the leader knows the producer id.
    fn acknowledge_first(&mut self) {
        let first = self.next().unwrap();
        self.answer(&first, 0);
        self.ended.clear();
    }

    /// Returns how records ended since the last call.
    fn ends(&mut self) -> Vec<(u64, End)> {
        self.ended.drain(..).map(|ended| (ended.item, ended.end)).collect()
    }
}

fn written(offset: i64) -> End {
    End::Written { offset: Some(offset), append_ms: None }
}

fn refused(code: i32) -> End {
    End::NotWritten(Cause::Code(ErrorCode::new(code)))
}

fn in_doubt(code: i32) -> End {
    End::InDoubt(Cause::Code(ErrorCode::new(code)))
}

#[test]
fn one_batch_goes_until_the_leader_knows_the_producer_id_and_five_from_then_on() {
    let mut bench = Bench::with(14);
    let first = bench.next().unwrap();
    assert_eq!(first.bytes, sealed(ID, 0, &[0, 1]));
    assert_eq!(bench.next(), None);
    bench.answer(&first, 0);
    assert_eq!(bench.ends(), [(0, written(100)), (1, written(101))]);
    let batches: Vec<_> = std::iter::from_fn(|| bench.next()).collect();
    assert_eq!(batches.len(), 5);
    assert_eq!(batches[4].bytes, sealed(ID, 10, &[10, 11]));
    // Long after the last word of the leader it may have forgotten the id.
    for batch in &batches {
        bench.answer(batch, 0);
    }
    bench.now += KNOWN_FOR;
    assert!(bench.next().is_some());
    bench.push(14);
    assert_eq!(bench.next(), None);
}

#[test]
fn a_lost_batch_goes_again_as_it_was_and_alone() {
    let mut bench = Bench::with(8);
    bench.acknowledge_first();
    let (first, second) = (bench.next().unwrap(), bench.next().unwrap());
    bench.lose(&first);
    assert_eq!(bench.next(), None, "the second is on the wire still");
    bench.lose(&second);
    assert_eq!(bench.next_on(2).unwrap(), first);
    assert_eq!(bench.next_on(2), None, "one until the leader has spoken");
    bench.answer(&first, 0);
    assert_eq!(bench.next_on(2).unwrap(), second);
    assert_eq!(bench.next_on(2).unwrap().bytes, sealed(ID, 6, &[6, 7]));
    assert_eq!(bench.ends(), [(2, written(100)), (3, written(101))]);
}

#[test]
fn another_connection_waits_for_what_the_one_before_has() {
    let mut bench = Bench::with(8);
    bench.acknowledge_first();
    let first = bench.next().unwrap();
    assert_eq!(bench.next_on(2), None);
    let second = bench.next().unwrap();
    bench.answer(&first, 0);
    bench.answer(&second, 0);
    assert!(bench.next_on(2).is_some());
    bench.push(8);
    assert_eq!(bench.next_on(2), None, "one until that leader has spoken");
}

#[test]
fn a_batch_in_doubt_waits_for_the_answers_to_those_behind_it() {
    let mut bench = Bench::with(10);
    bench.acknowledge_first();
    let batches = [bench.next().unwrap(), bench.next().unwrap(), bench.next().unwrap()];
    bench.answer(&batches[0], 20);
    bench.answer(&batches[1], 0);
    assert_eq!(bench.next(), None);
    bench.answer(&batches[2], 0);
    assert_eq!(bench.next().unwrap(), batches[0]);
}

#[test]
fn a_leader_that_takes_a_batch_behind_a_refused_one_did_not_know_the_producer_id() {
    let mut bench = Bench::with(6);
    bench.acknowledge_first();
    let (first, second) = (bench.next().unwrap(), bench.next().unwrap());
    bench.answer(&first, 19);
    bench.answer(&second, 0);
    assert!(bench.partition.needs_producer_id());
    assert_eq!(bench.ends().len(), 2);
}

#[test]
fn what_is_refused_for_now_can_be_taken_out_and_its_sequence_is_used_again() {
    let mut bench = Bench::with(8);
    bench.acknowledge_first();
    let (first, second) = (bench.next().unwrap(), bench.next().unwrap());
    bench.answer(&first, 19);
    assert_eq!(bench.partition.withdraw(2), None, "the second may still be written");
    bench.answer(&second, 45);
    assert_eq!(bench.partition.withdraw(2), Some(2));
    assert_eq!(bench.next().unwrap().bytes, sealed(ID, 2, &[3, 4]));
    assert_eq!(bench.ends(), []);
}

#[test]
fn what_is_refused_behind_one_in_doubt_keeps_its_sequence_while_another_in_doubt_follows() {
    let mut bench = Bench::with(8);
    bench.acknowledge_first();
    let batches = [bench.next().unwrap(), bench.next().unwrap(), bench.next().unwrap()];
    bench.answer(&batches[0], NOT_LEADER);
    bench.answer(&batches[1], 45);
    bench.lose(&batches[2]);
    for batch in &batches {
        assert_eq!(bench.next_on(2).unwrap(), *batch);
        bench.answer(batch, 0);
    }
    assert_eq!(bench.ends().len(), 6);
}

#[test]
fn an_answer_after_the_append_leaves_doubt_until_the_same_batch_is_answered() {
    for code in [NOT_LEADER, TIMED_OUT, 20, -1, 999] {
        let mut bench = Bench::with(2);
        let batch = bench.next().unwrap();
        bench.answer(&batch, code);
        assert_eq!((bench.partition.withdraw(0), bench.ends()), (None, vec![]), "{code}");
        assert_eq!(bench.next().unwrap(), batch);
        bench.answer(&batch, 46);
        let end = End::Written { offset: None, append_ms: None };
        assert_eq!(bench.ends(), [(0, end), (1, end)]);
    }
}

#[test]
fn an_unexpected_sequence_takes_a_fresh_producer_id_for_what_is_surely_refused() {
    let mut bench = Bench::with(4);
    bench.acknowledge_first();
    let batch = bench.next().unwrap();
    bench.answer(&batch, 45);
    assert_eq!(bench.next(), None);
    assert!(bench.partition.needs_producer_id());
    let fresh = ProducerId { id: 2, epoch: 0 };
    bench.partition.use_producer_id(fresh);
    assert_eq!(bench.next().unwrap().bytes, sealed(fresh, 0, &[2, 3]));
    assert_eq!(bench.ends(), []);
}

#[test]
fn an_unexpected_sequence_leaves_what_is_in_doubt_in_doubt_for_good() {
    let mut bench = Bench::with(4);
    bench.acknowledge_first();
    let batch = bench.next().unwrap();
    bench.lose(&batch);
    assert_eq!(bench.next().unwrap(), batch);
    bench.answer(&batch, 59);
    assert_eq!(bench.ends(), [(2, in_doubt(59)), (3, in_doubt(59))]);
    bench.push(4);
    assert!(bench.partition.needs_producer_id());
}

#[test]
fn a_sequence_that_the_broker_has_for_something_else_is_no_success() {
    let mut bench = Bench::with(2);
    let batch = bench.next().unwrap();
    bench.answer(&batch, 46);
    assert_eq!(bench.ends(), [(0, in_doubt(46)), (1, in_doubt(46))]);
}

#[test]
fn records_at_fault_fail_alone_and_the_others_go_in_their_order() {
    let mut bench = Bench::with(4);
    bench.acknowledge_first();
    bench.push(4);
    let (first, second) = (bench.next().unwrap(), bench.next().unwrap());
    let refusal = Answer { refused: &[1, 7, -1], ..answer(87) };
    bench.partition.answered(first.number, &refusal, bench.now, &mut bench.ended);
    bench.answer(&second, 45);
    assert_eq!(bench.ends(), [(3, refused(87))]);
    assert_eq!(bench.next().unwrap().bytes, sealed(ID, 2, &[2, 4]));
}

#[test]
fn what_is_too_large_goes_in_halves_and_fails_alone() {
    let mut bench = Bench::with(2);
    let both = bench.next().unwrap();
    bench.answer(&both, 10);
    let first = bench.next().unwrap();
    assert_eq!(first.bytes, sealed(ID, 0, &[0]));
    bench.answer(&first, 10);
    assert_eq!(bench.ends(), [(0, refused(10))]);
    assert_eq!(bench.next().unwrap().bytes, sealed(ID, 0, &[1]));
}

#[test]
fn a_refusal_of_what_is_in_doubt_says_nothing_of_the_attempt_before() {
    for code in [10, 87, 29] {
        let mut bench = Bench::with(2);
        let batch = bench.next().unwrap();
        bench.lose(&batch);
        assert_eq!(bench.next().unwrap(), batch);
        bench.answer(&batch, code);
        assert_eq!(bench.ends(), [(0, in_doubt(code)), (1, in_doubt(code))]);
        bench.push(2);
        assert!(bench.partition.needs_producer_id(), "the broker's next sequence is not known");
    }
}

#[test]
fn what_was_not_written_to_the_socket_is_as_before() {
    let mut bench = Bench::with(2);
    let batch = bench.next().unwrap();
    bench.partition.unsent(batch.number, &mut bench.ended);
    assert_eq!(bench.partition.withdraw(0), Some(0));
    let again = bench.next().unwrap();
    assert_eq!(again.bytes, sealed(ID, 0, &[1]));
    bench.answer(&again, 29);
    assert_eq!(bench.ended[0].attempts, 1);
}

#[test]
fn time_ends_what_waits_as_not_written_and_what_is_in_doubt_as_in_doubt() {
    let mut bench = Bench::with(5);
    bench.acknowledge_first();
    let batch = bench.next().unwrap();
    bench.answer(&batch, NOT_LEADER);
    assert_eq!(bench.partition.expires_at(), Some(bench.now + Duration::from_secs(60)));
    bench.now += Duration::from_secs(60);
    bench.partition.expire(bench.now, &mut bench.ended);
    let doubt = End::InDoubt(Cause::TimedOut(Some(ErrorCode::new(NOT_LEADER))));
    let waited = End::NotWritten(Cause::TimedOut(None));
    assert_eq!(bench.ends(), [(4, waited), (2, doubt), (3, doubt)]);
    assert!(bench.partition.is_empty());
    bench.push(5);
    assert!(bench.partition.needs_producer_id(), "the broker's next sequence is not known");
}

#[test]
fn giving_up_tells_what_is_known() {
    let mut bench = Bench::with(7);
    bench.acknowledge_first();
    let (first, second) = (bench.next().unwrap(), bench.next().unwrap());
    bench.lose(&first);
    bench.answer(&second, 45);
    bench.partition.give_up(&mut bench.ended);
    let ends = bench.ends();
    let (doubt, not) = (End::InDoubt(Cause::GivenUp), End::NotWritten(Cause::GivenUp));
    assert_eq!(ends, [(2, doubt), (3, doubt), (4, not), (5, not), (6, not)]);
}

#[test]
fn a_pause_holds_everything() {
    let mut bench = Bench::with(2);
    bench.partition.pause_until(bench.now + Duration::from_millis(1));
    assert_eq!(bench.next(), None);
    bench.now += Duration::from_millis(1);
    assert!(bench.next().is_some());
}

#[test]
fn failures_are_counted_once_for_all_that_was_on_the_wire() {
    let mut bench = Bench::with(8);
    bench.acknowledge_first();
    let (first, second) = (bench.next().unwrap(), bench.next().unwrap());
    bench.lose(&first);
    bench.lose(&second);
    assert_eq!(bench.partition.failures(), 1);
    let first = bench.next().unwrap();
    bench.answer(&first, 0);
    assert_eq!(bench.partition.failures(), 0);
}

#[test]
fn sequences_begin_again_behind_the_largest() {
    assert_eq!(behind(i32::MAX - 1, 1), i32::MAX);
    assert_eq!(behind(i32::MAX, 1), 0);
    assert_eq!(behind(i32::MAX - 1, 5), 3);
}

#[test]
fn answers_to_what_is_not_on_the_wire_are_ignored() {
    let mut bench = Bench::with(2);
    let batch = bench.next().unwrap();
    for code in (-10..=200).filter(|code| verdict(ErrorCode::new(*code)) != Verdict::Written) {
        bench.partition.answered(batch.number + 1, &answer(code), bench.now, &mut bench.ended);
    }
    bench.answer(&batch, 0);
    bench.answer(&batch, 10);
    assert_eq!(bench.ends().len(), 2);
}
