//! Owns the way of a record into librdkafka, and its headers in librdkafka's form.
//! Must never block, and never lose headers that librdkafka did not take over.

use std::{
    ffi::{CStr, CString, c_void},
    fmt, ptr, slice,
};

use bytes::Bytes;
use rdkafka::{
    ClientContext,
    bindings::{
        RD_KAFKA_MSG_F_COPY, rd_kafka_header_cnt, rd_kafka_headers_destroy, rd_kafka_headers_new,
        rd_kafka_headers_t, rd_kafka_t, rd_kafka_vtype_t,
    },
    client::Client,
};

use super::{Owned, raw};
use crate::{kafka::code::ErrorCode, record, record::Record};

/// A record's headers in librdkafka's form, which takes them over with the record.
pub struct NativeHeaders(Owned<rd_kafka_headers_t>);

// SAFETY: the headers are memory of their own, without ties to a thread or a client.
unsafe impl Send for NativeHeaders {}

impl NativeHeaders {
    /// Copies headers into librdkafka's form; `None` if there are none.
    #[must_use]
    pub fn of(headers: &[record::Header]) -> Option<Self> {
        if headers.is_empty() {
            return None;
        }
        // SAFETY: nothing is asked of the caller.
        let made = Owned::new(unsafe { rd_kafka_headers_new(headers.len()) }, rd_kafka_headers_destroy)?;
        for header in headers {
            let (value, value_bytes) = pointer(header.value.as_ref());
            let (name, name_bytes) = (header.name.as_ptr().cast(), size(header.name.len()));
            // SAFETY: the list is ours; name and value live through the call, which copies them.
            unsafe { raw::rd_kafka_header_add(made.ptr(), name, name_bytes, value, size(value_bytes)) };
        }
        Some(Self(made))
    }

    /// Takes over what librdkafka gave away.
    ///
    /// # Safety
    /// The headers must be null or the caller's own.
    pub(super) unsafe fn owned(headers: *mut rd_kafka_headers_t) -> Option<Self> {
        Owned::new(headers, rd_kafka_headers_destroy).map(Self)
    }

    /// Reads them back.
    #[must_use]
    pub fn read(&self) -> Vec<record::Header> {
        // SAFETY: the headers are ours, and so their names are texts.
        unsafe { read(self.0.ptr()) }.unwrap_or_default()
    }
}

impl fmt::Debug for NativeHeaders {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("NativeHeaders").finish_non_exhaustive()
    }
}

/// Copies headers out of librdkafka's form; `None` if a name is not UTF-8.
///
/// # Safety
/// The headers must live through the call.
pub(super) unsafe fn read(headers: *const rd_kafka_headers_t) -> Option<Vec<record::Header>> {
    // SAFETY: the caller's promise. Names end with NUL; a value is null, or as many bytes as are counted.
    unsafe {
        let count = rd_kafka_header_cnt(headers);
        let of = |place| {
            let (mut name, mut value, mut bytes) = (ptr::null(), ptr::null(), 0);
            let code =
                raw::rd_kafka_header_get_all(headers, place, &raw mut name, &raw mut value, &raw mut bytes);
            if code != 0 || name.is_null() {
                return None;
            }
            let name = CStr::from_ptr(name).to_str().ok()?.to_owned();
            Some(record::Header { name, value: bytes_at(value, bytes) })
        };
        (0..count).map(of).collect()
    }
}

/// Copies bytes; `None` at a null pointer.
///
/// # Safety
/// The pointer must be null, or that of as many bytes as are counted.
pub(super) unsafe fn bytes_at(pointer: *const c_void, count: usize) -> Option<Bytes> {
    // SAFETY: the caller's promise.
    (!pointer.is_null())
        .then(|| Bytes::copy_from_slice(unsafe { slice::from_raw_parts(pointer.cast::<u8>(), count) }))
}

/// Hands a record over, with these headers and not its own, to a producer of rust-rdkafka's; its report carries the number.
///
/// # Errors
/// Why librdkafka does not take it over, and the headers; no report follows then.
pub fn hand_over<C: ClientContext>(
    client: &Client<C>,
    record: &Record,
    headers: Option<NativeHeaders>,
    partition: i32,
    number: u64,
) -> Result<(), (ErrorCode, Option<NativeHeaders>)> {
    // SAFETY: the client lives through the call; of one that is no producer librdkafka takes nothing.
    unsafe { produce(client.native_ptr(), record, headers, partition, number) }
}

