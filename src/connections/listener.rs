//! Owns a port's listener: TCP or unix socket.
//! Must never take a socket file that somebody listens on, nor remove one that is another process's.

use std::{
    fs, io,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio_util::either::Either;

use crate::config::Listen;

/// The socket file may be used by its owner and group: pods share it through a group of theirs.
const SOCKET_MODE: u32 = 0o660;

/// An accepted connection.
pub type Stream = Either<TcpStream, UnixStream>;

/// An open listener.
#[derive(Debug)]
pub enum Listener {
    /// On a host and port.
    Tcp(TcpListener),
    /// On a socket file. It is removed before the listener closes, because a file that is left over may be replaced at any time.
    Unix(SocketFile, UnixListener),
}

/// A socket file of this process, removed when dropped.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    identity: Identity,
}

/// What tells a file from another one of the same name: device and inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Identity(u64, u64);

impl Listener {
    /// Opens the listener. A socket file that nobody listens on is replaced.
    ///
    /// # Errors
    /// If the address is taken or may not be used.
    pub async fn open(listen: &Listen) -> io::Result<Self> {
        match listen {
            Listen::Tcp(address) => Ok(Self::Tcp(TcpListener::bind(address).await?)),
            Listen::Unix(path) => {
                remove_stale(path).await?;
                let listener = UnixListener::bind(path)?;
                let identity = Identity::of(&fs::symlink_metadata(path)?);
                let file = SocketFile { path: path.clone(), identity };
                fs::set_permissions(path, fs::Permissions::from_mode(SOCKET_MODE))?;
                Ok(Self::Unix(file, listener))
            }
        }
    }

    /// Returns the address as clients write it.
    #[must_use]
    pub fn address(&self) -> String {
        match self {
            Self::Tcp(listener) => {
                listener.local_addr().map_or_else(|_| "tcp".to_owned(), |address| address.to_string())
            }
            Self::Unix(file, _) => format!("unix:{}", file.path.display()),
        }
    }

    /// Accepts one connection; may be dropped at any time.
    ///
    /// # Errors
    /// Those of the system, mostly because there is no file descriptor left.
    pub async fn accept(&self) -> io::Result<Stream> {
        match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                // Answers are small and somebody waits for each.
                stream.set_nodelay(true)?;
                Ok(Either::Left(stream))
            }
            Self::Unix(_, listener) => Ok(Either::Right(listener.accept().await?.0)),
        }
    }
}

impl Identity {
    fn of(metadata: &fs::Metadata) -> Self {
        Self(metadata.dev(), metadata.ino())
    }
}

/// Removes a socket file that is left over: one that refuses connections. A file that is no socket stays, and binding fails.
///
/// # Errors
/// If somebody listens on it, or may do so.
async fn remove_stale(path: &Path) -> io::Result<()> {
    let Ok(metadata) = fs::symlink_metadata(path) else { return Ok(()) };
    if !metadata.file_type().is_socket() {
        return Ok(());
    }
    let taken = |sentence: String| Err(io::Error::new(io::ErrorKind::AddrInUse, sentence));
    match UnixStream::connect(path).await {
        Ok(_) => taken("another process listens on this socket file".to_owned()),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            remove_if(path, Identity::of(&metadata))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => taken(
            "another process listens on this socket file, and its queue of connections is full".to_owned(),
        ),
        Err(error) => taken(format!(
            "another process may listen on this socket file, connecting to it failed: {error}; \
             remove the file if none does"
        )),
    }
}

/// Removes a file unless another one has taken its name.
fn remove_if(path: &Path, identity: Identity) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if Identity::of(&metadata) == identity => fs::remove_file(path),
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if let Err(error) = remove_if(&self.path, self.identity) {
            tracing::debug!(%error, "the socket file could not be removed");
        }
    }
}
