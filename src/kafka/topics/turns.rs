//! Owns whose question is asked next: callers take turns, each with its questions in their order; pure.
//! Must never let one caller's questions hold up another's.

use std::{
    collections::{HashMap, VecDeque},
    hash::Hash,
};

/// Up to so many questions, those that nobody waits for any more are kept.
const SWEPT_FROM: usize = 1_024;

/// Questions by their callers.
#[derive(Debug)]
pub(super) struct Turns<C, Q> {
    /// None of the queues is empty.
    queues: HashMap<C, VecDeque<Q>>,
    /// Who has questions, in the order of their turns.
    order: VecDeque<C>,
    count: usize,
    swept_at: usize,
}

impl<C: Hash + Eq + Copy, Q> Turns<C, Q> {
    pub(super) fn new() -> Self {
        Self { queues: HashMap::new(), order: VecDeque::new(), count: 0, swept_at: SWEPT_FROM }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(super) const fn len(&self) -> usize {
        self.count
    }

    /// Adds a question behind its caller's others.
    pub(super) fn push(&mut self, caller: C, question: Q) {
        let queue = self.queues.entry(caller).or_default();
        if queue.is_empty() {
            self.order.push_back(caller);
        }
        queue.push_back(question);
        self.count += 1;
    }

    /// Takes the next question, of the caller whose turn it is.
    pub(super) fn pop(&mut self) -> Option<(C, Q)> {
        let caller = self.order.pop_front()?;
        let queue = self.queues.get_mut(&caller)?;
        let question = queue.pop_front()?;
        if queue.is_empty() {
            self.queues.remove(&caller);
        } else {
            self.order.push_back(caller);
        }
        self.count -= 1;
        Some((caller, question))
    }

    /// Forgets the questions that nobody waits for, if there are many: callers that gave up leave theirs behind. So there are at most
    /// twice as many as are waited for.
    pub(super) fn sweep(&mut self, is_awaited: impl Fn(&Q) -> bool) {
        if self.count <= self.swept_at {
            return;
        }
        for queue in self.queues.values_mut() {
            queue.retain(|question| is_awaited(question));
        }
        self.queues.retain(|_, queue| !queue.is_empty());
        self.order.retain(|caller| self.queues.contains_key(caller));
        self.count = self.queues.values().map(VecDeque::len).sum();
        self.swept_at = SWEPT_FROM.max(2 * self.count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(turns: &mut Turns<u64, usize>) -> Vec<(u64, usize)> {
        std::iter::from_fn(|| turns.pop()).collect()
    }

    #[test]
    fn callers_take_turns_and_each_keeps_its_order() {
        let mut turns = Turns::new();
        for question in 0..4 {
            turns.push(1, question);
        }
        turns.push(2, 10);
        turns.push(2, 11);
        turns.push(3, 20);
        let expected = [(1, 0), (2, 10), (3, 20), (1, 1), (2, 11), (1, 2), (1, 3)];
        assert_eq!(all(&mut turns), expected);
        assert!(turns.is_empty() && turns.queues.is_empty() && turns.order.is_empty());
    }

    #[test]
    fn who_comes_behind_many_questions_of_another_is_next() {
        let mut turns = Turns::new();
        for question in 0..5_000 {
            turns.push(1, question);
        }
        assert_eq!(turns.pop(), Some((1, 0)));
        turns.push(2, 0);
        let place = all(&mut turns).iter().position(|(caller, _)| *caller == 2);
        assert_eq!(place, Some(1));
    }

    #[test]
    fn what_nobody_waits_for_is_forgotten_once_it_is_much() {
        let mut turns = Turns::new();
        for question in 0..10 * SWEPT_FROM {
            turns.push(u64::try_from(question % 3).unwrap(), question);
            turns.sweep(|question| question % 100 == 0);
            assert!(turns.len() <= SWEPT_FROM + 1);
        }
        turns.push(4, 1);
        turns.swept_at = 0;
        turns.sweep(|question| *question == 1);
        assert_eq!((all(&mut turns), turns.order.len()), (vec![(4, 1)], 0));
    }
}
