//! A record with a header whose name is no text, as other clients may write one.
//!
//! Owns nothing; unsafe because rust-rdkafka takes names for texts.
#![expect(unsafe_code, reason = "rust-rdkafka wraps no call that takes a header's name as bytes")]

use std::{
    ffi::{CStr, CString},
    ptr,
};

use rdkafka::{
    ClientContext,
    bindings::{rd_kafka_producev, rd_kafka_resp_err_t, rd_kafka_vtype_t},
    client::Client,
};

/// Hands over a record without key and value, with a header of that name and without a value. It is written by the producer's
/// next flush.
pub fn send_misnamed<C: ClientContext>(client: &Client<C>, topic: &str, name: &CStr) {
    let topic = CString::new(topic).expect("a topic's name has no NUL");
    // SAFETY: the client and the texts live through the call, which copies them; each type is followed by what it asks for.
    let code = unsafe {
        rd_kafka_producev(
            client.native_ptr(),
            rd_kafka_vtype_t::RD_KAFKA_VTYPE_TOPIC,
            topic.as_ptr(),
            rd_kafka_vtype_t::RD_KAFKA_VTYPE_HEADER,
            name.as_ptr(),
            ptr::null::<u8>(),
            0_isize,
            rd_kafka_vtype_t::RD_KAFKA_VTYPE_END,
        )
    };
    assert_eq!(code, rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR);
}
