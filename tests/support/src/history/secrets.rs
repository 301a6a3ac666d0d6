//! Secrets: none comes out of the process (I12).

use super::{Kind, Violation};

/// What came out of the process in one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Where: a stream, a path, the errors.
    pub name: String,
    /// The text.
    pub text: String,
}

/// The message of a violation repeats neither the secret nor what stands around it.
pub(super) fn violations(secrets: &[String], outputs: &[Output]) -> Vec<Violation> {
    let told = outputs.iter().flat_map(|output| {
        let told = secrets.iter().enumerate().filter(|(_, secret)| output.text.contains(secret.as_str()));
        told.map(|(number, _)| format!("secret {number} is in {}", output.name))
    });
    told.map(|what| Violation::new(Kind::SecretTold, what)).collect()
}
