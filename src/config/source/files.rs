//! Owns the files of secrets and certificates after the start: what they hold now, and the settings that follow from it.
//! Must never keep what a file holds: looks are compared by digests.

use std::{
    fmt,
    fs::File,
    hash::{BuildHasher as _, RandomState},
    io::Read as _,
    path::{Path, PathBuf},
};

use super::{Problems, assemble, secrets};
use crate::config::{Config, Purpose, choices::SecurityProtocol, values::Values};

/// What is read of a file at most, in bytes; a bundle of all public authorities has some 250 kB.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// The settings that name a file which a login needs.
const LOGIN: &[&str] = &["kafka.user_file", "kafka.password_file"];
/// Those that name a file which encryption needs.
const ENCRYPTION: &[&str] =
    &["kafka.ca_file", "kafka.certificate_file", "kafka.key_file", "kafka.key_password_file"];

/// Digests of what the files held at one time; none of a file that could not be read.
pub type Look = Vec<Option<u64>>;

/// The files that the settings name, with all other settings as they were said at the start.
pub struct SecretFiles {
    values: Values,
    purpose: Purpose,
    paths: Vec<PathBuf>,
    hasher: RandomState,
    at_start: Look,
}

impl SecretFiles {
    /// Takes the settings before any file was read.
    pub(super) fn of(values: &Values, purpose: Purpose) -> Self {
        let protocol = values.text("kafka.security_protocol").and_then(SecurityProtocol::parse);
        let protocol = protocol.filter(|_| purpose == Purpose::Serve);
        let login = protocol.filter(|protocol| protocol.sasl()).map_or(&[][..], |_| LOGIN);
        let encryption = protocol.filter(|protocol| protocol.tls()).map_or(&[][..], |_| ENCRYPTION);
        let paths = login.iter().chain(encryption).filter_map(|key| values.path(key).cloned()).collect();
        let hasher = RandomState::new();
        let mut files = Self { values: values.clone(), purpose, paths, hasher, at_start: Look::new() };
        files.at_start = files.look();
        files
    }

    /// Returns whether the settings name none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }

    /// Returns what the files held just before they were read for the start.
    #[must_use]
    pub const fn at_start(&self) -> &Look {
        &self.at_start
    }

    /// Looks at what the files hold now. Blocks.
    #[must_use]
    pub fn look(&self) -> Look {
        self.paths.iter().map(|path| self.digest(path)).collect()
    }

    /// Makes the settings anew with what the files hold now. Blocks.
    ///
    /// # Errors
    /// Every problem of the files; no content is in them.
    pub fn read_again(&self) -> Result<Config, Problems> {
        let mut values = self.values.clone();
        let problems = secrets::read(&mut values);
        let config = assemble::assemble(&values, self.purpose);
        if problems.is_empty() { config.map_err(Problems) } else { Err(Problems(problems)) }
    }

    fn digest(&self, path: &Path) -> Option<u64> {
        let mut content = Vec::new();
        File::open(path).and_then(|file| file.take(FILE_BYTES_MAX).read_to_end(&mut content)).ok()?;
        Some(self.hasher.hash_one(content))
    }
}

impl fmt::Debug for SecretFiles {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("SecretFiles").field("paths", &self.paths).finish_non_exhaustive()
    }
}
