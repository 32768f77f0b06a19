//! A connection's socket, which tells when a write has to wait for the client, and when it waits no
//! more.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::either::Either;

use crate::admission::ConnectionPlace;
use crate::listen::Stream;

/// Bytes that the system takes ahead of what the client has room for. With more, a slow client
/// would seem to stand still until a third of the system's buffer has left, and the buffers of many
/// clients would take memory.
const MAX_UNSENT_BYTES: u32 = 128 * 1024;

#[derive(Debug)]
pub(super) struct Socket {
    stream: Stream,
    place: Arc<ConnectionPlace>,
}

impl Socket {
    pub(super) fn new(stream: Stream, place: Arc<ConnectionPlace>) -> Self {
        if let Either::Left(tcp) = &stream {
            if let Err(error) = tcp.set_nodelay(true) {
                // Answers are only later for it.
                tracing::debug!(%error, "TCP_NODELAY was refused");
            }
            #[cfg(target_os = "linux")]
            if let Err(error) = SockRef::from(tcp).set_tcp_notsent_lowat(MAX_UNSENT_BYTES) {
                // The deadlines are only coarser for it.
                tracing::debug!(%error, "TCP_NOTSENT_LOWAT was refused");
            }
        }
        Self { stream, place }
    }

    /// The first byte that the client sends, which stays to be read.
    pub(super) async fn first_byte(&self) -> io::Result<u8> {
        let mut byte = [0];
        let count = match &self.stream {
            Either::Left(tcp) => tcp.peek(&mut byte).await?,
            // Only connections of TCP are looked at before they are read.
            Either::Right(_) => return Err(io::ErrorKind::Unsupported.into()),
        };
        if count == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(byte[0]) }
    }

    fn note(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match &written {
            Poll::Pending => self.place.note_blocked(),
            Poll::Ready(Ok(bytes)) => self.place.note_written(*bytes as u64),
            Poll::Ready(Err(_)) => {}
        }
        written
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.note(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, bytes);
        self.note(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// Called once everything has been written.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.place.note_flushed();
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
