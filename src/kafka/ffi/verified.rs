//! Owns the words on why a broker's certificate is refused, which librdkafka's own error does not say.
//! Must never take a certificate that OpenSSL refuses: it only says why.

use std::{
    ffi::{CStr, c_char, c_int, c_long, c_void},
    ptr, slice,
};

use rdkafka::bindings::{rd_kafka_conf_set_ssl_cert_verify_cb, rd_kafka_conf_t, rd_kafka_t};

// SAFETY: as OpenSSL's x509_vfy.h has it; the text is static. librdkafka links the library.
unsafe extern "C" {
    fn X509_verify_cert_error_string(code: c_long) -> *const c_char;
}

/// Has a client say why it refuses a certificate, in a log line of the facility `SSLCERTVRFY`.
///
/// # Safety
/// The configuration must live.
pub(super) unsafe fn say_why(conf: *mut rd_kafka_conf_t) {
    // SAFETY: the caller's promise.
    unsafe { rd_kafka_conf_set_ssl_cert_verify_cb(conf, Some(on_certificate)) };
}

/// Repeats OpenSSL's verdict, and says why in the room for words. Runs on librdkafka's threads; cannot panic.
unsafe extern "C" fn on_certificate(
    _client: *mut rd_kafka_t,
    _broker: *const c_char,
    _broker_id: i32,
    code: *mut c_int,
    _depth: c_int,
    _certificate: *const c_char,
    _bytes: usize,
    words: *mut c_char,
    words_bytes: usize,
    _opaque: *mut c_void,
) -> c_int {
    // SAFETY: librdkafka lends the code and as much room as it says.
    unsafe {
        let code = *code;
        if code == 0 {
            return 1;
        }
        let why = X509_verify_cert_error_string(code.into());
        if !why.is_null() && !words.is_null() && words_bytes > 0 {
            let why = slice::from_raw_parts(why.cast::<u8>(), CStr::from_ptr(why).count_bytes());
            let length = why.len().min(words_bytes - 1);
            ptr::copy_nonoverlapping(why.as_ptr(), words.cast::<u8>(), length);
            *words.add(length) = 0;
        }
        0
    }
}
