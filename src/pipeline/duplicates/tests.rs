use bytes::Bytes;

use super::*;
use crate::{pipeline::ticket::Answers, record::Topic};

fn memory() -> Arc<Duplicates> {
    Duplicates::new(&Deduplication { ids_max: 100, window: Duration::from_secs(10) }).unwrap()
}

fn record(value: &'static str, id: &str) -> Result<Record, Failure> {
    Ok(Record {
        topic: Topic::parse("orders").unwrap(),
        key: None,
        value: Some(Bytes::from_static(value.as_bytes())),
        headers: Vec::new(),
        partition: None,
        timestamp_ms: 1,
        message_id: Some(id.into()),
    })
}

/// What becomes of records that are brought together.
struct Brought {
    answers: Answers,
    tickets: Vec<Option<Ticket>>,
    answered: Vec<(usize, Outcome)>,
}

fn bring(duplicates: &Arc<Duplicates>, records: &[Result<Record, Failure>]) -> Brought {
    let answers = Answers::new(records.len(), Some(Arc::clone(duplicates)));
    let mut tickets: Vec<_> = (0..records.len()).map(|index| Some(answers.ticket(index))).collect();
    let answered = duplicates.bring(records, &mut tickets);
    Brought { answers, tickets, answered }
}

fn reason(brought: &Brought, index: usize) -> Reason {
    let outcomes = brought.answers.take(|_| Failure::new(Reason::DeliveryUnknown, "not told"));
    outcomes[index].as_ref().unwrap_err().reason()
}

fn receipt_of(record: &Result<Record, Failure>) -> Receipt {
    let written = Written { partition: 0, offset: Some(7), timestamp_ms: 1 };
    Receipt { duplicate: false, ..receipt(record.as_ref().unwrap(), written) }
}

#[test]
fn records_that_come_together_keep_their_places() {
    let duplicates = memory();
    let wrong = || Err(Failure::new(Reason::InvalidRecord, "wrong"));
    let records = [record("v", "a"), wrong(), record("v", "b"), record("v", "a"), record("w", "a")];
    let mut brought = bring(&duplicates, &records);
    let left: Vec<_> = brought.tickets.iter().map(Option::is_some).collect();
    assert_eq!(left, [true, true, true, false, true]);
    let [(4, Err(reused))] = &brought.answered[..] else { panic!("{:?}", brought.answered) };
    assert_eq!(reused.reason(), Reason::MessageIdReused);
    let first = brought.tickets[0].take().unwrap();
    assert!(first.has_company() && !brought.tickets[2].as_ref().unwrap().has_company());
    first.tell(Ok(receipt_of(&records[0])));
    let outcomes = brought.answers.take(|_| Failure::new(Reason::DeliveryUnknown, "not told"));
    assert_eq!(outcomes[0].as_ref().unwrap(), &receipt_of(&records[0]));
    assert_eq!(outcomes[3].as_ref().unwrap(), &receipt_of(&records[0]).of_duplicate());
    let told = [1, 2, 4].map(|index: usize| outcomes[index].as_ref().unwrap_err().message());
    assert_eq!(told, ["not told"; 3]);
    let again = bring(&duplicates, &records[..1]);
    assert_eq!(again.answered, [(0, Ok(receipt_of(&records[0]).of_duplicate()))]);
}

#[test]
fn who_waits_for_a_caller_that_goes_away_is_told() {
    let duplicates = memory();
    let records = [record("v", "a"), record("v", "b")];
    let mut first = bring(&duplicates, &records);
    first.tickets[1].as_mut().unwrap().accepted();
    let waiting = [bring(&duplicates, &records[..1]), bring(&duplicates, &records[1..])];
    drop(first);
    // Only what was on its way may be written.
    assert_eq!(reason(&waiting[0], 0), Reason::DeadlineNotWritten);
    assert_eq!(reason(&waiting[1], 0), Reason::Internal);
    let mut again = bring(&duplicates, &records);
    assert!(again.tickets[0].take().is_some_and(|ticket| !ticket.has_company()), "it may be brought again");
    let [(1, Err(failure))] = &again.answered[..] else { panic!("{:?}", again.answered) };
    assert_eq!(failure.reason(), Reason::Internal);
}
