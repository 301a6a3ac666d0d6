//! Owns the bound on what the sidecar holds: records and bytes from their acceptance to their outcome, and that no partition and
//! no tenant takes all of it.
//! Must never make anybody wait: what does not fit is refused at once. Must never lose count of a record's end: a stop's exit code
//! follows from it.
//!
//! Each partition may hold at most `PARTITION_FACTOR` times what is free, each tenant `TENANT_FACTOR` times (the dynamic
//! thresholds of shared switch buffers, Choudhury and Hahne, 1998): a partition that does not move stops at three quarters and
//! leaves the rest to the others, two of them at three sevenths each, and nobody has to be told how many there will be. A
//! tenant stops earlier, so that it does not fill its partition for the others there.

use std::{
    hash::{BuildHasher as _, RandomState},
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering},
    },
};

use crate::failure::{Failure, Reason};

/// What one record costs beside its own bytes, in bytes: our entry, librdkafka's message, its headers.
const RECORD_OVERHEAD_BYTES: usize = 512;

/// How many times as much as is free one partition may hold.
const PARTITION_FACTOR: usize = 3;
/// How many times as much as is free one tenant may hold.
const TENANT_FACTOR: usize = 2;
/// Tenants are told apart by a hash into so many; two that share one count as one.
const TENANTS: usize = 1024;

/// The bound, and how much of it is taken.
#[derive(Debug)]
pub struct Budget {
    records_max: usize,
    bytes_max: usize,
    taken: Held,
    tenants: Box<[Held]>,
    hasher: RandomState,
    /// How many records ended, by their [`End`].
    ended: [AtomicU64; End::COUNT],
}

/// How a record ended, as a stop counts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum End {
    /// It is in Kafka.
    Delivered,
    /// It is not, or may not be, by no fault of its own.
    Undelivered,
    /// Nothing of it is left to deliver: it was refused for what it is, or taken out by its caller or at its caller's deadline.
    Refused,
}

/// What somebody holds of a budget.
#[derive(Debug, Default)]
pub struct Held {
    records: AtomicUsize,
    bytes: AtomicUsize,
}

/// One record's part of the budget, given back when dropped.
#[derive(Debug)]
pub struct Share {
    budget: Arc<Budget>,
    bytes: usize,
    partition: Option<Arc<Held>>,
    tenant: Option<u16>,
    /// How the record ends if the share is dropped now: an [`End`].
    end: AtomicU8,
}

// === impl End ===

impl End {
    const COUNT: usize = 3;

    /// Returns the end of a record that failed so.
    #[must_use]
    pub const fn of(reason: Reason) -> Self {
        match reason {
            Reason::KafkaAuthenticationFailed
            | Reason::BrokersUnavailable
            | Reason::Draining
            | Reason::DeliveryUnknownAtDeadline
            | Reason::DeliveryUnknown
            | Reason::TransactionAborted
            | Reason::CommitUnknown
            | Reason::Internal => Self::Undelivered,
            Reason::InvalidRecord
            | Reason::RecordTooLarge
            | Reason::RecordRejected
            | Reason::MessageIdReused
            | Reason::TopicNotFound
            | Reason::NotAuthorized
            | Reason::CallerNotAllowed
            | Reason::QueueFull
            | Reason::SpoolFull
            | Reason::SpoolNotConfigured
            | Reason::ResponsesNotRead
            | Reason::DeadlineNotWritten
            | Reason::CancelledByCaller
            | Reason::ConsumerFenced
            | Reason::OffsetMismatch
            | Reason::ProducerFenced => Self::Refused,
        }
    }
}

impl Budget {
    /// Makes a budget of so many records and bytes.
    #[must_use]
    pub fn new(records_max: usize, bytes_max: usize) -> Arc<Self> {
        let tenants = std::iter::repeat_with(Held::default).take(TENANTS).collect();
        let (taken, hasher, ended) = (Held::default(), RandomState::new(), Default::default());
        Arc::new(Self { records_max, bytes_max, taken, tenants, hasher, ended })
    }

    /// Takes the part of one record.
    ///
    /// # Errors
    /// `QueueFull` where the records or the bytes do not fit; nothing is taken then.
    pub fn take(self: &Arc<Self>, record_bytes: usize) -> Result<Share, Failure> {
        let bytes = record_bytes.saturating_add(RECORD_OVERHEAD_BYTES);
        let (records_before, bytes_before) = self.taken.add(bytes);
        // Made first, so that a refusal gives both back when it drops.
        let share = self.share(bytes);
        if records_before >= self.records_max {
            return Err(full(format!("{} records are waiting already", self.records_max)));
        }
        // One record always fits an empty budget, however large the overhead makes it.
        if records_before > 0 && bytes_before.saturating_add(bytes) > self.bytes_max {
            return Err(full(format!("records of {} bytes are waiting already", self.bytes_max)));
        }
        Ok(share)
    }

