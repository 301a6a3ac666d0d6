//! Owns the answer to one question: is the cluster there, and if not, why.
//! Fed by librdkafka's callbacks and by the metadata thread; read through a watch. Must never guess: a cluster counts as
//! connected only after a broker let us in.

use tokio::sync::watch;

use super::{
    classify::{self, ClientError},
    code::ErrorCode,
    tls,
};

/// Whether the cluster can take records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// No broker has let us in yet, and none has refused.
    Connecting,
    /// At least one broker has let us in and the connection stands.
    Connected,
    /// No broker can be reached; the sentence says what was seen last.
    Unreachable(String),
    /// The brokers refuse our credentials, or TLS failed; the sentence says how.
    Refused(String),
    /// The producer met an error after which it cannot go on; another one is about to take its place.
    Fatal(String),
}

/// The state of the cluster with its history of having been connected once.
#[derive(Debug)]
pub struct Reachability {
    state: watch::Sender<State>,
    last_error: parking_lot::Mutex<Option<String>>,
    /// What was said last of a broker's certificate that was refused.
    certificate: parking_lot::Mutex<Option<String>>,
}

impl Default for Reachability {
    fn default() -> Self {
        Self {
            state: watch::Sender::new(State::Connecting),
            last_error: parking_lot::Mutex::default(),
            certificate: parking_lot::Mutex::default(),
        }
    }
}

impl Reachability {
    /// Returns a receiver of the state.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    /// Returns the state as it is now.
    #[must_use]
    pub fn now(&self) -> State {
        self.state.borrow().clone()
    }

    /// Returns whether a broker has let us in and the connection stands.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        *self.state.borrow() == State::Connected
    }

    /// Notes that a broker answered.
    pub fn broker_answered(&self) {
        self.become_state(State::Connected);
    }

    /// Notes that the producer in use met a fatal error.
    pub fn met_fatal_error(&self, words: String) {
        self.become_state(State::Fatal(words));
    }

    /// Notes that another producer is in use, which has been let in; also a fatal error is left behind with the one before.
    pub fn begin_anew(&self) {
        *self.last_error.lock() = None;
        self.state.send_replace(State::Connected);
    }

    /// Notes how many connections stand, as the statistics say.
    pub fn brokers_connected(&self, count: usize) {
        if count > 0 {
            self.become_state(State::Connected);
        } else if self.is_connected() {
            let reason = self.last_error.lock().clone();
            let reason = reason.unwrap_or_else(|| "all connections were lost".to_owned());
            self.become_state(State::Unreachable(reason));
        }
    }

    /// Notes librdkafka's words on a broker's certificate that it refuses; its error follows.
    pub fn refused_certificate(&self, words: &str) {
        *self.certificate.lock() = Some(words.to_owned());
    }

    /// Notes a client-wide error with librdkafka's sentence for it.
    pub fn client_error(&self, code: ErrorCode, sentence: &str) {
        let meant = classify::client_error(code, sentence);
        let sentence = tls::explained(sentence, self.certificate.lock().as_deref()).into_owned();
        match meant {
            ClientError::Fatal => self.met_fatal_error(sentence),
            ClientError::Refused => self.unless_connected(State::Refused(sentence)),
            ClientError::AllBrokersDown => {
                // It counts brokers, and says less than the errors of their connections before it.
                let seen = self.last_error.lock().clone();
                self.unreachable(seen.unwrap_or(sentence));
            }
            ClientError::Connection => {
                *self.last_error.lock() = Some(sentence.clone());
                self.unreachable(sentence);
            }
        }
    }

    /// Notes that a connection could not be had, where none stands.
    fn unreachable(&self, reason: String) {
        // A refusal stays in force until a broker lets us in: the next lost connection does not make it better.
        let refused = matches!(*self.state.borrow(), State::Refused(_));
        if !refused {
            self.unless_connected(State::Unreachable(reason));
        }
    }

    fn unless_connected(&self, next: State) {
        if !self.is_connected() {
            self.become_state(next);
        }
    }

    /// Moves on to the state; a fatal error is left with its producer alone. A new sentence for the same state replaces the old one quietly:
    /// an outage of three brokers is one event, however many connections fail in it.
    fn become_state(&self, next: State) {
        self.state.send_if_modified(|state| {
            if matches!(state, State::Fatal(_)) {
                return false;
            }
            let changed = std::mem::discriminant(state) != std::mem::discriminant(&next);
            *state = next;
            changed
        });
    }
}

