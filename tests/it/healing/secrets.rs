//! Owns a folder of secrets, whose contents are swapped together as Kubernetes does it: behind a symbolic link.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
};

/// The link that is swapped, as the kubelet calls it.
const DATA: &str = "..data";

pub struct Secrets {
    folder: PathBuf,
    file: &'static str,
}

impl Secrets {
    /// Makes the folder with that content.
    pub fn new(folder: &Path, file: &'static str, content: &str) -> Self {
        fs::create_dir_all(folder).unwrap();
        let secrets = Self::at(folder, file);
        drop(secrets.mount(file));
        secrets.swap(content);
        secrets
    }

    /// Mounts another file of the same folder; its content comes with the next swap of all.
    pub fn mount(&self, file: &str) -> PathBuf {
        let path = self.folder.join(file);
        symlink(Path::new(DATA).join(file), &path).unwrap();
        path
    }

    /// Finds a folder that was made before.
    pub fn at(folder: &Path, file: &'static str) -> Self {
        Self { folder: folder.to_owned(), file }
    }

    /// The file as it is mounted: a link into the link.
    pub fn path(&self) -> PathBuf {
        self.folder.join(self.file)
    }

    /// Swaps the content of the folder's one file.
    pub fn swap(&self, content: &str) {
        self.swap_all(&[(self.file, content)]);
    }

    /// Swaps the whole folder at once.
    pub fn swap_all(&self, contents: &[(&str, &str)]) {
        static VERSION: AtomicUsize = AtomicUsize::new(0);
        let version = format!("..{}", VERSION.fetch_add(1, Ordering::Relaxed));
        fs::create_dir(self.folder.join(&version)).unwrap();
        for (file, content) in contents {
            fs::write(self.folder.join(&version).join(file), content).unwrap();
        }
        let link = self.folder.join("..data_tmp");
        symlink(&version, &link).unwrap();
        fs::rename(link, self.folder.join(DATA)).unwrap();
    }

    /// Leaves nothing behind the file's name.
    pub fn take_away(&self) {
        fs::remove_file(self.folder.join(DATA)).unwrap();
    }
}
