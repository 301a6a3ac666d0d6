//! Temporary folders that do not outlive their run.
//!
//! A folder is owned through a lock on a file inside it. The kernel drops the lock with the owner, however it ended, so
//! a folder whose lock is free is left over from a killed run and may go. Process ids are not used: they come round again.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Once;

use rand::distr::{Alphanumeric, SampleString};

const OWNER_LOCK: &str = "owner.lock";

/// A temporary folder, removed on drop or, after a kill, by the next run.
#[derive(Debug)]
pub struct TestFolder {
    path: PathBuf,
    _owner: File,
}

impl TestFolder {
    /// Makes a folder whose name starts with `label`.
    ///
    /// # Panics
    ///
    /// When the system's temporary folder cannot be written.
    pub fn new(label: &str) -> Self {
        static SWEPT: Once = Once::new();
        let root = std::env::temp_dir().join("producer-sidecar-tests");
        fs::create_dir_all(&root).expect("the folder of test folders can be made");
        // A sweeping process must not see another's folder before its lock is taken.
        let gate = File::create(root.join("gate.lock")).expect("the gate's file can be made");
        gate.lock().expect("the gate can be locked");
        SWEPT.call_once(|| sweep(&root));
        let path = root.join(format!("{label}-{}", random_name(8)));
        let owner = own(&path).expect("a test folder can be made");
        Self { path, _owner: owner }
    }

    /// Where the folder is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a file into the folder and returns where it is.
    ///
    /// # Panics
    ///
    /// When the file cannot be written.
    pub fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.path.join(name);
        fs::write(&path, content).expect("a file in a test folder can be written");
        path
    }
}

impl Drop for TestFolder {
    fn drop(&mut self) {
        // What cannot be removed now is left to the next run's sweep.
        drop(fs::remove_dir_all(&self.path));
    }
}

/// Makes a name of `length` random letters and digits.
pub(crate) fn random_name(length: usize) -> String {
    Alphanumeric.sample_string(&mut rand::rng(), length).to_lowercase()
}

fn own(path: &Path) -> io::Result<File> {
    fs::create_dir(path)?;
    let owner = File::create(path.join(OWNER_LOCK))?;
    owner.lock()?;
    Ok(owner)
}

fn sweep(root: &Path) {
    let Ok(entries) = fs::read_dir(root) else {
        return;
    };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() && is_abandoned(&path) {
            drop(fs::remove_dir_all(&path));
        }
    }
}

fn is_abandoned(path: &Path) -> bool {
    match File::open(path.join(OWNER_LOCK)) {
        Ok(lock) => lock.try_lock().is_ok(),
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_live_folder_is_not_abandoned_and_a_dropped_one_is_gone() {
        let folder = TestFolder::new("folder-test");
        let path = folder.path().to_owned();
        assert!(!is_abandoned(&path));
        drop(folder);
        assert!(!path.exists());
    }

    #[test]
    fn a_folder_without_an_owner_is_abandoned() {
        let folder = TestFolder::new("folder-test");
        let orphan = folder.path().join("orphan");
        drop(own(&orphan).expect("made"));
        assert!(is_abandoned(&orphan));
    }
}
