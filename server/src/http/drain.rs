//! A refusal reaches a client that is still sending.
//!
//! Whoever answers without having read the body to its end and closes the connection answers with a
//! reset: the client's system throws the answer away, and the user reads "broken pipe" in place of
//! the reason. So what is left of a refused request's body is read and thrown away before the
//! answer goes out, within bounds on bytes and time.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream::{Stream, StreamExt};

/// The largest body that a client of ours sends, and as much again.
const MAX_BYTES: usize = 32 * 1024 * 1024;
const MAX_TIME: Duration = Duration::from_secs(5);

/// A body that is lent to the handler; what the handler leaves can still be read.
#[derive(Clone)]
struct SharedBody(Arc<Mutex<BodyDataStream>>);

impl Stream for SharedBody {
    type Item = Result<Bytes, axum::Error>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).poll_next_unpin(context)
    }
}

/// Reads what a refused request's handler has left of the body, then lets the answer go.
pub(super) async fn drain_refused(request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    let lent = SharedBody(Arc::new(Mutex::new(body.into_data_stream())));
    let response = next.run(Request::from_parts(parts, Body::from_stream(lent.clone()))).await;
    let status = response.status();
    // A body that came in too slowly is not waited for once more.
    if (status.is_client_error() || status.is_server_error())
        && status != StatusCode::REQUEST_TIMEOUT
    {
        // The answer goes out in any case.
        let _ = tokio::time::timeout(MAX_TIME, drain(lent)).await;
    }
    response
}

async fn drain(mut body: SharedBody) {
    let mut left = MAX_BYTES;
    while let Some(Ok(bytes)) = body.next().await {
        left = left.saturating_sub(bytes.len());
        if left == 0 {
            return;
        }
    }
}
