//! Request bodies with limits: bytes, silence, and least rate.
//!
//! A body that stalls or drips gives its memory and its place back; one over the limit is refused before it is read when
//! its length is declared, and at the first byte too many otherwise.

use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, header};
use bytes::{Bytes, BytesMut};
use futures_util::stream::{self, Stream, StreamExt};
use thiserror::Error;
use tokio::time::Instant;

/// Time that every body has before its rate counts.
const RATE_GRACE: Duration = Duration::from_secs(30);

/// What a body may be.
#[derive(Debug, Clone, Copy)]
pub(super) struct BodyLimits {
    pub(super) bytes: u64,
    /// How long it may stay silent.
    pub(super) silence: Duration,
    /// Bytes per second that it has to reach on average; 0 for any.
    pub(super) least_rate: u64,
}

/// Why a body could not be read.
#[derive(Debug, Error)]
pub(super) enum BodyError {
    /// Over the limit.
    #[error("the body is larger than {limit} bytes, the most that this request may have")]
    TooLarge { limit: u64 },
    /// Silent for too long, or slower than the least rate.
    #[error("the body came in too slowly ({reason}); the request was given up")]
    TooSlow { reason: &'static str },
    /// The connection ended or the framing is wrong.
    #[error("the body ended before it was complete: {0}")]
    Broken(axum::Error),
}

/// The length that the client declares, if it does; over the limit is an error at once.
pub(super) fn declared_length(headers: &HeaderMap, limits: BodyLimits) -> Result<Option<u64>, BodyError> {
    let declared = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    match declared {
        Some(length) if length > limits.bytes => Err(BodyError::TooLarge { limit: limits.bytes }),
        declared => Ok(declared),
    }
}

/// The body's bytes as they come, within `limits`.
pub(super) fn limited(body: Body, limits: BodyLimits) -> impl Stream<Item = Result<Bytes, BodyError>> + Send {
    let began = Instant::now();
    let state = (body.into_data_stream(), 0_u64);
    stream::try_unfold(state, move |(mut body, mut total)| async move {
        let next = tokio::time::timeout(limits.silence, body.next()).await;
        let Some(bytes) = next.map_err(|_| BodyError::TooSlow { reason: "it fell silent" })? else {
            return Ok(None);
        };
        let bytes = bytes.map_err(BodyError::Broken)?;
        total += bytes.len() as u64;
        if total > limits.bytes {
            return Err(BodyError::TooLarge { limit: limits.bytes });
        }
        let judged = began.elapsed().saturating_sub(RATE_GRACE).as_secs();
        if total < judged.saturating_mul(limits.least_rate) {
            return Err(BodyError::TooSlow { reason: "it is below `[limits] min-body-rate`" });
        }
        Ok(Some((bytes, (body, total))))
    })
}

/// The whole body in memory.
pub(super) async fn collect(body: Body, limits: BodyLimits) -> Result<Bytes, BodyError> {
    let mut parts = std::pin::pin!(limited(body, limits));
    let mut whole = BytesMut::new();
    while let Some(bytes) = parts.next().await {
        whole.extend_from_slice(&bytes?);
    }
    Ok(whole.freeze())
}
