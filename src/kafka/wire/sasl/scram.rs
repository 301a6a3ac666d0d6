//! Owns the client's side of SCRAM-SHA-256 and SCRAM-SHA-512 (RFC 5802, RFC 7677): messages in, messages out.
//! Must never take a server that does not show that it knows the password, nor one that asks for endless work.
//!
//! ```text
//! First --(nothing)--> Challenge --(r=,s=,i=)--> Verify --(v=)--> Done
//!   says n,,n=,r=        says c=,r=,p=
//! ```
//! Passwords are hashed as they are, without SASLprep (RFC 4013), as Kafka's own client (`ScramFormatter.normalize`), its tools
//! and librdkafka do: with it, a password that works there would not work here.

use std::fmt;

use openssl::{
    base64, error::ErrorStack, hash::MessageDigest, memcmp, pkcs5, pkey::PKey, rand, sha, sign::Signer,
};
use secrecy::ExposeSecret as _;

use super::{SaslError, SaslStep};
use crate::config::Credentials;

/// The fewest iterations: those of RFC 7677, and Kafka's own least.
const ITERATIONS_MIN: usize = 4096;
/// The most, some 50 ms of work; Kafka's tools allow 16,384.
const ITERATIONS_MAX: usize = 100_000;
/// The random bytes of a nonce.
const NONCE_BYTES: usize = 24;
/// The longest message of a server that is read.
const MESSAGE_BYTES_MAX: usize = 4096;
/// No channel binding, and no other identity to act for.
const GS2_HEADER: &str = "n,,";
/// The same in base64.
const CHANNEL_BINDING: &str = "c=biws";

/// The hash of a SCRAM mechanism.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScramHash {
    /// SCRAM-SHA-256.
    Sha256,
    /// SCRAM-SHA-512.
    Sha512,
}

/// One exchange.
pub struct ScramExchange {
    hash: ScramHash,
    nonce: String,
    state: State,
}

enum State {
    First,
    Challenge { first_bare: String },
    Verify { server_signature: Vec<u8> },
    Done,
}

impl fmt::Debug for ScramExchange {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ScramExchange").field("hash", &self.hash).finish_non_exhaustive()
    }
}

impl ScramExchange {
    /// Begins with a random nonce.
    ///
    /// # Errors
    /// If the system has no randomness.
    pub fn begin(hash: ScramHash) -> Result<Self, SaslError> {
        let mut random = [0; NONCE_BYTES];
        rand::rand_bytes(&mut random).map_err(|error| broken(&error))?;
        Ok(Self { hash, nonce: base64::encode_block(&random), state: State::First })
    }

    pub(super) fn step(&mut self, credentials: &Credentials, words: &[u8]) -> Result<SaslStep, SaslError> {
        // An exchange that failed is at its end.
        match std::mem::replace(&mut self.state, State::Done) {
            State::First => {
                let user = credentials.user.replace('=', "=3D").replace(',', "=2C");
                let first_bare = format!("n={user},r={}", self.nonce);
                let said = format!("{GS2_HEADER}{first_bare}").into_bytes();
                self.state = State::Challenge { first_bare };
                Ok(SaslStep::Say(said))
            }
            State::Challenge { first_bare } => {
                let challenge = Challenge::read(words, &self.nonce)?;
                let (said, server_signature) = self.prove(credentials, &first_bare, &challenge)?;
                self.state = State::Verify { server_signature };
                Ok(SaslStep::Say(said))
            }
            State::Verify { server_signature } => verify(words, &server_signature).map(|()| SaslStep::Done),
            State::Done => Err(wrong("the server goes on after the end")),
        }
    }

    /// Returns the client's last message, and the signature that the server has to show for it.
    fn prove(
        &self,
        credentials: &Credentials,
        first_bare: &str,
        challenge: &Challenge<'_>,
    ) -> Result<(Vec<u8>, Vec<u8>), SaslError> {
        let password = credentials.password.expose_secret().as_bytes();
        let without_proof = format!("{CHANNEL_BINDING},r={}", challenge.nonce);
        let signed = format!("{first_bare},{},{without_proof}", challenge.text);
        let made = || -> Result<_, ErrorStack> {
            let salted = self.hash.salted(password, &challenge.salt, challenge.iterations)?;
            let client_key = self.hash.hmac(&salted, b"Client Key")?;
            let signature = self.hash.hmac(&self.hash.digest(&client_key), signed.as_bytes())?;
            let proof: Vec<u8> = client_key.iter().zip(&signature).map(|(key, sign)| key ^ sign).collect();
            let server_key = self.hash.hmac(&salted, b"Server Key")?;
            Ok((proof, self.hash.hmac(&server_key, signed.as_bytes())?))
        };
        let (proof, server_signature) = made().map_err(|error| broken(&error))?;
        let said = format!("{without_proof},p={}", base64::encode_block(&proof)).into_bytes();
        Ok((said, server_signature))
    }
}

