//! Request bodies with limits: bytes, silence, least rate, and time in all.
//!
//! A body that stalls or drips gives its memory and its place back; one over the limit is refused
//! before it is read when its length is declared, and at the first byte too many otherwise. Only
//! the time counts in which the server waits for the client: a body that the server keeps waiting,
//! for memory or until what came before is verified, is not slow.

use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, header};
use bytes::Bytes;
use futures_util::stream::{self, Stream, StreamExt};
use thiserror::Error;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::admission::{Hold, Refusal, count_hit};
use crate::config::LimitsConfig;

/// Time that every body has before its rate counts.
const RATE_GRACE: Duration = Duration::from_secs(30);
/// How long a body that has begun waits for memory.
const PATIENCE: Duration = Duration::from_secs(30);
/// Memory is asked for in steps of this many bytes.
const STEP_BYTES: u64 = 64 * 1024;

/// What a body may be.
#[derive(Debug, Clone, Copy)]
pub(super) struct BodyLimits {
    pub(super) bytes: u64,
    /// How long it may stay silent.
    pub(super) silence: Duration,
    /// Bytes per second that it has to reach on average; 0 for any.
    pub(super) least_rate: u64,
    /// How long it may take in all.
    pub(super) deadline: Duration,
}

impl BodyLimits {
    /// The configured ones, for a body of at most `bytes`.
    pub(super) fn new(limits: &LimitsConfig, bytes: u64) -> Self {
        Self {
            bytes,
            silence: Duration::from_secs(limits.body_timeout.get()),
            least_rate: limits.min_body_rate.bytes(),
            deadline: Duration::from_secs(limits.body_deadline.get()),
        }
    }
}

/// Why a body could not be read.
#[derive(Debug, Error)]
pub(super) enum BodyError {
    /// Over the limit.
    #[error("the body is larger than {limit} bytes, the most that this request may have")]
    TooLarge { limit: u64 },
    /// Silent for too long, slower than the least rate, or longer under way than a body may be.
    #[error("the body came in too slowly ({reason}); the request was given up")]
    TooSlow { reason: &'static str },
    /// The server has no memory for more of it.
    #[error(transparent)]
    Busy(#[from] Refusal),
    /// The connection ended or the framing is wrong.
    #[error("the body ended before it was complete: {0}")]
    Broken(axum::Error),
}

/// The length that the client declares, if it does; over the limit is an error at once.
pub(super) fn declared_length(
    headers: &HeaderMap,
    limits: BodyLimits,
) -> Result<Option<u64>, BodyError> {
    let declared =
        headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    match declared {
        Some(length) if length > limits.bytes => Err(BodyError::TooLarge { limit: limits.bytes }),
        declared => Ok(declared),
    }
}

/// The body's bytes as they come, within `limits`, until `revoked` is cancelled.
pub(super) fn limited(
    body: Body,
    limits: BodyLimits,
    revoked: CancellationToken,
) -> impl Stream<Item = Result<Bytes, BodyError>> + Send {
    let state = Arrival { body: body.into_data_stream(), total: 0, waited: Duration::ZERO };
    stream::try_unfold(state, move |mut arriving| {
        let revoked = revoked.clone();
        async move {
            let next = tokio::select! {
                biased;
                () = revoked.cancelled() => return Err(Hold::TAKEN_BACK.into()),
                next = arriving.next(limits) => next?,
            };
            Ok(next.map(|bytes| (bytes, arriving)))
        }
    })
}

struct Arrival {
    body: axum::body::BodyDataStream,
    total: u64,
    /// How long the client was waited for.
    waited: Duration,
}

impl Arrival {
    async fn next(&mut self, limits: BodyLimits) -> Result<Option<Bytes>, BodyError> {
        let left = limits.deadline.saturating_sub(self.waited);
        let began = Instant::now();
        let next = tokio::time::timeout(limits.silence.min(left), self.body.next()).await;
        self.waited += began.elapsed();
        let next = next.map_err(|_| {
            if left <= limits.silence {
                too_slow("body-deadline", "it took longer than `[limits] body-deadline`")
            } else {
                too_slow("body-timeout", "it fell silent")
            }
        })?;
        let Some(bytes) = next.transpose().map_err(BodyError::Broken)? else { return Ok(None) };
        self.total += bytes.len() as u64;
        if self.total > limits.bytes {
            return Err(BodyError::TooLarge { limit: limits.bytes });
        }
        let judged = self.waited.saturating_sub(RATE_GRACE).as_secs();
        if self.total < judged.saturating_mul(limits.least_rate) {
            return Err(too_slow("min-body-rate", "it is below `[limits] min-body-rate`"));
        }
        Ok(Some(bytes))
    }
}

fn too_slow(limit: &'static str, reason: &'static str) -> BodyError {
    count_hit(limit);
    BodyError::TooSlow { reason }
}

/// The whole body in memory, which `hold` has as much of as has arrived.
pub(super) async fn collect(
    body: Body,
    declared: Option<u64>,
    limits: BodyLimits,
    hold: &mut Hold,
) -> Result<Vec<u8>, BodyError> {
    let mut parts = std::pin::pin!(limited(body, limits, hold.revoked()));
    // With a declared length these are addresses alone: what has not arrived takes no memory.
    // Without one the buffer doubles, and is copied when it does.
    let copies = if declared.is_some() { 1 } else { 3 };
    let capacity = declared.and_then(|length| usize::try_from(length).ok()).unwrap_or_default();
    let mut whole = Vec::with_capacity(capacity);
    while let Some(bytes) = parts.next().await {
        let bytes = bytes?;
        let needed = (whole.len() + bytes.len()) as u64 * copies;
        grow(hold, needed, declared).await?;
        whole.extend_from_slice(&bytes);
    }
    Ok(whole)
}

/// Waits until `hold` has `needed` bytes, and some more unless `most` says that they are not to
/// come.
pub(super) async fn grow(hold: &mut Hold, needed: u64, most: Option<u64>) -> Result<(), Refusal> {
    if needed <= hold.bytes() {
        return Ok(());
    }
    let step = needed.next_multiple_of(STEP_BYTES).min(most.unwrap_or(u64::MAX)).max(needed);
    hold.grow_within(step, PATIENCE).await
}
