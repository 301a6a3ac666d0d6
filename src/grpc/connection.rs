//! Owns the listener of the gRPC service: TCP or unix socket, and the bound on connections.
//! Must never answer a call; must never end because one connection could not be accepted.

use std::{
    fs, io,
    os::unix::fs::{FileTypeExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::sleep,
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::either::Either;
use tonic::transport::server::Connected;

use crate::{config::Listen, tasks::Tasks};

/// How long accepting rests after it failed, in milliseconds: mostly for want of file descriptors, which come back.
const ACCEPT_REST_MS: u64 = 50;
/// The socket file may be used by its owner and group: pods share it through a group of theirs.
const SOCKET_MODE: u32 = 0o660;

/// An open listener.
#[derive(Debug)]
pub enum Listener {
    /// On a host and port.
    Tcp(TcpListener),
    /// On a socket file, which is removed when the listener is dropped.
    Unix(UnixListener, SocketFile),
}

/// A socket file, removed when dropped.
#[derive(Debug)]
pub struct SocketFile(PathBuf);

/// An accepted connection, counted until dropped.
#[derive(Debug)]
pub struct Connection {
    stream: Either<TcpStream, UnixStream>,
    _permit: OwnedSemaphorePermit,
}

// === impl Listener ===

impl Listener {
    /// Opens the listener. A socket file that nobody listens on any more is replaced.
    ///
    /// # Errors
    /// Where the address is taken or may not be used.
    pub async fn open(listen: &Listen) -> io::Result<Self> {
        match listen {
            Listen::Tcp(address) => Ok(Self::Tcp(TcpListener::bind(address).await?)),
            Listen::Unix(path) => {
                remove_stale(path).await?;
                let listener = UnixListener::bind(path)?;
                fs::set_permissions(path, fs::Permissions::from_mode(SOCKET_MODE))?;
                Ok(Self::Unix(listener, SocketFile(path.clone())))
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
            Self::Unix(_, SocketFile(path)) => format!("unix:{}", path.display()),
        }
    }

    /// Accepts connections, at most so many at once; those beyond wait in the system's queue. Ends when the stream is dropped.
    pub fn connections(
        self,
        connections_max: usize,
        tasks: &Tasks,
    ) -> ReceiverStream<io::Result<Connection>> {
        let permits = Arc::new(Semaphore::new(connections_max));
        let (send, receive) = mpsc::channel(1);
        tasks.spawn_vital("gRPC connections", async move {
            while let Ok(permit) = Arc::clone(&permits).acquire_owned().await {
                let connection = tokio::select! {
                    connection = self.accept(permit) => connection,
                    () = send.closed() => return,
                };
                if send.send(Ok(connection)).await.is_err() {
                    return;
                }
            }
        });
        ReceiverStream::new(receive)
    }

    async fn accept(&self, permit: OwnedSemaphorePermit) -> Connection {
        loop {
            match self.accept_one().await {
                Ok(stream) => return Connection { stream, _permit: permit },
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    sleep(Duration::from_millis(ACCEPT_REST_MS)).await;
                }
            }
        }
    }

    async fn accept_one(&self) -> io::Result<Either<TcpStream, UnixStream>> {
        match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                // Answers are small and somebody waits for each.
                stream.set_nodelay(true)?;
                Ok(Either::Left(stream))
            }
            Self::Unix(listener, _) => Ok(Either::Right(listener.accept().await?.0)),
        }
    }
}

/// Removes a socket file that is left over; one that somebody listens on, or that is no socket, stays and binding fails.
async fn remove_stale(path: &Path) -> io::Result<()> {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket());
    if is_socket && UnixStream::connect(path).await.is_err() {
        fs::remove_file(path)?;
    }
    Ok(())
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.0) {
            tracing::debug!(%error, "the socket file could not be removed");
        }
    }
}

// === impl Connection ===

impl Connected for Connection {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
