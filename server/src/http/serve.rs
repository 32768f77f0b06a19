//! The accept loop, and what ends a connection: its client, its deadlines, another that needs its
//! place, or the server's end.
//!
//! A new connection is taken at once, and `admission` finds it a place, before any handshake. Nothing
//! here waits for a client.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::task::JoinSet;
use tokio_util::either::Either;
use tokio_util::sync::CancellationToken;

use super::handshake::handshake;
use super::origin::Peer;
use super::sent::MAX_PIECE_BYTES;
use super::service::HttpService;
use super::socket::Socket;
use super::streams::StreamTasks;
use crate::admission::ConnectionPlace;
use crate::app::App;
use crate::listen::{Listeners, Stream, Tls};

/// How often deadlines are looked at.
const SWEEP_EVERY: Duration = Duration::from_millis(500);
/// A peer that does not answer a ping within as much again is gone.
const PING_EVERY: Duration = Duration::from_secs(30);
/// Requests in flight may finish for this long after the server was told to stop.
const SHUTDOWN_PATIENCE: Duration = Duration::from_mins(1);
/// A connection that has not asked for anything yet may do so for this long.
const FIRST_REQUEST_PATIENCE: Duration = Duration::from_secs(1);
/// How often that is looked at.
const FIRST_REQUEST_LOOK: Duration = Duration::from_millis(10);
/// A failing accept (no descriptors left) is tried again after this.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// What a connection reads ahead, and what it takes of a response before the client does.
const MAX_BUFFER_BYTES: usize = MAX_PIECE_BYTES;
/// The head of a request on HTTP/2.
const MAX_HEAD_BYTES: u32 = 16 * 1024;
/// Requests under way on one HTTP/2 connection.
const MAX_STREAMS: u32 = 32;
/// What a client may send ahead on HTTP/2: on a stream, and on all streams of a connection.
const WINDOW_BYTES: u32 = 64 * 1024;

/// Serves until `shutdown` is cancelled, then lets requests in flight finish. With `tls`, connections
/// of TCP are encrypted.
///
/// # Errors
/// None today; the signature leaves room for a listener that breaks.
pub async fn serve(
    app: Arc<App>,
    listeners: Listeners,
    tls: Option<Arc<Tls>>,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let service = HttpService::new(Arc::clone(&app));
    let mut connections = JoinSet::new();
    let mut sweeps = tokio::time::interval(SWEEP_EVERY);
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            _ = sweeps.tick() => {
                app.sweep();
                continue;
            }
            accepted = listeners.accept() => accepted,
        };
        while connections.try_join_next().is_some() {}
        match accepted {
            Ok((stream, peer)) => {
                let tls = tls.clone().filter(|_| matches!(stream, Either::Left(_)));
                let peer = Peer { address: peer.map(|peer| peer.ip()), is_tls: tls.is_some() };
                let counted = peer.counted_address(&app.config.trusted_proxies);
                if let Some(place) = app.connections.admit(counted) {
                    connections.spawn(connection(
                        service.clone(),
                        stream,
                        tls,
                        peer,
                        place,
                        shutdown.clone(),
                    ));
                }
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    listeners.close();
    tracing::info!(connections = connections.len(), "stopping: requests in flight may finish");
    let patience = SHUTDOWN_PATIENCE;
    let finish = async {
        loop {
            tokio::select! {
                _ = sweeps.tick() => app.sweep(),
                ended = connections.join_next() => if ended.is_none() { break },
            }
        }
    };
    if tokio::time::timeout(patience, finish).await.is_err() {
        tracing::warn!(
            seconds = patience.as_secs(),
            "requests were still running and were cut off"
        );
    }
    connections.shutdown().await;
    Ok(())
}

/// Serves one connection to its end.
async fn connection(
    service: HttpService,
    stream: Stream,
    tls: Option<Arc<Tls>>,
    peer: Peer,
    place: ConnectionPlace,
    shutdown: CancellationToken,
) {
    let place = Arc::new(place);
    let socket = Socket::new(stream, Arc::clone(&place));
    let socket = match tls {
        None => Either::Left(socket),
        Some(tls) => {
            let encrypted = tokio::select! {
                encrypted = handshake(&tls, socket, &place) => encrypted,
                () = stopping(&shutdown, &place) => None,
            };
            let Some(encrypted) = encrypted else { return };
            Either::Right(encrypted)
        }
    };
    let mut builder = auto::Builder::new(StreamTasks);
    // Its own timer begins after the first byte; `place` knows of those who send none.
    builder.http1().header_read_timeout(None).max_buf_size(MAX_BUFFER_BYTES);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Some(PING_EVERY))
        .max_concurrent_streams(MAX_STREAMS)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .max_header_list_size(MAX_HEAD_BYTES)
        .max_send_buf_size(MAX_PIECE_BYTES);
    let service = service.of(peer, Arc::clone(&place));
    let mut connection = pin!(builder.serve_connection(TokioIo::new(socket), service));
    let mut is_finishing = false;
    loop {
        tokio::select! {
            biased;
            () = place.closed() => break,
            () = stopping(&shutdown, &place), if !is_finishing => {}
            () = place.finishing(), if !is_finishing => {}
            result = connection.as_mut() => {
                if let Err(error) = result {
                    tracing::debug!(%error, "a connection ended early");
                }
                break;
            }
        }
        is_finishing = true;
        connection.as_mut().graceful_shutdown();
    }
}

/// Waits until the server stops and the connection has asked for something. One that was accepted a
/// moment before has a moment for it, so that no client of a restart is turned away.
async fn stopping(shutdown: &CancellationToken, place: &ConnectionPlace) {
    shutdown.cancelled().await;
    let asked = async {
        while !place.has_asked() {
            tokio::time::sleep(FIRST_REQUEST_LOOK).await;
        }
    };
    // Either way it ends now.
    let _ = tokio::time::timeout(FIRST_REQUEST_PATIENCE, asked).await;
}