    /// Takes the part of a dead letter, which is never refused: its record holds its own part until the letter's outcome, so
    /// that there are never more letters than records, and a letter that finds no room is lost.
    #[must_use]
    pub fn take_for_letter(self: &Arc<Self>, record_bytes: usize) -> Share {
        let bytes = record_bytes.saturating_add(RECORD_OVERHEAD_BYTES);
        self.taken.add(bytes);
        self.share(bytes)
    }

    /// Makes the share of what was just counted in.
    fn share(self: &Arc<Self>, bytes: usize) -> Share {
        let end = AtomicU8::new(End::Refused as u8);
        Share { budget: Arc::clone(self), bytes, partition: None, tenant: None, end }
    }

    /// Returns how many records are accepted and without outcome.
    #[must_use]
    pub fn records(&self) -> usize {
        self.taken.records.load(Ordering::Acquire)
    }

    /// Returns how many records have ended so since the start, those refused by the budget itself included.
    #[must_use]
    pub fn ended(&self, end: End) -> u64 {
        self.ended.get(usize::from(end as u8)).map_or(0, |ended| ended.load(Ordering::Acquire))
    }

    /// Returns their bytes, overhead included.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.taken.bytes.load(Ordering::Acquire)
    }
}

impl Share {
    /// Notes how the record ends. Until it is accepted it counts as taken out by its caller.
    pub fn ends(&self, end: End) {
        self.end.store(end as u8, Ordering::Relaxed);
    }

    /// Notes that the record is on its way: from now on it counts as undelivered, whatever drops it, until it is said how it
    /// ends.
    pub fn accepted(&self) {
        self.ends(End::Undelivered);
    }

    /// Counts the share as its tenant's.
    ///
    /// # Errors
    /// `QueueFull` where the tenant holds more than its fair part; drop the share then.
    pub fn hold_of_tenant(&mut self, tenant: &[u8]) -> Result<(), Failure> {
        let place = self.budget.hasher.hash_one(tenant) % u64::try_from(TENANTS).unwrap_or(1);
        let Ok(place) = u16::try_from(place) else { return Ok(()) };
        let Some(held) = self.budget.tenants.get(usize::from(place)) else { return Ok(()) };
        self.tenant = Some(place);
        if self.is_fair(held.add(self.bytes), TENANT_FACTOR) {
            return Ok(());
        }
        Err(full("the tenant has its part of the queue already".to_owned()))
    }

    /// Counts the share as its partition's.
    ///
    /// # Errors
    /// As of [`Self::hold_of_tenant`], of the partition.
    pub fn hold_of_partition(&mut self, partition: &Arc<Held>) -> Result<(), Failure> {
        self.partition = Some(Arc::clone(partition));
        if self.is_fair(partition.add(self.bytes), PARTITION_FACTOR) {
            return Ok(());
        }
        Err(full("the partition has its part of the queue already".to_owned()))
    }

    /// Returns whether somebody who held that before this share may hold it too.
    fn is_fair(&self, (records_before, bytes_before): (usize, usize), factor: usize) -> bool {
        let (records, bytes) = (self.budget.records(), self.budget.bytes());
        let free_records = self.budget.records_max.saturating_sub(records.saturating_sub(1));
        let free_bytes = self.budget.bytes_max.saturating_sub(bytes.saturating_sub(self.bytes));
        let fits = |before: usize, more: usize, free: usize| {
            before.saturating_add(more) <= free.saturating_mul(factor)
        };
        // Where nobody else is there nobody is kept from anything.
        records <= 1 || fits(records_before, 1, free_records) && fits(bytes_before, self.bytes, free_bytes)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        // First, so that at no time a record is neither held nor ended.
        if let Some(ended) = self.budget.ended.get(usize::from(*self.end.get_mut())) {
            ended.fetch_add(1, Ordering::AcqRel);
        }
        let tenant = self.tenant.and_then(|place| self.budget.tenants.get(usize::from(place)));
        for held in [Some(&self.budget.taken), self.partition.as_deref(), tenant].into_iter().flatten() {
            held.give_back(self.bytes);
        }
    }
}

impl Held {
    /// Counts a record in, and returns what was held before.
    fn add(&self, bytes: usize) -> (usize, usize) {
        (self.records.fetch_add(1, Ordering::AcqRel), self.bytes.fetch_add(bytes, Ordering::AcqRel))
    }

    fn give_back(&self, bytes: usize) {
        self.records.fetch_sub(1, Ordering::AcqRel);
        self.bytes.fetch_sub(bytes, Ordering::AcqRel);
    }
}

