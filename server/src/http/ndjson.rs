//! A response of JSON lines that is written while the work goes on, with a heartbeat line when there is nothing to say.
//!
//! The work is a task of its own, which waits for the client only where it hands over a line, and then holds no transaction
//! and no connection: a client that does not read would otherwise keep what others need. When the client goes away the body
//! is dropped, and the work with it, at its next await. Transactions that were not committed roll back.

use std::task::Poll;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream;
use serde::Serialize;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

/// No proxy's idle timeout is shorter than this.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// Lines that wait for the client; more, and the work waits.
const LINES_AHEAD: usize = 64;

/// Work that writes lines, begun.
#[derive(Debug)]
pub(super) struct Lines<L> {
    lines: mpsc::Receiver<L>,
    work: AbortOnDropHandle<()>,
}

impl<L: Serialize + Send + 'static> Lines<L> {
    /// Begins `work`, which sends its lines.
    pub(super) fn begin<F, W>(work: F) -> Self
    where
        F: FnOnce(mpsc::Sender<L>) -> W,
        W: Future<Output = ()> + Send + 'static,
    {
        let (sender, lines) = mpsc::channel(LINES_AHEAD);
        Self { lines, work: AbortOnDropHandle::new(tokio::spawn(work(sender))) }
    }

    /// Streams the lines, and `heartbeat` where there are none for a while.
    pub(super) fn response(self, heartbeat: L) -> Response {
        let Self { mut lines, work } = self;
        let mut clock = tokio::time::interval_at(tokio::time::Instant::now() + HEARTBEAT, HEARTBEAT);
        let lines = stream::poll_fn(move |context| {
            let _ends_with_the_body = &work;
            match lines.poll_recv(context) {
                Poll::Ready(Some(line)) => {
                    clock.reset();
                    Poll::Ready(Some(encode(&line)))
                }
                Poll::Ready(None) => Poll::Ready(None),
                Poll::Pending => clock.poll_tick(context).map(|_| Some(encode(&heartbeat))),
            }
        });
        let mut response = Response::new(Body::from_stream(lines));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        // nginx would hold lines back until a buffer is full.
        headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
        response
    }
}

fn encode(line: &impl Serialize) -> Result<Bytes, serde_json::Error> {
    let mut text = serde_json::to_vec(line)?;
    text.push(b'\n');
    Ok(Bytes::from(text))
}
