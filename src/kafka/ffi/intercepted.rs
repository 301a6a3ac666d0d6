//! Owns how a producer comes into being with an interceptor, which hears of every request that ended without an answer.
//! Must never free what librdkafka has freed already: a client that cannot be made takes its interceptors with it.

use std::{
    ffi::{CStr, CString, c_char, c_int, c_void},
    ptr::NonNull,
    sync::atomic::{AtomicBool, Ordering},
};

use rdkafka::bindings::*;

use super::{Owned, WORDS_BYTES, raw, text, verified};

/// The name under which librdkafka knows the interceptor.
const INTERCEPTOR: &CStr = c"doubt";
/// The requests that a coordinator carries out once: AddPartitionsToTxn, AddOffsetsToTxn, EndTxn, TxnOffsetCommit.
const REQUESTS_OF_TRANSACTIONS: [i16; 4] = [24, 25, 26, 28];

/// Set when a client could not be made: what a failed one with an interceptor leaves behind cannot be freed, so that the next
/// attempt is made without one first.
static SUSPECT: AtomicBool = AtomicBool::new(false);

/// Makes a producer whose interceptor sets the flag.
///
/// # Errors
/// The name of the property that librdkafka refuses, or its own words on all of them.
///
/// # Safety
/// The flag must live until the client is destroyed.
pub(super) unsafe fn with_interceptor(
    properties: &[(String, String)],
    doubt: *const AtomicBool,
) -> Result<NonNull<rd_kafka_t>, String> {
    if SUSPECT.load(Ordering::Acquire) {
        let plain = configuration(properties)?;
        // SAFETY: the configuration is whole; the client is ours and used no more.
        unsafe {
            rd_kafka_destroy(client(&plain)?.as_ptr());
            plain.release();
        }
        SUSPECT.store(false, Ordering::Release);
    }
    let conf = configuration(properties)?;
    // SAFETY: the caller's promise of the flag; the configuration is the client's, or lost.
    unsafe {
        let events = RD_KAFKA_EVENT_DR | RD_KAFKA_EVENT_ERROR | RD_KAFKA_EVENT_LOG;
        rd_kafka_conf_set_events(conf.ptr(), events);
        verified::say_why(conf.ptr());
        let flag = doubt.cast_mut().cast();
        raw::rd_kafka_conf_interceptor_add_on_new(conf.ptr(), INTERCEPTOR.as_ptr(), Some(on_new), flag);
        let made = client(&conf);
        conf.release();
        made.inspect_err(|_| SUSPECT.store(true, Ordering::Release))
    }
}

/// Makes a configuration.
fn configuration(properties: &[(String, String)]) -> Result<Owned<rd_kafka_conf_t>, String> {
    let mut words = [0; WORDS_BYTES];
    // SAFETY: nothing is asked of the caller.
    let conf = Owned::new(unsafe { rd_kafka_conf_new() }, rd_kafka_conf_destroy).ok_or("no memory")?;
    for (name, value) in properties {
        let (Ok(key), Ok(value)) = (CString::new(name.as_str()), CString::new(value.as_str())) else {
            return Err(name.clone());
        };
        // SAFETY: all pointers live through the call, which copies the texts.
        let set = unsafe {
            rd_kafka_conf_set(conf.ptr(), key.as_ptr(), value.as_ptr(), words.as_mut_ptr(), WORDS_BYTES)
        };
        if set != rd_kafka_conf_res_t::RD_KAFKA_CONF_OK {
            return Err(name.clone());
        }
    }
    Ok(conf)
}

/// Makes a producer, which owns the configuration then.
///
/// # Safety
/// The configuration must be released if a client is returned.
unsafe fn client(conf: &Owned<rd_kafka_conf_t>) -> Result<NonNull<rd_kafka_t>, String> {
    let mut words = [0; WORDS_BYTES];
    let kind = rd_kafka_type_t::RD_KAFKA_PRODUCER;
    // SAFETY: the configuration and the room for words live through the call.
    unsafe {
        let client = rd_kafka_new(kind, conf.ptr(), words.as_mut_ptr(), WORDS_BYTES);
        NonNull::new(client).ok_or_else(|| text(words.as_ptr()))
    }
}

/// Puts the other interceptor on a client that was just made.
unsafe extern "C" fn on_new(
    client: *mut rd_kafka_t,
    _conf: *const rd_kafka_conf_t,
    doubt: *mut c_void,
    _words: *mut c_char,
    _words_bytes: usize,
) -> c_int {
    // SAFETY: librdkafka calls this with the client that it makes; the flag is lent until the client is destroyed.
    unsafe {
        raw::rd_kafka_interceptor_add_on_response_received(
            client,
            INTERCEPTOR.as_ptr(),
            Some(on_response),
            doubt,
        )
    }
}

/// Notes a request of a transaction that ended without the broker's answer. Runs on librdkafka's threads; cannot panic.
unsafe extern "C" fn on_response(
    _client: *mut rd_kafka_t,
    _socket: c_int,
    _broker: *const c_char,
    _broker_id: i32,
    api_key: i16,
    _api_version: i16,
    _correlation_id: i32,
    _bytes: usize,
    _round_trip: i64,
    code: c_int,
    doubt: *mut c_void,
) -> c_int {
    if code != 0 && REQUESTS_OF_TRANSACTIONS.contains(&api_key) {
        // SAFETY: the flag is lent until the client is destroyed.
        unsafe { (*doubt.cast::<AtomicBool>()).store(true, Ordering::Release) };
    }
    0
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::Transactional;

    #[test]
    fn a_producer_that_cannot_be_made_is_said_as_often_as_it_is_tried() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let properties = [pair("security.protocol", "ssl"), pair("ssl.ca.location", "/nowhere/ca.pem")];
        for _ in 0..10 {
            let refused = Transactional::start(&properties, &Arc::default()).map(drop);
            assert!(refused.unwrap_err().contains("ssl.ca.location"));
        }
    }
}
