//! Owns the producer that takes over next: made and connected while there is time, so that replacing one costs little.
//! Must never initialise its id before the producer in use is given up: that would fence it.

use std::{
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use crate::kafka::ffi::Transactional;

/// How long one attempt to connect may hold up an idle lane, in milliseconds.
const CONNECT_IDLE_MS: u64 = 50;
/// How long the first producer, or one without a spare, waits for a connection, in milliseconds.
const CONNECT_FIRST_MS: u64 = 1_000;

/// A producer that has not initialised its id.
pub(super) struct Fresh {
    pub producer: Transactional,
    /// Set by its interceptor.
    pub doubt: Arc<AtomicBool>,
    is_connected: bool,
}

impl Fresh {
    /// Makes one; asks no broker.
    ///
    /// # Errors
    /// The property that librdkafka refuses, or its words.
    pub fn make(properties: &[(String, String)]) -> Result<Self, String> {
        let doubt = Arc::default();
        let producer = Transactional::start(properties, &doubt)?;
        Ok(Self { producer, doubt, is_connected: false })
    }

    /// Connects it while its lane has nothing else to do.
    pub fn connect_idly(&mut self) {
        self.connect(CONNECT_IDLE_MS);
    }

    /// Connects it before it is used: to initialise an id without knowing a broker costs half a second more.
    pub fn connect_first(&mut self) {
        self.connect(CONNECT_FIRST_MS);
    }

    fn connect(&mut self, wait_ms: u64) {
        if !self.is_connected {
            self.is_connected = self.producer.connect(Duration::from_millis(wait_ms));
        }
    }
}
