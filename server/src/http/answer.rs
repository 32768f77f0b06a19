//! Answers that take memory for as long as their client has not read them: counted against a pool
//! of their own.
//!
//! An answer's bytes carry their share of the pool with them, through the HTTP library's buffers,
//! until they are written to the connection or the connection ends.

use std::time::Duration;

use axum::http::{HeaderValue, header};
use axum::response::Response;
use bytes::Bytes;
use serde::Serialize;

use super::error::ApiError;
use crate::admission::{Client, Hold, Pool, Refusal};

/// How long an answer waits for memory.
const PATIENCE: Duration = Duration::from_secs(10);

/// The pool that answers are counted against, and for whom.
#[derive(Debug, Clone)]
pub(super) struct Answers {
    pool: Pool,
    client: Client,
}

impl Answers {
    pub(super) fn new(pool: &Pool, client: &Client) -> Self {
        Self { pool: pool.clone(), client: client.clone() }
    }

    /// Memory for an answer of at most `bytes`.
    pub(super) async fn room(&self, bytes: u64, patience: Duration) -> Result<Hold, Refusal> {
        let mut hold = self.pool.open(&self.client);
        hold.grow_within(bytes, patience).await?;
        hold.settle();
        Ok(hold)
    }

    /// Memory for what is answered to a question.
    pub(super) async fn room_for_answer(&self, bytes: u64) -> Result<Hold, Refusal> {
        self.room(bytes, PATIENCE).await
    }
}

/// `value` in JSON, as bytes that hold `room` until nobody has them any more; `end` comes behind.
pub(super) fn encode(
    value: &impl Serialize,
    end: &[u8],
    mut room: Hold,
) -> Result<Bytes, serde_json::Error> {
    let mut text = serde_json::to_vec(value)?;
    text.extend_from_slice(end);
    text.shrink_to_fit();
    room.shrink(text.len() as u64);
    Ok(Bytes::from_owner(BoundedText { text, _room: room }))
}

/// An answer in JSON that holds `room`.
pub(super) fn json(value: &impl Serialize, room: Hold) -> Result<Response, ApiError> {
    let text = encode(value, b"", room).map_err(|_| ApiError::internal())?;
    let mut response = Response::new(text.into());
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

struct BoundedText {
    text: Vec<u8>,
    _room: Hold,
}

impl AsRef<[u8]> for BoundedText {
    fn as_ref(&self) -> &[u8] {
        &self.text
    }
}
