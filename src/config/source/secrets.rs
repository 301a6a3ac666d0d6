//! Owns the files that other settings name: secrets are read, certificates are tried.
//! Must never put a file's content into a problem.

use std::{fs::File, io::Read as _, path::Path};

use secrecy::ExposeSecret as _;

use super::{Kind, Problem, Value, Values, table};
use crate::config::{
    assemble::KEY_PASSWORD,
    choices::SecurityProtocol,
    parse::{self, Raw},
};

/// The largest secret file, in bytes.
const SECRET_BYTES_MAX: u64 = 65_536;

/// Reads what the chosen protocol needs, and returns what is wrong with it.
pub(super) fn read(values: &mut Values) -> Vec<Problem> {
    let mut problems = Vec::new();
    let Some(protocol) = values.text("kafka.security_protocol").and_then(SecurityProtocol::parse) else {
        return problems;
    };
    if protocol.sasl() {
        problems.extend(take(values, "kafka.user_file", "kafka.user"));
        problems.extend(take(values, "kafka.password_file", "kafka.password"));
    }
    if protocol.tls() {
        problems.extend(take(values, "kafka.key_password_file", KEY_PASSWORD));
        for key in ["kafka.ca_file", "kafka.certificate_file", "kafka.key_file"] {
            problems.extend(attempt(values, key));
        }
    }
    problems
}

/// Reads the file that `file_key` names into the value of `key`.
fn take(values: &mut Values, file_key: &'static str, key: &'static str) -> Option<Problem> {
    let path = values.path(file_key)?.clone();
    let place = values.origin(file_key);
    if values.has(key) || values.is_broken(key) {
        let wrong = format!("is set beside {key} ({})", values.origin(key));
        return Some(Problem::new(file_key, place, wrong, "keep one of the two"));
    }
    match content(&path).and_then(|text| value(key, text)) {
        Ok(value) => {
            values.insert(key, value, place);
            None
        }
        Err((wrong, mend)) => {
            values.mark_broken(key);
            let wrong = format!("{} {wrong}", path.display());
            Some(Problem::new(file_key, place, wrong, mend))
        }
    }
}

fn value(key: &'static str, text: String) -> Result<Value, (String, String)> {
    let secret = parse::secret(text)?;
    let Some(setting) = table::find(key).filter(|setting| setting.kind != Kind::Secret) else {
        return Ok(Value::Secret(secret));
    };
    // The user's name: no secret by itself, but the wrong file may have been named, so that nothing of it is quoted.
    let raw = Raw::Text(secret.expose_secret().to_owned());
    let parsed = parse::parse(setting, raw, &super::Origin::Nowhere, &mut Vec::new());
    parsed.ok_or_else(|| {
        let wrong = format!("does not hold {}", setting.takes());
        (wrong, "write one line into it".to_owned())
    })
}

fn content(path: &Path) -> Result<String, (String, String)> {
    let unreadable = |error: std::io::Error| {
        let mend = "name a file that the sidecar may read".to_owned();
        (format!("cannot be read: {error}"), mend)
    };
    let file = File::open(path).map_err(unreadable)?;
    let mut bytes = Vec::new();
    file.take(SECRET_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > SECRET_BYTES_MAX) {
        return Err((
            format!("has more than {SECRET_BYTES_MAX} bytes"),
            "name the file of the secret itself".to_owned(),
        ));
    }
    let mut text = String::from_utf8(bytes)
        .map_err(|_content_must_not_be_shown| ("is not UTF-8".to_owned(), "write it as UTF-8".to_owned()))?;
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    Ok(text)
}

/// Tries whether the file that `key` names can be read; librdkafka reads it itself.
fn attempt(values: &Values, key: &'static str) -> Option<Problem> {
    let path = values.path(key)?;
    let mut first = [0];
    // Opening a folder succeeds; reading it does not.
    let read = File::open(path).and_then(|mut file| file.read(&mut first));
    let wrong = match read {
        Ok(0) => format!("{} is empty", path.display()),
        Ok(_) => return None,
        Err(error) => format!("{} cannot be read: {error}", path.display()),
    };
    Some(Problem::new(key, values.origin(key), wrong, "name a file that the sidecar may read"))
}
