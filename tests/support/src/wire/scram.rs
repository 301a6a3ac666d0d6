//! Sets SCRAM-SHA-512 passwords. Kafka is sent the salted password, never the password.

use std::io;
use std::net::SocketAddr;
use std::num::NonZeroU32;

use rand::RngExt;
use ring::pbkdf2::{PBKDF2_HMAC_SHA512, derive};

use super::{Request, check};

const ALTER_USER_SCRAM_CREDENTIALS: i16 = 51;
const SCRAM_SHA_512: i8 = 2;
/// The fewest that Kafka takes: a strong salt would only make every test's connection slower.
const ITERATIONS: NonZeroU32 = NonZeroU32::new(4096).expect("not zero");

/// Makes users, or gives known ones new passwords. A second password of a user replaces the first.
pub(crate) fn set_passwords(node: SocketAddr, users: &[(&str, &str)]) -> io::Result<()> {
    let mut request = Request::flexible(ALTER_USER_SCRAM_CREDENTIALS, 0);
    request.compact_length(0).compact_length(users.len());
    for (user, password) in users {
        let salt: [u8; 24] = rand::rng().random();
        let mut salted = [0; 64];
        derive(PBKDF2_HMAC_SHA512, ITERATIONS, &salt, password.as_bytes(), &mut salted);
        request.compact_bytes(user.as_bytes()).i8(SCRAM_SHA_512);
        request.i32(ITERATIONS.get().cast_signed());
        request.compact_bytes(&salt).compact_bytes(&salted).no_tags();
    }
    request.no_tags();
    read_results(&request, node)
}

/// Removes a user's password: it can no longer authenticate.
pub(crate) fn remove_user(node: SocketAddr, user: &str) -> io::Result<()> {
    let mut request = Request::flexible(ALTER_USER_SCRAM_CREDENTIALS, 0);
    request.compact_length(1).compact_bytes(user.as_bytes());
    request.i8(SCRAM_SHA_512).no_tags().compact_length(0);
    request.no_tags();
    read_results(&request, node)
}

fn read_results(request: &Request, node: SocketAddr) -> io::Result<()> {
    let mut answer = request.send(node)?;
    answer.i32()?;
    answer.compact_array(|user| {
        user.compact_string()?;
        let code = user.i16()?;
        let message = user.compact_string()?;
        user.skip_tags()?;
        check("AlterUserScramCredentials", code, message.as_deref())
    })?;
    Ok(())
}
