//! A fatal error of a producer at a chosen moment, as librdkafka raises one itself.
//!
//! Owns nothing; unsafe because rust-rdkafka does not wrap librdkafka's own test call for it.
#![expect(unsafe_code, reason = "rust-rdkafka does not wrap rd_kafka_test_fatal_error")]

use rdkafka::{
    ClientContext,
    bindings::{rd_kafka_resp_err_t, rd_kafka_test_fatal_error},
    client::Client,
};

/// Makes a client meet a fatal error: what it has not sent comes back, and it takes nothing more.
pub fn make_fatal<C: ClientContext>(client: &Client<C>) {
    let code = rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER;
    // SAFETY: the client lives through the call, which copies the text.
    unsafe { rd_kafka_test_fatal_error(client.native_ptr(), code, c"planted".as_ptr()) };
}
