//! Answers: a status that is a success or an error, and a body that is read whole or line by line.

use std::time::Duration;

use reqwest::header::{LOCATION, RETRY_AFTER};
use serde::de::DeserializeOwned;
use snowbank_core::wire::ErrorBody;

use super::ApiError;
use crate::config::Target;

/// Most bytes of an error's body; what is above is not from a Snowbank server.
const MAX_ERROR_BYTES: usize = 64 << 10;
/// Most bytes of a line: one that names each chunk of a large path.
const MAX_LINE_BYTES: usize = 64 << 20;

/// An answer whose body is still to be read.
pub(super) struct Answer {
    response: reqwest::Response,
    target: Target,
    url: String,
    stall: Duration,
}

impl Answer {
    pub(super) const fn new(
        response: reqwest::Response,
        target: Target,
        url: String,
        stall: Duration,
    ) -> Self {
        Self { response, target, url, stall }
    }

    /// This answer, or the error that it is.
    pub(super) async fn success(self) -> Result<Self, ApiError> {
        let status = self.response.status();
        if status.is_success() {
            return Ok(self);
        }
        let header = |name| self.response.headers().get(name)?.to_str().ok().map(str::to_owned);
        let retry_after =
            header(RETRY_AFTER).and_then(|text| text.trim().parse().ok()).map(Duration::from_secs);
        let location = header(LOCATION);
        let (target, url) = (self.target.clone(), self.url.clone());
        // The status says enough when the body does not come.
        let body = self.whole(MAX_ERROR_BYTES).await.unwrap_or_default();
        let detail = serde_json::from_slice(&body).ok().map(|body: ErrorBody| body.error);
        Err(ApiError::status(&target, &url, status, detail, location.as_deref())
            .with_retry_after(retry_after))
    }

    /// The next piece of the body; `None` at its end.
    async fn piece(&mut self) -> Result<Option<bytes::Bytes>, ApiError> {
        match tokio::time::timeout(self.stall, self.response.chunk()).await {
            Ok(Ok(piece)) => Ok(piece),
            Ok(Err(error)) => Err(ApiError::transport(&self.target, &self.url, &error)),
            Err(_) => Err(ApiError::stalled(&self.target.server_url, &self.url, self.stall)),
        }
    }

    /// The whole body, at most `limit` bytes of it.
    pub(super) async fn whole(mut self, limit: usize) -> Result<Vec<u8>, ApiError> {
        let mut body = Vec::new();
        while let Some(piece) = self.piece().await? {
            if body.len() + piece.len() > limit {
                let reason = format!("it is longer than {limit} bytes");
                return Err(ApiError::protocol(&self.target.server_url, &self.url, &reason));
            }
            body.extend_from_slice(&piece);
        }
        Ok(body)
    }
}

/// An answer in JSON lines, as a commit's is.
pub(super) struct Lines {
    answer: Answer,
    buffer: Vec<u8>,
    /// Bytes at the front of `buffer` that were given out.
    taken: usize,
    /// Bytes after `taken` in which there is no end of line.
    searched: usize,
}

impl Lines {
    pub(super) const fn new(answer: Answer) -> Self {
        Self { answer, buffer: Vec::new(), taken: 0, searched: 0 }
    }

    /// The next line; `None` where the body ends, also inside of a line: that one was cut off.
    pub(super) async fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, ApiError> {
        loop {
            let unsearched = &self.buffer[self.taken + self.searched..];
            if let Some(end) = unsearched.iter().position(|byte| *byte == b'\n') {
                let end = self.taken + self.searched + end;
                let line = serde_json::from_slice(&self.buffer[self.taken..end]);
                (self.taken, self.searched) = (end + 1, 0);
                return line.map(Some).map_err(|error| self.malformed(&error));
            }
            self.buffer.drain(..std::mem::take(&mut self.taken));
            self.searched = self.buffer.len();
            if self.searched > MAX_LINE_BYTES {
                return Err(self.malformed(&"a line of it has no end"));
            }
            match self.answer.piece().await? {
                Some(piece) => self.buffer.extend_from_slice(&piece),
                None => return Ok(None),
            }
        }
    }

    /// The error that an end before the last line is.
    pub(super) fn cut_off(&self) -> ApiError {
        ApiError::cut_off(&self.answer.target.server_url, &self.answer.url)
    }

    fn malformed(&self, reason: &dyn std::fmt::Display) -> ApiError {
        ApiError::protocol(&self.answer.target.server_url, &self.answer.url, reason)
    }
}