fn full(what: String) -> Failure {
    Failure::new(Reason::QueueFull, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_refused_and_takes_nothing() {
        let budget = Budget::new(2, 10_000);
        let first = budget.take(100).unwrap();
        let _second = budget.take(100).unwrap();
        assert_eq!(budget.take(1).unwrap_err().reason(), Reason::QueueFull);
        assert_eq!(budget.records(), 2);
        drop(first);
        assert_eq!(budget.take(20_000).unwrap_err().reason(), Reason::QueueFull);
        assert_eq!((budget.records(), budget.bytes()), (1, 612));
        assert!(budget.take(1).is_ok());
    }

    #[test]
    fn the_end_of_each_record_is_counted_and_one_that_is_lost_is_undelivered() {
        let budget = Budget::new(10, 100_000);
        let ended = || [End::Delivered, End::Undelivered, End::Refused].map(|end| budget.ended(end));
        drop(budget.take(1).unwrap());
        assert_eq!(ended(), [0, 0, 1], "its caller left before it was accepted");
        let lost = budget.take(1).unwrap();
        lost.accepted();
        drop(lost);
        assert_eq!(ended(), [0, 1, 1]);
        for (reason, expected) in [
            (Reason::Draining, End::Undelivered),
            (Reason::DeliveryUnknown, End::Undelivered),
            (Reason::CommitUnknown, End::Undelivered),
            (Reason::RecordTooLarge, End::Refused),
            (Reason::DeadlineNotWritten, End::Refused),
            (Reason::CancelledByCaller, End::Refused),
        ] {
            assert_eq!(End::of(reason), expected, "{reason:?}");
        }
        let delivered = budget.take(1).unwrap();
        delivered.accepted();
        delivered.ends(End::Delivered);
        assert_eq!((budget.records(), budget.ended(End::Delivered)), (1, 0), "held until dropped");
        drop(delivered);
        assert_eq!((budget.records(), ended()), (0, [1, 1, 1]));
    }

    #[test]
    fn a_letter_always_fits_and_counts() {
        let budget = Budget::new(1, 1_000);
        let _dead = budget.take(400).unwrap();
        let letter = budget.take_for_letter(5_000);
        assert_eq!((budget.records(), budget.bytes()), (2, 400 + 5_000 + 2 * RECORD_OVERHEAD_BYTES));
        assert_eq!(budget.take(1).unwrap_err().reason(), Reason::QueueFull);
        drop(letter);
        assert_eq!(budget.records(), 1);
    }

    #[test]
    fn one_record_always_fits_an_empty_budget() {
        let budget = Budget::new(10, 1_000);
        assert!(budget.take(5_000).is_ok());
        assert_eq!((budget.records(), budget.bytes()), (0, 0));
    }

    /// Takes shares until one is refused; returns them.
    fn flood(budget: &Arc<Budget>, partition: &Arc<Held>, tenant: Option<&[u8]>) -> Vec<Share> {
        let one = || {
            let mut share = budget.take(100).ok()?;
            tenant.map_or(Ok(()), |tenant| share.hold_of_tenant(tenant)).ok()?;
            share.hold_of_partition(partition).ok().map(|()| share)
        };
        std::iter::from_fn(one).collect()
    }

    #[test]
    fn who_does_not_move_leaves_room_for_others() {
        let budget = Budget::new(100, 1_000_000);
        let [dead, second, third] = [(); 3].map(|()| Arc::<Held>::default());
        let first = flood(&budget, &dead, None);
        assert_eq!(first.len(), 75, "three quarters");
        let others = flood(&budget, &second, None);
        assert_eq!(others.len(), 19, "three quarters of what was left");
        assert!(!flood(&budget, &third, None).is_empty());
        drop((first, others));
        assert_eq!(flood(&budget, &dead, None).len(), 75, "all was given back");
        assert_eq!((budget.records(), dead.records.load(Ordering::Relaxed)), (0, 0));
    }

    #[test]
    fn a_loud_tenant_leaves_room_for_others_in_the_same_partition() {
        let budget = Budget::new(100, 1_000_000);
        let quiet = (0..).map(|number: u32| number.to_le_bytes());
        let place = |tenant: &[u8]| budget.hasher.hash_one(tenant) % 1024;
        let quiet = quiet.into_iter().find(|quiet| place(quiet) != place(b"loud")).unwrap();
        let partitions: Vec<_> = (0..4).map(|_| Arc::<Held>::default()).collect();
        let loud: Vec<_> =
            partitions.iter().flat_map(|partition| flood(&budget, partition, Some(b"loud"))).collect();
        assert_eq!(loud.len(), 67, "two thirds");
        assert!(!flood(&budget, &partitions[0], Some(&quiet)).is_empty());
    }

    #[test]
    fn fairness_counts_bytes_too_and_keeps_nobody_from_an_empty_queue() {
        let budget = Budget::new(1_000, 100_000);
        let [large, other] = [(); 2].map(|()| Arc::<Held>::default());
        let mut only = budget.take(99_000).unwrap();
        only.hold_of_tenant(b"t").unwrap();
        only.hold_of_partition(&large).unwrap();
        drop(only);
        let mut held = Vec::new();
        while let Ok(mut share) = budget.take(10_000 - RECORD_OVERHEAD_BYTES) {
            match share.hold_of_partition(&large) {
                Ok(()) => held.push(share),
                Err(_) => break,
            }
        }
        assert_eq!(held.len(), 8, "of ten");
        let mut share = budget.take(10_000).unwrap();
        share.hold_of_partition(&other).unwrap();
    }
}
