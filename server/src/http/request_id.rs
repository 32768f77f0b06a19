//! A request's id: in its log lines, in the response's `x-request-id`, and in error bodies, so that a user's report and the
//! operator's log meet. A client's own id is not taken over, since it would let one request pass for another in the log.

use std::time::Instant;

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::{HeaderValue, header};
use axum::middleware::Next;
use axum::response::Response;
use snowbank_core::wire::ErrorBody;
use tracing::Instrument as _;

const LARGEST_ERROR_BYTES: usize = 64 * 1024;

/// Gives the request an id and logs it when its response head is ready.
pub(super) async fn with_request_id(request: Request, next: Next) -> Response {
    let id = new_id();
    let span = tracing::info_span!("request", id, method = %request.method(), path = %request.uri().path());
    let began = Instant::now();
    async move {
        let mut response = next.run(request).await;
        let status = response.status();
        if status.is_client_error() || status.is_server_error() {
            response = name_in_error(response, &id).await;
        }
        if let Ok(value) = HeaderValue::from_str(&id) {
            response.headers_mut().insert("x-request-id", value);
        }
        let micros = began.elapsed().as_micros();
        tracing::debug!(status = status.as_u16(), micros, "answered");
        response
    }
    .instrument(span)
    .await
}

/// 64 random bits in hex; a system without randomness gets ids that are all zeros, and still answers.
fn new_id() -> String {
    let mut bytes = [0; 8];
    // Without an id the log is poorer; that is no reason to fail a request.
    let _ = getrandom::fill(&mut bytes);
    format!("{:016x}", u64::from_be_bytes(bytes))
}

/// Writes the id into a JSON error body.
async fn name_in_error(response: Response, id: &str) -> Response {
    let is_json = response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"application/json"));
    if !is_json {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let bytes = to_bytes(body, LARGEST_ERROR_BYTES).await.unwrap_or_default();
    let named = serde_json::from_slice::<ErrorBody>(&bytes).ok().and_then(|mut error| {
        error.error.request_id = Some(id.to_owned());
        serde_json::to_vec(&error).ok()
    });
    let bytes = named.unwrap_or_else(|| bytes.to_vec());
    parts.headers.remove(header::CONTENT_LENGTH);
    Response::from_parts(parts, Body::from(bytes))
}