/// Hands a record over, with these headers and not its own; its report carries the number. Never blocks.
///
/// # Errors
/// Why librdkafka does not take it over, and the headers; no report follows then.
///
/// # Safety
/// The client must be a producer that lives.
pub(super) unsafe fn produce(
    client: *mut rd_kafka_t,
    record: &Record,
    headers: Option<NativeHeaders>,
    partition: i32,
    number: u64,
) -> Result<(), (ErrorCode, Option<NativeHeaders>)> {
    let Ok(topic) = CString::new(record.topic.as_str()) else {
        return Err((ErrorCode::LOCAL_INVALID_ARG, headers));
    };
    // SAFETY: the caller's promise.
    let code = unsafe { produce_raw(client, &topic, record, headers.as_ref(), (partition, number)) };
    match code.ok() {
        Ok(()) => {
            // Librdkafka has them now.
            headers.map(|headers| headers.0.release());
            Ok(())
        }
        Err(code) => Err((code, headers)),
    }
}

/// Makes the call.
///
/// # Safety
/// The client must live; on success the headers are librdkafka's.
unsafe fn produce_raw(
    client: *mut rd_kafka_t,
    topic: &CStr,
    record: &Record,
    headers: Option<&NativeHeaders>,
    (partition, number): (i32, u64),
) -> ErrorCode {
    use rd_kafka_vtype_t::{
        RD_KAFKA_VTYPE_END, RD_KAFKA_VTYPE_HEADERS, RD_KAFKA_VTYPE_KEY, RD_KAFKA_VTYPE_MSGFLAGS,
        RD_KAFKA_VTYPE_OPAQUE, RD_KAFKA_VTYPE_PARTITION, RD_KAFKA_VTYPE_TIMESTAMP, RD_KAFKA_VTYPE_TOPIC,
        RD_KAFKA_VTYPE_VALUE,
    };
    let opaque: *mut c_void = ptr::without_provenance_mut(usize::try_from(number).unwrap_or(usize::MAX));
    let (key, key_bytes) = pointer(record.key.as_ref());
    let (value, value_bytes) = pointer(record.value.as_ref());
    let headers = headers.map_or(ptr::null_mut(), |headers| headers.0.ptr());
    // SAFETY: topic, key and value live through the call, which copies them (MSG_F_COPY) and only reads them although it takes
    // `void *`; each argument has the type of its tag in rdkafka.h, and the list ends with END.
    ErrorCode::new(unsafe {
        raw::rd_kafka_producev(
            client,
            RD_KAFKA_VTYPE_TOPIC,
            topic.as_ptr(),
            RD_KAFKA_VTYPE_PARTITION,
            partition,
            RD_KAFKA_VTYPE_MSGFLAGS,
            RD_KAFKA_MSG_F_COPY,
            RD_KAFKA_VTYPE_VALUE,
            value,
            value_bytes,
            RD_KAFKA_VTYPE_KEY,
            key,
            key_bytes,
            RD_KAFKA_VTYPE_OPAQUE,
            opaque,
            RD_KAFKA_VTYPE_TIMESTAMP,
            record.timestamp_ms,
            RD_KAFKA_VTYPE_HEADERS,
            headers,
            RD_KAFKA_VTYPE_END,
        )
    })
}

/// Returns where bytes lie and how many they are; null for none at all, which is not the same as empty.
fn pointer(bytes: Option<&Bytes>) -> (*const c_void, usize) {
    bytes.map_or((ptr::null(), 0), |bytes| (bytes.as_ptr().cast::<c_void>(), bytes.len()))
}

fn size(bytes: usize) -> isize {
    isize::try_from(bytes).unwrap_or(isize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_come_back_as_they_were_with_repeats_and_nulls() {
        let header = |name: &str, value: Option<&'static [u8]>| record::Header {
            name: name.to_owned(),
            value: value.map(Bytes::from_static),
        };
        let headers =
            [header("a", Some(b"1")), header("a", None), header("b", Some(b"")), header("a", Some(b"\0x"))];
        assert_eq!(NativeHeaders::of(&headers).unwrap().read(), headers);
        assert!(NativeHeaders::of(&[]).is_none());
    }
}
