//! The TLS handshake of a connection that has its place already, so that the place's deadline and
//! its eviction end a client that is silent or drips.
//!
//! How often a handshake fails is the clients' choice: it is counted, and logged for debugging only.

use std::io;
use std::time::Duration;

use metrics::counter;
use snowbank_core::wire::{ErrorBody, code};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::server::TlsStream;

use super::socket::Socket;
use crate::admission::ConnectionPlace;
use crate::listen::Tls;

/// The most that is read of a client that is turned away.
const MAX_LAST_BYTES: u64 = 64 * 1024;
/// For as long at most.
const MAX_LAST_TIME: Duration = Duration::from_secs(1);
/// What a plain request is told.
const PLAIN_HINT: &str = "this port speaks HTTPS, and the request came as plain HTTP. Write \
    https:// in the server's address";

/// Why there is no encrypted connection.
#[derive(Debug, thiserror::Error)]
enum HandshakeError {
    #[error("it sent a request in plain HTTP")]
    PlainHttp,
    #[error("its time was over, or its place was needed")]
    Unfinished,
    #[error(transparent)]
    Broken(#[from] io::Error),
}

impl HandshakeError {
    /// As the metric has it.
    fn result(&self) -> &'static str {
        let error = match self {
            Self::PlainHttp => return "plain-http",
            Self::Unfinished => return "unfinished",
            Self::Broken(error) => error,
        };
        match error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>()) {
            Some(rustls::Error::NoCertificatesPresented | rustls::Error::InvalidCertificate(_)) => {
                "client-certificate"
            }
            Some(rustls::Error::AlertReceived(_)) => "refused-by-client",
            Some(_) => "protocol",
            None => "closed",
        }
    }
}

/// Does the handshake; `None` when there is none, and the connection is over.
pub(super) async fn handshake(
    tls: &Tls,
    socket: Socket,
    place: &ConnectionPlace,
) -> Option<Box<TlsStream<Socket>>> {
    let outcome = tokio::select! {
        biased;
        () = place.closed() => Err(HandshakeError::Unfinished),
        outcome = accept(tls, socket) => outcome,
    };
    let result = outcome.as_ref().map_or_else(HandshakeError::result, |_| "ok");
    counter!("snowbank_tls_handshakes_total", "result" => result).increment(1);
    match outcome {
        Ok(stream) => Some(Box::new(stream)),
        Err(error) => {
            tracing::debug!(%error, "a TLS handshake failed");
            None
        }
    }
}

async fn accept(tls: &Tls, mut socket: Socket) -> Result<TlsStream<Socket>, HandshakeError> {
    // TLS begins with a byte that is no letter, a request with its method.
    if socket.first_byte().await?.is_ascii_uppercase() {
        // A client that does not want to hear is gone, which is as good.
        let _ = refuse_plain(&mut socket).await;
        return Err(HandshakeError::PlainHttp);
    }
    match tls.acceptor().accept(socket).into_fallible().await {
        Ok(stream) => Ok(stream),
        Err((error, mut socket)) => {
            // Without this, the alert that says what is wrong is lost with what the client has sent
            // meanwhile. One that is gone does not need it.
            let _ = linger(&mut socket).await;
            Err(error.into())
        }
    }
}

/// Answers a plain request.
async fn refuse_plain(socket: &mut Socket) -> io::Result<()> {
    let body = serde_json::to_string(&ErrorBody::new(code::BAD_REQUEST, PLAIN_HINT))?;
    let answer = format!(
        "HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
         cache-control: no-store\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    socket.write_all(answer.as_bytes()).await?;
    linger(socket).await
}

/// Says that no more comes, and reads what the client still sends, so that it reads the last words.
async fn linger(socket: &mut Socket) -> io::Result<()> {
    let linger = async {
        socket.shutdown().await?;
        let mut rest = socket.take(MAX_LAST_BYTES);
        tokio::io::copy(&mut rest, &mut tokio::io::sink()).await?;
        Ok(())
    };
    tokio::time::timeout(MAX_LAST_TIME, linger).await?
}