/// The server's first message: `r=nonce,s=salt,i=iterations`.
struct Challenge<'a> {
    text: &'a str,
    nonce: &'a str,
    salt: Vec<u8>,
    iterations: usize,
}

impl<'a> Challenge<'a> {
    fn read(words: &'a [u8], ours: &str) -> Result<Self, SaslError> {
        let text = text(words)?;
        // Extensions that must be understood begin with `m=` and come first, further ones come last (RFC 5802, section 5.1).
        let mut parts = text.split(',');
        let mut part = |name: &str| {
            let value = parts.next().and_then(|part| part.strip_prefix(name));
            value.ok_or_else(|| wrong("the server's first message is not r=,s=,i="))
        };
        let nonce = part("r=")?;
        let is_longer = nonce.len() > ours.len() && nonce.starts_with(ours);
        if !is_longer {
            return Err(wrong("the server's nonce does not go on from ours"));
        }
        let salt = base64::decode_block(part("s=")?).map_err(|_| wrong("the server's salt is no base64"))?;
        let iterations = part("i=")?;
        let iterations = iterations.parse().map_err(|_| wrong("the server's iterations are no number"))?;
        if !(ITERATIONS_MIN..=ITERATIONS_MAX).contains(&iterations) {
            return Err(SaslError(format!(
                "the server asks for {iterations} iterations; {ITERATIONS_MIN} to {ITERATIONS_MAX} are taken"
            )));
        }
        Ok(Self { text, nonce, salt, iterations })
    }
}

fn verify(words: &[u8], expected: &[u8]) -> Result<(), SaslError> {
    let text = text(words)?;
    if let Some(error) = text.strip_prefix("e=") {
        return Err(SaslError(format!("the server says {}", error.escape_default())));
    }
    let signature = text.strip_prefix("v=").and_then(|rest| rest.split(',').next());
    let signature = signature.ok_or_else(|| wrong("the server's last message is not v="))?;
    let signature =
        base64::decode_block(signature).map_err(|_| wrong("the server's signature is no base64"))?;
    let is_right = signature.len() == expected.len() && memcmp::eq(&signature, expected);
    if is_right { Ok(()) } else { Err(wrong("the server does not show that it knows the password")) }
}

fn text(words: &[u8]) -> Result<&str, SaslError> {
    if words.len() > MESSAGE_BYTES_MAX {
        return Err(wrong("the server's message is too long"));
    }
    std::str::from_utf8(words).map_err(|_| wrong("the server's message is no text"))
}

fn wrong(sentence: &str) -> SaslError {
    SaslError(sentence.to_owned())
}

fn broken(error: &ErrorStack) -> SaslError {
    SaslError(format!("OpenSSL: {error}"))
}

impl ScramHash {
    fn message_digest(self) -> MessageDigest {
        match self {
            Self::Sha256 => MessageDigest::sha256(),
            Self::Sha512 => MessageDigest::sha512(),
        }
    }

    fn salted(self, password: &[u8], salt: &[u8], iterations: usize) -> Result<Vec<u8>, ErrorStack> {
        let digest = self.message_digest();
        let mut salted = vec![0; digest.size()];
        pkcs5::pbkdf2_hmac(password, salt, iterations, digest, &mut salted)?;
        Ok(salted)
    }

    fn hmac(self, key: &[u8], data: &[u8]) -> Result<Vec<u8>, ErrorStack> {
        let key = PKey::hmac(key)?;
        Signer::new(self.message_digest(), &key)?.sign_oneshot_to_vec(data)
    }

    fn digest(self, data: &[u8]) -> Vec<u8> {
        match self {
            Self::Sha256 => sha::sha256(data).to_vec(),
            Self::Sha512 => sha::sha512(data).to_vec(),
        }
    }
}

#[cfg(test)]
mod tests;
