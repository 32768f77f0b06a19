//! One attempt at a request: the body goes out, and what comes back is an answer or a typed error.
//!
//! The body is handed to the connection in small pieces, and each that is taken resets the clock: a
//! slow line is not a dead one.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use reqwest::Body;
use reqwest::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::answer::Answer;
use super::{Api, ApiError, Request};

/// What a connection takes of a body at a time.
const PIECE_BYTES: usize = 64 << 10;
/// Bodies up to this long go out in one piece.
const WHOLE_BYTES: usize = 256 << 10;

impl Api {
    /// Sends the request once, and gives the answer's head when it is a success.
    pub(super) async fn attempt(&self, request: &Request) -> Result<Answer, ApiError> {
        let target = &self.shared.target;
        let server = &target.server_url;
        let clock = Clock::start();
        let mut builder = self.shared.http.request(request.method.clone(), &request.url);
        if let Some(token) = self.token() {
            let text = Zeroizing::new(format!("Bearer {}", token.expose()));
            let mut value =
                HeaderValue::from_str(&text).map_err(|_| ApiError::token_unusable(target))?;
            value.set_sensitive(true);
            builder = builder.header(AUTHORIZATION, value);
        }
        if !request.body.is_empty() {
            builder = builder.header(CONTENT_TYPE, request.content_type);
            if let Some(encoding) = request.encoding {
                builder = builder.header(CONTENT_ENCODING, encoding);
            }
            builder = if request.body.len() <= WHOLE_BYTES {
                builder.body(request.body.clone())
            } else {
                // A proxy that has a limit must be able to refuse before it has read everything.
                builder
                    .header(CONTENT_LENGTH, request.body.len())
                    .body(moving(request.body.clone(), clock.clone()))
            };
        }
        let stall = self.shared.timeouts.stall;
        let response = tokio::select! {
            response = builder.send() => {
                response.map_err(|error| ApiError::transport(&self.shared.target, &request.url, &error))?
            }
            () = clock.stopped_for(stall) => {
                return Err(ApiError::stalled(server, &request.url, stall));
            }
        };
        self.shared.reached.store(true, Ordering::Relaxed);
        Answer::new(response, target.clone(), request.url.clone(), stall).success().await
    }
}

/// `bytes` as a body in pieces that share its memory; each resets `clock`.
fn moving(bytes: Bytes, clock: Clock) -> Body {
    Body::wrap_stream(stream::unfold(bytes, move |mut left| {
        clock.reset();
        let piece = left.split_to(left.len().min(PIECE_BYTES));
        std::future::ready((!piece.is_empty()).then_some((Ok::<_, Infallible>(piece), left)))
    }))
}

/// When something last moved.
#[derive(Debug, Clone)]
struct Clock {
    start: Instant,
    moved_at_ms: Arc<AtomicU64>,
}

impl Clock {
    fn start() -> Self {
        Self { start: Instant::now(), moved_at_ms: Arc::default() }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn reset(&self) {
        self.moved_at_ms.store(self.now_ms(), Ordering::Relaxed);
    }

    /// Comes back once nothing has moved for `limit`.
    async fn stopped_for(&self, limit: Duration) {
        loop {
            let moved_at =
                self.start + Duration::from_millis(self.moved_at_ms.load(Ordering::Relaxed));
            if moved_at.elapsed() >= limit {
                return;
            }
            tokio::time::sleep_until(moved_at + limit).await;
        }
    }
}
