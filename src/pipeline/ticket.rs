//! Owns the outcomes of records that were accepted together: each is told once, and whoever waits is woken when all are.
//! Must never lose an outcome: a ticket that is dropped without one tells INTERNAL. One allocation serves a whole frame.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};

use super::{
    Outcome,
    duplicates::{Claim, Duplicates},
};
use crate::failure::{Failure, Reason};

/// The outcomes, as those who wait for them see them; dropping it means that nobody does any more.
#[derive(Debug)]
pub struct Answers(Arc<Shared>);

/// The right and the duty to tell the outcome of one record.
#[derive(Debug)]
pub struct Ticket {
    /// Taken when the outcome is told.
    shared: Option<Arc<Shared>>,
    index: usize,
    /// Of a record with a message id: others who brought the same hear of it too.
    claim: Option<Claim>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    all_told: Notify,
    /// Who hears of the ends of records with message ids; none where deduplication is off.
    duplicates: Option<Arc<Duplicates>>,
}

#[derive(Debug)]
struct State {
    outcomes: Vec<Option<Outcome>>,
    open: usize,
    is_awaited: bool,
}

// === impl Answers ===

impl Answers {
    /// Makes room for so many outcomes; each needs a [`Ticket`]. `duplicates` are those whose claims the
    /// tickets may have.
    #[must_use]
    pub fn new(count: usize, duplicates: Option<Arc<Duplicates>>) -> Self {
        let outcomes = std::iter::repeat_with(|| None).take(count).collect();
        let state = State { outcomes, open: count, is_awaited: true };
        Self(Arc::new(Shared { state: Mutex::new(state), all_told: Notify::new(), duplicates }))
    }

    /// Makes the ticket of a record.
    #[must_use]
    pub fn ticket(&self, index: usize) -> Ticket {
        Ticket { shared: Some(Arc::clone(&self.0)), index, claim: None }
    }

    /// Waits until all outcomes are told, at most until that moment; returns whether they are.
    pub async fn all_told_by(&self, by: Instant) -> bool {
        let all_told = async {
            while self.0.state.lock().open > 0 {
                self.0.all_told.notified().await;
            }
        };
        timeout_at(by, all_told).await.is_ok()
    }

    /// Returns the records whose outcome is not told yet.
    #[must_use]
    pub fn open(&self) -> Vec<usize> {
        let state = self.0.state.lock();
        let outcomes = state.outcomes.iter().enumerate();
        outcomes.filter(|(_, outcome)| outcome.is_none()).map(|(index, _)| index).collect()
    }

    /// Returns the outcomes in order; `otherwise` makes those that are not told, and nobody hears them later.
    #[must_use]
    pub fn take(&self, otherwise: impl Fn(usize) -> Failure) -> Vec<Outcome> {
        let outcomes = {
            let mut state = self.0.state.lock();
            state.is_awaited = false;
            std::mem::take(&mut state.outcomes)
        };
        let outcomes = outcomes.into_iter().enumerate();
        outcomes.map(|(index, outcome)| outcome.unwrap_or_else(|| Err(otherwise(index)))).collect()
    }
}

impl Drop for Answers {
    fn drop(&mut self) {
        self.0.state.lock().is_awaited = false;
    }
}

// === impl Ticket ===

impl Ticket {
    /// Tells the outcome.
    pub fn tell(mut self, outcome: Outcome) {
        let Some(shared) = self.shared.take() else { return };
        if let (Some(duplicates), Some(claim)) = (&shared.duplicates, self.claim.take()) {
            duplicates.settle(&claim, &outcome);
        }
        shared.tell(self.index, outcome);
    }

    /// Has the outcome told to others who bring the same record, too.
    pub const fn claims(&mut self, claim: Claim) {
        self.claim = Some(claim);
    }

    /// Notes that the record is on its way: from now on its outcome may be lost, and is not simply "not written".
    pub fn accepted(&mut self) {
        if let Some(claim) = &mut self.claim {
            claim.accepted();
        }
    }

    /// Returns whether others brought the same record and wait for it.
    #[must_use]
    pub fn has_company(&self) -> bool {
        let duplicates = self.shared.as_ref().and_then(|shared| shared.duplicates.as_ref());
        duplicates.zip(self.claim.as_ref()).is_some_and(|(duplicates, claim)| duplicates.has_company(claim))
    }

    /// Returns whether somebody still waits for the outcome.
    #[must_use]
    pub fn is_awaited(&self) -> bool {
        self.has_company() || self.shared.as_ref().is_some_and(|shared| shared.state.lock().is_awaited)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.take() {
            if let (Some(duplicates), Some(claim)) = (&shared.duplicates, self.claim.take()) {
                duplicates.lost(&claim);
            }
            shared.tell(self.index, Err(Failure::new(Reason::Internal, "the record's outcome was lost")));
        }
    }
}

// === impl Shared ===

impl Shared {
    fn tell(&self, index: usize, outcome: Outcome) {
        let all_told = {
            let mut state = self.state.lock();
            // The list is gone once the answers were taken.
            let Some(place) = state.outcomes.get_mut(index).filter(|place| place.is_none()) else { return };
            *place = Some(outcome);
            state.open -= 1;
            state.open == 0
        };
        if all_told {
            self.all_told.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::record::{Receipt, Topic};

    fn receipt(offset: i64) -> Outcome {
        let topic = Topic::parse("orders").unwrap();
        Ok(Receipt { topic, partition: 0, offset: Some(offset), timestamp_ms: 1, duplicate: false })
    }

    #[tokio::test]
    async fn whoever_waits_is_woken_when_all_are_told_and_hears_them_in_order() {
        let answers = Answers::new(3, None);
        let (first, last) = (answers.ticket(0), answers.ticket(2));
        answers.ticket(1).tell(receipt(1));
        last.tell(receipt(2));
        assert!(!answers.all_told_by(Instant::now()).await);
        assert_eq!(answers.open(), [0]);
        let later = Instant::now() + Duration::from_secs(10);
        let (told, ()) = tokio::join!(answers.all_told_by(later), async { first.tell(receipt(0)) });
        assert!(told && Instant::now() < later);
        let outcomes = answers.take(|_| unreachable!("all are told"));
        assert_eq!(outcomes, [receipt(0), receipt(1), receipt(2)]);
    }

    #[test]
    fn what_is_not_told_is_answered_otherwise_and_later_words_are_not_heard() {
        let answers = Answers::new(2, None);
        let (first, second) = (answers.ticket(0), answers.ticket(1));
        first.tell(receipt(0));
        assert!(second.is_awaited());
        let outcomes = answers.take(|index| Failure::new(Reason::DeliveryUnknown, index.to_string()));
        assert_eq!(outcomes[0], receipt(0));
        assert_eq!(outcomes[1].as_ref().unwrap_err().message(), "1");
        assert!(!second.is_awaited());
        second.tell(receipt(1));
    }

    #[test]
    fn a_lost_ticket_is_said_and_dropped_answers_are_awaited_by_nobody() {
        let answers = Answers::new(1, None);
        drop(answers.ticket(0));
        let outcomes = answers.take(|_| unreachable!("it is told"));
        assert_eq!(outcomes[0].as_ref().unwrap_err().reason(), Reason::Internal);
        let dropped = Answers::new(1, None);
        let ticket = dropped.ticket(0);
        drop(dropped);
        assert!(!ticket.is_awaited());
    }
}
