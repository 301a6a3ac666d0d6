//! Owns the decision what follows for a record that came back undelivered: told, or sent again, and in whose company.
//! Must stay pure, and never let a record go again that may be written: those are no fault of a [`Fault`]'s kinds but `Lasting`.
//!
//! How long a record is sent again before it comes back here, and with which pauses, is librdkafka's (`kafka.message_timeout_ms`,
//! `kafka.retry_backoff_ms`). What a spool would keep is what ends here with `Lasting` and is surely not written.

/// What is known of why a record is not in Kafka.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing was wrong with it: its producer was given up before it was sent.
    Unsent,
    /// It was too large for its topic, or another of its request was, or all together were.
    TooLarge,
    /// Nothing was wrong with it: the broker refused another one of its request.
    Anothers,
    /// The broker refused it for what it is, or another one of its request.
    Rejected,
    /// It is final: forbidden, no such topic, tried for as long as is tried, perhaps written.
    Lasting,
}

/// How things stand with the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Circumstances {
    /// Whether a caller still waits for it.
    pub is_awaited: bool,
    /// Whether the sidecar has come to its end, and no other producer will take it.
    pub is_ending: bool,
    /// Whether others were handed over with it.
    pub is_in_company: bool,
    /// Whether the broker told those at fault in its request from the others.
    pub is_told_apart: bool,
}

/// What follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Its caller is told, or it becomes a dead letter.
    End,
    /// Its caller is told that it is not written; whether it would have been alone, nobody knows.
    EndForAnothers,
    /// It goes again, in its place, as it was.
    Again,
    /// It goes again, in its place, with at most half as many others.
    AgainInHalves,
}

/// Decides what follows for a record that came back with that fault.
#[must_use]
pub const fn decide(fault: Fault, circumstances: Circumstances) -> Next {
    let Circumstances { is_awaited, is_ending, is_in_company, is_told_apart } = circumstances;
    match fault {
        Fault::Unsent if is_awaited && !is_ending => Next::Again,
        Fault::Rejected if is_told_apart => Next::End,
        Fault::TooLarge | Fault::Anothers | Fault::Rejected if !is_in_company => Next::End,
        Fault::TooLarge | Fault::Anothers | Fault::Rejected if is_awaited => Next::AgainInHalves,
        Fault::TooLarge | Fault::Anothers | Fault::Rejected => Next::EndForAnothers,
        Fault::Unsent | Fault::Lasting => Next::End,
    }
}

#[cfg(test)]
mod tests {
    use super::{Fault::*, Next::*, *};

    const FAULTS: [Fault; 5] = [Unsent, TooLarge, Anothers, Rejected, Lasting];

    /// All circumstances.
    fn all() -> impl Iterator<Item = Circumstances> {
        (0..16_u8).map(|bits| Circumstances {
            is_awaited: bits & 1 != 0,
            is_ending: bits & 2 != 0,
            is_in_company: bits & 4 != 0,
            is_told_apart: bits & 8 != 0,
        })
    }

    #[test]
    fn nothing_goes_again_that_nobody_waits_for() {
        for circumstances in all().filter(|circumstances| !circumstances.is_awaited) {
            for fault in FAULTS {
                let next = decide(fault, circumstances);
                assert!(matches!(next, End | EndForAnothers), "{fault:?}, {circumstances:?}: {next:?}");
            }
        }
    }

    #[test]
    fn what_is_final_ends_whatever_the_circumstances() {
        assert!(all().all(|circumstances| decide(Lasting, circumstances) == End));
    }

    #[test]
    fn what_was_not_sent_goes_again_as_it_was_until_the_sidecar_ends() {
        for circumstances in all().filter(|circumstances| circumstances.is_awaited) {
            let expected = if circumstances.is_ending { End } else { Again };
            assert_eq!(decide(Unsent, circumstances), expected, "{circumstances:?}");
        }
    }

    #[test]
    fn who_shared_a_refused_request_goes_again_with_fewer_until_it_is_alone() {
        let awaited = || all().filter(|circumstances| circumstances.is_awaited);
        for circumstances in awaited() {
            let expected = if circumstances.is_in_company { AgainInHalves } else { End };
            assert_eq!(decide(TooLarge, circumstances), expected, "{circumstances:?}");
            assert_eq!(decide(Anothers, circumstances), expected, "{circumstances:?}");
            let of_rejected = if circumstances.is_told_apart { End } else { expected };
            assert_eq!(decide(Rejected, circumstances), of_rejected, "{circumstances:?}");
        }
    }

    #[test]
    fn who_is_not_awaited_is_told_no_fault_that_may_be_anothers() {
        for circumstances in all().filter(|circumstances| !circumstances.is_awaited) {
            let expected = if circumstances.is_in_company { EndForAnothers } else { End };
            assert_eq!(decide(TooLarge, circumstances), expected, "{circumstances:?}");
            assert_eq!(decide(Anothers, circumstances), expected, "{circumstances:?}");
            let of_rejected = if circumstances.is_told_apart { End } else { expected };
            assert_eq!(decide(Rejected, circumstances), of_rejected, "{circumstances:?}");
        }
    }
}