impl State {
    /// Says the state in plain words, for operators.
    #[must_use]
    pub fn sentence(&self) -> String {
        match self {
            Self::Connecting => "no broker has been reached yet".to_owned(),
            Self::Connected => "connected to Kafka".to_owned(),
            Self::Unreachable(reason) => format!("no broker can be reached: {reason}"),
            Self::Refused(reason) => {
                format!("Kafka refuses the sidecar's credentials, or TLS failed: {reason}")
            }
            Self::Fatal(reason) => {
                format!("the producer met a fatal error, and no other could take its place yet: {reason}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::code::ErrorCode as Code;

    #[test]
    fn a_refusal_lasts_until_a_broker_lets_us_in() {
        let reachability = Reachability::default();
        reachability.client_error(Code::LOCAL_AUTHENTICATION, "bad password");
        reachability.client_error(Code::LOCAL_TRANSPORT, "disconnected");
        assert_eq!(*reachability.watch().borrow(), State::Refused("bad password".into()));
        reachability.broker_answered();
        assert!(reachability.is_connected());
    }

    #[test]
    fn a_connection_lost_within_the_handshake_is_no_refusal() {
        for cause in ["Local: Broker transport failure", "Local: Timed out"] {
            let reachability = Reachability::default();
            let sentence = format!("SASL SCRAM-SHA-512 mechanism handshake failed: {cause}");
            reachability.client_error(Code::LOCAL_AUTHENTICATION, &sentence);
            assert_eq!(reachability.now(), State::Unreachable(sentence));
        }
        let reachability = Reachability::default();
        let sentence = "SASL GSSAPI mechanism handshake failed: Broker: Unsupported SASL mechanism";
        reachability.client_error(Code::LOCAL_AUTHENTICATION, sentence);
        assert_eq!(reachability.now(), State::Refused(sentence.to_owned()));
    }

    #[test]
    fn one_lost_connection_is_no_outage() {
        let reachability = Reachability::default();
        reachability.brokers_connected(2);
        reachability.client_error(Code::LOCAL_TRANSPORT, "broker 1 went away");
        assert!(reachability.is_connected());
        reachability.brokers_connected(0);
        assert_eq!(*reachability.watch().borrow(), State::Unreachable("broker 1 went away".into()));
    }

    #[test]
    fn an_outage_is_told_once_with_the_reason_of_its_connections() {
        let reachability = Reachability::default();
        let mut watch = reachability.watch();
        reachability.client_error(Code::LOCAL_TRANSPORT, "connection refused");
        reachability.client_error(Code::LOCAL_ALL_BROKERS_DOWN, "1/1 brokers are down");
        assert_eq!(*watch.borrow_and_update(), State::Unreachable("connection refused".into()));
        reachability.client_error(Code::LOCAL_RESOLVE, "no such host");
        assert!(!watch.has_changed().unwrap());
        assert_eq!(*watch.borrow(), State::Unreachable("no such host".into()));
    }

    #[test]
    fn a_fatal_error_is_left_with_its_producer_alone() {
        let reachability = Reachability::default();
        reachability.client_error(Code::LOCAL_FATAL, "fenced");
        reachability.broker_answered();
        assert_eq!(*reachability.watch().borrow(), State::Fatal("fenced".into()));
        reachability.begin_anew();
        assert!(reachability.is_connected());
    }
}
