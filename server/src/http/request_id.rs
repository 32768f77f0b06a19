//! A request's id: in its log lines, in the response's `x-request-id`, and in error bodies, so that
//! a user's report and the operator's log meet. A client's own id is not taken over, since it would
//! let one request pass for another in the log.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use axum::Json;
use axum::extract::Request;
use axum::http::{HeaderValue, Method, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use snowbank_core::token::hide_tokens;
use snowbank_core::wire::ErrorBody;
use tracing::{Instrument as _, Span};

use super::attic::AtticError;
use super::error::Cause;

/// Gives the request an id and logs it when its response head is ready.
pub(super) async fn with_request_id(request: Request, next: Next) -> Response {
    let id = RequestId::new();
    let span = id.span(request.method(), request.uri());
    let response = next.run(request).instrument(span.clone()).await;
    id.put_into(response, |_| span)
}

/// The id of a request, and when it came.
#[derive(Debug)]
pub(super) struct RequestId {
    id: String,
    came: Instant,
}

impl RequestId {
    pub(super) fn new() -> Self {
        Self { id: format!("{:016x}", next_number()), came: Instant::now() }
    }

    /// What the log says along with each line about the request.
    pub(super) fn span(&self, method: &Method, uri: &Uri) -> Span {
        tracing::info_span!("request", id = self.id, %method, path = %hide_tokens(uri.path()))
    }

    /// Writes the id into the response, and renders the error that a handler has left in it. `span`
    /// is asked for where there is something to log.
    pub(super) fn put_into(
        self,
        mut response: Response,
        span: impl FnOnce(&Self) -> Span,
    ) -> Response {
        let cause = response.extensions_mut().remove::<Cause>();
        if let Some(mut error) = response.extensions_mut().remove::<ErrorBody>() {
            error.error.request_id = Some(self.id.clone());
            let (mut parts, _) = response.into_parts();
            let rendered = match parts.extensions.remove::<AtticError>() {
                Some(name) => Json(name.answer(parts.status, error.error)).into_response(),
                None => Json(error).into_response(),
            };
            parts.headers.extend(rendered.headers().clone());
            response = Response::from_parts(parts, rendered.into_body());
        }
        if cause.is_some() || tracing::enabled!(tracing::Level::DEBUG) {
            span(&self).in_scope(|| {
                if let Some(Cause { what, error }) = cause {
                    tracing::error!(error, "{what}");
                }
                let (status, micros) =
                    (response.status().as_u16(), self.came.elapsed().as_micros());
                tracing::debug!(status, micros, "answered");
            });
        }
        if let Ok(value) = HeaderValue::try_from(self.id) {
            response.headers_mut().insert("x-request-id", value);
        }
        response
    }
}

/// Numbers that differ from request to request and from server to server: a counter, mixed with
/// what this process drew at its start. A system without randomness still gets ids that differ
/// within one process.
fn next_number() -> u64 {
    static DRAWN: OnceLock<u64> = OnceLock::new();
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let drawn = *DRAWN.get_or_init(|| {
        let mut bytes = [0; 8];
        // Without an id that is unlike other servers' the log is poorer; that is no reason to fail
        // a request.
        let _ = getrandom::fill(&mut bytes);
        u64::from_le_bytes(bytes)
    });
    // One-to-one, and neighbours look unlike each other (SplitMix64's finaliser).
    let mut number = drawn
        .wrapping_add(COUNTER.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn no_two_requests_have_one_id() {
        let ids: HashSet<String> = (0..10_000).map(|_| RequestId::new().id).collect();
        assert_eq!(ids.len(), 10_000);
        assert!(ids.iter().all(|id| id.len() == 16));
    }
}
