//! Owns why and when the producer is replaced: after a fatal error, when its polling thread is stuck, when the secrets changed.
//! Must never take a producer into use that has not been let in by a broker, nor give one up before that.

mod cause;

use std::{
    sync::{Arc, Weak},
    thread,
    time::{Duration, Instant},
};

use tokio::sync::watch;

pub use self::cause::Cause;
use self::cause::Signs;
use super::{
    access::Access,
    context::{Context, Observer},
    handle::Handle,
    producer::Producer,
    reachability::State,
};
use crate::{
    config::{Config, Wanted},
    tasks::Tasks,
    telemetry::metrics::Metrics,
};

/// How often the producer is looked at, in milliseconds.
const LOOK_MS: u64 = 250;
/// How long a new producer may take to be let in, in milliseconds.
const PROOF_MS_MAX: u64 = 5_000;
/// How long one question to the brokers may take, in milliseconds.
const QUESTION_MS_MAX: u64 = 500;
/// How long it must stand then: what forbids it to produce is told right after it was let in.
const STAND_MS: u64 = 1_000;

/// What healing needs.
pub struct Parts {
    /// The producer in use; it ends with those who send through it.
    pub handle: Weak<Handle>,
    /// How it reaches the cluster.
    pub access: Access,
    /// What the files of the secrets say.
    pub wanted: watch::Receiver<Wanted>,
    /// The settings in force, which the secrets go into once a producer with them was let in.
    pub in_force: watch::Sender<Arc<Config>>,
    /// Why the secrets of the files are not in use, while they are not.
    pub refused: watch::Sender<Option<String>>,
    /// Makes a producer's callbacks.
    pub context: Box<dyn Fn(Observer) -> Context + Send>,
    /// Is told the serial of a producer whose reports will not come.
    pub left_behind: Box<dyn Fn(u64) + Send>,
    /// Where replacements are counted.
    pub metrics: Arc<Metrics>,
}

struct Healer {
    parts: Parts,
    /// The turns of the polling thread, when they were seen last, and in how many looks there was no new one.
    turns: (u64, u32),
    /// How often it was tried in vain.
    tries: u32,
    tried: Instant,
}

/// Starts the thread that heals; it ends with the sender of the wanted settings.
///
/// # Errors
/// Where the thread cannot be started.
pub fn start(parts: Parts, tasks: &Tasks) -> std::io::Result<()> {
    let healer = Healer { parts, turns: (0, 0), tries: 0, tried: Instant::now() };
    tasks.spawn_vital_thread("kafka-healing", move || healer.run())
}

impl Healer {
    fn run(mut self) {
        while self.parts.wanted.has_changed().is_ok() {
            thread::sleep(Duration::from_millis(LOOK_MS));
            let Some(handle) = self.parts.handle.upgrade() else { return };
            let (signs, wanted) = self.look(&handle);
            if signs.is_new_wish {
                self.tries = 0;
            }
            self.tell_files();
            if let Some(cause) = signs.cause()
                && (self.tries == 0 || self.tried.elapsed() >= cause::pause(self.tries))
            {
                self.try_to_replace(&handle, cause, &wanted);
            }
        }
    }

    fn look(&mut self, handle: &Handle) -> (Signs, Arc<Config>) {
        let producer = handle.current();
        let turns = producer.turns();
        let missed = if turns == self.turns.0 { self.turns.1.saturating_add(1) } else { 0 };
        self.turns = (turns, missed);
        // It is told by a callback too, but not where that came just while another producer was taken into use.
        if let Some(words) = producer.fatal_error() {
            handle.observer().reachability.met_fatal_error(words);
        }
        let is_new_wish = self.parts.wanted.has_changed().unwrap_or(false);
        let wanted = Arc::clone(&self.parts.wanted.borrow_and_update().config);
        let signs = Signs {
            looks_without_turn: missed,
            is_fatal: matches!(handle.observer().reachability.now(), State::Fatal(_)),
            has_other_secrets: !Arc::ptr_eq(&wanted, &self.parts.in_force.borrow()),
            is_new_wish,
        };
        (signs, wanted)
    }

