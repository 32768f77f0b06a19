//! The accept loop: TCP_NODELAY, a bound on connections, a bound on slow request heads, and a graceful end.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::front::Front;
use crate::app::App;

/// How long a client may take to send a request's head, and how long an idle connection is kept.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Requests in flight may finish for this long after the server was told to stop.
const SHUTDOWN_PATIENCE: Duration = Duration::from_mins(1);
/// A failing accept (no descriptors left) is tried again after this.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until `shutdown` is cancelled, then lets requests in flight finish.
///
/// # Errors
/// None today; the signature leaves room for a listener that breaks.
pub async fn serve(app: Arc<App>, listener: TcpListener, shutdown: CancellationToken) -> anyhow::Result<()> {
    let places = Arc::new(Semaphore::new(app.config.limits.connections));
    let front = Front::new(Arc::clone(&app));
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    loop {
        let place = tokio::select! {
            () = shutdown.cancelled() => break,
            place = Arc::clone(&places).acquire_owned() => place.context("the connection limit is gone")?,
        };
        let (stream, peer) = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
        };
        while connections.try_join_next().is_some() {}
        let connection = connection(front.of(peer), stream);
        let watched = graceful.watch(connection);
        connections.spawn(async move {
            if let Err(error) = watched.await {
                tracing::debug!(%error, "a connection ended early");
            }
            drop(place);
        });
    }
    drop(listener);
    tracing::info!(connections = connections.len(), "stopping: requests in flight may finish");
    let patience = SHUTDOWN_PATIENCE;
    if tokio::time::timeout(patience, graceful.shutdown()).await.is_err() {
        tracing::warn!(seconds = patience.as_secs(), "requests were still running and were cut off");
    }
    connections.shutdown().await;
    Ok(())
}

type Connection = auto::Connection<'static, TokioIo<TcpStream>, Front, TokioExecutor>;

fn connection(front: Front, stream: TcpStream) -> Connection {
    if let Err(error) = stream.set_nodelay(true) {
        // Answers are only later for it.
        tracing::debug!(%error, "TCP_NODELAY was refused");
    }
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    builder.http2().timer(TokioTimer::new()).keep_alive_interval(Some(HEAD_TIMEOUT));
    builder.serve_connection(TokioIo::new(stream), front).into_owned()
}
