//! Owns what librdkafka's TLS library says of itself.
//! Must never be asked about a connection.

use std::ffi::CStr;

use openssl_sys::{OPENSSL_VERSION, OpenSSL_version};

/// Returns the version of the OpenSSL that runs, such as `3.5.7`: of a shared library not that of the build.
#[must_use]
pub fn openssl_version() -> String {
    // SAFETY: it takes any number, and returns a text that lives as long as the process.
    let text = unsafe { OpenSSL_version(OPENSSL_VERSION) };
    if text.is_null() {
        return String::new();
    }
    // SAFETY: not null, see above.
    let text = unsafe { CStr::from_ptr(text) }.to_string_lossy();
    // `OpenSSL 3.5.7 9 Jun 2026`.
    text.split_ascii_whitespace().nth(1).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_a_number_of_openssl_3_or_later() {
        let version = openssl_version();
        let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
        assert!(major >= Some(3) && version.split('.').count() == 3, "{version}");
    }
}