    /// Says what is wrong with the files themselves, or that it is over.
    fn tell_files(&self) {
        let wanted = self.parts.wanted.borrow();
        let is_in_force = Arc::ptr_eq(&wanted.config, &self.parts.in_force.borrow());
        match &wanted.problem {
            Some(problem) => self.refuse(problem.clone()),
            None if is_in_force => self.accept(),
            None => {}
        }
    }

    fn try_to_replace(&mut self, handle: &Handle, cause: Cause, wanted: &Arc<Config>) {
        let mut proven = self.prove(wanted);
        let mut config = Arc::clone(wanted);
        if let Err(why) = &proven
            && !Arc::ptr_eq(wanted, &self.parts.in_force.borrow())
        {
            // Where the files have a fault of their own, that is what is said of them.
            if self.parts.wanted.borrow().problem.is_none() {
                self.refuse(why.clone());
            }
            // The others may serve a producer still that cannot go on as it is.
            if cause != Cause::Secrets {
                config = Arc::clone(&self.parts.in_force.borrow());
                proven = self.prove(&config);
            }
        }
        self.tried = Instant::now();
        match proven {
            Ok(producer) => {
                self.tries = 0;
                self.take_into_use(handle, producer, config, cause);
            }
            Err(why) => {
                self.tries = self.tries.saturating_add(1);
                tracing::debug!(
                    cause = cause.name(),
                    tries = self.tries,
                    "no new producer could be proven: {why}"
                );
            }
        }
    }

    fn take_into_use(&mut self, handle: &Handle, producer: Producer, config: Arc<Config>, cause: Cause) {
        let before = handle.exchange(producer);
        self.turns = (0, 0);
        self.parts.metrics.client().replaced(cause.name());
        tracing::info!(cause = cause.name(), "another producer is in use");
        if cause == Cause::Stuck {
            before.leave_behind();
            (self.parts.left_behind)(before.serial());
        }
        Handle::retire(before);
        if !Arc::ptr_eq(&config, &self.parts.in_force.borrow()) {
            self.parts.in_force.send_replace(config);
            self.accept();
        }
    }

    /// Makes a producer and waits until a broker has let it in.
    fn prove(&self, config: &Config) -> Result<Producer, String> {
        let observer = Observer::default();
        let context = (self.parts.context)(observer.clone());
        let properties = self.parts.access.producer_of(config);
        let producer = Producer::start(&properties, context).map_err(|error| error.to_string())?;
        let by = Instant::now() + Duration::from_millis(PROOF_MS_MAX);
        while !producer.is_answered(Duration::from_millis(QUESTION_MS_MAX)) {
            let state = observer.reachability.now();
            if Instant::now() >= by || matches!(state, State::Refused(_) | State::Fatal(_)) {
                return Err(state.sentence());
            }
        }
        let by = Instant::now() + Duration::from_millis(STAND_MS);
        while Instant::now() < by {
            let state = observer.reachability.now();
            if matches!(state, State::Fatal(_)) {
                return Err(state.sentence());
            }
            thread::sleep(Duration::from_millis(LOOK_MS));
        }
        Ok(producer)
    }

    /// Says once why the secrets of the files are not in use.
    fn refuse(&self, why: String) {
        let is_news = self.parts.refused.send_if_modified(|refused| {
            let is_news = refused.as_ref() != Some(&why);
            *refused = Some(why.clone());
            is_news
        });
        if is_news {
            tracing::error!("the secrets on disk are not in use, those before them are: {why}");
        }
        self.parts.metrics.client().secrets_refused(true);
    }

    fn accept(&self) {
        let was_refused = self.parts.refused.send_if_modified(|refused| refused.take().is_some());
        if was_refused {
            tracing::info!("the secrets on disk are in use");
        }
        self.parts.metrics.client().secrets_refused(false);
    }
}
