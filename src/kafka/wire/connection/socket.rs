//! Owns the way of bytes to a broker and back: a TCP connection, encrypted or not, that counts what it hands to the kernel.
//! Must never count less than may have left: a request whose first byte may be on its way is not "unsent".

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::BytesMut;
use openssl::ssl::SslConnector;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_openssl::SslStream;
use tokio_util::io::poll_read_buf;

use crate::kafka::wire::{
    error::{ConnectionStage, WireError},
    tls,
};

/// A connection to a broker.
#[derive(Debug)]
pub(super) enum Socket {
    /// Bytes as they are.
    Plain(Counted),
    /// Bytes over TLS.
    Tls(Box<SslStream<Counted>>),
}

impl Socket {
    pub(super) const fn plain(stream: TcpStream) -> Self {
        Self::Plain(Counted { stream, bytes_out: 0 })
    }

    /// Shakes hands; the certificate has to be for this host.
    pub(super) async fn encrypted(
        stream: TcpStream,
        connector: &SslConnector,
        host: &str,
    ) -> Result<Self, WireError> {
        let counted = Counted { stream, bytes_out: 0 };
        let begun = connector.configure().and_then(|configured| configured.into_ssl(host));
        let begun = begun.and_then(|ssl| SslStream::new(ssl, counted));
        let mut stream = Box::new(begun.map_err(|error| WireError::Tls(error.to_string()))?);
        match Pin::new(&mut *stream).connect().await {
            Ok(()) => Ok(Self::Tls(stream)),
            Err(error) if tls::is_end(&error) => {
                let cause = error.into_io_error().ok();
                Err(WireError::Closed { stage: ConnectionStage::Tls, cause })
            }
            Err(error) => Err(WireError::Tls(tls::words_of_handshake(&error, stream.ssl()))),
        }
    }

    pub(super) const fn is_tls(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    /// Returns how many bytes the kernel has taken so far, TLS's own included.
    pub(super) fn bytes_out(&self) -> u64 {
        match self {
            Self::Plain(counted) => counted.bytes_out,
            Self::Tls(stream) => stream.get_ref().bytes_out,
        }
    }

    pub(super) fn poll_write(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(counted) => Pin::new(counted).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_write(context, bytes),
        }
    }

    /// Reads what is there; none is the end.
    pub(super) fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        room: &mut BytesMut,
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(counted) => poll_read_buf(Pin::new(counted), context, room),
            Self::Tls(stream) => poll_read_buf(Pin::new(&mut **stream), context, room),
        }
    }
}

/// A TCP connection that counts what the kernel has taken.
#[derive(Debug)]
pub(super) struct Counted {
    stream: TcpStream,
    bytes_out: u64,
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        room: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, room)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        if let Poll::Ready(Ok(count)) = &written {
            self.bytes_out += u64::try_from(*count).unwrap_or(u64::MAX);
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
